"""Translates the config keys of the original TransReID, and of the projects built on it: BoT, TransReID-SSL, PersonViT, SOLIDER, CLIP-ReID."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..common.errors import UserError

Values = dict[str, Any]
Rule = Callable[[Any], Values]


def _renamed(key: str) -> Rule:
    return lambda value: {key: value}


def _switch(key: str, on: Any = True, off: Any = False) -> Rule:
    """A rule for the original's 'on' / 'off' / 'yes' / 'no' / True / False."""

    def rule(value: Any) -> Values:
        text = str(value).lower()
        if text not in SWITCH:
            raise UserError(f"unknown value {value!r} of the original's switch; choose from {', '.join(SWITCH)}")
        return {key: on if SWITCH[text] else off}

    return rule


def _ignored(value: Any) -> Values:
    return {}


def _backbone(value: str) -> Values:
    if value not in BACKBONES:
        raise UserError(
            f"unknown backbone {value!r}; choose from {', '.join(BACKBONES)}, or set MODEL.NAME to a timm model"
        )
    return BACKBONES[value]


METRICS: dict[str, Values] = {
    "triplet": {"LOSS.METRIC": "triplet"},
    "triplet_center": {"LOSS.METRIC": "triplet", "LOSS.CENTER_WEIGHT": 0.0005},
}
SWITCH = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}
BACKBONES: dict[str, Values] = {
    "vit_base_patch16_224_TransReID": {"MODEL.NAME": "vit_base_patch16_224.orig_in21k_ft_in1k"},
    "deit_base_patch16_224_TransReID": {"MODEL.NAME": "deit_base_patch16_224.fb_in1k"},
    "vit_small_patch16_224_TransReID": {"MODEL.NAME": "transreid_vit_small"},
    "deit_small_patch16_224_TransReID": {"MODEL.NAME": "deit_small_patch16_224"},
    "vit_base": {"MODEL.NAME": "vit_base_patch16_224"},  # TransReID-SSL, PersonViT
    "vit_small": {"MODEL.NAME": "vit_small_patch16_224"},
    "swin_base_patch4_window7_224": {"MODEL.NAME": "solider_swin_base"},  # SOLIDER
    "swin_small_patch4_window7_224": {"MODEL.NAME": "solider_swin_small"},
    "swin_tiny_patch4_window7_224": {"MODEL.NAME": "solider_swin_tiny"},
}
NAMES = {"ViT-B-16": "vit_base_patch16_clip_224.openai"}  # CLIP-ReID's MODEL.NAME
BOT, BOT_BACKBONE = (
    "MODEL.METRIC_LOSS_TYPE",
    "resnet50_stride1",
)  # BoT's files have this key, and leave out their backbone
UNUSED = ("CLUSTER_MARGIN", "RANGE_ALPHA", "RANGE_BETA", "RANGE_K", "RANGE_LOSS_WEIGHT", "RANGE_MARGIN")
SAMPLERS = {"softmax_triplet": "pk", "softmax": "shuffle", "id_triplet": "pk", "id": "shuffle"}

LEGACY: dict[str, Rule] = {
    "MODEL.TRANSFORMER_TYPE": _backbone,
    "MODEL.DEVICE_ID": _ignored,  # use CUDA_VISIBLE_DEVICES instead
    "MODEL.DIST_TRAIN": _ignored,
    "MODEL.LAST_STRIDE": _ignored,
    "MODEL.COS_LAYER": _ignored,  # without effect in the original
    "MODEL.ID_LOSS_TYPE": _renamed("LOSS.ID"),
    "MODEL.ID_LOSS_WEIGHT": _renamed("LOSS.ID_WEIGHT"),
    "MODEL.METRIC_LOSS_TYPE": lambda value: METRICS.get(value, {"LOSS.METRIC": value}),
    "MODEL.TRIPLET_LOSS_WEIGHT": _renamed("LOSS.METRIC_WEIGHT"),
    "MODEL.NO_MARGIN": _switch("LOSS.SOFT_MARGIN"),
    "MODEL.IF_LABELSMOOTH": _switch("LOSS.LABEL_SMOOTH", 0.1, 0.0),
    "MODEL.IF_WITH_CENTER": _switch("LOSS.CENTER_WEIGHT", 0.0005, 0.0),
    "MODEL.PRETRAIN_HW_RATIO": _ignored,  # position tables are resized from the shape that they have
    "MODEL.STEM_CONV": _switch("MODEL.STEM", "ics", "patch"),
    "MODEL.DEVIDE_LENGTH": _renamed("MODEL.NUM_PARTS"),
    "SOLVER.MARGIN": _renamed("LOSS.MARGIN"),
    "SOLVER.COSINE_MARGIN": _renamed("LOSS.ID_MARGIN"),
    "SOLVER.COSINE_SCALE": _renamed("LOSS.SCALE"),
    "SOLVER.CENTER_LOSS_WEIGHT": _ignored,  # the original never added it to the loss; LOSS.CENTER_WEIGHT does
    "SOLVER.LARGE_FC_LR": _switch("SOLVER.HEAD_LR_FACTOR", 2.0, 1.0),
    "SOLVER.WARMUP_ITERS": _renamed("SOLVER.WARMUP_EPOCHS"),  # they count epochs, too
    **{f"SOLVER.{name}": _ignored for name in UNUSED},  # of a loss that the projects do not compute
    "SOLVER.WARMUP_METHOD": _ignored,  # linear is the only one
    "DATALOADER.SAMPLER": lambda value: {"DATALOADER.SAMPLER": SAMPLERS.get(value, value)},
    "TEST.FEAT_NORM": _switch("TEST.FEAT_NORM"),
    "TEST.RE_RANKING": _switch("TEST.RERANK", "k-reciprocal", "none"),
    "TEST.EVAL": _ignored,
    "TEST.DIST_MAT": _ignored,
}
# keys of both configs: the original's only with these values
SHARED = {"DATALOADER.SAMPLER": SAMPLERS, "TEST.FEAT_NORM": ("yes", "no")}

