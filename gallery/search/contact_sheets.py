"""Contact sheet of search results: each query and its closest crops, with distance and camera, framed by match or no match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...common.errors import UserError
from ...common.files import write_atomically
from ..storage.record_pixels import record_pixels
from .search_result import SearchResult

CROP = (192, 96)  # height and width of a tile, pixels; crops are fitted into it
FRAME, LINE, GAP = 4, 16, 6  # pixels: frame width, height of a line of text, space between tiles
GREEN, RED, GREY, BLUE = (60, 160, 60), (50, 50, 210), (170, 170, 170), (200, 120, 40)  # BGR
FONT, FONT_SIZE, BLACK, WHITE = cv2.FONT_HERSHEY_SIMPLEX, 0.38, (20, 20, 20), 255
MOST_COLUMNS = 10


def contact_sheet(
    output: str | Path,
    found: Sequence[tuple[str | Path | np.ndarray, SearchResult]],
    locate: Callable[[str], Path],
    pids: Sequence[str | None] | None = None,
) -> None:
    """Write a PNG with one band per query: the query, then its results, best first.

    Frames are green (same person) or red (another): by `pids` if both are known, else by the threshold; grey without either.

    Args:
        output: the file.
        found: queries, each an image file or (H, W, 3) uint8 RGB, and their results.
        locate: maps a record's path to its image file.
        pids: the queries' identities, None = unknown.
    Raises:
        ValueError: there is no query.
        OSError: the file cannot be written.
    """
    if not found:
        raise UserError("contact sheet: there is no query to show; give at least one")
    names = pids or [None] * len(found)
    bands = [_band(query, result, locate, pid) for (query, result), pid in zip(found, names, strict=True)]
    width = max(band.shape[1] for band in bands)
    sheet = np.concatenate([_padded(band, width) for band in bands])
    encoded = cv2.imencode(".png", sheet)[1]
    write_atomically(output, lambda temporary: temporary.write_bytes(encoded.tobytes()))


def frame_color(row: dict[str, Any], is_match: bool | None, pid: str | None) -> tuple[int, int, int]:
    """Return the colour of a result's frame."""
    if pid is not None and row.get("pid") is not None:
        return GREEN if row["pid"] == pid else RED
    return GREY if is_match is None else GREEN if is_match else RED


def _band(
    query: str | Path | np.ndarray, result: SearchResult, locate: Callable[[str], Path], pid: str | None
) -> np.ndarray:
    matches = [None] * len(result) if result.is_match is None else result.is_match.tolist()
    verdict = {"match": "match", "unknown": "unknown person"}.get(result.verdict or "", "")
    shown = query if isinstance(query, np.ndarray) else record_pixels(Path(query), {})
    tiles = [_tile(shown, BLUE, ["query", verdict, "" if pid is None else f"pid {pid}"])]
    for row, distance, is_match in zip(result.rows, result.distances.tolist(), matches, strict=True):
        camera = "" if row.get("camera") is None else str(row["camera"])
        about = "" if row.get("pid") is None else f"pid {row['pid']}"
        crop = record_pixels(locate(row["path"]), row)
        tiles.append(_tile(crop, frame_color(row, is_match, pid), [f"{distance:.3f}", camera, about]))
    lines = [tiles[start : start + MOST_COLUMNS + 1] for start in range(0, len(tiles), MOST_COLUMNS + 1)]
    width = max(sum(tile.shape[1] for tile in line) for line in lines)
    return np.concatenate([_padded(np.concatenate(line, 1), width) for line in lines])


def _tile(image: np.ndarray | None, color: tuple[int, int, int], texts: list[str]) -> np.ndarray:
    """Return a framed crop (RGB) above lines of text, (height, width, 3) BGR, on white."""
    height, width = CROP
    tile = np.full((height + 2 * FRAME + 3 * LINE + GAP, width + 2 * FRAME + GAP, 3), WHITE, np.uint8)
    cv2.rectangle(tile, (0, 0), (width + 2 * FRAME - 1, height + 2 * FRAME - 1), color, -1)
    tile[FRAME : FRAME + height, FRAME : FRAME + width] = _fitted(image)
    for number, text in enumerate(texts):
        place = (2, height + 2 * FRAME + (number + 1) * LINE - 4)
        cv2.putText(tile, _ascii(text), place, FONT, FONT_SIZE, BLACK, 1, cv2.LINE_AA)
    return tile


def _fitted(image: np.ndarray | None) -> np.ndarray:
    """Return the RGB image fitted into CROP, BGR, with its proportions; a tile with "no image" if there is none."""
    canvas = np.full((*CROP, 3), 225, np.uint8)
    if image is None:
        cv2.putText(canvas, "no image", (20, CROP[0] // 2), FONT, FONT_SIZE, BLACK, 1, cv2.LINE_AA)
        return canvas
    pixels = image[..., ::-1]
    factor = min(CROP[0] / pixels.shape[0], CROP[1] / pixels.shape[1])
    size = max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor))
    resized = cv2.resize(
        np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    )
    top, left = (CROP[0] - size[1]) // 2, (CROP[1] - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = resized
    return canvas


def _padded(image: np.ndarray, width: int) -> np.ndarray:
    return np.pad(image, ((0, 0), (0, width - image.shape[1]), (0, 0)), constant_values=WHITE)


def _ascii(text: str) -> str:
    """Return the text with "?" for characters that the font lacks."""
    return text.encode("ascii", "replace").decode()[:16]
