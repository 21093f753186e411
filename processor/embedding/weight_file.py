"""A file of weights -> the model in it, and what the file says about it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ...common.errors import UserError
from ...datasets import build_test_sets
from ...model import ModelSpec, ReidModel, build_model, is_deploy, load_deploy, load_weights
from ..runs.checkpoint import NotOurs, load_last

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """A model and what its file says about it (`about` is empty for a file of the original TransReID)."""

    model: ReidModel
    about: dict[str, Any]


def weights_path(weights: str | None, cfg: CfgNode | None) -> Path:
    """Return the file that is meant: `weights`, or TEST.WEIGHT of the config.

    Raises:
        ValueError: neither is given; FileNotFoundError: it does not exist.
    """
    chosen = weights or (cfg.TEST.WEIGHT if cfg is not None else "")
    if not chosen:
        raise UserError(
            "no weights to test: give --weights RUN/best.safetensors, or --config_file and TEST.WEIGHT FILE"
        )
    path = Path(chosen)
    if not path.is_file():
        raise FileNotFoundError(
            f"weights file {path} does not exist"
            + (f"; the folder holds {_listing(path.parent)}" if path.parent.is_dir() else "")
        )
    return path


def _listing(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir() if p.suffix in (".safetensors", ".pth"))
    return ", ".join(names) or "no .safetensors or .pth file"


def read_own(path: Path) -> Weights | None:
    """Return the weights in a file of ours, or None if it is a foreign one."""
    if path.suffix == ".safetensors":
        return Weights(*load_deploy(path)) if is_deploy(path) else None
    try:
        state = load_last(path)
    except NotOurs:
        return None
    return Weights(model_of_last(state), state["about"])


def model_of_last(state: dict[str, Any]) -> ReidModel:
    """Return the model in a last.pth's state: the averaged weights where there are any."""
    model = ReidModel(ModelSpec.from_dict(state["spec"]))
    module = state["trainer"]["module"]
    own = {name.removeprefix("model."): value for name, value in module.items() if name.startswith("model.")}
    averaged = state["trainer"]["ema"]
    model.load_state_dict(averaged["model"] if averaged else own)
    return model


def read_foreign(path: Path, cfg: CfgNode) -> Weights:
    """Return the weights of the original TransReID in the model that the config describes.

    The file does not name its cameras and views: with side information they are those of the first of DATASETS.NAMES.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.PRETRAIN_CHOICE, cfg.DATASETS.TEST, cfg.DATASETS.DISTRACTORS = "none", (), ""
    cameras, views = _names(cfg) if cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW else ((), ())
    model = build_model(cfg, cameras, views)
    logger.info("%s", load_weights(model, path))
    return Weights(model, {})


def _names(cfg: CfgNode) -> tuple[tuple[str, ...], tuple[str, ...]]:
    data = build_test_sets(cfg)[0]
    return data.train_cameras or data.camera_names, data.train_views or data.view_names
