"""The outputs of detector files -> boxes: the usual forms, and how they are recognised from their shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...common.errors import UserError
from .detector import RawBoxes

Shape = tuple[int | None, ...]  # None = dynamic
Outputs = Mapping[str, np.ndarray]
STRIDES = (8, 16, 32)  # of YOLOX's three levels (Ge et al., arXiv:2107.08430)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Reading:
    """What the arrays alone do not state.

    Args:
        size: (height, width) of the input, pixels.
        num_images: in the batch.
        num_classes: None = unknown.
        softmax: class scores of "detr" come from a softmax whose last class is "no object", not from sigmoids.
    """

    size: tuple[int, int]
    num_images: int = 1
    num_classes: int | None = None
    softmax: bool = False


@dataclass(frozen=True)
class OutputForm:
    """One way to state boxes.

    Args:
        decode: outputs of a batch -> the boxes of each image, in pixels of the input.
        suppress: overlapping boxes remain in the output and have to be dropped.
        input: `FrameInput` values that models of this form usually have.
        about: shapes, for messages and docs.
    """

    decode: Callable[[Outputs, Reading], list[RawBoxes]]
    suppress: bool
    input: Mapping[str, Any]
    about: str


def decode_detr(outputs: Outputs, reading: Reading) -> list[RawBoxes]:
    """Logits (B, Q, C) and boxes (B, Q, 4): centre, width, height as fractions (Carion et al., arXiv:2005.12872)."""
    boxes_name = next((name for name in outputs if "box" in name or name == "dets"), None)
    if boxes_name is None:
        boxes_name = next(name for name, array in outputs.items() if array.shape[-1] == 4)
    logits = next(array for name, array in outputs.items() if name != boxes_name and array.ndim == 3)
    logits = logits.astype(np.float32)
    if reading.softmax:
        powers = np.exp(logits - logits.max(axis=2, keepdims=True))
        scores = (powers / powers.sum(axis=2, keepdims=True))[..., :-1]
    else:
        scores = 1 / (1 + np.exp(-logits))
    boxes = from_centres(outputs[boxes_name].astype(np.float32)) * _scale(reading)
    return [_best_class(*pair) for pair in zip(boxes, scores)]


def decode_yolo(outputs: Outputs, reading: Reading) -> list[RawBoxes]:
    """(B, 4 + C, N): centre, width, height in input pixels, then class scores; boxes may be transposed to (B, N, 4 + C)."""
    table = _table(outputs, reading, extra=4)
    return [_best_class(*pair) for pair in zip(from_centres(table[..., :4]), table[..., 4:])]


def decode_yolo_objectness(outputs: Outputs, reading: Reading) -> list[RawBoxes]:
    """(B, N, 5 + C): as `decode_yolo`, with an objectness score that multiplies the class scores (YOLOv5 and before)."""
    table = _table(outputs, reading, extra=5)
    return [_best_class(*pair) for pair in zip(from_centres(table[..., :4]), table[..., 4:5] * table[..., 5:])]


def decode_yolox(outputs: Outputs, reading: Reading) -> list[RawBoxes]:
    """(B, N, 5 + C) of YOLOX, exported without decoding: offsets in cells and logarithms of sizes, per stride."""
    table = _table(outputs, reading, extra=5).copy()
    height, width = reading.size
    cells = []
    for stride in STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], axis=1))
    grid = np.concatenate(cells).astype(np.float32)  # (N, 3): column, row, stride
    if len(grid) != table.shape[1]:
        raise UserError(
            f"detector: {table.shape[1]} YOLOX boxes do not fit an input of {height} x {width}: {len(grid)}"
        )
    table[..., :2] = (table[..., :2] + grid[:, :2]) * grid[:, 2:]
    table[..., 2:4] = np.exp(table[..., 2:4]) * grid[:, 2:]
    return [_best_class(*pair) for pair in zip(from_centres(table[..., :4]), table[..., 4:5] * table[..., 5:])]


def decode_ssd(outputs: Outputs, reading: Reading) -> list[RawBoxes]:
    """(1, 1, N, 7): image, class, score, x0, y0, x1, y1 as fractions; the first image of -1 ends the list."""
    rows = next(array for array in outputs.values() if array.shape[-1] == 7).reshape(-1, 7).astype(np.float32)
    ends = np.flatnonzero(rows[:, 0] < 0)
    rows = rows[: ends[0]] if len(ends) else rows
    found = []
    for image in range(reading.num_images):
        own = rows[rows[:, 0] == image]
        found.append(RawBoxes(own[:, 3:] * _scale(reading), own[:, 2], own[:, 1].astype(np.int64)))
    return found


def decode_rows(outputs: Outputs, reading: Reading) -> list[RawBoxes]:
    """(B, N, 6): x0, y0, x1, y1 in input pixels, score, class; overlaps are dropped already (YOLOv10 and later)."""
    table = next(array for array in outputs.values() if array.shape[-1] == 6).astype(np.float32)
    return [RawBoxes(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64)) for rows in table]


def decode_labels(outputs: Outputs, reading: Reading) -> list[RawBoxes]:
    """Boxes (B, N, 4) in pixels, scores and class numbers (B, N): RT-DETR's and D-FINE's own exports, torchvision's."""
    boxes = next(array for array in outputs.values() if array.shape[-1] == 4 and array.ndim in (2, 3))
    rest = {name: array for name, array in outputs.items() if array is not boxes}
    labels_name = next(
        (name for name, array in rest.items() if "label" in name or "class" in name),
        next((name for name, array in rest.items() if array.dtype.kind in "iu"), ""),
    )
    scores = next(array for name, array in rest.items() if name != labels_name)
    arrays = [boxes, scores, rest[labels_name]]
    if boxes.ndim == 2:  # torchvision's export has no batch
        arrays = [array[None] for array in arrays]
    return [RawBoxes(b.astype(np.float32), s.astype(np.float32), n.astype(np.int64)) for b, s, n in zip(*arrays)]


