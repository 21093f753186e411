"""CVAT's XML 1.1, "for video" (tracks) and "for images" (docs.cvat.ai, "CVAT for video/images").

A track's box holds from its key frame to the next one, moving in a straight line, unless it is outside; behind the last key
frame it stands still up to the end of the task. That is what CVAT itself shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree  # nosec B405 - see `read_cvat`

from ...common.errors import UserError
from ...common.inputs.regular_files import JSON_BYTES, read_bytes
from ...datasets.box_columns import checked_corners, to_number, to_whole
from ..class_names import Names
from .box_rows import BoxRows
from .given_boxes import GivenBoxes

Corners = tuple[float, float, float, float]
MOST_BOXES = 5_000_000  # of a file: 50 people in each frame of an hour


class KeyFrame(NamedTuple):
    """A box of a track; outside = the object is not to be seen from here on."""

    frame: int
    box: Corners
    outside: bool


class Task(NamedTuple):
    """Of a file's task: its last frame (None = unknown), its stride, its frame size (height, width)."""

    last: int | None
    step: int
    size: tuple[int, int] | None


def read_cvat(path: Path, class_names: Names | None = None) -> GivenBoxes:
    """Return the boxes of a CVAT file.

    Args:
        class_names: unused, the file states its own.
    Raises:
        UserError: no XML of CVAT, several tasks in one file, or a box is wrong; names the track or picture.
    """
    content = read_bytes(path, JSON_BYTES)
    if b"<!ENTITY" in content or b"\0" in content:  # a few entities can unfold to gigabytes; UTF-16 would hide them
        raise UserError(f"{path}: declares entities, or is no UTF-8, which files of CVAT never do")
    try:
        root = ElementTree.fromstring(content)  # nosec B314 - without entities nothing unfolds, and nothing is fetched
    except ElementTree.ParseError as error:
        raise UserError(f"{path}:{error.position[0]}: not XML ({error})") from error
    except (LookupError, ValueError) as error:  # of the encoding that it names
        raise UserError(f"{path}: not XML in UTF-8 ({error}); export it from CVAT again") from error
    if root.tag != "annotations":
        raise UserError(f"{path}: starts with <{root.tag}>; expected CVAT's <annotations>")
    tracks, images = root.findall("track"), root.findall("image")
    if tracks and images:
        raise UserError(f"{path}: holds tracks and pictures; export it from CVAT in one of the two forms")
    if len({one.get("task_id") for one in (*tracks, *images)}) > 1:
        raise UserError(f"{path}: holds several tasks; export each task of the project alone")
    return _images(path, images) if images else _tracks(path, root, tracks)


def is_cvat(path: Path, head: str) -> bool:
    """Return whether a file is XML with <annotations> near its start."""
    return "<annotations" in head[:4096]


def _tracks(path: Path, root: ElementTree.Element, tracks: Sequence[ElementTree.Element]) -> GivenBoxes:
    rows, task, count = BoxRows(), _task(root, path), 0
    for number, track in enumerate(tracks):
        where = f"{path}: track {track.get('id', number)}"
        identity = to_whole(track.get("id", number), f"{where}: id")
        keys = [_key_frame(box, where) for box in track.findall("box")]
        count += num_frames(keys, task)
        if count > MOST_BOXES:
            raise UserError(
                f"{where}: its key frames stand for {count:,} boxes with those before; {MOST_BOXES:,} are accepted"
            )
        for frame, box in interpolated(keys, task, where):
            rows.add(box, frame=frame, label=track.get("label") or "person", track=identity)
    covered = None if task.last is None else task.last + 1
    return rows.finish(path, first_frame=0, num_frames=covered, size=task.size)


