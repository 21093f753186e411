"""Readers of small data sets with one image of a person per camera: VIPeR, PRID 2011 (single shot) and GRID.

Half of the people are for training. For VIPeR and PRID papers draw ten such splits: DATASETS.SPLIT_SEED 0, 1, … 9. GRID comes with its ten.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ....common.errors import UserError
from ....common.inputs.mat_file import read_mat
from ....labels.setting import Setting
from ...records import ReidData
from ..image_names import LabelledImage, build_records, read_images
from ..published_dataset import PublishedDataset, find_folder, find_part


def _both_ways(name: str) -> tuple[Setting, Setting]:
    first, second = (f"{name}/a",), (f"{name}/b",)
    return Setting("a to b", query_cameras=first, gallery_cameras=second), Setting(
        "b to a", "same-camera", second, first
    )


VIPER = PublishedDataset(  # Gray et al., PETS 2007
    "viper",
    ("viper/VIPeR", "VIPeR", "VIPeR.v1.0"),
    "the folders cam_a and cam_b with images such as 000_45.bmp: person, angle",
    "https://vision.soe.ucsc.edu/node/178",
    (632, 632, 632),
    (316, 316),
    2,
    ("cam_a", "cam_a", "cam_b"),
    _both_ways("viper"),
    r"(?P<pid>\d+)_",
)
PRID = PublishedDataset(  # Hirzer et al., SCIA 2011
    "prid",
    ("prid2011/prid_2011", "prid_2011", "prid2011"),
    "the folders single_shot/cam_a and single_shot/cam_b with images such as person_0001.png; people 1 to 200 are seen by both cameras",
    "https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/PRID11/",
    (200, 100, 649),
    (100, 100),
    2,
    ("single_shot/cam_a", "single_shot/cam_a", "single_shot/cam_b"),
    pattern=r"person_(?P<pid>\d+)",
)
_SEEN_BY_BOTH = 200  # people of PRID
GRID = PublishedDataset(  # Loy et al., CVPR 2009
    "grid",
    ("grid/underground_reid", "underground_reid", "GRID"),
    "the folders probe and gallery with images such as 0001_1_25004_107_32_106_221.jpeg (person, camera), and "
    "features_and_partitions.mat with the ten splits",
    "http://personal.ie.cuhk.edu.hk/~ccloy/downloads_qmul_underground_reid.html",
    (250, 125, 900),
    (125, 125),
    8,
    ("features_and_partitions.mat", "probe", "gallery"),
    pattern=r"0*(?P<pid>\d+)_(?P<camera>\d+)_",
)
_GRID_SPLITS = 10


def load_viper(root: str | Path, seed: int = 0) -> ReidData:
    """Read VIPeR from `root` or a folder below it; test images are query and gallery at once.

    Args:
        seed: of the split into people for training and for the test.
    Raises:
        FileNotFoundError: the folder is missing, or holds no image.
    """
    folder = find_folder(root, VIPER, VIPER.subsets)
    images, left_out = _read_cameras(folder, VIPER)
    trained = _draw_half({one.pid for one in images}, seed)
    test = [one for one in images if one.pid not in trained]
    return build_records(VIPER, [one for one in images if one.pid in trained], test, test, left_out)


def load_prid(root: str | Path, seed: int = 0) -> ReidData:
    """Read PRID 2011's single images; the gallery has the 549 people, too, that only camera b has seen. Otherwise as `load_viper`."""
    folder = find_folder(root, PRID, PRID.subsets)
    images, left_out = _read_cameras(folder, PRID)
    trained = _draw_half({one.pid for one in images if one.pid <= _SEEN_BY_BOTH}, seed)
    train = [one for one in images if one.pid in trained]
    query = [one for one in images if one.camera == "a" and one.pid <= _SEEN_BY_BOTH and one.pid not in trained]
    gallery = [one for one in images if one.camera == "b" and one.pid not in trained]
    return build_records(PRID, train, query, gallery, left_out)


def _read_cameras(folder: Path, published: PublishedDataset) -> tuple[list[LabelledImage], list[str]]:
    read = [
        read_images(find_part(folder, subset) or folder, published, camera=camera)
        for subset, camera in zip(published.subsets[1:], "ab", strict=True)
    ]
    return [one for images, _ in read for one in images], [path for _, others in read for path in others]


def _draw_half(people: set[int], seed: int) -> set[int]:
    order = np.random.default_rng(seed).permutation(sorted(people))
    return set(order[: len(people) // 2].tolist())


def load_grid(root: str | Path, seed: int = 0) -> ReidData:
    """Read GRID from `root` or a folder below it; those of number 0 have no second image and stay in the gallery.

    Args:
        seed: number of its split, 0 to 9.
    Raises:
        FileNotFoundError: the folder or a part of it is missing.
        UserError: the file with the splits is damaged, or has no such split.
    """
    folder = find_folder(root, GRID, GRID.subsets)
    trained = _read_grid_split(folder, seed)
    (probe, some), (gallery, others) = (
        read_images(find_part(folder, name) or folder, GRID) for name in GRID.subsets[1:]
    )
    train = [one for one in (*probe, *gallery) if one.pid in trained]
    query, rest = ([one for one in part if one.pid not in trained] for part in (probe, gallery))
    first = max(one.pid for one in (*probe, *gallery)) + 1
    alone = iter(range(first, first + len(rest)))  # each image without a second one is another person
    rest = [one._replace(pid=next(alone)) if one.pid == 0 else one for one in rest]
    return build_records(GRID, train, query, rest, (*some, *others))


def _read_grid_split(folder: Path, seed: int) -> set[int]:
    """Return the training people of a split, from MATLAB's cell array trainIdxAll."""
    file = find_part(folder, GRID.subsets[0])
    try:
        numbers = _whole_numbers(list(read_mat(file or folder)["trainIdxAll"][seed].values())[2])
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise UserError(
            f"{file}: cannot read split {seed} of 0 to {_GRID_SPLITS - 1} (DATASETS.SPLIT_SEED) from trainIdxAll; unpack the file again"
        ) from error
    return set(numbers)


def _whole_numbers(people: Any) -> list[int]:
    """Return the people of a split, the third field of its struct: numbers, or texts that hold them."""
    if isinstance(people, list):
        return [number for one in people for number in _whole_numbers(one)]
    return [int(number) for number in re.findall(r"\d+", people)] if isinstance(people, str) else [int(people)]
