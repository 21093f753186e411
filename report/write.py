"""Run folders -> report.html and its pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..common.errors import UserError
from ..common.files import check_output_file, write_atomically, write_text_atomically
from ..common.replace_folder import refuse_link
from ..processor.runs.run_folder import REPORT_PICTURES
from ..processor.scoring.feature_file import FeatureSet
from .collect import ReportOptions, collect, finished_models
from .report_builder import HtmlReport, build_comparison, build_report

logger = logging.getLogger(__name__)


def write_report(
    folders: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    shown: ReportOptions | None = None,
    features: FeatureSet | None = None,
) -> Path:
    """Write the report of one run, or the comparison of several, and a folder with its pictures next to it.

    Args:
        folders: run folders, the OUTPUT_DIR of each run.
        output: the HTML file; None = report.html (comparison.html of several) in the first folder.
        overrides: KEY VALUE pairs that replace options of the runs, e.g. DATASETS.ROOT_DIR if the data set has moved.
        shown: what the report shows.
        features: embeddings of the test set that are already computed; for a single run.
    Returns:
        The HTML file.
    Raises:
        FileNotFoundError: a folder does not exist or holds no run.
        ValueError: no folder, one folder twice, an output that cannot be a page, or files of a run that do not fit together.
    """
    shown = shown or ReportOptions()
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise UserError("no run to report on: name the folder of a run, e.g. logs/synthetic_vit_tiny")
    for path in paths:
        check_run(path)
    file = Path(output) if output else paths[0] / ("report.html" if len(paths) == 1 else "comparison.html")
    check_page(file)
    names = run_names(paths)
    if len(paths) == 1:
        run = collect(paths[0], names[0], overrides, shown, features)
        report = build_report(run, shown.num_queries, shown.map_method)
    else:
        compared = replace(shown, model_pictures=False)
        runs = [collect(path, name, overrides, compared) for path, name in zip(paths, names, strict=True)]
        report = build_comparison(runs, shown.num_queries)
    _write(report, file)
    logger.info("report: %s, its pictures in %s", file, pictures_folder(file))
    return file


def try_to_report(folder: str | Path, shown: ReportOptions | None = None) -> None:
    """Write the report after training. Errors are logged, not raised: the run is complete without it."""
    try:
        write_report([folder], shown=shown)
    except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:  # OutOfMemoryError is a RuntimeError
        logger.warning("there is no report: %s; vitreid report %s tries again", error, folder)
        logger.debug("where the report failed:", exc_info=True)


def check_page(file: Path) -> None:
    """Raise before the work starts if the page or its pictures cannot be written."""
    if file.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--output: {file} is not the name of a page; choose one that ends in .html")
    check_output_file("--output", file)
    folder = pictures_folder(file)
    refuse_link(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output: {folder}, the folder of the pictures, is a file; choose another name")


def pictures_folder(file: Path) -> Path:
    """Return the folder of a page's pictures; only reports use names that end in _pictures."""
    return file.with_name(f"{file.stem}_pictures")


def check_run(folder: Path) -> None:
    """Raise FileNotFoundError if the folder does not exist or holds no file of a run."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give the folder of a run, the OUTPUT_DIR of vitreid train")
    wanted = ("config.yml", "metrics.jsonl", "best.safetensors", "last.pth")
    if not any((folder / name).is_file() for name in wanted) and not finished_models(folder):
        none = f"none of {', '.join(wanted)} exists, and no finished model"
        raise FileNotFoundError(f"{folder} holds no run: {none}; give the OUTPUT_DIR of a run")


def run_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each run: its folder's name, with as many parent folders as make the names distinct.

    Raises:
        ValueError: one folder is given twice.
    """
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise UserError(f"the same run twice among {', '.join(map(str, paths))}; name different ones")
    depth = next(d for d in range(1, max(map(len, parts)) + 1) if len({p[-d:] for p in parts}) == len(parts))
    return ["/".join(part[-depth:]) for part in parts]


def _write(report: HtmlReport, file: Path) -> None:
    """Write the page and its pictures; delete the pictures of an earlier report that this one does not have."""
    folder = pictures_folder(file)
    folder.mkdir(exist_ok=True)
    for name in REPORT_PICTURES - report.pictures.keys():
        (folder / name).unlink(missing_ok=True)
    for name, content in report.pictures.items():
        write_atomically(folder / name, partial(Path.write_bytes, data=content))
    write_text_atomically(file, report.html)
