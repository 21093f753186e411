"""Which model a weight file holds: its tensors are asked, config.json for what they cannot say, and what is assumed is said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import timm

from ...backbones.registry import OWN
from ..naming.key_names import NET, SIE_TABLE, State
from ..naming.recognise_project import TranslatedWeights
from .found_model import FoundModel
from .search_timm import search
from .vit_facts import VitFacts, read_vit
from .vit_names import vit_options

CROPS = ((256, 128), (384, 128))  # usual sizes of person crops, height and width in pixels
STRIDES = (16, 14, 12, 11, 10, 8)  # usual steps between patches


def identify(
    ours: TranslatedWeights, config: Mapping[str, Any], like: str = "", whole_family: bool = False
) -> FoundModel | None:
    """Return the model whose backbone has the tensors of the file; None if neither timm nor we have such a one.

    Args:
        ours: the file's tensors under our names.
        config: what config.json next to the file says; {} without.
        like: a model to prefer where no published one has the file's sizes.
        whole_family: see `search`.
    """
    state = {name.removeprefix(NET): value for name, value in ours.state.items() if name.startswith(NET)}
    facts = read_vit(state, config, ours.hints.activation)
    options = vit_options(facts, state, like) if facts else _searched(state, ours, whole_family)
    if options is None:
        return None
    options = {**options, **_parts(ours.state)}
    if facts:
        options.update(_crop(facts, options))
    name = str(options["MODEL.NAME"])
    assumed = _assumed(facts, "" if facts.states_activation else ours.hints.assumed) if facts else ""
    return FoundModel(options, _deployed(ours, name, config, facts), assumed)


def _searched(state: State, ours: TranslatedWeights, whole_family: bool) -> dict[str, Any] | None:
    pooling = "global_pool.p"
    others = {key: value for key, value in state.items() if key != pooling}
    name = search(others, ours.project, ours.hints.names, whole_family)
    if not name:
        return None
    return {"MODEL.NAME": name, **({"MODEL.POOL": "gem"} if pooling in state else {})}


def _parts(model: State) -> dict[str, Any]:
    """Return the options of the parts around the backbone that the file has."""
    projection = model.get("backbone.projection.weight")
    return {
        **({"MODEL.JPM": True} if any(name.startswith("backbone.jigsaw.") for name in model) else {}),
        **({"MODEL.SIE_CAMERA": True} if SIE_TABLE in model else {}),
        **({"MODEL.PROJECTION": len(projection)} if projection is not None else {}),
    }


def _crop(facts: VitFacts, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the image size and stride of a ViT of person crops, from its number of positions; nothing for square images."""
    tokens = facts.has_class + facts.has_distillation
    count = facts.positions - tokens
    if math.isqrt(count) ** 2 == count or not facts.positions_have_class:
        return {}
    for height, width in CROPS:
        for step in (facts.patch, *(step for step in STRIDES if step < facts.patch)):
            if ((height - facts.patch) // step + 1) * ((width - facts.patch) // step + 1) == count:
                size = {"INPUT.SIZE_TRAIN": (height, width), "INPUT.SIZE_TEST": (height, width)}
                return {"MODEL.STRIDE_SIZE": (step, step), **(size if height != CROPS[0][0] else {})}
    return {}


def _assumed(facts: VitFacts, of_naming: str) -> str:
    heads = f"{facts.likely_heads} heads, which the tensors do not say, as published ViTs of width {facts.width} have"
    return "; ".join(filter(None, ("" if facts.num_heads else heads, of_naming)))


def _deployed(ours: TranslatedWeights, name: str, config: Mapping[str, Any], facts: VitFacts | None) -> dict[str, Any]:
    """Return image size, pixels and neck of the model when it embeds without being trained here."""
    cfg = timm.models.get_pretrained_cfg(name) if name not in OWN else None
    pixels = config.get("pixels") or ours.hints.pixels or (cfg and (cfg.mean, cfg.std))
    patch = facts.patch if facts else 1
    size = tuple(side // patch * patch for side in CROPS[0])
    has_neck = any(key.startswith("neck.") for key in ours.state)
    return {
        "MODEL.DROP_PATH": 0.0,
        **({} if has_neck else {"MODEL.NECK": "no"}),
        **({"INPUT.SIZE_TRAIN": size, "INPUT.SIZE_TEST": size} if size != CROPS[0] else {}),
        **({"INPUT.PIXEL_MEAN": tuple(pixels[0]), "INPUT.PIXEL_STD": tuple(pixels[1])} if pixels else {}),
    }
