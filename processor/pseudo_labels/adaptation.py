"""A trained model and a folder of crops without names -> the config of a training without labels that adapts the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ...common.errors import UserError
from ...configs import OPTIONS, parse_stored_config

EPOCHS = 10
SLOWER = 0.1  # of the learning rate that the model was trained with


def build_adaptation(
    about: Mapping[str, Any],
    weights: Path,
    crops: Path,
    output: Path,
    overrides: Sequence[str] = (),
    source: Sequence[str] = (),
    root: Path | None = None,
) -> CfgNode:
    """Return the config: model, images and optimizer as the weights were trained, the losses and the data of a training without labels.

    Args:
        about: what the weights say of themselves.
        weights: their file.
        crops: folder of images, read as the data set `crops`.
        output: the run folder.
        overrides: `KEY VALUE` pairs, which win.
        source: labelled data sets that are trained on in the same run.
        root: folder that holds theirs; None = that of the config's default.
    Raises:
        UserError: the weights have no config of vitreid, an override is wrong, or one names another folder of crops.
    """
    text = about.get("config")
    if not isinstance(text, str) or not text:
        raise UserError(
            f"--weights: {weights} does not say how it was trained; give the best.safetensors of a training by vitreid, or train with "
            "MODEL.PRETRAIN_PATH and UNSUPERVISED.CLUSTERING"
        )
    _check_folder(overrides, crops)
    cfg = parse_stored_config(text, source=str(weights))
    values = {
        "MODEL.PRETRAIN_CHOICE": "self",
        "MODEL.PRETRAIN_PATH": repr(str(weights)),
        "MODEL.PRETRAIN_CLASSIFIERS": False,
        "DATASETS.NAMES": "('crops',)",
        "DATASETS.ROOT_DIR": repr(str(crops)),
        "DATASETS.TEST": "()",
        "DATASETS.VAL_IDS": 0,
        "DATASETS.BALANCE": "none",
        "DATASETS.DISTRACTORS": "''",
        "DATALOADER.SAMPLER": "pk",
        "LOSS.ID": "none",
        "LOSS.METRIC": "none",
        "LOSS.MEMORY": 0,
        "LOSS.DISTILL": "''",
        "LOSS.CENTER_WEIGHT": 0.0,
        "UNSUPERVISED.CLUSTERING": "linkage",
        "UNSUPERVISED.SOURCE": repr(tuple(source)),
        "UNSUPERVISED.SOURCE_DIR": repr(str(root or OPTIONS["DATASETS.ROOT_DIR"].default if source else "")),
        "SOLVER.BASE_LR": SLOWER * cfg.SOLVER.BASE_LR,
        "SOLVER.SCHEDULE": "cosine",
        "SOLVER.WARMUP_EPOCHS": 0,
        "SOLVER.HEAD_EPOCHS": 0,
        "SOLVER.SWA_START": 0,
        "SOLVER.PATIENCE": 0,
        "SOLVER.MAX_EPOCHS": EPOCHS,
        "OUTPUT_DIR": repr(str(output)),
    }
    words = [word for key, value in values.items() for word in (key, str(value))]
    return parse_stored_config(text, [*words, *overrides], str(weights))


def _check_folder(overrides: Sequence[str], crops: Path) -> None:
    """Raise UserError if an option replaces the folder of the crops."""
    names = set(overrides[::2])
    if "DATASETS.ROOT_DIR" in names and "DATASETS.NAMES" not in names:
        raise UserError(
            f"DATASETS.ROOT_DIR: the crops are those in --input {crops}; leave the option out, give another --input, or name the data set in "
            "the folder (DATASETS.NAMES). To evaluate the adapted model on another data set: vitreid test"
        )
