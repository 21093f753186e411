"""Synthetic data set: seeded drawings of people in Market-1501's layout, for runs without a download.

The folder's marker, synthetic.json, has the plan and the digest of each file. Only files with these digests are ever deleted.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ...common.files import digest
from ...common.inputs.regular_files import IMAGE_BYTES
from ..published.market1501 import SUBSETS, load_published
from ..published.published_dataset import PublishedDataset
from ..records import ReidData
from .camera import make_cameras, photograph
from .drawn_folder import DrawnFolder
from .identity import make_people

log = logging.getLogger(__name__)

STAMP = "synthetic.json"
_VERSION = 1  # version of the drawing; raise it when pictures change, so that old ones are replaced
_NUM_PASSERS_BY = 24  # people without an identity, in the background
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
    elif not _drawn_folder(folder, plan).is_done:
        raise FileNotFoundError(
            f"DATASETS.ROOT_DIR: {folder} does not hold the synthetic people; they are drawn where a command names "
            "them as `synthetic`"
        )
    return load_published(folder, _SYNTHETIC)


def generate(folder: str | Path, plan: SyntheticPlan) -> None:
    """Draw the data set into `folder`, unless it is complete. An interrupted call leaves no incomplete data set.

    Raises:
        FileExistsError: the folder holds other files.
        BlockingIOError: another process has been drawing for 10 minutes.
    """

    def draw(started: Path) -> dict[str, str]:
        log.info("drawing %d synthetic people into %s", plan.num_train_ids + plan.num_test_ids, folder)
        return _draw_all(started, plan)

    _drawn_folder(Path(folder), plan).make(draw)


def _drawn_folder(folder: Path, plan: SyntheticPlan) -> DrawnFolder:
    hint = "choose another DATASETS.ROOT_DIR"
    return DrawnFolder(folder, STAMP, plan.facts(), SUBSETS, IMAGE_BYTES, "a synthetic data set", hint)


def _draw_all(folder: Path, plan: SyntheticPlan) -> dict[str, str]:
    """Draw the pictures; return name and digest of each file."""
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
        return dict(bar)


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
