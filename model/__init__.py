"""Models: images (+ camera, view) -> embeddings."""

from .attention.rollout import attention_rollout, has_attention
from .backbones.pooled import PooledBackbone
from .backbones.vit import set_fused_attention
from .model_builder import build_model, build_spec
from .model_spec import ModelSpec
from .parts.frame_pool import pool_frames
from .reid_model import Embeddings, ReidModel
from .weights.deployed import is_deploy, load_deploy, save_deploy
from .weights.load_report import LoadReport
from .weights.load_weights import find_classifiers, load_weights, read_classifiers

PlainBackbone = PooledBackbone  # the former name

__all__ = [
    "Embeddings",
    "LoadReport",
    "ModelSpec",
    "PlainBackbone",
    "PooledBackbone",
    "ReidModel",
    "attention_rollout",
    "build_model",
    "build_spec",
    "find_classifiers",
    "has_attention",
    "is_deploy",
    "load_deploy",
    "load_weights",
    "pool_frames",
    "read_classifiers",
    "save_deploy",
    "set_fused_attention",
]
