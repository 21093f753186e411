"""The ViT of timm, or ours, with the parts of a file's: by its published name, or a named one with other sizes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import timm

from ...backbones.registry import VITS
from ...model_spec import ModelSpec
from ..naming.key_names import State
from .fits import create_empty_vit, fits
from .vit_facts import VitFacts

SIZES = {  # width and depth of published ViTs -> their name
    (192, 12): "tiny",
    (384, 12): "small",
    (768, 12): "base",
    (1024, 24): "large",
    (1152, 27): "so400m",
    (1280, 32): "huge",
    (1408, 40): "giant",
    (1536, 40): "giant",
}
PIXELS = (224, 256, 384)  # sizes of images in timm's names
ACTIVATION_OF = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "SiLU": "silu", "ReLU": "relu"}
SPEC_KEYS = {  # field of the spec -> config key
    "embed_dim": "MODEL.EMBED_DIM",
    "depth": "MODEL.DEPTH",
    "num_heads": "MODEL.NUM_HEADS",
    "mlp_ratio": "MODEL.MLP_RATIO",
    "patch_size": "MODEL.PATCH_SIZE",
    "activation": "MODEL.ACTIVATION",
    "pool": "MODEL.POOL",
    "stride": "MODEL.STRIDE_SIZE",
    "stem": "MODEL.STEM",
}


def vit_options(facts: VitFacts, state: State, stated: str, like: str) -> dict[str, Any] | None:
    """Return the config keys and values of a ViT into which the tensors fit; None if there is none.

    Args:
        stated: timm's name in a config, or empty.
        like: a name to prefer where no published model has these sizes.
    """
    template, model = _family(facts)
    size = SIZES.get((facts.width, facts.depth), "")
    published = [template.format(size=size, patch=facts.patch, pixels=pixels) for pixels in PIXELS]
    for name in dict.fromkeys((stated, *published, like, model)):
        if not _is_vit(name):
            continue
        spec = _with_sizes(name, facts)
        if fits(create_empty_vit(spec), state):
            usual = ModelSpec(name)
            changed = {
                key: getattr(spec, field)
                for field, key in SPEC_KEYS.items()
                if getattr(spec, field) != getattr(usual, field)
            }
            return {"MODEL.NAME": name, **changed}
    return None


def _family(facts: VitFacts) -> tuple[str, str]:
    """Return the pattern of names of ViTs with these parts, and one of them whose sizes can be changed."""
    if facts.has_distillation:
        return "deit_{size}_distilled_patch{patch}_{pixels}", "deit_base_distilled_patch16_224"
    if facts.has_scale and facts.registers:
        model = "vit_giant_patch14_reg4_dinov2" if facts.is_gated else "vit_base_patch14_reg4_dinov2"
        return "vit_{size}_patch{patch}_reg4_dinov2", model
    if facts.has_scale and facts.positions_have_class:
        model = "vit_giant_patch14_dinov2" if facts.is_gated else "vit_base_patch14_dinov2"
        return "vit_{size}_patch{patch}_dinov2", model
    if facts.has_scale:
        return "deit3_{size}_patch{patch}_{pixels}", "deit3_base_patch16_224"
    if facts.has_norm_first:
        kind = "clip_quickgelu" if facts.activation == "quick_gelu" else "clip"
        return f"vit_{{size}}_patch{{patch}}_{kind}_{{pixels}}", f"vit_base_patch16_{kind}_224"
    if facts.registers:
        return "pass_vit_{size}", "pass_vit_base"
    if facts.activation == "gelu_tanh" or facts.has_pooling:
        return "vit_{size}_patch{patch}_siglip_{pixels}", "vit_base_patch16_siglip_224"
    if not facts.has_bias:
        return "transreid_vit_{size}", "transreid_vit_small"
    return "vit_{size}_patch{patch}_{pixels}", "vit_base_patch16_224"


def _is_vit(name: str) -> bool:
    if name in VITS:
        return not name.startswith("t2t_")
    known = timm.is_model(name.split(".")[0]) if name else False
    return known and timm.models.model_entrypoint(name.split(".")[0]).__module__.endswith(
        ("vision_transformer", "deit")
    )


def _with_sizes(name: str, facts: VitFacts) -> ModelSpec:
    """Return the spec of the named model with the file's sizes where its own are others."""
    pool = "token" if facts.has_class else "avg"
    net: Any = create_empty_vit(ModelSpec(name, stride=(1, 1), pool=pool))
    spec = ModelSpec(name, stride=(facts.patch, facts.patch), stem=facts.stem, pool=pool)
    block = net.blocks[0]
    activation = ACTIVATION_OF.get(type(block.mlp.act).__name__, "")
    pairs = {
        "embed_dim": (net.embed_dim, facts.width),
        "depth": (len(net.blocks), facts.depth),
        "num_heads": (block.attn.num_heads, facts.likely_heads),
        "patch_size": (net.patch_embed.patch_size[0], facts.patch),
        "activation": (activation, facts.activation or activation),
    }
    changed: dict[str, Any] = {field: theirs for field, (ours, theirs) in pairs.items() if ours != theirs}
    if facts.hidden * net.embed_dim != block.mlp.fc1.out_features * facts.width:
        changed["mlp_ratio"] = _ratio(facts)
    return replace(spec, **changed)


def _ratio(facts: VitFacts) -> float:
    """Return the ratio that timm rounds down to the hidden width."""
    ratio = facts.hidden / facts.width
    return ratio if int(facts.width * ratio) == facts.hidden else math.nextafter(ratio, math.inf)
