"""Synthetic data set: seeded drawings of people in Market-1501's layout, for runs without a download.

The folder's marker, synthetic.json, has the plan and the digest of each file. Only files with these digests are ever deleted.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ...common.files import digest
from ...common.locks import FILE as LOCK
from ...common.locks import WriterLock
from ...common.regular_files import IMAGE_BYTES, read_bytes, read_json
from ...common.replace_folder import locked_place, recover, replacement
from ..readers.market1501 import SUBSETS, load_published
from ..readers.published import PublishedDataset
from ..records import ReidData
from .camera import make_cameras, photograph
from .identity import make_people

log = logging.getLogger(__name__)

STAMP = "synthetic.json"
_VERSION = 1  # version of the drawing; raise it when pictures change, so that old ones are replaced
_NUM_PASSERS_BY = 24  # people without an identity, in the background
_WAIT, _PATIENCE = 0.2, 600  # seconds: between two looks at a folder that another process draws; in all
_SYNTHETIC = PublishedDataset("synthetic", ("synthetic",), "three folders of drawn people", "drawn by vitreid itself")


@dataclass(frozen=True)
class SyntheticPlan:
    """Size and seed of the data set; they determine every pixel.

    Args:
        num_train_ids, num_test_ids: people in training and test.
        num_distractors: people in the gallery only, with pid 0 and one picture per camera.
        images_per_camera: pictures of each person per camera.
        size: (height, width) in pixels.
    """

    num_train_ids: int = 80
    num_test_ids: int = 32
    num_distractors: int = 16
    num_cameras: int = 4
    images_per_camera: int = 4
    size: tuple[int, int] = (128, 64)
    seed: int = 0

    def facts(self) -> dict[str, Any]:
        """Return what the marker of a complete folder says of the plan, in JSON types."""
        return {"version": _VERSION, **asdict(self), "size": list(self.size)}


@dataclass(frozen=True)
class _Shot:
    """One picture to draw."""

    person: int
    pid: int
    camera: int
    number: int
    subset: str

    @property
    def name(self) -> str:
        frame = 1000 * self.person + self.number
        return f"{self.pid:04d}_c{self.camera + 1}s1_{frame:06d}_00.jpg"


def load_synthetic(root: str | Path, plan: SyntheticPlan | None = None, draws: bool = True) -> ReidData:
    """Read the synthetic people in `root`/synthetic.

    Args:
        draws: draw them first if they are missing or differ from `plan`.
    Raises:
        FileNotFoundError: they are missing, and `draws` is false.
    """
    folder, plan = Path(root).expanduser() / "synthetic", plan or SyntheticPlan()
    if draws:
        generate(folder, plan)
    elif not _is_done(folder, plan):
        raise FileNotFoundError(
            f"DATASETS.ROOT_DIR: {folder} does not hold the synthetic people; they are drawn where the command names them: "
            "add DATASETS.NAMES synthetic"
        )
    return load_published(folder, _SYNTHETIC)


def generate(folder: str | Path, plan: SyntheticPlan) -> None:
    """Draw the data set into `folder`, unless it is complete. An interrupted call leaves no incomplete data set.

    Raises:
        FileExistsError: the folder holds other files.
        BlockingIOError: another process has been drawing for 10 minutes.
    """
    folder, until = Path(folder), time.monotonic() + _PATIENCE
    recover(folder, _own_files)
    while not _is_done(folder, plan):
        try:
            with locked_place(folder, _own_files) as lock:
                _draw_into(folder, plan, lock)
        except BlockingIOError:  # another process, such as another rank, draws it
            if time.monotonic() > until:
                raise
            time.sleep(_WAIT)
        finally:
            with suppress(OSError):  # only an empty folder is removed
                folder.rmdir()


def _draw_into(folder: Path, plan: SyntheticPlan, lock: WriterLock) -> None:
    """Replace the content of the locked folder, if all of it was drawn by `generate`."""
    if _is_done(folder, plan):
        return
    if foreign := sorted(_all_files(folder) - _own_files(folder)):
        raise FileExistsError(
            f"{folder}: {foreign[0]} is not of a synthetic data set drawn by vitreid ({len(foreign)} such files), so nothing is "
            "drawn there; choose another DATASETS.ROOT_DIR"
        )
    log.info("drawing %d synthetic people into %s", plan.num_train_ids + plan.num_test_ids, folder)
    with replacement(folder, lock, _own_files) as started:
        _draw_all(started, plan)


def _is_done(folder: Path, plan: SyntheticPlan) -> bool:
    return {key: value for key, value in _marker(folder).items() if key != "files"} == plan.facts()


def _marker(folder: Path) -> dict[str, Any]:
    """Return the content of the folder's marker; empty if there is none, or an unreadable one."""
    try:
        found = read_json(folder / STAMP)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _all_files(folder: Path) -> set[str]:
    """Return everything in the folder and below but folders, as paths in it; an empty folder of another name too."""
    names = set()
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        foreign = [name for name in folders if Path(place) != folder or name not in SUBSETS]
        names |= {Path(place, name).relative_to(folder).as_posix() for name in (*files, *links, *foreign)}
    return names


