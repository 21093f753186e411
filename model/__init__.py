"""Images (+ camera, view) -> embeddings."""

from .attention import attention_rollout, has_attention
from .build import build_model, build_spec
from .deploy import is_deploy, load_deploy, save_deploy
from .load import load_weights, read_classifiers
from .plain import PlainBackbone
from .reid import Embeddings, ReidModel
from .report import LoadReport
from .spec import ModelSpec
from .vit import set_fused_attention

__all__ = [
    "Embeddings",
    "LoadReport",
    "ModelSpec",
    "PlainBackbone",
    "ReidModel",
    "attention_rollout",
    "build_model",
    "build_spec",
    "has_attention",
    "is_deploy",
    "load_deploy",
    "load_weights",
    "read_classifiers",
    "save_deploy",
    "set_fused_attention",
]
