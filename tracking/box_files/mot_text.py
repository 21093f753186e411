"""MOTChallenge's text files: gt.txt, det.txt and the results of trackers.

The definition (motchallenge.net/instructions; Milan et al., arXiv:1603.00831, table 5): lines of frame, id, left, top, width,
height, confidence, then x, y, z or, in ground truth since MOT16, class and visibility. "All frame numbers, target IDs and
bounding boxes are 1-based": the upper left pixel of a frame is (1, 1).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...common.errors import UserError
from ...datasets.box_columns import checked_corners, to_number, to_whole
from ..class_names import Names
from ..detections import Detections
from .box_rows import BoxRows
from .given_boxes import GivenBoxes
from .text_files import read_lines

logger = logging.getLogger(__name__)
FIRST_PIXEL = 1  # coordinate of the first pixel of a row or column
CLASSES = {
    1: "person",  # "pedestrian" there
    2: "person on vehicle",
    3: "car",
    4: "bicycle",
    5: "motorbike",
    6: "non motorized vehicle",
    7: "static person",
    8: "distractor",
    9: "occluder",
    10: "occluder on the ground",
    11: "occluder full",
    12: "reflection",
    13: "crowd",
}
TRUTH_COLUMNS = 9  # of gt.txt since MOT16; det.txt, results and gt.txt of MOT15 have 6, 7 or 10


def read_mot(path: Path, class_names: Names | None = None) -> GivenBoxes:
    """Return the boxes of a MOTChallenge file; those that ground truth marks as ignored (confidence 0) are left out.

    Args:
        class_names: of class numbers 1, 2, …; None = MOT16's, or labels.txt next to the file (CVAT).
    Raises:
        UserError: a line is wrong; names it and the reason.
    """
    names = _class_names(path, class_names)
    rows, scores = BoxRows(), []
    width = None
    for where, values in _lines(path):
        width = len(values) if width is None else width
        if len(values) != width:
            raise UserError(f"{where}: {len(values)} values; the lines before have {width}")
        frame = to_whole(values[0], f"{where}: frame")
        if frame < 1:
            raise UserError(f"{where}: frame {frame}; MOTChallenge's frames count from 1: give --first-frame 0")
        left, top, w, h = (to_number(value, f"{where}: box") for value in values[2:6])
        confidence = to_number(values[6], f"{where}: confidence") if width > 6 else 1.0
        label = "person"
        if width == TRUTH_COLUMNS:
            if confidence == 0:
                continue
            confidence, number = 1.0, to_whole(values[7], f"{where}: class")
            label = names.get(number, str(number))
        box = checked_corners(left - FIRST_PIXEL, top - FIRST_PIXEL, w, h, "size", where)
        rows.add(box, frame=frame, label=label, track=to_whole(values[1], f"{where}: id"))
        scores.append(confidence)
    found = rows.finish(path, first_frame=1)
    return _with_scores(found, np.array(scores, np.float32))


def is_mot(path: Path, head: str) -> bool:
    """Return whether a file's first line consists of 6 to 10 numbers, separated by commas or spaces."""
    values = _split(head.splitlines()[0]) if head.strip() else []
    try:
        [float(value) for value in values]
    except ValueError:
        return False
    return 6 <= len(values) <= 10 and path.suffix.lower() in (".txt", ".csv")


def mot_line(number: int, detections: Detections, row: int) -> str:
    """Return one box as a line of a result file, coordinates rounded to a hundredth of a pixel.

    Args:
        number: of the frame, counted from 0.
    """
    x0, y0, x1, y1 = (float(value) for value in detections.boxes[row])
    box = (x0 + FIRST_PIXEL, y0 + FIRST_PIXEL, x1 - x0, y1 - y0)
    texts = [f"{value:.2f}".rstrip("0").rstrip(".") for value in box]
    score = f"{detections.scores[row]:.4g}"
    return ",".join([str(number + 1), str(int(detections.tracks[row])), *texts, score, "-1", "-1", "-1"])


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    for number, line in read_lines(path):
        values, where = _split(line), f"{path}:{number}"
        if not 6 <= len(values) <= 10:
            raise UserError(f"{where}: {len(values)} values; MOTChallenge's lines have 6 to 10")
        yield where, values


def _split(line: str) -> list[str]:
    line = line.strip().rstrip(",")
    return line.split(",") if "," in line else line.split()


def _class_names(path: Path, given: Names | None) -> dict[int, str]:
    if given is None:
        file = path.with_name("labels.txt")
        given = [line for _, line in read_lines(file)] if file.is_file() else None
    return CLASSES if given is None else {number: str(name) for number, name in enumerate(given, 1)}


def _with_scores(given: GivenBoxes, scores: np.ndarray) -> GivenBoxes:
    """Return the boxes with scores in 0-1: -1 everywhere means none; other ranges are mapped from lowest to highest."""
    if len(scores) and scores.min() < 0 and (scores == -1).all():
        scores = np.ones_like(scores)
    elif len(scores) and (scores.min() < 0 or scores.max() > 1):
        low, high = float(scores.min()), float(scores.max())
        logger.warning(
            "%s: confidences from %g to %g are mapped to 0-1; thresholds refer to that", given.file, low, high
        )
        scores = (scores - low) / (high - low) if high > low else np.ones_like(scores)
    np.copyto(given.detections.scores, scores)
    return given