def num_frames(keys: Sequence[KeyFrame], task: Task) -> int:
    """Return in how many frames a track has a box."""
    return sum(max(0, -((start.frame - end) // task.step)) for start, end, _ in _stretches(keys, task))


def _stretches(keys: Sequence[KeyFrame], task: Task) -> Iterator[tuple[KeyFrame, int, Corners]]:
    """Yield a key frame, the frame before which its box ends, and the box that it moves to."""
    keys = sorted(keys)
    for key, following in zip(keys, [*keys[1:], None]):
        if not key.outside:
            end = following.frame if following else (key.frame if task.last is None else task.last) + 1
            yield key, end, following.box if following else key.box


def interpolated(keys: Sequence[KeyFrame], task: Task, where: str) -> Iterator[tuple[int, Corners]]:
    """Yield (frame, box) of a track in all frames in which it is not outside.

    Raises:
        UserError: two boxes in one frame, or a box behind the end of the task.
    """
    keys = sorted(keys)
    for key, following in zip(keys, [*keys[1:], None]):
        if following is not None and following.frame == key.frame:
            raise UserError(f"{where}: has two boxes in frame {key.frame}")
        if task.last is not None and key.frame > task.last and not key.outside:
            raise UserError(f"{where}: has a box in frame {key.frame}; the last frame of the task is {task.last}")
    for key, end, target in _stretches(keys, task):
        for frame in range(key.frame, end, task.step):
            share = (frame - key.frame) / (end - key.frame)
            a, b, c, d = (one + (other - one) * share for one, other in zip(key.box, target))
            yield frame, (a, b, c, d)


def _images(path: Path, images: Sequence[ElementTree.Element]) -> GivenBoxes:
    rows, names, sizes = BoxRows(), [], set()
    for image in images:
        name = image.get("name")
        if not name:
            raise UserError(f"{path}: the image {image.get('id')} has no name")
        names.append(name)
        height, width = (to_whole(image.get(side, 0), f"{path}: {name}: {side}") for side in ("height", "width"))
        sizes.add((height, width))
        for box in image.findall("box"):
            rows.add(_corners(box, f"{path}: {name}"), picture=name, label=box.get("label") or "person")
    size = next(iter(sizes)) if len(sizes) == 1 and (0, 0) not in sizes else None
    return rows.finish(path, all_pictures=tuple(names), size=size)


def _key_frame(box: ElementTree.Element, where: str) -> KeyFrame:
    frame = to_whole(box.get("frame"), f"{where}: frame")
    return KeyFrame(frame, _corners(box, f"{where}, frame {frame}"), box.get("outside") == "1")


def _corners(box: ElementTree.Element, where: str) -> Corners:
    """Return the corners of a box; of a rotated one (degrees around its centre), of the rectangle around it."""
    a, b, c, d = (to_number(box.get(name), f"{where}: {name}") for name in ("xtl", "ytl", "xbr", "ybr"))
    x0, y0, x1, y1 = checked_corners(a, b, c, d, "corners", where)
    angle = math.radians(to_number(box.get("rotation", 0), f"{where}: rotation"))
    if not angle:
        return x0, y0, x1, y1
    width, height, cos, sin = x1 - x0, y1 - y0, abs(math.cos(angle)), abs(math.sin(angle))
    half_x, half_y = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return x - half_x, y - half_y, x + half_x, y + half_y


def _task(root: ElementTree.Element, path: Path) -> Task:
    meta = root.find("meta")
    task = (
        None if meta is None else next((one for one in (meta.find("task"), meta.find("job")) if one is not None), None)
    )
    if meta is None or task is None:
        return Task(None, 1, None)
    step = 1
    if text := (task.findtext("frame_filter") or "").partition("step=")[2]:
        step = max(1, to_whole(text, f"{path}: frame_filter"))
    start, stop, length = task.findtext("start_frame"), task.findtext("stop_frame"), task.findtext("size")
    last = None
    if stop:
        last = to_whole(stop, f"{path}: stop_frame")
    elif length:
        last = to_whole(start or 0, f"{path}: start_frame") + (to_whole(length, f"{path}: size") - 1) * step
    size = next((one for one in (task.find("original_size"), meta.find("original_size")) if one is not None), None)
    if size is None:
        return Task(last, step, None)
    height, width = (to_whole(size.findtext(name), f"{path}: original_size") for name in ("height", "width"))
    return Task(last, step, (height, width))
