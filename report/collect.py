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

from ..common.errors import UserError
from ..common.files import write_atomically, write_text_atomically
from ..configs import OPTIONS, flatten_config, parse_config
from ..datasets import ReidData, build_data, build_test_sets, read_image
from ..processor.embedding.embedder import Embedder, fingerprint_of
from ..processor.embedding.extract import build_embed_settings
from ..processor.scoring.evaluator import build_evaluator
from ..processor.scoring.feature_file import FeatureSet, load_features, read_facts
from ..processor.scoring.reranking import build_rerank, rank
from ..processor.scoring.thresholds import stored_calibration
from . import PICTURES, Change, Report, RunContents, TestSet, build_comparison, build_report
from .inspect_model import look_into

logger = logging.getLogger(__name__)


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
            raise UserError(f"--queries: 0 or more queries, got {self.num_queries}")
        if self.map_method not in ("tsne", "pca", "none"):
            raise UserError(f"--map: unknown value {self.map_method!r}; choose from none, pca, tsne")


def write_report(
    folders: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    shown: Shown | None = None,
    features: FeatureSet | None = None,
) -> Path:
    """Write the report of one run, or the comparison of several, and its pictures into a folder beside it.

    Args:
        folders: run folders, whose OUTPUT_DIR they were.
        output: the HTML file; None = report.html (comparison.html of several) in the first folder.
        overrides: KEY VALUE pairs on top of the runs' options, e.g. DATASETS.ROOT_DIR where the data set has moved.
        features: the evaluated embeddings of the only run, if they are at hand.
    Returns:
        The HTML file.
    Raises:
        FileNotFoundError: a folder that is not there or holds no run.
        ValueError: no folder, two of the same name, an output that cannot be a page, or what the run's files say does not fit
            together.
    """
    shown = shown or Shown()
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise UserError("no run to report on: name the folder of a run, e.g. logs/synthetic_vit_tiny")
    for path in paths:
        check_run(path)
    file = Path(output) if output else paths[0] / ("report.html" if len(paths) == 1 else "comparison.html")
    check_output(file)
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
    logger.info("report: %s, its pictures in %s", file, pictures_folder(file))
    return file


def try_to_report(folder: str | Path, shown: Shown | None = None) -> None:
    """Write the report of a run that has just been trained; it is complete without, so what goes wrong is only logged."""
    try:
        write_report([folder], shown=shown)
    except (
        ValueError,
        OSError,
        ImportError,
        RuntimeError,
        MemoryError,
    ) as error:  # torch's out of memory is a RuntimeError
        logger.warning("there is no report: %s; tools/report.py %s tries again", error, folder)


def check_output(file: Path) -> None:
    """Raise, before the work rather than after, if the page or its pictures cannot be put where they are wanted."""
    if file.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--output: {file} is the name of no page; choose one that ends in .html")
    if file.is_dir():
        raise UserError(f"--output: {file} is a folder; give the name of a file in it")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"--output: the folder {file.parent} does not exist; make it first")
    folder = pictures_folder(file)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output: {folder}, where the pictures go, is a file; choose another name")


def pictures_folder(file: Path) -> Path:
    """Return where a page's pictures go: a folder of a name that only reports give."""
    return file.with_name(f"{file.stem}_pictures")


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
        raise UserError(f"the same run twice among {', '.join(map(str, paths))}; name different ones")
    depth = next(d for d in range(1, max(map(len, parts)) + 1) if len({p[-d:] for p in parts}) == len(parts))
    return ["/".join(part[-depth:]) for part in parts]


def _write(made: Report, file: Path) -> None:
    """Write the page and its pictures; those of an earlier report that this one has not are removed."""
    folder = pictures_folder(file)
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
    own, cfg = (_config_of(folder, embedder, changes) for changes in ((), overrides))
    run = RunContents(name=name, epochs=epochs, missing=missing, sentences=sentences)
    if own is None or cfg is None:
        missing["Configuration"] = "neither config.yml nor weights that carry their options are there."
        return run
    run = replace(
        run, options=[Change(k, v, OPTIONS[k].default, OPTIONS[k].help) for k, v in flatten_config(own).items()]
    )
    sentences += _about_overrides(overrides)
    data = _data_of(cfg, missing) if features is None else None
    features = features or _features_of(folder, cfg, embedder, data, shown.model, missing)
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
        return parse_config(file.read_text(encoding="utf-8"), overrides, str(file))
    return parse_config(embedder.about["config"], overrides) if embedder is not None else None


