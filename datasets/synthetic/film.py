"""A film of several cameras, drawn from a seed: people walk, cross, hide each other, leave and come back, with ground truth.

For each camera the folder holds a video and, in the layout of MOTChallenge, its boxes:

    a.mp4                 the video of camera a
    a/gt/gt.txt           frame from 1, person from 1, x, y, width, height, flag, class 1, visible share
    a/det/det.txt         the same boxes inside the frame as from a detector: person -1, confidence instead of the flag
    a/seqinfo.ini         frame rate, number of frames, size
    paths.csv             who was in which camera from when to when, in seconds of the film

All cameras start at the same moment. Flag 0 marks a person of whom too little can be seen to be counted.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ...common.files import digest
from ...common.locks import FILE as LOCK
from .camera import make_cameras
from .drawn_folder import DrawnFolder
from .identity import SyntheticPerson, make_people
from .scene import Scene
from .walks import View, Walk, make_walks

log = logging.getLogger(__name__)

FILM_STAMP = "film.json"
COUNTED = 0.25  # visible share of a body from which a person counts as seen
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}  # those that OpenCV writes without other software
_FILE_BYTES = 2**32  # most of one video
_VERSION = 1  # version of the drawing; raise it when pictures change, so that old films are replaced


@dataclass(frozen=True)
class FilmPlan:
    """Size and seed of a film; they determine every pixel.

    Args:
        num_people, num_cameras: who walks through how many views.
        seconds: length; fps: frames per second.
        size: (height, width) in pixels.
        suffix: .mp4 (MPEG-4) or .avi (Motion JPEG).
    """

    num_people: int = 8
    num_cameras: int = 3
    seconds: float = 30.0
    fps: int = 12
    size: tuple[int, int] = (270, 480)
    suffix: str = ".mp4"
    seed: int = 0

    @property
    def num_frames(self) -> int:
        """Frames of each camera."""
        return round(self.seconds * self.fps)

    @property
    def cameras(self) -> list[str]:
        """Names of the cameras: a, b, …"""
        return [chr(ord("a") + number) for number in range(self.num_cameras)]

    def facts(self) -> dict[str, Any]:
        """Return what the marker of a complete folder says of the plan, in JSON types."""
        return {"version": _VERSION, **asdict(self), "size": list(self.size)}


class FilmBox(NamedTuple):
    """A person in a frame of a camera.

    Args:
        frame: from 0; person: from 1.
        box: x0, y0, x1, y1 in pixels of the whole body; visible: share of the body that can be seen.
    """

    frame: int
    person: int
    box: tuple[float, float, float, float]
    visible: float


class Visit(NamedTuple):
    """A person in a camera's view, from the first to the last frame in which they count as seen; seconds of the film."""

    person: int
    camera: str
    start: float
    end: float


def make_film(folder: str | Path, plan: FilmPlan) -> None:
    """Draw a film into `folder`, unless it is complete there. An interrupted call leaves nothing incomplete.

    Raises:
        FileExistsError: the folder holds other files.
        OSError: OpenCV cannot write the video.
    """
    parts = ("", *(f"{camera}/{name}" for camera in plan.cameras for name in ("", "gt", "det")))
    parts = tuple(part.rstrip("/") for part in parts)
    hint = "give a folder that is empty or does not exist"
    DrawnFolder(Path(folder), FILM_STAMP, plan.facts(), parts, _FILE_BYTES, "a film", hint).make(
        lambda started: _draw_all(started, plan)
    )


def film_walks(plan: FilmPlan) -> list[Walk]:
    """Return who walks where."""
    return make_walks(plan.num_people, plan.num_cameras, plan.seconds, View(*plan.size), plan.seed)


def read_truth(folder: str | Path, camera: str) -> list[FilmBox]:
    """Return the boxes of a camera's gt.txt that count, in the order of the frames."""
    rows = np.loadtxt(Path(folder) / camera / "gt" / "gt.txt", delimiter=",", ndmin=2)
    return [
        FilmBox(int(row[0]) - 1, int(row[1]), (row[2], row[3], row[2] + row[4], row[3] + row[5]), row[8])
        for row in rows.tolist()
        if row[6]
    ]


