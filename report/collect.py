"""A run folder -> everything that a report shows: from the run's files, its model and its test set."""

from __future__ import annotations

import logging
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode

from ..common.errors import UserError
from ..common.inputs.regular_files import CONFIG_BYTES, JSON_BYTES, read_text
from ..common.text import parse_json
from ..configs import OPTIONS, flatten_config, parse_config, parse_stored_config
from ..datasets import ReidData, build_data, build_test_sets, read_image
from ..processor.embedding.embedder import Embedder, fingerprint_of
from ..processor.embedding.extract import EmbedSettings, build_embed_settings
from ..processor.embedding.foreign.open_foreign import PROGRAM
from ..processor.embedding.foreign.runtimes import runtime_of
from ..processor.scoring.evaluator import build_evaluator
from ..processor.scoring.feature_file import FeatureSet, load_features, read_facts
from ..processor.scoring.reranking import Rerank, build_rerank, rank, rank_further
from ..processor.scoring.thresholds import stored_calibration
from .collect_rounds import build_rounds
from .inspect_model import make_model_pictures
from .run_contents import EvaluatedSet, OptionValue, RunContents

logger = logging.getLogger(__name__)
NO_PICTURES = "Pictures of people are left out (--no-pictures)."


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What a report shows.

    Args:
        num_queries: number of the hardest queries shown, and of the best, 0 or more.
        model: run the model; otherwise only saved features are evaluated.
        model_pictures: show attention, side information and position embeddings; needs `model`.
        pictures: show people.
        map_method: of the map of embeddings: tsne, pca or none.
    Raises:
        ValueError: a value out of range.
    """

    num_queries: int = 6
    model: bool = True
    model_pictures: bool = True
    pictures: bool = True
    map_method: str = "tsne"

    def __post_init__(self) -> None:
        if self.num_queries < 0:
            raise UserError(f"--queries: 0 or more queries, got {self.num_queries}")
        if self.map_method not in ("tsne", "pca", "none"):
            raise UserError(f"--map: unknown value {self.map_method!r}; choose from none, pca, tsne")


def collect(
    folder: Path, name: str, overrides: Sequence[str], shown: ReportOptions, features: FeatureSet | None = None
) -> RunContents:
    """Return everything that a report shows of a run; `missing` names the rest with the reason."""
    missing: dict[str, str] = {}
    epochs, sentences = read_epochs(folder / "metrics.jsonl")
    if not epochs:
        missing["Training curves"] = "metrics.jsonl does not exist, or no epoch is finished yet."
    embedder = _open_model(folder, missing)
    text, source = _read_config(folder, embedder)
    run = RunContents(name=name, epochs=epochs, missing=missing, sentences=sentences)
    if not text:
        missing["Configuration"] = "there is neither config.yml nor a weight file with the options of the run."
        return run
    own, cfg = parse_config(text, (), source), parse_stored_config(text, overrides, source)
    options = [
        OptionValue(k, shown_value(k, v), OPTIONS[k].default, OPTIONS[k].help) for k, v in flatten_config(own).items()
    ]
    if overrides:
        pairs = ", ".join(f"{k} {shown_value(k, v)}" for k, v in zip(overrides[::2], overrides[1::2], strict=True))
        sentences.append(f"This report was made with other options than the run: {pairs}.")
    has_images = True
    if features is None:
        data = build_evaluated_data(cfg, missing)
        has_images = data is not None  # else the names in a file of features would choose which images are read
        features = _find_or_extract(folder, cfg, data, embedder, shown.model, missing)
    test = None
    if features is not None:
        test = _evaluate(features, build_rerank(cfg), embedder, shown.pictures and has_images)
    pictures = None
    if not shown.model:
        missing["Pictures of the model"] = "the report was made without running the model (--no-model)."
    elif embedder is not None and embedder.model.network is None:
        missing["Pictures of the model"] = f"{embedder.weights.name} is a finished model; its layers are not known."
    elif embedder is not None and shown.model_pictures:
        pictures = make_model_pictures(embedder, test, missing)
    sentences += _about_pictures(test, shown)
    rounds = build_rounds(folder, cfg, _read if shown.pictures else None, missing)
    if test is None and rounds is not None and rounds.images is not None:
        sentences.append(NO_PICTURES if not shown.pictures else _licence(rounds.images.name))
    about = environment(embedder)
    return replace(run, options=options, test=test, model_pictures=pictures, rounds=rounds, environment=about)


def read_epochs(file: Path) -> tuple[list[dict[str, float]], list[str]]:
    """Return the rows of metrics.jsonl, one per epoch in order, and a sentence if some lines cannot be read.

    A killed process leaves a half-written line. A resumed run writes an epoch again; its last row counts.
    """
    if not file.is_file():
        return [], []
    rows: dict[float, dict[str, float]] = {}
    broken = 0
    for line in filter(str.strip, read_text(file, JSON_BYTES, errors="replace").splitlines()):
        try:
            row = parse_json(line, file.name)
            epoch = row["epoch"]
            if not isinstance(epoch, (int, float)) or not math.isfinite(epoch):
                raise ValueError(epoch)
            rows[epoch] = {key: value for key, value in row.items() if isinstance(value, (int, float))}
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            broken += 1
    sentence = f"{broken} unreadable line(s) of {file.name} are left out: writing was interrupted there."
    return [rows[epoch] for epoch in sorted(rows)], [sentence] if broken else []


def _open_model(folder: Path, missing: dict[str, str]) -> Embedder | None:
    """Return the model of best.safetensors, of last.pth before the first evaluation, or of the only finished model; None without."""
    for name in ("best.safetensors", "last.pth"):
        if (folder / name).is_file():
            return Embedder(folder / name)
    finished = finished_models(folder)
    if len(finished) == 1 and runtime_of(finished[0]) == PROGRAM:
        missing["The model"] = f"{finished[0].name} is a TorchScript archive, a program, which a report does not run."
        return None
    if len(finished) == 1:
        return Embedder(finished[0])
    several = (
        f", and there are several finished models: {', '.join(path.name for path in finished)}" if finished else ""
    )
    missing["The model"] = f"neither best.safetensors nor last.pth is in the run folder{several}."
    return None


def finished_models(folder: Path) -> list[Path]:
    """Return the model files of other runtimes in the folder."""
    return [path for path in sorted(folder.iterdir()) if path.is_file() and runtime_of(path)]


def _read_config(folder: Path, embedder: Embedder | None) -> tuple[str, str]:
    """Return the text of the run's config and where it is from; "" if there is none."""
    file = folder / "config.yml"
    if file.is_file():
        return read_text(file, CONFIG_BYTES, errors="replace"), str(file)
    return (str(embedder.about.get("config", "")), str(embedder.weights)) if embedder is not None else ("", "")


