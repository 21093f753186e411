"""A run folder -> report.html: what the run's files, its model and its data set have to show."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from ..configs import OPTIONS, flatten_config, parse_config
from ..datasets import ReidData, build_data, build_test_sets, read_image
from ..model.files import write_atomically, write_text_atomically
from ..report import PICTURES, Change, Report, RunContents, TestSet, build_comparison, build_report
from .build import build_evaluator, rerank_settings
from .embedder import Embedder
from .features import FeatureSet, load_features, read_facts
from .ranking import rank
from .report_looks import look_into
from .thresholds import stored_calibration

logger = logging.getLogger(__name__)
NUM_CHECKED = 4  # images embedded anew to see whether saved features are this model's
CLOSE = 0.02  # largest difference between two embeddings of unit length in different precisions


@dataclass(frozen=True)
class Shown:
    """What to show, and at which cost.

    Args:
        num_queries: of the hardest and of the best queries, 0 or more.
        model: whether the model runs; without it only saved features are evaluated.
        looks: whether the model is looked into: attention, side information, position embeddings.
        pictures: whether people are shown.
        map_method: of the map of embeddings: tsne, pca or none.
    Raises:
        ValueError: a value out of range.
    """

    num_queries: int = 6
    model: bool = True
    looks: bool = True
    pictures: bool = True
    map_method: str = "tsne"

    def __post_init__(self) -> None:
        if self.num_queries < 0:
            raise ValueError(f"--queries: 0 or more queries, got {self.num_queries}")
        if self.map_method not in ("tsne", "pca", "none"):
            raise ValueError(f"--map: unknown value {self.map_method!r}; choose from none, pca, tsne")


def write_report(
    folders: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    shown: Shown | None = None,
    features: FeatureSet | None = None,
) -> Path:
    """Write the report of one run, or the comparison of several, and its pictures into a folder of its name beside it.

    Args:
        folders: run folders, whose OUTPUT_DIR they were.
        output: the HTML file; None = report.html (comparison.html of several) in the first folder.
        overrides: KEY VALUE pairs on top of the runs' options, e.g. DATASETS.ROOT_DIR where the data set has moved.
        features: the evaluated embeddings of the only run, if they are at hand.
    Returns:
        The HTML file.
    Raises:
        FileNotFoundError: a folder that is not there or holds no run.
        ValueError: no folder, two of the same name, or what the run's files say does not fit together.
    """
    shown = shown or Shown()
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise ValueError("no run to report on: name the folder of a run, e.g. logs/synthetic_vit_tiny")
    for path in paths:
        check_run(path)
    file = Path(output) if output else paths[0] / ("report.html" if len(paths) == 1 else "comparison.html")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"--output: the folder {file.parent} does not exist; make it first")
    names = run_names(paths)
    if len(paths) == 1:
        made = build_report(
            collect(paths[0], names[0], overrides, shown, features), shown.num_queries, shown.map_method
        )
    else:
        told = replace(shown, looks=False)
        runs = [collect(path, name, overrides, told) for path, name in zip(paths, names, strict=True)]
        made = build_comparison(runs, shown.num_queries)
    _write(made, file)
    logger.info("report: %s, its pictures in %s", file, file.with_suffix(""))
    return file


def try_to_report(folder: str | Path, shown: Shown | None = None) -> None:
    """Write the report of a run that has just been trained; it is complete without, so what goes wrong is only logged."""
    try:
        write_report([folder], shown=shown)
    except (ValueError, OSError, ImportError) as error:
        logger.warning("there is no report: %s; tools/report.py %s tries again", error, folder)


def check_run(folder: Path) -> None:
    """Raise FileNotFoundError if the folder is not there or holds nothing of a run."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give the folder of a run, the OUTPUT_DIR of tools/train.py")
    wanted = ("config.yml", "metrics.jsonl", "best.safetensors", "last.pth")
    if not any((folder / name).is_file() for name in wanted):
        raise FileNotFoundError(
            f"{folder} holds no run: none of {', '.join(wanted)} is there; give the OUTPUT_DIR of one"
        )


