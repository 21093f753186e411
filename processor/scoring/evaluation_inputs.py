"""The input of an evaluation: a model and the images of the test sets, or files of saved features."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ...common.errors import UserError
from ...configs import marked_config, parse_stored_config
from ...datasets import Preprocess, ReidData, build_preprocess, build_test_sets
from ...model import build_spec
from ..device import pick_device, pick_precision, place
from ..distributed.ddp import device_of
from ..distributed.process_group import ALONE, Ranks
from ..embedding.embedder import fingerprint_of
from ..embedding.embedding_model import EmbeddingModel
from ..embedding.extract import EmbedSettings, build_embed_settings
from ..embedding.weight_files import Weights, build_bare, read_described, weights_path
from .evaluator import build_evaluator, check_answerable
from .feature_file import FeatureSet, load_features, read_facts
from .reranking import Rerank, build_rerank

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationInputs:
    """The test sets of an evaluation, and the ranking.

    Args:
        sources: the feature files, one per test set, or the weights file alone.
        weights: the model; None for feature files.
        features: embeds the test sets one after another, on all ranks together; yields the features of each, None on all ranks
            but the first. Every rank must read them all: a rank that leaves earlier would block the others.
    """

    sources: tuple[Path, ...]
    num_sets: int
    rerank: Rerank
    weights: Weights | None
    features: Callable[[], Iterator[FeatureSet | None]]


def build_file_inputs(
    files: Sequence[str], weights: str | None, cfg: CfgNode | None, overrides: Sequence[str]
) -> EvaluationInputs:
    """Return the inputs of an evaluation of saved features; without a config, the first file's config counts.

    Raises:
        ValueError: weights are given too; or what `load_features` says.
    """
    if weights:
        raise UserError("--features takes the place of the model; leave --weights out")
    paths = tuple(map(Path, files))
    if cfg is None:
        cfg = parse_stored_config(read_facts(paths[0])["about"].get("config", ""), overrides, str(paths[0]))
    asked = build_embed_settings(cfg).to_dict()
    return EvaluationInputs(
        paths, len(paths), build_rerank(cfg), None, lambda: (_loaded(path, asked) for path in paths)
    )


def _loaded(path: Path, asked: dict[str, Any]) -> FeatureSet:
    features = load_features(path)
    _warn_of_differences(f"{path}: the features'", features.about.get("embed", {}), asked)
    return features


def build_weights_inputs(
    weights: str | None,
    cfg: CfgNode | None,
    overrides: Sequence[str],
    ranks: Ranks = ALONE,
    options: Mapping[str, Any] | None = None,
) -> EvaluationInputs:
    """Return the inputs of an evaluation of a model on the test sets of the config; None = the config in its file.

    Args:
        options: what a finished model expects, see `Embedder`.
    Raises:
        ValueError, FileNotFoundError: no weights, no config for them, or a test set that cannot be read or evaluated.
    """
    chosen = weights or (cfg.TEST.WEIGHT if cfg is not None else "")
    if not chosen:
        raise UserError(
            "no weights to test: give --weights RUN/best.safetensors, or --config_file and TEST.WEIGHT FILE"
        )
    path = weights_path(chosen)
    is_chosen = cfg is not None or not {"DATASETS.NAMES", "DATASETS.TEST"}.isdisjoint(overrides[::2])
    own = read_described(path, options)
    if cfg is None:
        if own is None:
            raise UserError(
                f"{path} does not carry its config; name the recipe it was trained with, --config_file configs/….yml, or "
                f"convert it first: vitreid convert {path} OUT.safetensors"
            )
        cfg = parse_stored_config(own.about["config"], overrides, str(path))
    sets = build_test_sets(cfg, once=ranks.from_first, draws=is_chosen)
    rerank = build_rerank(cfg)
    for data in sets:
        check_answerable(data, rerank)
    found = own or build_bare(path, cfg)
    return EvaluationInputs((path,), len(sets), rerank, found, lambda: build_features(cfg, path, found, sets, ranks))


def build_features(
    cfg: CfgNode, path: Path, weights: Weights, sets: Sequence[ReidData], ranks: Ranks
) -> Iterator[FeatureSet | None]:
    """Yield the features of each data set; None on all ranks but the first."""
    model = weights.model
    device = device_of(ranks, pick_device(cfg.MODEL.DEVICE, model.devices))
    precision = pick_precision(cfg.SOLVER.PRECISION, device, model.precisions)
    model = place(model, device, precision).eval()
    preprocess = Preprocess.from_dict(weights.about["preprocess"]) if weights.about else build_preprocess(cfg)
    settings = model.settle(build_embed_settings(cfg))
    _build_warnings(cfg, model, preprocess, settings)
    about = {
        "config": marked_config(cfg),
        "weights": str(path),
        "fingerprint": fingerprint_of(model, preprocess, settings),
        **{key: weights.about.get(key) for key in ("threshold", "thresholds")},
    }
    for data in sets:
        features = build_evaluator(cfg, data, model, device, precision, preprocess, ranks).extract(model)
        yield replace(features, about={**features.about, **about}) if features else None


def _build_warnings(cfg: CfgNode, model: EmbeddingModel, preprocess: Preprocess, settings: EmbedSettings) -> None:
    """Log what the file fixes and the config asks for otherwise."""
    _warn_of_differences("the file's", settings.to_dict(), build_embed_settings(cfg).to_dict())
    if model.network is not None:  # the config describes our own models only
        spec = model.network.spec
        asked = {**build_spec(cfg, spec.cameras, spec.views).to_dict(), **build_preprocess(cfg).to_dict()}
        _warn_of_differences("the checkpoint's", {**spec.to_dict(), **preprocess.to_dict()}, asked)


def _warn_of_differences(whose: str, used: dict[str, Any], asked: dict[str, Any]) -> None:
    """Log each setting of checkpoint or features that overrides the config's."""
    for name, value in used.items():
        if asked.get(name) != value:
            logger.warning("%s %s is %s; the config's %s is left aside", whose, name, value, asked.get(name))