def read_paths(folder: str | Path) -> list[Visit]:
    """Return the visits of paths.csv, by person and time."""
    with open(Path(folder) / "paths.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [Visit(int(row["person"]), row["camera"], float(row["start"]), float(row["end"])) for row in rows]


def _draw_all(folder: Path, plan: FilmPlan) -> dict[str, str]:
    """Draw the videos, one thread for each camera, then write the ground truth; return name and digest of each file."""
    log.info("drawing a film of %d cameras, %g s, %d people", plan.num_cameras, plan.seconds, plan.num_people)
    people, walks = make_people(plan.num_people, plan.seed), film_walks(plan)
    cameras = make_cameras(plan.num_cameras, plan.seed)

    def draw(number: int) -> list[FilmBox]:
        scene = Scene(cameras[number], View(*plan.size), plan.seed, number)
        here = [walk for walk in walks if walk.camera == number]
        return _draw_video(folder / f"{plan.cameras[number]}{plan.suffix}", plan, scene, people, here)

    with ThreadPoolExecutor(plan.num_cameras) as pool:
        boxes = dict(zip(plan.cameras, pool.map(draw, range(plan.num_cameras))))
    for camera, found in boxes.items():
        _write_sequence(folder / camera, plan, found)
    _write_paths(folder / "paths.csv", plan, boxes)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {path.relative_to(folder).as_posix(): digest([path.read_bytes()]) for path in files}


def _draw_video(
    path: Path, plan: FilmPlan, scene: Scene, people: list[SyntheticPerson], walks: list[Walk]
) -> list[FilmBox]:
    """Write the video of one camera; return its boxes."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*CODECS[plan.suffix]), plan.fps, plan.size[::-1])
    if not writer.isOpened():
        raise OSError(f"{path}: OpenCV cannot write {CODECS[plan.suffix]} video; try another of {', '.join(CODECS)}")
    found: list[FilmBox] = []
    for frame in range(plan.num_frames):
        places = [(walk.person, place) for walk in walks if (place := walk.at(frame / plan.fps)) is not None]
        picture, seen = scene.draw(people, places, frame)
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
        found += [FilmBox(frame, one.person + 1, one.box, one.visible) for one in seen]
    writer.release()
    return found


def _write_sequence(folder: Path, plan: FilmPlan, boxes: list[FilmBox]) -> None:
    """Write ground truth and detections of one camera as MOTChallenge does."""
    height, width = plan.size
    for name in ("gt", "det"):
        (folder / name).mkdir(parents=True)
    truth = [
        f"{one.frame + 1},{one.person},{_sides(one.box)},{int(one.visible >= COUNTED)},1,{one.visible:.3f}\n"
        for one in boxes
    ]
    (folder / "gt" / "gt.txt").write_text("".join(truth))
    inside = [(one, np.clip(one.box, 0, [width, height, width, height])) for one in boxes if one.visible >= COUNTED]
    lines = [f"{one.frame + 1},-1,{_sides(box)},{0.5 + 0.5 * one.visible:.3f},-1,-1,-1\n" for one, box in inside]
    (folder / "det" / "det.txt").write_text("".join(lines))
    settings = {
        "name": folder.name,
        "frameRate": plan.fps,
        "seqLength": plan.num_frames,
        "imWidth": width,
        "imHeight": height,
    }
    text = "".join(f"{key}={value}\n" for key, value in settings.items())
    (folder / "seqinfo.ini").write_text(f"[Sequence]\n{text}")


def _sides(box: Iterable[float]) -> str:
    x0, y0, x1, y1 = box
    return f"{x0:g},{y0:g},{x1 - x0:g},{y1 - y0:g}"


def _write_paths(path: Path, plan: FilmPlan, boxes: dict[str, list[FilmBox]]) -> None:
    """Write the part of each walk in which the person counts as seen; a walk behind a pillar is one visit."""
    counted = {(camera, one.person, one.frame) for camera in boxes for one in boxes[camera] if one.visible >= COUNTED}
    visits = []
    for walk in film_walks(plan):
        camera, person = plan.cameras[walk.camera], walk.person + 1
        first, last = (int(np.clip(moment * plan.fps, 0, plan.num_frames)) for moment in walk.times[[0, -1]])
        frames = [frame for frame in range(first, last + 1) if (camera, person, frame) in counted]
        if frames:
            visits.append(Visit(person, camera, frames[0] / plan.fps, frames[-1] / plan.fps))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Visit._fields)
        writer.writerows(
            (*visit[:2], f"{visit.start:.3f}", f"{visit.end:.3f}") for visit in sorted(visits, key=_by_time)
        )


def _by_time(visit: Visit) -> tuple[int, float]:
    return visit.person, visit.start