def run_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each run: its folder's, with those above as far as needed to tell the runs apart.

    Raises:
        ValueError: one folder stands twice.
    """
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise ValueError(f"the same run twice among {', '.join(map(str, paths))}; name different ones")
    depth = next(d for d in range(1, max(map(len, parts)) + 1) if len({p[-d:] for p in parts}) == len(parts))
    return ["/".join(part[-depth:]) for part in parts]


def _write(made: Report, file: Path) -> None:
    """Write the page and its pictures; those of an earlier report that this one has not are removed."""
    folder = file.with_suffix("")
    folder.mkdir(exist_ok=True)
    for name in PICTURES - made.pictures.keys():
        (folder / name).unlink(missing_ok=True)
    for name, content in made.pictures.items():
        write_atomically(folder / name, partial(_write_bytes, content))
    write_text_atomically(file, made.html)


def _write_bytes(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def collect(
    folder: Path, name: str, overrides: Sequence[str], shown: Shown, features: FeatureSet | None = None
) -> RunContents:
    """Return all that a report shows of a run; what cannot be had is named with the reason."""
    missing: dict[str, str] = {}
    epochs, sentences = read_epochs(folder / "metrics.jsonl")
    if not epochs:
        missing["Training curves"] = "metrics.jsonl is not there, or no epoch is finished yet."
    embedder = _open_model(folder, missing)
    cfg = _config_of(folder, embedder, overrides)
    run = RunContents(name=name, epochs=epochs, missing=missing, sentences=sentences)
    if cfg is None:
        missing["Configuration"] = "neither config.yml nor weights that carry their options are there."
        return run
    run = replace(
        run, options=[Change(k, v, OPTIONS[k].default, OPTIONS[k].help) for k, v in flatten_config(cfg).items()]
    )
    data = _data_of(cfg, missing) if features is None else None
    features = features or _features_of(folder, cfg, embedder if shown.model else None, data, missing)
    test = _test_set(features, cfg, embedder, shown) if features is not None else None
    looks = look_into(embedder, test, missing) if embedder is not None and shown.model and shown.looks else None
    if not shown.model:
        missing["Pictures of the model"] = "the report was made without running the model (--no-model)."
    sentences += _about_pictures(test, shown)
    return replace(run, test=test, looks=looks, environment=environment(embedder, cfg))


def read_epochs(file: Path) -> tuple[list[dict[str, float]], list[str]]:
    """Return the rows of metrics.jsonl, one per epoch in order, and a sentence if some lines cannot be read.

    A process that was killed leaves a half-written line; a resumed run writes an epoch again, and the last one counts.
    """
    if not file.is_file():
        return [], []
    rows: dict[float, dict[str, float]] = {}
    broken = 0
    for line in filter(str.strip, file.read_text(encoding="utf-8", errors="replace").splitlines()):
        try:
            row = json.loads(line)
            rows[row["epoch"]] = {key: value for key, value in row.items() if isinstance(value, (int, float))}
        except (ValueError, TypeError, KeyError, AttributeError):
            broken += 1
    sentences = (
        [f"{broken} unreadable line(s) of {file} are left out: writing was interrupted there."] if broken else []
    )
    return [rows[epoch] for epoch in sorted(rows)], sentences


def _open_model(folder: Path, missing: dict[str, str]) -> Embedder | None:
    """Return the run's model: best.safetensors, or last.pth before the first evaluation; None with the reason without either."""
    for name in ("best.safetensors", "last.pth"):
        if (folder / name).is_file():
            return Embedder(folder / name)
    missing["The model"] = "neither best.safetensors nor last.pth is in the run folder."
    return None


def _config_of(folder: Path, embedder: Embedder | None, overrides: Sequence[str]) -> CfgNode | None:
    file = folder / "config.yml"
    if file.is_file():
        return parse_config(file.read_text(encoding="utf-8"), overrides)
    return parse_config(embedder.about["config"], overrides) if embedder is not None else None


def _data_of(cfg: CfgNode, missing: dict[str, str]) -> ReidData | None:
    """Return what the run was evaluated on: its validation people, or its first test set; None with the reason."""
    try:
        return build_data(cfg) if cfg.DATASETS.VAL_IDS else build_test_sets(cfg)[0]
    except (OSError, ValueError) as error:
        missing["Images of the test set"] = (
            f"they cannot be read ({error}). If they have moved, give DATASETS.ROOT_DIR FOLDER."
        )
        return None