def shown_value(key: str, value: Any) -> Any:
    """Return the value of an option for the page: of an absolute path only the last part, as others will read it."""
    if not OPTIONS[key].is_path or not os.path.isabs(str(value)):
        return value
    return f".../{Path(value).name}"


def build_evaluated_data(cfg: CfgNode, missing: dict[str, str]) -> ReidData | None:
    """Return the run's validation people, or its first test set; None if they cannot be read."""
    try:
        if cfg.DATASETS.VAL_IDS:
            return build_data(cfg, draws=False)
        first, *others = build_test_sets(cfg, draws=False)
    except (OSError, ValueError) as error:  # it may list a folder, which the page's readers must not see
        logger.warning("report: the images of the test set cannot be read: %s", error)
        missing["Images of the test set"] = (
            "they cannot be read; the log of the report has the reason. If they have moved, give DATASETS.ROOT_DIR FOLDER."
        )
        return None
    if not (first.query and first.gallery):
        missing["Evaluation"] = "there is no test set; DATASETS.TEST NAME after the run folder chooses one."
        return None
    if others:
        names = ", ".join(data.evaluated for data in others)
        missing["Other test sets"] = (
            f"{names}: a report is about one, the first; DATASETS.TEST NAME after the run folder chooses another."
        )
    return first


def _find_or_extract(
    folder: Path,
    cfg: CfgNode,
    data: ReidData | None,
    embedder: Embedder | None,
    may_run: bool,
    missing: dict[str, str],
) -> FeatureSet | None:
    """Return saved features if they are this model's for these images, else extract them; None if that is not possible.

    Args:
        data: the test set; None if it cannot be read.
        may_run: whether the model may run.
    """
    if (features := find_features(folder, build_embed_settings(cfg), embedder, data)) is not None:
        return replace(features, person_names=data.person_names) if data is not None else features
    if data is None or embedder is None or not may_run:
        missing.setdefault(
            "Evaluation",
            "it needs the images and the model, or their features saved in the run folder (vitreid test --save-features).",
        )
        return None
    evaluator = build_evaluator(cfg, data, embedder.model, embedder.device, embedder.precision, embedder.preprocess)
    return evaluator.extract(embedder.model)


