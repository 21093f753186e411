"""Ground truth of a film, written and read: boxes in the layout of MOTChallenge, paths and cameras as CSV files."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...common.errors import UserError
from ...common.inputs.regular_files import read_lines
from ...common.text import first_line

COUNTED = 0.25  # visible share of a body from which a person counts as seen
FILM_START = datetime(2026, 1, 31, 8, tzinfo=timezone.utc)  # of all cameras


class FilmSize(NamedTuple):
    """Frames of each camera, frames per second, height and width in pixels."""

    num_frames: int
    fps: int
    height: int
    width: int


class FilmBox(NamedTuple):
    """A person in a frame of a camera.

    Args:
        frame: from 0; person: from 1.
        box: x0, y0, x1, y1 in pixels of the whole body; visible: share of the body that can be seen; seen: box of that part.
    """

    frame: int
    person: int
    box: tuple[float, float, float, float]
    visible: float
    seen: tuple[float, float, float, float]


class Visit(NamedTuple):
    """A person in a camera's view, from the first to the last frame in which they count as seen; seconds of the film."""

    person: int
    camera: str
    start: float
    end: float


def write_sequence(folder: Path, size: FilmSize, boxes: Sequence[FilmBox]) -> None:
    """Write ground truth and detections of one camera as MOTChallenge does: frames, people and pixels count from 1."""
    for name in ("gt", "det"):
        (folder / name).mkdir(parents=True)
    truth = [
        f"{one.frame + 1},{one.person},{_sides(one.box, 1)},{int(one.visible >= COUNTED)},1,{one.visible:.3f}\n"
        for one in boxes
    ]
    (folder / "gt" / "gt.txt").write_text("".join(truth))
    found = [f"{frame + 1},-1,{_sides(box, 1)},{score:.3f},-1,-1,-1\n" for frame, box, score in _detected(boxes)]
    (folder / "det" / "det.txt").write_text("".join(found))
    text = f"name={folder.name}\nframeRate={size.fps}\nseqLength={size.num_frames}\n"
    (folder / "seqinfo.ini").write_text(f"[Sequence]\n{text}imWidth={size.width}\nimHeight={size.height}\n")


def write_boxes(path: Path, videos: dict[str, Sequence[FilmBox]]) -> None:
    """Write the detections of all videos, by the name of the video's file, as one CSV file."""
    lines = [["video", "frame", "x", "y", "width", "height", "score"]]
    for video, boxes in videos.items():
        found = _detected(boxes)
        lines += [[video, str(frame), *_sides(box).split(","), f"{score:.3f}"] for frame, box, score in found]
    _write_csv(path, lines)


def write_cameras(path: Path, videos: dict[str, str]) -> None:
    """Write camera and start of each video; `videos`: file name -> camera."""
    rows = [[video, camera, FILM_START.isoformat()] for video, camera in videos.items()]
    _write_csv(path, [["video", "camera", "start"], *rows])


def write_paths(path: Path, visits: Iterable[Visit]) -> None:
    """Write visits by person and time."""
    ordered = sorted(visits, key=lambda one: (one.person, one.start))
    rows = [[str(one.person), one.camera, f"{one.start:.3f}", f"{one.end:.3f}"] for one in ordered]
    _write_csv(path, [list(Visit._fields), *rows])


def read_truth(folder: str | Path, camera: str) -> list[FilmBox]:
    """Return the boxes of a camera's gt.txt that count, in the order of the frames, with their visible parts from det.txt.

    Raises:
        UserError: a line of one of the files is wrong, or they do not belong together; names the file.
    """
    files = [Path(folder) / camera / name / f"{name}.txt" for name in ("gt", "det")]
    rows, found = (_numbers(file) for file in files)
    counted = rows[rows[:, 6] > 0].tolist() if len(rows) else []
    if len(counted) != len(found):
        raise UserError(
            f"{files[1]} has {len(found)} boxes, {files[0]} has {len(counted)} that count; draw the film again"
        )
    return [
        FilmBox(int(row[0]) - 1, int(row[1]), _corners(row), row[8], _corners(part))
        for row, part in zip(counted, found.tolist(), strict=True)
    ]


def _numbers(file: Path) -> np.ndarray:
    """Return the lines (n, 9) of gt.txt, or (n, 10) of det.txt."""
    with _named(file), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "loadtxt: input contained no data")
        rows = np.loadtxt(read_lines(file), delimiter=",", ndmin=2)
        if rows.size and (rows.shape[1] < 9 or not np.isfinite(rows).all()):
            raise ValueError(f"{rows.shape[1]} numbers in a line, or one that is not finite")
    return rows


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Turn errors of wrong content into UserError with the file's name."""
    try:
        yield
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
        raise UserError(
            f"{file} is damaged or not of a film ({first_line(error)[:200]}); draw the film again"
        ) from error


def _corners(row: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = row[2] - 1, row[3] - 1, row[4], row[5]
    return x, y, x + width, y + height


def read_paths(folder: str | Path) -> list[Visit]:
    """Return the visits of paths.csv, by person and time; raise UserError, naming the file, if it cannot be read."""
    file = Path(folder) / "paths.csv"
    with _named(file):
        rows = list(csv.DictReader(read_lines(file)))
        visits = [Visit(int(row["person"]), row["camera"], float(row["start"]), float(row["end"])) for row in rows]
        if not all(one.camera and math.isfinite(one.start) and math.isfinite(one.end) for one in visits):
            raise ValueError("a line without a camera, or with a time that is not finite")
    return visits


def _detected(boxes: Iterable[FilmBox]) -> list[tuple[int, tuple[float, float, float, float], float]]:
    """Return frame, box of the visible part, and confidence of the people who count as seen."""
    return [(one.frame, one.seen, 0.5 + 0.5 * one.visible) for one in boxes if one.visible >= COUNTED]


def _sides(box: Iterable[float], first: int = 0) -> str:
    """Return x, y, width, height as text; the first pixel has the number `first`."""
    x0, y0, x1, y1 = box
    return f"{x0 + first:g},{y0 + first:g},{x1 - x0:g},{y1 - y0:g}"


def _write_csv(path: Path, lines: Iterable[Sequence[str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