def _features_of(
    folder: Path, cfg: CfgNode, embedder: Embedder | None, data: ReidData | None, missing: dict[str, str]
) -> FeatureSet | None:
    """Return saved features that are this model's, else the model's own; None with the reason if neither can be had."""
    for path in saved_features(folder):
        features = load_features(path)
        if data is None or embedder is None or is_of_model(features, embedder):
            logger.info("report: the embeddings come from %s", path)
            return features
        logger.warning("report: %s holds embeddings of another model; they are computed anew", path)
    if data is None or embedder is None:
        missing["Evaluation"] = (
            "it needs the images and the model, or features saved in the run folder (tools/test.py --save-features)."
        )
        return None
    evaluator = build_evaluator(cfg, data, embedder.model, embedder.device, embedder.precision, embedder.preprocess)
    return evaluator.extract(embedder.model)


def saved_features(folder: Path) -> list[Path]:
    """Return the run folder's files of saved features that say they are of its own weights."""
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            source = read_facts(path)["about"].get("weights", "")
        except ValueError:  # a model
            continue
        if Path(source).parent.resolve() == folder.resolve():
            found.append(path)
    return found


def is_of_model(features: FeatureSet, embedder: Embedder) -> bool:
    """Tell whether the features are the model's, by embedding a few of the query images anew.

    Where none of them can be read the features are believed.
    """
    names, rows = [], []
    for row, name in enumerate(features.q_names[:NUM_CHECKED]):
        if Path(name).is_file():
            names.append(name)
            rows.append(row)
    if not names:
        return True
    if features.about.get("embed") != embedder.settings.to_dict() or features.query.shape[1] != embedder.dim:
        return False
    fresh = embedder(names, [features.camera_names[camid] for camid in features.q_camids[rows]])
    saved = features.query[rows].numpy()
    return bool(np.abs(fresh - saved).max() <= CLOSE * np.abs(saved).max())


def _test_set(features: FeatureSet, cfg: CfgNode, embedder: Embedder | None, shown: Shown) -> TestSet:
    if embedder is not None:
        features = replace(features, about={**features.about, "threshold": embedder.about.get("threshold")})
    calibration = stored_calibration(features)
    settings = rerank_settings(cfg)
    names = (
        "protocol",
        "query",
        "gallery",
        "q_pids",
        "g_pids",
        "q_camids",
        "g_camids",
        "q_names",
        "g_names",
        "camera_names",
    )
    return TestSet(
        name=features.dataset,
        **{name: getattr(features, name) for name in names},
        result=rank(features, settings),
        ranking=settings.method,
        threshold=calibration.threshold if calibration else None,
        read=_read if shown.pictures else None,
    )


def _read(name: str) -> np.ndarray | None:
    """Return an image, None if it is not there or damaged: the rest of the report does not depend on it."""
    try:
        return read_image(name)
    except (OSError, ValueError):
        return None


def _about_pictures(test: TestSet | None, shown: Shown) -> list[str]:
    if test is None:
        return []
    if not shown.pictures:
        return ["Pictures of people are left out (--no-pictures)."]
    if test.read is not None and test.read(test.q_names[0]) is None:
        return [f"The images are no longer at {Path(test.q_names[0]).parent}, so the page has no pictures of people."]
    return [
        f"This page shows pictures of people from {test.name}: keep to the data set's licence before you pass it on; "
        "--no-pictures makes a page without them."
    ]


def environment(embedder: Embedder | None, cfg: CfgNode) -> dict[str, str]:
    """Return what the run was trained with, as its weights say, and what the report was made with."""
    found: dict[str, str] = {}
    if embedder is not None:
        model, about = embedder.model, embedder.about
        found["model"] = f"{model.spec.name}, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters"
        found["embedding"] = f"{embedder.dim} features, {embedder.neck} the neck"
        found["weights"] = f"{embedder.weights.name} of epoch {about.get('metrics', {}).get('epoch', 'unknown')}"
        found["trained on"] = f"{about.get('dataset', 'unknown data')}, {len(about.get('labels', ()))} people"
        found["trained with"] = ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items())
        found["report computed on"] = f"{embedder.device.type} in {str(embedder.precision).removeprefix('torch.')}"
    found["report made with"] = (
        f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()} {platform.machine()}"
    )
    return found