def _own_files(folder: Path) -> set[str]:
    """Return the files in the folder that `generate` wrote and nobody changed: those of the marker, with its digests."""
    drawn = _marker(folder).get("files")
    if not isinstance(drawn, dict):
        return {LOCK}
    possible = [name for name in drawn if name.count("/") == 1 and name.startswith(tuple(f"{s}/" for s in SUBSETS))]
    own = {name for name in possible if _digest_of(folder / name) == drawn[name]}
    return {*own, STAMP, LOCK}


def _digest_of(file: Path) -> str:
    """Return the digest of a file's content; "" for a link, or if it is gone."""
    try:
        return "" if file.is_symlink() else digest([read_bytes(file, IMAGE_BYTES)])
    except (OSError, ValueError):
        return ""


def _draw_all(folder: Path, plan: SyntheticPlan) -> None:
    number = plan.num_train_ids + plan.num_test_ids + plan.num_distractors
    everybody = make_people(number + _NUM_PASSERS_BY, plan.seed)
    people, passers_by = everybody[:number], everybody[number:]
    cameras = make_cameras(plan.num_cameras, plan.seed)
    for subset in SUBSETS:
        (folder / subset).mkdir()

    def draw(shot: _Shot) -> tuple[str, str]:
        rng = np.random.default_rng([plan.seed, shot.person, shot.camera, shot.number])
        camera = cameras[shot.camera]
        image = photograph(camera, people[shot.person], passers_by, plan.size, rng)
        return f"{shot.subset}/{shot.name}", _write(folder / shot.subset / shot.name, image, camera.quality)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        shots = list(_shots(plan))
        bar = tqdm(pool.map(draw, shots), "draw", len(shots), unit="image", disable=None, leave=False)
        drawn = dict(bar)
    (folder / STAMP).write_text(json.dumps({**plan.facts(), "files": drawn}, indent=1))


def _shots(plan: SyntheticPlan) -> Iterator[_Shot]:
    """Yield the pictures; the first one of each test person per camera is a query."""
    train, known = plan.num_train_ids, plan.num_train_ids + plan.num_test_ids
    for person in range(known + plan.num_distractors):
        for camera in range(plan.num_cameras):
            for number in range(plan.images_per_camera if person < known else 1):
                if person < train:
                    subset = "bounding_box_train"
                else:
                    subset = "query" if number == 0 and person < known else "bounding_box_test"
                yield _Shot(person, person + 1 if person < known else 0, camera, number, subset)


def _write(path: Path, image: np.ndarray, quality: int) -> str:
    """Write a picture; return the digest of its file."""
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    path.write_bytes(coded.tobytes())
    return digest([coded.tobytes()])
