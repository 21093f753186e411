"""Weights, or saved features -> numbers on the test sets, with or without a config."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...common.errors import UserError
from ...common.files import write_text_atomically
from ...configs import load_config
from ...model import is_deploy, save_deploy
from ..distributed.process_group import joined_ranks
from .evaluation_inputs import Job, job_of_files, job_of_weights
from .feature_file import FeatureSet, save_features
from .figures import Asked, Report, score
from .result_tables import report_table
from .settings import rerank_settings

logger = logging.getLogger(__name__)


def test(
    weights: str | None = None,
    config_file: str | None = None,
    overrides: Sequence[str] = (),
    output: str | None = None,
    *,
    features: Sequence[str] = (),
    save_to: str | None = None,
    asked: Asked | None = None,
) -> dict[str, Report]:
    """Evaluate weights, or saved features, on every test set; log the tables and write metrics.json.

    Args:
        weights: best.safetensors or last.pth (either explains itself), or a file of the original TransReID, which
            needs a `config_file`; None = TEST.WEIGHT of the config.
        config_file: recipe; None = the config inside the checkpoint. A checkpoint of ours keeps its own architecture and
            preprocessing; where the config says otherwise, that is logged.
        overrides: KEY VALUE pairs on top of either.
        output: the JSON file; None = metrics.json beside the weights.
        features: files of saved features, which take the place of weights and images.
        save_to: file for the features; with several test sets the set's name is put before its suffix.
        asked: what to find out beside CMC, mAP and mINP. A new threshold is written into the best.safetensors.
    Returns:
        The report of each data set by its name. Under torchrun all processes embed, and the first has the reports.
    Raises:
        ValueError, FileNotFoundError: no weights, or config, weights, data and what is asked do not fit; says which.
    """
    asked = asked or Asked()
    cfg = load_config(config_file, overrides) if config_file else None
    _check_folders({"--output": output, "--save-features": save_to})
    with joined_ranks() as ranks:
        job = (
            job_of_files(features, weights, cfg, overrides)
            if features
            else job_of_weights(weights, cfg, overrides, ranks)
        )
        _check_asked(asked, job, save_to)
        if ranks.is_first:
            return _report(job, asked, output, save_to)
        for _ in job.features:  # to embed a share of the images
            pass
        return {}


def _report(job: Job, asked: Asked, output: str | None, save_to: str | None) -> dict[str, Report]:
    """Evaluate the features of each data set; log the tables and write metrics.json."""
    reports: dict[str, Report] = {}
    for found in job.features:
        assert found is not None  # for the type checker: the first process has them all
        if save_to:
            _save(_numbered(Path(save_to), found.dataset, job.num_sets), found)
        name = found.dataset if found.dataset not in reports else f"{found.dataset} ({job.sources[len(reports)]})"
        reports[name] = score(replace(found, dataset=name), rerank_settings(job.cfg), asked)
        _note_progress(name, reports, job.num_sets)
    logger.info("%s", report_table(reports))
    _store_threshold(job, reports, asked)
    _write_numbers(job, reports, Path(output) if output else job.sources[0].parent / "metrics.json")
    return reports


def _check_folders(paths: dict[str, str | None]) -> None:
    """Raise FileNotFoundError, before the work rather than after, where a file cannot be written."""
    for option, path in paths.items():
        if path and not Path(path).parent.is_dir():
            raise FileNotFoundError(f"{option}: the folder {Path(path).parent} does not exist; make it first")


def _check_asked(asked: Asked, job: Job, save_to: str | None) -> None:
    if save_to and job.weights is None:
        raise UserError("--save-features: the features come from a file already (--features); leave one of them out")
    if asked.calibrate and job.num_sets > 1:
        raise UserError(
            f"--calibrate: a threshold is set on one data set, DATASETS.TEST has {job.num_sets}; name one of them"
        )
    if asked.calibrate and job.weights is not None and not _is_best(job.sources[0]):
        raise UserError(
            f"--calibrate: the threshold is written into a best.safetensors; {job.sources[0].name} cannot hold it"
        )


def _is_best(path: Path) -> bool:
    return path.suffix == ".safetensors" and is_deploy(path)


def _numbered(path: Path, name: str, num_sets: int) -> Path:
    """Return the file of one data set among several."""
    return path if num_sets == 1 else path.with_name(f"{path.stem}.{name}{path.suffix}")


def _save(path: Path, features: FeatureSet) -> None:
    save_features(path, features)
    logger.info("features saved to %s; evaluate them again with --features %s", path, path)


def _note_progress(name: str, reports: dict[str, Report], num_sets: int) -> None:
    """Log the headline of one of several data sets, lest an error in the next one lose it."""
    if num_sets > 1:
        result = reports[name].retrieval
        logger.info("%s: mAP %.2f%%  Rank-1 %.2f%%", name, 100 * result.mAP, 100 * result.rank(1))


def _store_threshold(job: Job, reports: dict[str, Report], asked: Asked) -> None:
    """Write a new threshold into the checkpoint it belongs to."""
    calibration = next(iter(reports.values())).calibration
    if not asked.calibrate or calibration is None:
        return
    if job.weights is None:
        logger.info("the threshold is in metrics.json only; use --weights to store it in a checkpoint")
        return
    path = job.sources[0]
    save_deploy(path, job.weights.model, {**job.weights.about, "threshold": calibration.to_dict()})
    logger.info("threshold stored in %s", path)


def _write_numbers(job: Job, reports: dict[str, Report], output: Path) -> None:
    """Write metrics.json: the figures of the data set, or of each under its name."""
    numbers = {name: _numbers(job, report, place) for place, (name, report) in enumerate(reports.items())}
    content = numbers if len(numbers) > 1 else next(iter(numbers.values()))
    write_text_atomically(output, json.dumps(content, indent=2) + "\n")
    logger.info("saved to %s", output)


def _numbers(job: Job, report: Report, place: int) -> dict[str, Any]:
    source = {"features": str(job.sources[place])} if job.weights is None else {"weights": str(job.sources[0])}
    return {**source, **report.numbers(), "rerank": job.cfg.TEST.RERANK}
