"""Where embeddings come from: a model and the images of the test sets, or files of saved features."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ...common.errors import UserError
from ...configs import dump_config, parse_config
from ...datasets import Preprocess, ReidData, build_preprocess, build_test_sets
from ...model import ModelSpec, ReidModel, build_spec
from ..device import pick_device, pick_precision, place
from ..distributed.ddp import device_of
from ..distributed.process_group import ALONE, Ranks
from ..embedding.embedder import fingerprint_of
from ..embedding.weight_file import Weights, read_foreign, read_own, weights_path
from .evaluator import build_evaluator, check_answerable
from .feature_file import FeatureSet, load_features, read_facts
from .settings import embed_settings, rerank_settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What is evaluated: the config in force, the files the embeddings come from, and the embeddings, set by set.

    Of several processes only the first gets the embeddings, the others None.
    """

    cfg: CfgNode
    sources: tuple[Path, ...]
    features: Iterator[FeatureSet | None]
    num_sets: int
    weights: Weights | None = None


def job_of_files(files: Sequence[str], weights: str | None, cfg: CfgNode | None, overrides: Sequence[str]) -> Job:
    """Return the evaluation of saved features; without a config, the one that the first file was saved under holds.

    Raises:
        ValueError: there is a model too; or what `load_features` says.
    """
    if weights:
        raise UserError("--features takes the place of the model; leave --weights out")
    paths = tuple(map(Path, files))
    cfg = cfg or parse_config(read_facts(paths[0])["about"].get("config", ""), overrides)
    return Job(cfg, paths, (_loaded(path, cfg) for path in paths), len(paths))


def _loaded(path: Path, cfg: CfgNode) -> FeatureSet:
    features = load_features(path)
    _warn_of_differences(f"{path}: the features'", features.about.get("embed", {}), embed_settings(cfg).to_dict())
    return features


def job_of_weights(weights: str | None, cfg: CfgNode | None, overrides: Sequence[str], ranks: Ranks = ALONE) -> Job:
    """Return the evaluation of a model on the test sets of the config, or of the config in its file.

    Args:
        ranks: the processes that share the images.

    Raises:
        ValueError, FileNotFoundError: no weights, no config for them, or a test set that cannot be read or evaluated.
    """
    path = weights_path(weights, cfg)
    own = read_own(path)
    if cfg is None:
        if own is None:
            raise UserError(
                f"{path} does not carry its config; name the recipe it was trained with: --config_file configs/….yml"
            )
        cfg = parse_config(own.about["config"], overrides)
    sets = build_test_sets(cfg, once=ranks.from_first)
    for data in sets:
        check_answerable(data, rerank_settings(cfg))
    found = own or read_foreign(path, cfg)
    return Job(cfg, (path,), _extracted(cfg, path, found, sets, ranks), len(sets), found)


def _extracted(
    cfg: CfgNode, path: Path, weights: Weights, sets: Sequence[ReidData], ranks: Ranks
) -> Iterator[FeatureSet | None]:
    """Yield the features of each data set."""
    device = device_of(ranks, pick_device(cfg.MODEL.DEVICE))
    precision = pick_precision(cfg.SOLVER.PRECISION, device)
    model: ReidModel = place(weights.model, device, precision).eval()
    preprocess = Preprocess.from_dict(weights.about["preprocess"]) if weights.about else build_preprocess(cfg)
    _warn_of_ignored(cfg, model.spec, preprocess)
    about = {
        "config": dump_config(cfg),
        "weights": str(path),
        "fingerprint": fingerprint_of(model, preprocess, embed_settings(cfg)),
        "threshold": weights.about.get("threshold"),
    }
    for data in sets:
        features = build_evaluator(cfg, data, model, device, precision, preprocess, ranks).extract(model)
        yield replace(features, about={**features.about, **about}) if features else None


def _warn_of_ignored(cfg: CfgNode, spec: ModelSpec, preprocess: Preprocess) -> None:
    """Log where the config asks for another model or preprocessing than the checkpoint's, which is used."""
    asked = {**build_spec(cfg, spec.cameras, spec.views).to_dict(), **build_preprocess(cfg).to_dict()}
    _warn_of_differences("the checkpoint's", {**spec.to_dict(), **preprocess.to_dict()}, asked)


def _warn_of_differences(whose: str, used: dict[str, Any], asked: dict[str, Any]) -> None:
    for name, value in used.items():
        if asked.get(name) != value:
            logger.warning("%s %s is %s; the config's %s is left aside", whose, name, value, asked.get(name))
