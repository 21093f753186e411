"""Weights -> numbers on a test set, with or without a config."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ..configs import load_config, parse_config
from ..datasets import Preprocess, ReidData, build_preprocess, build_test_data
from ..evaluation import RetrievalResult
from ..model import ModelSpec, ReidModel, build_model, build_spec, is_deploy, load_deploy, load_weights
from ..model.files import write_text_atomically
from .build import build_evaluator, embed_settings, place
from .checkpoint import NotOurs, load_last
from .device import pick_device, pick_precision
from .evaluate import result_table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """A model and what its file says about it (`about` is empty for a file of the original TransReID)."""

    model: ReidModel
    about: dict[str, Any]


def test(
    weights: str | None = None, config_file: str | None = None, overrides: Sequence[str] = (), output: str | None = None
) -> RetrievalResult:
    """Evaluate weights, log the table and write metrics.json.

    Args:
        weights: best.safetensors or last.pth (either explains itself), or a file of the original TransReID, which
            needs a `config_file`; None = TEST.WEIGHT of the config.
        config_file: recipe; None = the config inside the checkpoint. A checkpoint of ours keeps its own architecture and
            preprocessing; where the config says otherwise, that is logged.
        overrides: KEY VALUE pairs on top of either.
        output: the JSON file; None = metrics.json beside the weights.
    Raises:
        ValueError, FileNotFoundError: no weights, or config and weights do not fit; says which.
    """
    cfg = load_config(config_file, overrides) if config_file else None
    path = _weights_path(weights, cfg)
    own = _read_own(path)
    if cfg is None:
        if own is None:
            raise ValueError(
                f"{path} does not carry its config; name the recipe it was trained with: --config_file configs/….yml"
            )
        cfg = parse_config(own.about["config"], overrides)
    data = build_test_data(cfg)
    found = own or _read_foreign(path, cfg, data)
    result = _evaluate(cfg, data, found)
    _report(cfg, data, path, result, Path(output) if output else path.parent / "metrics.json")
    return result


def _weights_path(weights: str | None, cfg: CfgNode | None) -> Path:
    chosen = weights or (cfg.TEST.WEIGHT if cfg is not None else "")
    if not chosen:
        raise ValueError(
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


def _read_own(path: Path) -> Weights | None:
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


def _read_foreign(path: Path, cfg: CfgNode, data: ReidData) -> Weights:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.PRETRAIN_CHOICE = "none"
    model = build_model(cfg, data.train_cameras or data.camera_names, data.train_views or data.view_names)
    logger.info("%s", load_weights(model, path))
    return Weights(model, {})


def _evaluate(cfg: CfgNode, data: ReidData, weights: Weights) -> RetrievalResult:
    device = pick_device(cfg.MODEL.DEVICE)
    precision = pick_precision(cfg.SOLVER.PRECISION, device)
    model = place(weights.model, device).eval()
    preprocess = Preprocess.from_dict(weights.about["preprocess"]) if weights.about else build_preprocess(cfg)
    _warn_of_ignored(cfg, model.spec, preprocess)
    return build_evaluator(cfg, data, model, device, precision, preprocess)(model)


def _warn_of_ignored(cfg: CfgNode, spec: ModelSpec, preprocess: Preprocess) -> None:
    """Log where the config asks for another model or preprocessing than the checkpoint's, which is used."""
    asked = {**build_spec(cfg, spec.cameras, spec.views).to_dict(), **build_preprocess(cfg).to_dict()}
    for name, value in {**spec.to_dict(), **preprocess.to_dict()}.items():
        if asked[name] != value:
            logger.warning("the checkpoint's %s is %s; the config's %s is left aside", name, value, asked[name])


def _report(cfg: CfgNode, data: ReidData, weights: Path, result: RetrievalResult, output: Path) -> None:
    logger.info("%s", result_table(data.evaluated, result))
    numbers = {
        "dataset": data.evaluated,
        "weights": str(weights),
        **result.summary(),
        "protocol": data.protocol,
        "num_queries": result.num_queries,
        "num_valid_queries": result.num_valid,
        "embedding": embed_settings(cfg).to_dict(),
        "rerank": cfg.TEST.RERANK,
    }
    write_text_atomically(output, json.dumps(numbers, indent=2) + "\n")
    logger.info("saved to %s", output)
