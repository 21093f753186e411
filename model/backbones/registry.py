"""Registry of our backbones (MODEL.NAME -> constructor); all other names are timm's.

To add one: its file and its line here. A network in `CNNS` returns (B, D); one in `VITS` is a timm VisionTransformer and gets stride,
side information and jigsaw.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable
from functools import partial
from typing import Any

import timm
from torch import nn

from .osnet import OSNet
from .resnet import resnet50
from .swin import semantic_swin
from .t2t import Performer, Softmax, t2t_vit
from .vit_variants import pass_vit, transreid_vit_small

CNNS: dict[str, Callable[..., nn.Module]] = {
    "osnet_x1_0": partial(OSNet, width=1.0),
    "osnet_x0_75": partial(OSNet, width=0.75),
    "osnet_x0_5": partial(OSNet, width=0.5),
    "osnet_x0_25": partial(OSNet, width=0.25),
    "resnet50_stride1": resnet50,
    "resnet50_ibn_stride1": partial(resnet50, ibn=True),
    "resnet50_fastreid": partial(resnet50, unpadded=True),
    "resnet50_ibn_fastreid": partial(resnet50, unpadded=True, ibn=True),
    "resnet50_fastreid_sbs": partial(resnet50, unpadded=True, non_local=True),
    "resnet50_ibn_fastreid_sbs": partial(resnet50, unpadded=True, ibn=True, non_local=True),
    "resnet50_fc512": partial(resnet50, fc=512),
    "solider_swin_tiny": partial(semantic_swin, "swin_tiny_patch4_window7_224"),
    "solider_swin_small": partial(semantic_swin, "swin_small_patch4_window7_224"),
    "solider_swin_base": partial(semantic_swin, "swin_base_patch4_window7_224"),
}
T2T_SMALL: dict[str, Any] = {"embed_dim": 256, "num_heads": 4, "mlp_ratio": 2.0}
T2T_14: dict[str, Any] = {"embed_dim": 384, "depth": 14, "num_heads": 6, "mlp_ratio": 3.0}
T2T_19: dict[str, Any] = {"embed_dim": 448, "depth": 19, "num_heads": 7, "mlp_ratio": 3.0}
T2T_24: dict[str, Any] = {"embed_dim": 512, "depth": 24, "num_heads": 8, "mlp_ratio": 3.0}
VIT_S: dict[str, Any] = {"embed_dim": 384, "depth": 12, "num_heads": 6}
VITS: dict[str, Callable[..., nn.Module]] = {
    "transreid_vit_small": transreid_vit_small,
    "pass_vit_small": partial(pass_vit, **VIT_S),
    "pass_vit_base": pass_vit,
    "t2t_vit_7": partial(t2t_vit, Performer, depth=7, **T2T_SMALL),
    "t2t_vit_10": partial(t2t_vit, Performer, depth=10, **T2T_SMALL),
    "t2t_vit_12": partial(t2t_vit, Performer, depth=12, **T2T_SMALL),
    "t2t_vit_14": partial(t2t_vit, Performer, **T2T_14),
    "t2t_vit_19": partial(t2t_vit, Performer, **T2T_19),
    "t2t_vit_24": partial(t2t_vit, Performer, **T2T_24),
    "t2t_vit_t_14": partial(t2t_vit, Softmax, **T2T_14),
    "t2t_vit_t_19": partial(t2t_vit, Softmax, **T2T_19),
    "t2t_vit_t_24": partial(t2t_vit, Softmax, **T2T_24),
}
OWN = ChainMap(CNNS, VITS)  # a view: a line added to either dict is in it


def create_net(name: str, **options: Any) -> nn.Module:
    """Return the backbone of that name, ours or timm's, without pretrained weights."""
    return OWN[name](**options) if name in OWN else timm.create_model(name, pretrained=False, **options)


def has_fixed_size(name: str) -> bool:
    """Return whether the backbone is built for one image size."""
    return name.startswith("solider_") or bool(getattr(timm.models.get_pretrained_cfg(name), "fixed_input_size", False))


def has_own_stem(name: str) -> bool:
    """Return whether a ViT has a fixed stem instead of MODEL.STEM: tokens-to-token, or a CNN (hybrids)."""
    if name in OWN:
        return name.startswith("t2t_")
    return str(timm.models.model_entrypoint(name.split(".")[0]).__module__).endswith("_hybrid")