# Defaults of the original that differ from ours; they hold for keys that its file leaves out.
ORIGINAL_DEFAULTS: Values = {
    "MODEL.PRETRAIN_CHOICE": "imagenet",
    "LOSS.SOFT_MARGIN": False,
    "LOSS.LABEL_SMOOTH": 0.1,
    "INPUT.SIZE_TRAIN": (384, 128),
    "INPUT.SIZE_TEST": (384, 128),
    "INPUT.PIXEL_MEAN": (0.485, 0.456, 0.406),
    "INPUT.PIXEL_STD": (0.229, 0.224, 0.225),
    "DATALOADER.SAMPLER": "shuffle",
    "DATALOADER.NUM_INSTANCE": 16,
    "SOLVER.OPTIMIZER_NAME": "Adam",
    "SOLVER.BASE_LR": 3e-4,
    "SOLVER.MAX_EPOCHS": 100,
    "SOLVER.WEIGHT_DECAY": 5e-4,
    "SOLVER.WEIGHT_DECAY_BIAS": 5e-4,
    "SOLVER.BIAS_LR_FACTOR": 1.0,
    "TEST.IMS_PER_BATCH": 128,
    "TEST.NECK_FEAT": "after",
}


def translate(values: Values, is_file: bool = True) -> tuple[Values, list[str], list[str]]:
    """Return `values` with the original's keys replaced by ours, one sentence per replaced key, and one per value unknown to it.

    A file with `MODEL.TRANSFORMER_TYPE` is one of the original's: for keys that it leaves out, the original's defaults hold instead
    of ours. Overrides (`is_file` False) change only the keys that they name.
    """
    # one file of the original has a typing error, tMODEL
    values = {key.replace("tMODEL.", "MODEL."): value for key, value in values.items()}
    is_original = is_file and "MODEL.TRANSFORMER_TYPE" in values
    result: Values = dict(ORIGINAL_DEFAULTS) if is_original else {}
    if values.get("MODEL.NAME") == "transformer":
        del values["MODEL.NAME"]  # TRANSFORMER_TYPE names the backbone
    elif values.get("MODEL.NAME") in NAMES:
        values["MODEL.NAME"] = NAMES[values["MODEL.NAME"]]
    notices, refused = [], []
    if is_file and BOT in values and not {"MODEL.NAME", "MODEL.TRANSFORMER_TYPE"} & set(values) and not is_original:
        result["MODEL.NAME"] = BOT_BACKBONE
        notices.append(f"MODEL.NAME left out -> {BOT_BACKBONE}, the backbone of BoT; add MODEL.NAME for another")
    for key, value in values.items():
        if value is None and "." not in key:
            continue  # a section without options
        try:
            new = _translate_one(key, value)
        except UserError as error:
            refused.append(str(error))
            continue
        result.update(new)
        if _is_legacy(key, value):
            changes = ", ".join(f"{name} {item!r}" for name, item in new.items())
            notices.append(f"{key} {value!r} -> {changes or 'not needed, left out'}")
    if values.get("DATALOADER.SAMPLER", "softmax" if is_original else "") == "softmax":
        result["LOSS.METRIC"] = "none"  # with its plain sampler the original uses the ID loss only
    return result, notices, refused


def _translate_one(key: str, value: Any) -> Values:
    if not _is_legacy(key, value):
        return {key: value}
    try:
        return LEGACY[key](value)
    except ValueError as error:
        raise UserError(f"{key}: {error}") from None


def _is_legacy(key: str, value: Any) -> bool:
    return key in LEGACY and (key not in SHARED or str(value) in SHARED[key])
