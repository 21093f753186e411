"""A film of several cameras, drawn from a seed: people walk, cross, hide each other, leave and come back, with ground truth.

For each camera the folder holds a video and, in the layout of MOTChallenge, its boxes:

    a.mp4                 the video of camera a
    a/gt/gt.txt           frame, person, x, y (all from 1), width, height, flag, class 1, visible share
    a/det/det.txt         what a detector would find of those that count: person -1, box of the visible part, confidence
    a/seqinfo.ini         frame rate, number of frames, size
    boxes.csv             the boxes of det.txt of all videos: video, frame from 0, x, y, width, height, score
    cameras.csv           video, camera, start: all cameras start at the same moment
    paths.csv             who was in which camera from when to when, in seconds of the film

Flag 0 marks a person of whom too little can be seen to be counted.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import cv2
import numpy as np

from ...common.errors import UserError, choose
from ...common.files import digest
from ...common.inputs.regular_files import read_chunks
from ...common.locks import FILE as LOCK
from .camera import make_cameras
from .dataset import SyntheticPlan
from .drawn_folder import DrawnFolder
from .film_truth import COUNTED, FilmBox, FilmSize, Visit, write_boxes, write_cameras, write_paths, write_sequence
from .identity import SyntheticPerson, make_people
from .scene import Scene
from .walks import View, Walk, make_walks

log = logging.getLogger(__name__)

FILM_STAMP = "film.json"
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".webm": "VP80"}  # those that OpenCV writes without other software
_FILE_BYTES = 2**32  # most of one video
_STRANGERS = 1_000_000  # added to the seed of the people
_VERSION = 1  # version of the drawing; raise it when pictures change, so that old films are replaced


@dataclass(frozen=True)
class FilmPlan:
    """Size and seed of a film; they determine every pixel.

    Args:
        num_people, num_cameras: who walks through how many views.
        seconds: length; fps: frames per second.
        size: (height, width) in pixels.
        suffix: .mp4 (MPEG-4), .avi (Motion JPEG) or .webm (VP8, which browsers play).
        seed: of people and paths; nobody is in a synthetic data set of a small seed.
        camera_seed: of the cameras' colours and backgrounds: those of the synthetic data set of this seed.
    Raises:
        UserError: a value out of its range.
    """

    num_people: int = 8
    num_cameras: int = 3
    seconds: float = 30.0
    fps: int = 12
    size: tuple[int, int] = (270, 480)
    suffix: str = ".mp4"
    seed: int = 0
    camera_seed: int = 0

    def __post_init__(self) -> None:
        for name, most in (("num_people", 1000), ("num_cameras", len(ascii_lowercase)), ("fps", 60)):
            if not 1 <= getattr(self, name) <= most:
                raise UserError(f"{name}: {getattr(self, name)}; give a number from 1 to {most}")
        if not 1 <= self.seconds <= 3600:
            raise UserError(f"seconds: {self.seconds:g}; give a length from 1 to 3600")
        if min(self.size) < 64 or any(side % 2 for side in self.size):
            raise UserError(f"size: {self.size}; give an even height and width of 64 pixels or more")
        choose("suffix", self.suffix, CODECS)

    @property
    def num_frames(self) -> int:
        """Frames of each camera."""
        return round(self.seconds * self.fps)

    @property
    def cameras(self) -> list[str]:
        """Names of the cameras: a, b, …"""
        return list(ascii_lowercase[: self.num_cameras])

    def facts(self) -> dict[str, Any]:
        """Return what the marker of a complete folder says of the plan, in JSON types."""
        return {"version": _VERSION, **asdict(self), "size": list(self.size)}


def make_film(folder: str | Path, plan: FilmPlan) -> None:
    """Draw a film into `folder`, unless it is complete there. An interrupted call leaves nothing incomplete.

    Raises:
        FileExistsError: the folder holds other files.
        OSError: OpenCV cannot write the video.
    """
    parts = ("", *(f"{camera}{part}" for camera in ascii_lowercase for part in ("", "/gt", "/det")))
    hint = "give a folder that is empty or does not exist"
    DrawnFolder(Path(folder), FILM_STAMP, plan.facts(), parts, _FILE_BYTES, "a film", hint).make(
        lambda started: _draw_all(started, plan)
    )


def film_walks(plan: FilmPlan) -> list[Walk]:
    """Return who walks where."""
    return make_walks(plan.num_people, plan.num_cameras, plan.seconds, View(*plan.size), plan.seed)


def _draw_all(folder: Path, plan: FilmPlan) -> dict[str, str]:
    """Draw the videos, one thread for each camera, then write the ground truth; return name and digest of each file."""
    log.info("drawing a film of %d cameras, %g s, %d people", plan.num_cameras, plan.seconds, plan.num_people)
    people, walks = make_people(plan.num_people, _STRANGERS + plan.seed), film_walks(plan)
    cameras = make_cameras(max(plan.num_cameras, SyntheticPlan.num_cameras), plan.camera_seed)

    def draw(number: int) -> list[FilmBox]:
        scene = Scene(cameras[number], View(*plan.size), plan.seed, number)
        here = [walk for walk in walks if walk.camera == number]
        return _draw_video(folder / f"{plan.cameras[number]}{plan.suffix}", plan, scene, people, here)

    with ThreadPoolExecutor(plan.num_cameras) as pool:
        boxes = dict(zip(plan.cameras, pool.map(draw, range(plan.num_cameras))))
    size = FilmSize(plan.num_frames, plan.fps, *plan.size)
    for camera, found in boxes.items():
        write_sequence(folder / camera, size, found)
    write_boxes(folder / "boxes.csv", {f"{camera}{plan.suffix}": found for camera, found in boxes.items()})
    write_cameras(folder / "cameras.csv", {f"{camera}{plan.suffix}": camera for camera in boxes})
    write_paths(folder / "paths.csv", _visits(plan, walks, boxes))
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {path.relative_to(folder).as_posix(): digest(read_chunks(path)) for path in files}


def _draw_video(
    path: Path, plan: FilmPlan, scene: Scene, people: list[SyntheticPerson], walks: list[Walk]
) -> list[FilmBox]:
    """Write the video of one camera; return its boxes."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODECS[plan.suffix]), plan.fps, plan.size[::-1])
    if not writer.isOpened():
        raise OSError(f"{path}: OpenCV cannot write {CODECS[plan.suffix]} video; try another of {', '.join(CODECS)}")
    found: list[FilmBox] = []
    for frame in range(plan.num_frames):
        places = [(walk.person, place) for walk in walks if (place := walk.at(frame / plan.fps)) is not None]
        picture, seen = scene.draw(people, places, frame)
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
        found += [FilmBox(frame, one.person + 1, one.box, one.visible, one.seen) for one in seen]
    writer.release()
    return found


def _visits(plan: FilmPlan, walks: list[Walk], boxes: dict[str, list[FilmBox]]) -> list[Visit]:
    """Return the part of each walk in which the person counts as seen; a walk behind a pillar is one visit."""
    counted = {(camera, one.person, one.frame) for camera in boxes for one in boxes[camera] if one.visible >= COUNTED}
    visits = []
    for walk in walks:
        camera, person = plan.cameras[walk.camera], walk.person + 1
        first, last = (int(np.clip(moment * plan.fps, 0, plan.num_frames)) for moment in walk.times[[0, -1]])
        frames = [frame for frame in range(first, last + 1) if (camera, person, frame) in counted]
        if frames:
            visits.append(Visit(person, camera, frames[0] / plan.fps, frames[-1] / plan.fps))
    return visits
