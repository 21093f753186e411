"""A file -> the model in it with its metadata: best.safetensors, last.pth, a file of another runtime or project."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ...common.errors import UserError
from ...datasets import Preprocess, build_test_sets
from ...model import build_model, is_deploy, load_deploy, load_weights, save_deploy
from ...model.weights.hub import fetch_model, is_hub_name
from ..runs.checkpoint import DamagedCheckpointError, NotACheckpointError, load_last, restored_model
from .embed_settings import EmbedSettings
from .embedding_model import EmbeddingModel
from .foreign.open_foreign import open_foreign
from .foreign.runtimes import RUNTIMES, runtime_of
from .wrong_kinds import kind_of

logger = logging.getLogger(__name__)

PRETRAINED = "model.safetensors"  # the weights in a folder of a model


@dataclass(frozen=True)
class Weights:
    """A model and the metadata of its file.

    Args:
        about: empty for a file of the original TransReID.
        store: writes entries of `about`, such as a new threshold, to where they are kept, and returns that file; None = they
            cannot be kept.
    """

    model: EmbeddingModel
    about: dict[str, Any]
    store: Callable[[Mapping[str, Any]], Path] | None = None


def weights_path(weights: str) -> Path:
    """Return the path of a weight file: itself, or that in a folder of `save_pretrained`, here or on the hub (`hf-hub:owner/model`).

    Raises:
        UserError: `weights` is empty, or a picture or text; FileNotFoundError: the file does not exist; IsADirectoryError: it is a folder.
    """
    if not weights:
        raise UserError("no weights: give --weights RUN/best.safetensors, or another file of a model")
    path = fetch_model(weights) if is_hub_name(weights) else Path(weights)
    if (path / PRETRAINED).is_file():
        return path / PRETRAINED
    if path.is_dir():
        raise IsADirectoryError(f"weights file {path} is a folder; it holds {_listing(path)}; name a file")
    if not path.is_file():
        hint = f"; the folder {path.parent} holds {_listing(path.parent)}" if path.parent.is_dir() else ""
        raise FileNotFoundError(f"weights file {path} does not exist{hint}")
    if kind := kind_of(path):
        raise UserError(f"weights file {path} is {kind}, not weights; give the best.safetensors or last.pth of a run")
    return path


def _listing(folder: Path) -> str:
    suffixes = {".safetensors", ".pth", *(suffix for runtime in RUNTIMES.values() for suffix in runtime.suffixes)}
    names = sorted(path.name for path in folder.iterdir() if path.suffix in suffixes)
    return ", ".join(names) or "no .safetensors or .pth file"


def read_described(path: Path, options: Mapping[str, Any] | None = None) -> Weights | None:
    """Return the model in a file that describes itself: of vitreid, or of another runtime; None for any other weight file.

    Args:
        options: what the file of another runtime expects, see `open_foreign`.
    Raises:
        UserError: options for a file of vitreid, which carries its own; or the file is damaged or incomplete.
    """
    if runtime_of(path):
        opened = open_foreign(path, options)
        return Weights(opened.model, opened.about, opened.store)
    if options:
        raise UserError(
            f"--embedder-{next(iter(options))}: for ONNX, OpenVINO and TorchScript files; {path} is none, leave it out"
        )
    if path.suffix == ".pt2":
        raise UserError(f"{path} is a torch.export package, which is not opened here; export it as ONNX or TorchScript")
    return _read_own(path)


def _read_own(path: Path) -> Weights | None:
    """Return the weights in a file of vitreid, averaged if last.pth has such; None for a file of another project."""
    if path.suffix == ".safetensors":
        return _deployed(path) if is_deploy(path) else None
    try:
        state = load_last(path)
    except NotACheckpointError:
        return None
    except DamagedCheckpointError as error:
        said = str(error).partition("; resume from")[0]
        raise UserError(f"{said}; copy it again, or give another file, such as the run's best.safetensors") from error
    return Weights(restored_model(state, path), _checked(state["about"], path))


def _checked(about: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the facts of a file; raise UserError if it does not say how images are prepared in words that are known."""
    for key, make in (("preprocess", Preprocess.from_dict), ("embed", lambda values: EmbedSettings(**values))):
        if key not in about:
            continue
        try:
            make(about[key])
        except (TypeError, ValueError) as error:
            why = error if isinstance(error, UserError) else f"got {str(about[key])[:100]}"
            raise UserError(f"{path}: its metadata are damaged ({key}: {why}); copy or train it again") from error
    return about


def _deployed(path: Path) -> Weights:
    model, about = load_deploy(path)
    _checked(about, path)

    def store(entries: Mapping[str, Any]) -> Path:
        save_deploy(path, model, {**about, **entries})
        return path

    return Weights(model, about, store)


def build_bare(path: Path, cfg: CfgNode) -> Weights:
    """Load the weights of the original TransReID into the model of the config.

    The file lacks the names of its cameras and views: side information takes those of the first of DATASETS.NAMES.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.PRETRAIN_CHOICE, cfg.DATASETS.TEST, cfg.DATASETS.DISTRACTORS = "none", (), ""
    cameras: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    if cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW:
        data = build_test_sets(cfg)[0]
        cameras, views = data.train_cameras or data.camera_names, data.train_views or data.view_names
    model = build_model(cfg, cameras, views)
    logger.info("%s", load_weights(model, path))
    return Weights(model, {})
