"""The network, other than a ViT, with exactly the tensors of a file: those named by the file's project first, then timm's family."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from itertools import chain

import timm

from ..naming.key_names import State
from .fits import create_empty, fits

logger = logging.getLogger(__name__)

OF_PROJECT = {  # our backbones for the files of a project
    "torchreid's OSNet": ("osnet_x1_0", "osnet_x0_75", "osnet_x0_5", "osnet_x0_25"),
    "torchreid's ResNet": ("resnet50_fc512",),
    "TransReID": ("resnet50_stride1", "resnet50_ibn_stride1"),
    "fast-reid": ("resnet50_fastreid", "resnet50_ibn_fastreid", "resnet50_fastreid_sbs", "resnet50_ibn_fastreid_sbs"),
    "SOLIDER": ("solider_swin_tiny", "solider_swin_small", "solider_swin_base"),
    "T2T-ViT": (
        *(f"t2t_vit_{depth}" for depth in (7, 10, 12, 14, 19, 24)),
        *(f"t2t_vit_t_{depth}" for depth in (14, 19, 24)),
    ),
}
RESNETS = (
    *("resnet50", "resnet18", "resnet34", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"),
    *("resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2", "resnet50_ibn_stride1"),
)
SWINS = tuple(f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base", "large"))
SWINS_V2 = tuple(f"swinv2_{size}_window8_256" for size in ("tiny", "small", "base"))
BEITS = ("beit_base_patch16_224", "beit_large_patch16_224")
DINOV3 = tuple(f"vit_{size}_patch16_dinov3" for size in ("small", "base", "large"))
FAMILIES = {  # start of a name -> models to try first, and timm's modules
    r"layer1\.0\.conv1\.": (RESNETS, ("resnet", "resnetv2")),
    r"conv_stem\.": (("mobilenetv2_100", "mobilenetv3_large_100", "efficientnet_b0"), ("efficientnet", "mobilenetv3")),
    r"stages\.0\.blocks\.0\.conv_dw\.": (
        tuple(f"convnext_{size}" for size in ("tiny", "small", "base", "large")),
        ("convnext",),
    ),
    r"layers\.0\.blocks\.0\.attn\.logit_scale": (SWINS_V2, ("swin_transformer_v2",)),
    r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table": (SWINS, ("swin_transformer",)),
    r"blocks\.0\.attn\.relative_position_bias_table": (BEITS, ("beit",)),
    r"blocks\.0\.(gamma_1|attn\.q_bias|attn\.q_proj)": (DINOV3, ("eva",)),
    r"stages\.0\.0\.conv1_1x1\.": ((), ("byobnet",)),
    r"s1\.b1\.": ((), ("regnet",)),
    r"patch_embed\.backbone\.": (("vit_base_r50_s16_224",), ("vision_transformer_hybrid",)),
}


def search(state: State, project: str, names: tuple[str, ...], whole_family: bool) -> str:
    """Return the name of a network with these tensors (timm's names); empty if none has them.

    Args:
        names: what the naming of the file suggests.
        whole_family: compare with all models of the family, up to 20 seconds, and not only with the usual ones.
    """
    seen: set[str] = set()
    for name in chain(names, OF_PROJECT.get(project, ()), _family(state, whole_family)):
        if name not in seen and fits(create_empty(name), state):
            return name
        seen.add(name)
    return ""


def _family(state: State, whole: bool) -> Iterator[str]:
    for start, (first, modules) in FAMILIES.items():
        if any(re.match(start, name) for name in state):
            yield from first
            if whole:
                logger.info("comparing the tensors with all models of timm's family %s", modules[0])
            for module in modules if whole else ():
                yield from sorted(timm.list_models(module=module), key=len)
