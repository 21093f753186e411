"""Read a weight file: the model and its metadata."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ...common.errors import UserError
from ...datasets import build_test_sets
from ...model import ModelSpec, ReidModel, build_model, is_deploy, load_deploy, load_weights
from ..runs.checkpoint import NotACheckpointError, load_last

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """A model and the metadata in its file; `about` is empty for a file of the original TransReID."""

    model: ReidModel
    about: dict[str, Any]


def weights_path(weights: str) -> Path:
    """Return the path of a weight file.

    Raises:
        UserError: `weights` is empty; FileNotFoundError: the file does not exist; IsADirectoryError: it is a folder.
    """
    if not weights:
        raise UserError(
            "no weights to test: give --weights RUN/best.safetensors, or --config_file and TEST.WEIGHT FILE"
        )
    path = Path(weights)
    if path.is_dir():
        raise IsADirectoryError(f"weights file {path} is a folder; it holds {_listing(path)}; name a file")
    if not path.is_file():
        raise FileNotFoundError(
            f"weights file {path} does not exist"
            + (f"; the folder {path.parent} holds {_listing(path.parent)}" if path.parent.is_dir() else "")
        )
    return path


def _listing(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir() if p.suffix in (".safetensors", ".pth"))
    return ", ".join(names) or "no .safetensors or .pth file"


def read_own(path: Path) -> Weights | None:
    """Return the weights in a file of vitreid, None for a file of another project."""
    if path.suffix == ".safetensors":
        return Weights(*load_deploy(path)) if is_deploy(path) else None
    try:
        state = load_last(path)
    except NotACheckpointError:
        return None
    return Weights(model_of_last(state), state["about"])


def model_of_last(state: dict[str, Any]) -> ReidModel:
    """Return the model in the state of a last.pth, with the averaged weights if it has them."""
    model = ReidModel(ModelSpec.from_dict(state["spec"]))
    module = state["trainer"]["module"]
    own = {name.removeprefix("model."): value for name, value in module.items() if name.startswith("model.")}
    averaged = state["trainer"]["ema"]
    model.load_state_dict(averaged["model"] if averaged else own)
    return model


def build_foreign(path: Path, cfg: CfgNode) -> Weights:
    """Load the weights of the original TransReID into the model of the config.

    The file lacks the names of its cameras and views: side information takes those of the first of DATASETS.NAMES.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.PRETRAIN_CHOICE, cfg.DATASETS.TEST, cfg.DATASETS.DISTRACTORS = "none", (), ""
    cameras, views = build_names(cfg) if cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW else ((), ())
    model = build_model(cfg, cameras, views)
    logger.info("%s", load_weights(model, path))
    return Weights(model, {})


def build_names(cfg: CfgNode) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the training cameras and views."""
    data = build_test_sets(cfg)[0]
    return data.train_cameras or data.camera_names, data.train_views or data.view_names
