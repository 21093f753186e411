"""Config files of other projects that cannot be read: whose they are, and what their options are called here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

FAST_REID = {  # key of fast-reid -> ours
    "DATALOADER.SAMPLER_TRAIN": "DATALOADER.SAMPLER",
    "DATASETS.TESTS": "DATASETS.TEST",
    "INPUT.FLIP.PROB": "INPUT.PROB",
    "INPUT.PADDING.SIZE": "INPUT.PADDING",
    "INPUT.REA.PROB": "INPUT.RE_PROB",
    "MODEL.BACKBONE.DEPTH": "MODEL.NAME",
    "MODEL.BACKBONE.DROP_PATH_RATIO": "MODEL.DROP_PATH",
    "MODEL.BACKBONE.NAME": "MODEL.NAME",
    "MODEL.BACKBONE.PRETRAIN": "MODEL.PRETRAIN_CHOICE",
    "MODEL.BACKBONE.PRETRAIN_PATH": "MODEL.PRETRAIN_PATH",
    "MODEL.BACKBONE.STRIDE_SIZE": "MODEL.STRIDE_SIZE",
    "MODEL.BACKBONE.WITH_IBN": "MODEL.NAME",
    "MODEL.FREEZE_LAYERS": "MODEL.FREEZE_BLOCKS",
    "MODEL.HEADS.CLS_LAYER": "LOSS.ID",
    "MODEL.HEADS.MARGIN": "LOSS.ID_MARGIN",
    "MODEL.HEADS.NECK_FEAT": "TEST.NECK_FEAT",
    "MODEL.HEADS.POOL_LAYER": "MODEL.POOL",
    "MODEL.HEADS.SCALE": "LOSS.SCALE",
    "MODEL.HEADS.WITH_BNNECK": "MODEL.NECK",
    "MODEL.LOSSES.CE.EPSILON": "LOSS.LABEL_SMOOTH",
    "MODEL.LOSSES.CE.SCALE": "LOSS.ID_WEIGHT",
    "MODEL.LOSSES.NAME": "LOSS.METRIC",
    "MODEL.LOSSES.TRI.MARGIN": "LOSS.MARGIN",
    "MODEL.LOSSES.TRI.SCALE": "LOSS.METRIC_WEIGHT",
    "MODEL.PIXEL_MEAN": "INPUT.PIXEL_MEAN",
    "MODEL.PIXEL_STD": "INPUT.PIXEL_STD",
    "MODEL.WEIGHTS": "MODEL.PRETRAIN_PATH",
    "SOLVER.AMP.ENABLED": "SOLVER.PRECISION",
    "SOLVER.CLIP_GRADIENTS.ENABLED": "SOLVER.GRAD_CLIP",
    "SOLVER.HEADS_LR_FACTOR": "SOLVER.HEAD_LR_FACTOR",
    "SOLVER.MAX_EPOCH": "SOLVER.MAX_EPOCHS",
    "SOLVER.OPT": "SOLVER.OPTIMIZER_NAME",
    "SOLVER.SCHED": "SOLVER.SCHEDULE",
    "SOLVER.WARMUP_ITERS": "SOLVER.WARMUP_EPOCHS",
    "TEST.FLIP.ENABLED": "TEST.FLIP",
    "TEST.RERANK.ENABLED": "TEST.RERANK",
}
PROJECTS = {  # the start of a key that only this project has -> what to do
    "MODEL.BACKBONE.": "a config file of fast-reid, whose options have other names; write a recipe that builds on a shipped one "
    "(_BASE_: market/resnet50_ibn.yml) and sets what differs",
    "MODEL.META_ARCHITECTURE": "a config file of fast-reid",
    "SOLVER.STAGE1.": "a config file of CLIP-ReID with text prompts, which are not trained here; the second stage alone is that of its "
    "vit_base.yml or cnn_base.yml, which can be read",
}


def listed(wrong: Sequence[str], keys: Iterable[str]) -> str:
    """Return all that is wrong with a config as one message: the only sentence, or whose file it is, and a line per option."""
    if len(wrong) == 1:
        return wrong[0]
    known = next((text for start, text in PROJECTS.items() if any(key.startswith(start) for key in keys)), "")
    return "\n  ".join([f"{len(wrong)} options cannot be read{f'; this is {known}' if known else ''}:", *wrong])