def decode_scored(outputs: Outputs, reading: Reading) -> list[RawBoxes]:
    """(N, 5): x0, y0, x1, y1 in input pixels and score, with class numbers (N,): Open Model Zoo's ATSS detectors."""
    rows = next(array for array in outputs.values() if array.shape[-1] == 5).astype(np.float32)
    numbers = next((array for array in outputs.values() if array.ndim == 1), np.zeros(len(rows)))
    return [RawBoxes(rows[:, :4], rows[:, 4], numbers.astype(np.int64))]


YOLO_INPUT = {"resize": "letterbox"}
FORMS = {
    "detr": OutputForm(decode_detr, False, {}, "logits (B, Q, C) and boxes (B, Q, 4)"),
    "yolo": OutputForm(decode_yolo, True, YOLO_INPUT, "(B, 4 + C, N)"),
    "yolo-objectness": OutputForm(decode_yolo_objectness, True, YOLO_INPUT, "(B, N, 5 + C)"),
    "yolox": OutputForm(
        decode_yolox,
        True,
        {"resize": "letterbox-corner", "channels": "bgr", "scale": 255.0},
        "(B, N, 5 + C), not decoded",
    ),
    "ssd": OutputForm(decode_ssd, False, {"channels": "bgr", "scale": 255.0}, "(1, 1, N, 7)"),
    "rows": OutputForm(decode_rows, False, YOLO_INPUT, "(B, N, 6)"),
    "labels": OutputForm(decode_labels, False, {}, "boxes (B, N, 4), scores (B, N) and labels (B, N)"),
    "scored": OutputForm(decode_scored, False, {"channels": "bgr", "scale": 255.0}, "(N, 5) and labels (N,)"),
}


def recognise_form(shapes: Mapping[str, Shape], num_classes: int | None = None) -> str | None:
    """Return the form of outputs of these shapes; None if it is not clear.

    Args:
        num_classes: of the model; it separates the YOLO forms, which otherwise follow the layout they usually have.
    """
    ends = {name: shape[-1] if shape else None for name, shape in shapes.items()}
    dims = {len(shape) for shape in shapes.values()}
    if len(shapes) == 1:
        (shape,) = shapes.values()
        return _single_form(shape, num_classes)
    if 4 in ends.values() and dims == {3} and len(shapes) == 2:
        return "detr"
    if 4 in ends.values() and len(shapes) == 3:
        return "labels"
    return "scored" if 5 in ends.values() and 1 in dims else None


def _single_form(shape: Shape, num_classes: int | None) -> str | None:
    if len(shape) == 4:
        return "ssd" if shape[-1] == 7 else None
    if len(shape) != 3 or None in shape[1:]:
        return None
    rows, columns = shape[1], shape[2]
    assert rows is not None and columns is not None  # for the type checker
    if columns == 6 and num_classes not in (1, 2):
        return "rows"
    if num_classes is None:
        num_classes = 80 if 84 in (rows, columns) or 85 in (rows, columns) else None
    width = min(rows, columns)
    if num_classes is not None:
        return {4 + num_classes: "yolo", 5 + num_classes: "yolo-objectness"}.get(width)
    return "yolo" if rows < columns else "yolo-objectness"


def count_classes(form: str, shapes: Mapping[str, Shape], softmax: bool) -> int | None:
    """Return the number of classes that the shapes state; None if they state none."""
    if form == "detr":
        logits = [shape for name, shape in shapes.items() if "box" not in name and name != "dets" and len(shape) == 3]
        last = next((shape[-1] for shape in logits if shape[-1] != 4), logits[0][-1] if logits else None)
        return last - softmax if last is not None else None
    if form.startswith("yolo"):
        _, rows, columns = next((shape for shape in shapes.values() if len(shape) == 3), (None, None, None))
        if rows is None or columns is None:
            return None
        return min(rows, columns) - (4 if form == "yolo" else 5)
    return None


def from_centres(boxes: np.ndarray) -> np.ndarray:
    """Return x0, y0, x1, y1 of boxes (…, 4) given as centre x, centre y, width, height."""
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def _scale(reading: Reading) -> np.ndarray:
    height, width = reading.size
    return np.array([width, height, width, height], np.float32)


def _best_class(boxes: np.ndarray, scores: np.ndarray) -> RawBoxes:
    """Return boxes (N, 4), each with the best of its class scores (N, C)."""
    numbers = scores.argmax(axis=1)
    return RawBoxes(boxes.astype(np.float32), scores[np.arange(len(scores)), numbers].astype(np.float32), numbers)


def _table(outputs: Outputs, reading: Reading, extra: int) -> np.ndarray:
    """Return the rows (B, N, extra + C), transposed where the boxes are the last dimension; columns behind them are cut off.

    Such columns, and a second output, belong to the masks of a segmentation model.
    """
    table = next(array for array in outputs.values() if array.ndim == 3)
    wanted = None if reading.num_classes is None else extra + reading.num_classes
    if table.shape[2] != wanted and (table.shape[1] == wanted or table.shape[1] < table.shape[2]):
        table = table.transpose(0, 2, 1)
    return table[..., :wanted].astype(np.float32)