def _data_of(cfg: CfgNode, missing: dict[str, str]) -> ReidData | None:
    """Return what the run was evaluated on: its validation people, or its first test set; None with the reason."""
    try:
        if cfg.DATASETS.VAL_IDS:
            return build_data(cfg)
        first, *others = build_test_sets(cfg)
        if others:
            names = ", ".join(data.evaluated for data in others)
            missing["Other test sets"] = (
                f"{names}: a report is about one, the first; DATASETS.TEST NAME behind the run chooses another."
            )
        return first
    except (OSError, ValueError) as error:
        missing["Images of the test set"] = (
            f"they cannot be read ({error}). If they have moved, give DATASETS.ROOT_DIR FOLDER."
        )
        return None


def _features_of(
    folder: Path, cfg: CfgNode, embedder: Embedder | None, data: ReidData | None, runs: bool, missing: dict[str, str]
) -> FeatureSet | None:
    """Return saved features if they are this model's of these images, else the model's own; None with the reason.

    Args:
        runs: whether the model may run.
    """
    for path in saved_features(folder):
        features = load_features(path)
        if reason := difference_of(features, cfg, embedder, data):
            logger.warning("report: %s is left aside: %s", path, reason)
        else:
            logger.info("report: the embeddings come from %s", path)
            return features
    if data is None or embedder is None or not runs:
        missing["Evaluation"] = (
            "it needs the images and the model, or features of both saved in the run folder (tools/test.py --save-features)."
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


def difference_of(features: FeatureSet, cfg: CfgNode, embedder: Embedder | None, data: ReidData | None) -> str:
    """Return why the features are not what the model would give for the images, empty = nothing known speaks against it."""
    if data is not None and features.dataset != data.evaluated:
        return f"it is about {features.dataset}, asked for is {data.evaluated}"
    for side, names in (("query", features.q_names), ("gallery", features.g_names)):
        if data is not None and names != [record.path for record in getattr(data, side)]:
            return f"its {side} images are not those of {data.evaluated} as it is now"
    if embedder is None:
        return ""
    asked = fingerprint_of(embedder.model, embedder.preprocess, build_embed_settings(cfg))
    return "" if features.about.get("fingerprint") == asked else "its embeddings are of another model or other settings"


def _test_set(features: FeatureSet, cfg: CfgNode, embedder: Embedder | None, shown: Shown) -> TestSet:
    if embedder is not None:
        features = replace(features, about={**features.about, "threshold": embedder.about.get("threshold")})
    calibration = stored_calibration(features.about)
    settings = build_rerank(cfg)
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


def _about_overrides(overrides: Sequence[str]) -> list[str]:
    """Return a sentence about options that are the report's and not the run's."""
    if not overrides:
        return []
    pairs = ", ".join(f"{key} {value}" for key, value in zip(overrides[::2], overrides[1::2], strict=True))
    return [f"This report was made with other options than the run: {pairs}."]


def _about_pictures(test: TestSet | None, shown: Shown) -> list[str]:
    if test is None:
        return []
    if not shown.pictures:
        return ["Pictures of people are left out (--no-pictures)."]
    names = [*test.q_names, *test.g_names]
    gone = [name for name in names if not Path(name).is_file()]
    if len(gone) == len(names):
        return [f"The images are no longer at {Path(names[0]).parent}, so the page has no pictures of people."]
    some = [f"{len(gone)} of {len(names)} images are not where they were, e.g. {gone[0]}."] if gone else []
    return [
        *some,
        f"This page shows pictures of people from {test.name}: keep to the data set's licence before you pass it on; "
        "--no-pictures makes a page without them.",
    ]


def environment(embedder: Embedder | None, cfg: CfgNode) -> dict[str, str]:
    """Return what the run was trained with, as its weights say, and what the report was made with."""
    found: dict[str, str] = {}
    if embedder is not None:
        model, about = embedder.model, embedder.about
        found["model"] = f"{model.spec.title}, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters"
        found["embedding"] = f"{embedder.dim} features, {embedder.neck} the neck"
        found["weights"] = f"{embedder.weights.name} of epoch {about.get('metrics', {}).get('epoch', 'unknown')}"
        found["trained on"] = f"{about.get('dataset', 'unknown data')}, {len(about.get('labels', ()))} people"
        found["trained with"] = ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items())
        found["report computed on"] = f"{embedder.device.type} in {str(embedder.precision).removeprefix('torch.')}"
    found["report made with"] = (
        f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()} {platform.machine()}"
    )
    return found
