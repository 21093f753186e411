"""Files of a gallery's rows: the image that stands for a row, the crops of its track, its recording.

Their paths come from the gallery's records, never from a request. What is sent is an image or a video by its content.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ....common.inputs.regular_files import open_regular, read_bytes
from ....common.pictures import cut_box, encode
from ...storage.file_names import TRACK_CROPS
from ...storage.record_images import MAX_FILE_BYTES, ImageFile, RecordImageError, box_of, load_image, media_type_of
from ..request_error import RequestError
from .file_parts import ServedFile, open_served
from .upload_decode import ROW_FORMATS, decode

PLAYED = {  # suffix of the videos that browsers play: their media type
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".ogv": "video/ogg",
}
TOO_LARGE = 413  # status of `decode`
NUM_CUT = 256  # crops of videos kept in memory, some 50 kB each
START_BYTES = 16
_CROP = re.compile(r"(.+-)(\d{6,})\.jpg")  # recording, track and frame; see export/track_rows.py


def row_image(path: Path, record: Mapping[str, Any], max_pixels: int) -> ServedFile | ImageFile:
    """Return the image of a row: an open file that browsers show, or a PNG made from another format or a box.

    Args:
        path: the file of the record, as the gallery locates it.
        max_pixels: limit of an image that is decoded.
    Raises:
        RecordImageError: the file is gone, too large or not an image.
        RequestError: it has too many pixels.
    """
    try:
        box = box_of(path, record)
        if box and box[0] >= 0:
            return _cut(path, os.stat(path).st_mtime_ns, *box)
        if not box and (media_type := media_type_of(_start(path))):
            return open_served(path, media_type)
        pixels = decode(read_bytes(path, MAX_FILE_BYTES), max_pixels, ROW_FORMATS)
    except (OSError, ValueError) as error:
        raise _missing(path, error) from error
    except RequestError as error:
        if error.status == TOO_LARGE:
            raise
        raise RecordImageError("the file of this record is not an image that can be shown") from error
    return ImageFile(encode(cut_box(pixels, *box[1:]) if box else pixels), "image/png")


def is_cut(path: Path, record: Mapping[str, Any]) -> bool:
    """Return whether the image of a row is cut out of a video, which takes a while."""
    box = box_of(path, record)
    return box is not None and box[0] >= 0


@lru_cache(NUM_CUT)
def _cut(path: Path, changed: int, *box: float) -> ImageFile:
    """Return a box of a video's frame; `changed` is the time of the file's last change."""
    names = ("frame", "x", "y", "width", "height")
    return load_image(path, dict(zip(names, (int(box[0]), *box[1:]), strict=True)))


def content_of(image: ServedFile | ImageFile) -> bytes:
    """Return the bytes of an image of a row; an open file is closed."""
    if isinstance(image, ImageFile):
        return image.content
    with image.file as file:
        return file.read(MAX_FILE_BYTES)


def crop_frames(path: Path) -> list[int]:
    """Return the frames of which crops of the row's track are stored, given the file of its record; else none."""
    found = _CROP.fullmatch(path.name)
    if not found or path.parent.name != TRACK_CROPS:
        return []
    try:
        names = [entry.name for entry in os.scandir(path.parent) if entry.name.startswith(found[1])]
    except OSError:
        return []
    crops = [one for name in names if (one := _CROP.fullmatch(name)) and one[1] == found[1]]
    return sorted(int(one[2]) for one in crops)


def crop_image(path: Path, frame: int) -> ServedFile:
    """Return the stored crop of a frame of the row's track; errors as `row_image`."""
    found = _CROP.fullmatch(path.name)
    if not found or path.parent.name != TRACK_CROPS:
        raise RecordImageError("no crops of this row's track are stored")
    crop = path.with_name(f"{found[1]}{frame:06d}.jpg")
    try:
        if media_type := media_type_of(_start(crop)):
            return open_served(crop, media_type)
    except (OSError, ValueError) as error:
        raise _missing(crop, error) from error
    raise RecordImageError(f"{crop.name} is not an image")


def row_video(path: Path) -> ServedFile:
    """Return the recording of a row, opened; errors as `why_not_played`."""
    if reason := why_not_played(path):
        raise RecordImageError(reason)
    return open_served(path, PLAYED[path.suffix.lower()])


def why_not_played(path: Path) -> str:
    """Return why a browser cannot play a recording; empty if it can."""
    if path.suffix.lower() not in PLAYED:
        return f"browsers do not play {path.suffix or 'such'} recordings; convert it to MP4 (H.264) to play it here"
    try:
        start = _start(path)
    except (OSError, ValueError):
        return f"{path.name} is not where the gallery's record says; has it been moved?"
    is_video = start[4:8] == b"ftyp" or start.startswith((b"\x1aE\xdf\xa3", b"OggS"))
    return "" if is_video else f"{path.name} is no video that a browser plays"


def _start(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read(START_BYTES)


def _missing(path: Path, error: Exception) -> RecordImageError:
    if isinstance(error, RecordImageError):
        return error
    return RecordImageError(f"{path.name} is not where the gallery's record says, or is too large; has it been moved?")
