"""Score reports -> tables for the terminal, in percent."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ...common.text import percent, short_names, table
from ...evaluation import RetrievalResult, Threshold, ThresholdReport
from ...labels.protocol import find_protocol
from .figures import Interval, ScoreReport
from .thresholds import Calibration

COLUMNS = ("mAP", "mINP", "Rank-1", "Rank-5", "Rank-10", "Rank-20")
MOST_CAMERAS = 14  # columns of one table: they fit a terminal of 120 characters


def result_table(
    results: Mapping[str, RetrievalResult], confidence: Mapping[str, Mapping[str, Interval] | None] | None = None
) -> str:
    """Return a row of figures per data set, and two rows with the ends of its 95% intervals where there are any."""
    rows, notes = [["data set", *COLUMNS]], []
    for name, result in results.items():
        numbers = result.summary()
        rows.append([name, *(percent(numbers[column], 2) for column in COLUMNS)])
        intervals = (confidence or {}).get(name)
        if intervals:
            for end, title in enumerate(("  95% from", "      to")):
                rows.append([title, *(percent(intervals[column][end], 2) for column in COLUMNS)])
        if skipped := result.num_queries - result.num_valid:
            who = f"{name}: " if len(results) > 1 else ""
            share = f"{skipped} of {result.num_queries} queries"
            notes.append(f"{who}{share} have no match in the gallery and are left out")
    return "\n".join([table(rows), *notes])


def report_table(reports: Mapping[str, ScoreReport]) -> str:
    """Return the table of all data sets, followed by the further tables of each."""
    results, intervals = {}, {}
    for name, report in reports.items():
        title = f"{name} {report.setting.name}".strip()
        results[title], intervals[title] = report.retrieval, report.confidence
        results |= {f"{name} {setting}": result for setting, result in report.further.items()}
    headline = result_table(results, intervals)
    cautions = {name: find_protocol(report.protocol).caution for name, report in reports.items()}
    processed = [f"{name}: embeddings with {one.postprocess}" for name, one in reports.items() if one.postprocess]
    headline = "\n".join([headline, *processed, *(f"{name}: {text}" for name, text in cautions.items() if text)])
    return "\n\n".join([headline, *(part for name, report in reports.items() for part in details(name, report))])


def details(name: str, report: ScoreReport) -> list[str]:
    """Return the further tables of one data set."""
    parts = []
    if report.cameras is not None:
        parts += camera_tables(name, report)
    if report.verification is not None:
        parts.append(verification_table(name, report.verification))
    if report.open_set is not None:
        parts.append(open_set_table(name, report.open_set))
    if report.calibration is not None:
        parts.append(threshold_table(report.calibration, name, report.judged))
    return parts


def camera_tables(name: str, report: ScoreReport) -> list[str]:
    """Return tables of mAP and Rank-1, query cameras by gallery cameras; cameras without a valid query are left out."""
    pairs = report.cameras
    assert pairs is not None  # for the type checker
    rows, columns = (np.flatnonzero(pairs.num_valid.any(axis)) for axis in (1, 0))
    short = short_names(report.camera_names)
    sources, targets = ([short[camera] for camera in cams] for cams in (pairs.query_cameras, pairs.gallery_cameras))
    found = []
    for title, values in (("mAP", pairs.mAP), ("Rank-1", pairs.rank1)):
        for start in range(0, len(columns), MOST_CAMERAS):
            shown = columns[start : start + MOST_CAMERAS]
            body = [[sources[i], *(percent(values[i, j], 1) for j in shown)] for i in rows]
            found.append(
                f"{name}: {title}, queries of a camera (row) in the gallery of a camera (column)\n"
                + table([["from \\ to", *(targets[j] for j in shown)], *body])
            )
    return found


def verification_table(name: str, numbers: Mapping[str, float]) -> str:
    """Return the ROC figures of single comparisons."""
    rates = [key for key in numbers if not key.startswith(("num_", "impostor_"))]
    head = ["verification", *rates, "genuine pairs", "impostor pairs"]
    counts = [f"{numbers['num_genuine']:,}", f"{numbers['num_impostor']:,}"]
    text = table([head, [name, *(percent(numbers[key], 2) for key in rates), *counts]])
    if numbers["impostor_share"] < 1:
        text += f"\nimpostor pairs: {percent(numbers['impostor_share'], 2)} of all, drawn at random"
    return text + _unmeasured(numbers, "impostor pairs")


def open_set_table(name: str, numbers: Mapping[str, float]) -> str:
    """Return the open-set figures: searches for people who may be missing from the gallery."""
    rates = [key for key in numbers if not key.startswith("num_")]
    head = ["open set", *rates, "searches", "in vain"]
    counts = [f"{numbers['num_mated']:,}", f"{numbers['num_non_mated']:,}"]
    text = table([head, [name, *(percent(numbers[key], 2) for key in rates), *counts]])
    return text + _unmeasured(numbers, "searches")


def _unmeasured(numbers: Mapping[str, float], what: str) -> str:
    missing = [key for key, value in numbers.items() if math.isnan(value)]
    return f"\n-: too few {what} to measure so small a rate" if missing else ""


def threshold_table(calibration: Calibration, name: str, judged: ThresholdReport | None) -> str:
    """Return the threshold, its rates where it was calibrated, and its rates on the data set `name`."""
    threshold = calibration.threshold
    interval = f"{percent(threshold.fmr_low, 3)} to {percent(threshold.fmr_high, 3)}"
    title = (
        f"threshold: one person if the {threshold.metric} distance is at most {threshold.distance:.4f}\n"
        f"(set for false matches in {percent(threshold.fmr, 3)} of the pairs of different people)"
    )
    head = ["", "false matches", f"{threshold.level:.0%} interval", "true matches", "impostor pairs", "genuine pairs"]
    rows = [_threshold_row(f"calibrated on {calibration.dataset}", threshold.measured_fmr, interval, threshold)]
    if judged is not None:
        same = calibration.dataset == name
        rows.append(_threshold_row(f"on {name}" + " (the same data)" * same, judged.fmr, "", judged))
    return f"{title}\n{table([head, *rows])}"


def _threshold_row(title: str, fmr: float, interval: str, rates: Threshold | ThresholdReport) -> list[str]:
    counts = [f"{rates.num_impostor:,}", f"{rates.num_genuine:,}"]
    return [title, percent(fmr, 3), interval, percent(rates.tar, 2), *counts]
