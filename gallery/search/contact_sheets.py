"""Contact sheet of search results: each query and its closest crops, with distance and camera, framed by what is known of the person."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.pictures import BLUE, GREEN, GREY, RED, Color, check_picture_name, encode, grid, labelled
from ...common.text import person_text
from ..storage.record_images import RecordImageError, load_image, read_pixels
from .search_result import SearchResult
from .sightings import span, time_text

CROP = (192, 96)  # height and width of a tile, pixels; crops are fitted into it
MOST_COLUMNS = 10


def contact_sheet(
    output: str | Path,
    found: Sequence[tuple[str | Path | np.ndarray, SearchResult]],
    locate: Callable[[str], Path],
    pids: Sequence[str | None] | None = None,
) -> None:
    """Write a picture with one band per query: the query, then its results, best first.

    Frames are green for the same person: by `pids` if both are known, else within the threshold. Red is another person by `pids`; a
    row beyond the threshold may still be the person, so its frame is grey, as without a threshold.

    Args:
        output: the file; its suffix says the format, PNG without one.
        found: queries, each an image file or (H, W, 3) uint8 RGB, and their results.
        locate: maps a record's path to its image file.
        pids: the queries' identities, None = unknown.
    Raises:
        ValueError: there is no query, or no picture can have this name.
        OSError: the file cannot be written.
    """
    if not found:
        raise UserError("contact sheet: there is no query to show; give at least one")
    suffix = check_picture_name("contact sheet", output)
    names = pids or [None] * len(found)
    bands = [_band(query, result, locate, pid) for (query, result), pid in zip(found, names, strict=True)]
    content = encode(grid([row for band in bands for row in band]), suffix)
    write_atomically(output, lambda temporary: temporary.write_bytes(content))


def frame_color(row: dict[str, Any], is_match: bool | None, pid: str | None) -> Color:
    """Return the colour of a result's frame."""
    if pid is not None and row.get("pid") is not None:
        return GREEN if row["pid"] == pid else RED
    return GREEN if is_match else GREY


def _band(
    query: str | Path | np.ndarray, result: SearchResult, locate: Callable[[str], Path], pid: str | None
) -> list[list[np.ndarray]]:
    """Return rows of labelled crops: a query and its results."""
    matches = [None] * len(result) if result.is_match is None else result.is_match.tolist()
    verdict = {"match": "match", "unknown": "unknown person"}.get(result.verdict or "", "")
    shown = query if isinstance(query, np.ndarray) else _read(Path(query), {})
    tiles = [labelled(shown, ["query", verdict, _pid_text(pid)], CROP, BLUE)]
    for row, distance, is_match in zip(result.rows, result.distances.tolist(), matches, strict=True):
        camera = "" if row.get("camera") is None else str(row["camera"])
        lines = [f"{distance:.3f}", camera, _pid_text(row.get("pid")), *_time_lines(row)]
        tiles.append(labelled(_read(locate(row["path"]), row), lines, CROP, frame_color(row, is_match, pid)))
    return [tiles[start : start + MOST_COLUMNS + 1] for start in range(0, len(tiles), MOST_COLUMNS + 1)]


def _time_lines(row: Mapping[str, Any]) -> list[str]:
    """Return day, from-to with the time zone, frame and track of a row out of a recording; none for other rows."""
    if row.get("end_time") is None:
        return []
    place = [f"frame {row['frame']}"] if row.get("frame") is not None else []
    place += [f"track {str(row['tracklet']).rpartition('/')[2]}"] if row.get("tracklet") is not None else []
    if (found := span(row)) is None:
        return [time_text(row) + " s", *place]
    first, last = found
    zone = first.isoformat()[-6:]
    return [str(first.date()), f"{first:%H:%M:%S} to", f"{last:%H:%M:%S} {zone}", *place]


def _pid_text(pid: object) -> str:
    return "" if pid is None else person_text(pid)


def _read(path: Path, record: Mapping[str, Any]) -> np.ndarray | None:
    """Return a record's image or its box in a video frame, RGB; None if it cannot be read."""
    try:
        return read_pixels(load_image(path, record))
    except RecordImageError:
        return None