def find_features(
    folder: Path, settings: EmbedSettings, embedder: Embedder | None, data: ReidData | None
) -> FeatureSet | None:
    """Return the first saved features that are the embeddings of `data` by this model; None if there are none.

    Args:
        embedder, data: None if unknown; then saved features are not compared with them.
    """
    for path in saved_features(folder):
        features = load_features(path)
        if reason := difference_of(features, settings, embedder, data):
            logger.warning("report: %s is not used: %s", path, reason)
        else:
            logger.info("report: the embeddings come from %s", path)
            return features
    return None


def saved_features(folder: Path) -> list[Path]:
    """Return the feature files in the run folder that were made with its own weights."""
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            source = read_facts(path)["about"].get("weights", "")
        except ValueError:  # a model
            continue
        if Path(source).parent.resolve() == folder.resolve():
            found.append(path)
    return found


def difference_of(
    features: FeatureSet, settings: EmbedSettings, embedder: Embedder | None, data: ReidData | None
) -> str:
    """Return why the features differ from what the model would compute, "" if nothing is known to differ."""
    if data is not None and features.dataset != data.evaluated:
        return f"it is about {features.dataset}, asked for is {data.evaluated}"
    for side, names in (("query", features.q_names), ("gallery", features.g_names)):
        if data is not None and names != [record.path for record in getattr(data, side)]:
            return f"its {side} images are not those of {data.evaluated} as it is now"
    if data is not None and features.protocol != data.protocol:
        return f"it was saved under the protocol {features.protocol}, that of {data.evaluated} is {data.protocol} now"
    if data is not None and features.settings != data.settings:
        return f"it was saved for other settings (protocols, cameras, draws) than {data.evaluated} has now"
    if embedder is None:
        return ""
    asked = fingerprint_of(embedder.model, embedder.preprocess, embedder.model.settle(settings))
    return "" if features.about.get("fingerprint") == asked else "its embeddings are of another model or other settings"


def _evaluate(features: FeatureSet, rerank: Rerank, embedder: Embedder | None, pictures: bool) -> EvaluatedSet:
    if embedder is not None:
        known = {key: embedder.about.get(key) for key in ("threshold", "thresholds")}
        features = replace(features, about={**features.about, **known})
    features = rerank.postprocess(features)
    calibration = stored_calibration(features.about)
    threshold = calibration.threshold if calibration else None
    read = _read if pictures else None
    setting = features.evaluations[0]
    found, further = rank(features, rerank), rank_further(features, rerank)
    return EvaluatedSet(features.under(setting), found, rerank.method, threshold, read, setting, further)


def _read(name: str) -> np.ndarray | None:
    """Return an image; None if it does not exist or is damaged, because the rest of the report does not depend on it."""
    try:
        return read_image(name)
    except (OSError, ValueError):
        return None


def _about_pictures(test: EvaluatedSet | None, shown: ReportOptions) -> list[str]:
    if test is None:
        return []
    if not shown.pictures:
        return [NO_PICTURES]
    names = [*test.features.q_names, *test.features.g_names]
    gone = names if test.read is None else [name for name in names if not Path(name).is_file()]
    if len(gone) == len(names):
        return ["The images are no longer where they were, so the page has no pictures of people."]
    some = [f"{len(gone)} of {len(names)} images are not where they were, e.g. {Path(gone[0]).name}."] if gone else []
    return [*some, _licence(test.features.dataset)]


def _licence(dataset: str) -> str:
    return (
        f"This page shows pictures of people from {dataset}: check the data set's licence before you share it; "
        "--no-pictures makes a page without them."
    )


def environment(embedder: Embedder | None) -> dict[str, str]:
    """Return the versions and device of the training, as the weight file says, and of the report."""
    found: dict[str, str] = {}
    if embedder is not None:
        network, about = embedder.model.network, embedder.about
        found["model"] = embedder.name
        found["embedding"] = f"{embedder.dim} features"
        found["weights"] = embedder.weights.name
        if network is not None:
            found["model"] += f", {sum(p.numel() for p in network.parameters()) / 1e6:.1f} M parameters"
            found["embedding"] += f", {embedder.neck} the neck"
            found["weights"] += f" of epoch {about.get('metrics', {}).get('epoch', 'unknown')}"
            found["trained on"] = f"{about.get('dataset', 'unknown data')}, {len(about.get('labels', ()))} people"
            versions = about.get("versions", {}).items()
            found["trained with"] = ", ".join(f"{name} {version}" for name, version in versions)
        found["report computed on"] = f"{embedder.device.type} in {str(embedder.precision).removeprefix('torch.')}"
    found["report made with"] = (
        f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()} {platform.machine()}"
    )
    return found
