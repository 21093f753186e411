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
from .vit_facts import HEADS_OF_WIDTH, VitFacts, read_vit
from .vit_names import vit_options

CROPS = ((256, 128), (384, 128))  # usual sizes of person crops, height and width in pixels
HALF = (0.5, 0.5, 0.5)
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
    stated = str(config.get("architecture") or "")  # in timm's configs
    stated = stated if timm.is_model(stated) else ""
    facts = read_vit(state, config, ours.hints.activation)
    options = vit_options(facts, state, stated, like) if facts else None
    options = options or _searched(state, ours, stated, whole_family)
    if options is None:
        return None
    name = str(options["MODEL.NAME"])
    assumed = _assumed(facts, "" if facts.states_activation else ours.hints.assumed) if facts else ""
    return FoundModel(
        {**options, **_parts(ours.state), **(_crop(facts) if facts else {}), **_pixels(ours, name, config)},
        _deployed(ours.state, facts),
        assumed,
    )


def _searched(state: State, ours: TranslatedWeights, stated: str, whole_family: bool) -> dict[str, Any] | None:
    pooling = "global_pool.p"
    others = {key: value for key, value in state.items() if key != pooling}
    names = (*([stated] if stated else []), *ours.hints.names)
    name = search(others, ours.project, names, whole_family)
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


def _crop(facts: VitFacts) -> dict[str, Any]:
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
    is_usual = facts.width in HEADS_OF_WIDTH
    reason = f"as published ViTs of width {facts.width} have" if is_usual else "one per 64 features"
    heads = f"{facts.likely_heads} heads, which the tensors do not say, {reason}"
    return "; ".join(filter(None, ("" if facts.num_heads else heads, of_naming)))


def _pixels(ours: TranslatedWeights, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return mean and std of the pixels that the weights expect: as the config says, as usual with the naming, or as in timm."""
    cfg = timm.models.get_pretrained_cfg(name) if name not in OWN else None
    mean, std = config.get("pixels") or ours.hints.pixels or ((cfg.mean, cfg.std) if cfg else (HALF, HALF))
    usual = (tuple(mean), tuple(std)) == (HALF, HALF)  # the defaults of the config
    return {} if usual else {"INPUT.PIXEL_MEAN": tuple(mean), "INPUT.PIXEL_STD": tuple(std)}


def _deployed(model: State, facts: VitFacts | None) -> dict[str, Any]:
    """Return further options of a model that embeds without being trained here."""
    patch = facts.patch if facts else 1
    size = tuple(side // patch * patch for side in CROPS[0])
    return {
        "MODEL.DROP_PATH": 0.0,
        **({} if any(key.startswith("neck.") for key in model) else {"MODEL.NECK": "no"}),
        **({"INPUT.SIZE_TRAIN": size, "INPUT.SIZE_TEST": size} if size != CROPS[0] else {}),
    }
