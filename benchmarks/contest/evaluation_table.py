"""Measurements -> a table for the terminal, and plain values for the JSON file."""

from __future__ import annotations

from dataclasses import asdict

from vitreid.benchmarks.contest.cases import EvaluationBar
from vitreid.benchmarks.contest.contestants import OURS
from vitreid.benchmarks.contest.rounds import EvaluationRow, floor_of
from vitreid.common.text import table

_HEAD = ("contestant", "seconds", "min - max", "x floor", "MB above inputs", "GPU MB", "mAP", "runs")
_WIDTHS = (18, 9, 19, 8, 16, 8, 9, 5)


def format_table(rows: list[EvaluationRow], device: str) -> str:
    """Return a table with a line per contestant: its medians, or the reason why it has none."""
    shown = [i for i, name in enumerate(_HEAD) if name != "GPU MB" or device == "cuda"]
    floor = floor_of(rows)
    return "\n".join([_line(_HEAD, shown), *(_format_row(row, floor, shown) for row in rows)])


def _format_row(row: EvaluationRow, floor: float | None, shown: list[int]) -> str:
    seconds = row.spread()
    if seconds is None:
        return f"{row.contestant:<{_WIDTHS[0]}}  {row.skipped}"
    ratio = f"{seconds[0] / floor:.2f}" if floor else "-"
    cells = (row.contestant, f"{seconds[0]:.3f}", f"{seconds[1]:.3f} - {seconds[2]:.3f}", ratio)
    memory = (_median(row, "peak_mb", "not measured", 0), _median(row, "gpu_mb", "-", 0))
    line = _line((*cells, *memory, _median(row, "mAP", "-", 5), str(len(row.runs))), shown)
    return f"{line}  then: {row.skipped}" if row.skipped else line


def _median(row: EvaluationRow, name: str, absent: str, digits: int) -> str:
    found = row.spread(name)
    return absent if found is None else f"{found[0]:,.{digits}f}"


def _line(cells: tuple[str, ...], shown: list[int]) -> str:
    return table([[cells[i] for i in shown]], widths=[_WIDTHS[i] for i in shown])


def judge(rows: list[EvaluationRow], bar: EvaluationBar) -> list[str]:
    """Return a line for each figure that ours has to reach: met, or missed and by how much."""
    by_name = {row.contestant: row for row in rows}
    own, floor = by_name[OURS].spread(), floor_of(rows)
    if own is None:
        return [f"vitreid has no figures: {by_name[OURS].skipped}"]
    lines = []
    if bar.ratio is not None and floor:
        lines.append(_at_most("times the floor", own[0] / floor, bar.ratio))
    peak = by_name[OURS].spread("peak_mb")
    if bar.peak_mb is not None and peak:
        lines.append(_at_most("MB above the inputs", peak[0], bar.peak_mb))
    for name, factor in bar.faster.items():
        if name in by_name and (other := by_name[name].spread()):
            lines.append(_at_most(f"of the seconds of {name}", own[0] / other[0], 1 / factor))
    return lines


def _at_most(what: str, value: float, most: float) -> str:
    verdict = "met" if value <= most else f"missed by {100 * (value / most - 1):.0f} %"
    return f"at most {most:g} {what}: {value:.3g}, {verdict}"


def plain_rows(rows: list[EvaluationRow]) -> list[dict[str, object]]:
    """Return each contestant's medians, extremes and runs as plain values."""
    return [_plain(row, floor_of(rows)) for row in rows]


def _plain(row: EvaluationRow, floor: float | None) -> dict[str, object]:
    figures = ("seconds", "peak_mb", "gpu_mb", "mAP")
    spreads = {name: dict(zip(("median", "min", "max"), row.spread(name) or ())) for name in figures}
    seconds = row.spread()
    return {
        "contestant": row.contestant,
        "skipped": row.skipped,
        "times_floor": seconds[0] / floor if seconds and floor else None,
        **spreads,
        "runs": [asdict(run) for run in row.runs],
    }
