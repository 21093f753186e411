"""Weights or saved features -> figures of the test sets, with or without a config."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...common.errors import UserError
from ...common.files import check_output_file, write_text_atomically
from ...configs import load_config
from ..distributed.process_group import joined_ranks
from .evaluation_inputs import EvaluationInputs, build_file_inputs, build_weights_inputs
from .feature_file import save_features
from .figures import ScoreOptions, ScoreReport, score
from .result_tables import report_table

logger = logging.getLogger(__name__)


def test(
    weights: str | None = None,
    config_file: str | None = None,
    overrides: Sequence[str] = (),
    output: str | None = None,
    *,
    features: Sequence[str] = (),
    save_to: str | None = None,
    asked: ScoreOptions | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, ScoreReport]:
    """Evaluate weights, or saved features, on every test set; log the tables and write metrics.json.

    Args:
        weights: best.safetensors or last.pth, which carry their config; a finished model of another runtime, see
            `Embedder`; or a file of the original TransReID, which needs a `config_file`; None = TEST.WEIGHT of the config.
        config_file: recipe; None = the config inside the checkpoint. A checkpoint of ours keeps its own architecture and
            preprocessing; a config that differs is logged.
        overrides: KEY VALUE pairs on top of either.
        output: the JSON file; None = metrics.json next to the weights.
        features: files of saved features in the place of weights and images.
        save_to: file for the features; with several test sets the set's name is put before its suffix.
        asked: the figures in addition to CMC, mAP and mINP. A new threshold is written into the best.safetensors, or into the
            JSON file of a finished model.
        options: what a finished model expects, see `Embedder`.
    Returns:
        The report of each data set by its name. Under torchrun all ranks embed, and rank 0 has the reports.
    Raises:
        ValueError, FileNotFoundError: the weights are missing, or config, weights, data and options do not fit each other;
            the message names the cause.
    """
    asked = asked or ScoreOptions()
    cfg = load_config(config_file, overrides) if config_file else None
    for option, file in (("--output", output), ("--save-features", save_to)):
        if file:
            check_output_file(option, file)
    with joined_ranks() as ranks:
        inputs = (
            build_file_inputs(features, weights, cfg, overrides)
            if features
            else build_weights_inputs(weights, cfg, overrides, ranks, options)
        )
        _check_asked(asked, inputs, save_to)
        reports = _score_all(inputs, asked, save_to)
        if ranks.is_first:
            logger.info("%s", report_table(reports))
            _store_threshold(inputs, reports, asked)
            _write_numbers(inputs, reports, Path(output) if output else inputs.sources[0].parent / "metrics.json")
        return reports


def _score_all(inputs: EvaluationInputs, asked: ScoreOptions, save_to: str | None) -> dict[str, ScoreReport]:
    """Save and evaluate the features of each data set; return the reports by name, none on ranks but the first."""
    reports: dict[str, ScoreReport] = {}
    for found in inputs.features():
        if found is None:
            continue
        if save_to:
            path = Path(save_to)
            file = path if inputs.num_sets == 1 else path.with_name(f"{path.stem}.{found.dataset}{path.suffix}")
            save_features(file, found)
            logger.info("features saved to %s; evaluate them again with --features %s", file, file)
        name = found.dataset if found.dataset not in reports else f"{found.dataset} ({inputs.sources[len(reports)]})"
        reports[name] = score(replace(found, dataset=name), inputs.rerank, asked)
        if inputs.num_sets > 1:  # so that an error in the next set does not lose the figures
            result = reports[name].retrieval
            logger.info("%s: mAP %.2f%%  Rank-1 %.2f%%", name, 100 * result.mAP, 100 * result.rank(1))
    return reports


def _check_asked(asked: ScoreOptions, inputs: EvaluationInputs, save_to: str | None) -> None:
    if save_to and inputs.weights is None:
        raise UserError("--save-features: the features come from a file already (--features); leave one of them out")
    if asked.calibrate and inputs.num_sets > 1:
        raise UserError(
            f"--calibrate: a threshold is set on one data set, DATASETS.TEST has {inputs.num_sets}; name one of them"
        )
    path = inputs.sources[0]
    if asked.calibrate and inputs.weights is not None and inputs.weights.store is None:
        raise UserError(f"--calibrate: the threshold is written into a best.safetensors; {path.name} cannot hold it")


def _store_threshold(inputs: EvaluationInputs, reports: dict[str, ScoreReport], asked: ScoreOptions) -> None:
    """Write a new threshold into its checkpoint."""
    calibration = next(iter(reports.values())).calibration
    if not asked.calibrate or calibration is None:
        return
    if inputs.weights is None:
        logger.info("the threshold is in metrics.json only; use --weights to store it in a checkpoint")
        return
    assert inputs.weights.store is not None  # for the type checker
    path = inputs.weights.store(calibration.stored_in(inputs.weights.about))
    logger.info("threshold%s stored in %s", f" for {calibration.postprocess}" * bool(calibration.postprocess), path)


def _write_numbers(inputs: EvaluationInputs, reports: dict[str, ScoreReport], output: Path) -> None:
    """Write metrics.json: the figures of the only data set, or those of each under its name."""
    kind = "features" if inputs.weights is None else "weights"
    sources = inputs.sources if inputs.weights is None else inputs.sources * len(reports)
    numbers = {
        name: {kind: str(source), **report.numbers(), "rerank": inputs.rerank.method}
        for source, (name, report) in zip(sources, reports.items(), strict=True)
    }
    content = numbers if len(numbers) > 1 else next(iter(numbers.values()))
    write_text_atomically(output, json.dumps(content, indent=2) + "\n")
    logger.info("saved to %s", output)
