"""Readers of CUHK03: its new protocol as folders or as a `.mat` file, and its first protocol, a single shot.

Images extracted from `cuhk-03.mat`, see `cuhk03_archive`, are named by camera pair, person, view and number: `images_labeled/1_001_1_01.png`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ....common.errors import UserError
from ....common.inputs.mat_file import read_mat
from ....common.inputs.regular_files import read_json
from ....labels.setting import PER_QUERY, Setting
from ...records import ReidData
from ..image_names import LabelledImage, build_records
from ..market1501 import load_published
from ..published_dataset import PublishedDataset, find_folder, find_part
from .cuhk03_archive import FOLDERS, not_unpacked

_SPLIT_BYTES = 64 * 2**20
NUM_SPLITS = 20
CUHK03_CLASSIC = {  # Li et al., CVPR 2014
    kind: PublishedDataset(
        f"cuhk03-{kind}",
        FOLDERS,
        f"the folder images_{kind} with images such as 1_001_1_01.png (camera pair, person, view, number) and "
        f"splits_classic_{kind}.json, the 20 splits; `vitreid datasets --unpack cuhk03`, or torchreid, writes both from cuhk-03.mat",
        "http://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html",
        people=(1367, 100),
        cameras=2,
        subsets=(f"images_{kind}", f"splits_classic_{kind}.json", f"splits_classic_{kind}.json"),
        settings=(Setting("", "same-camera", draw=PER_QUERY, repeats=10),),
    )
    for kind in ("labeled", "detected")
}


def load_cuhk03_np(root: str | Path, published: PublishedDataset, kind: str) -> ReidData:
    """Read CUHK03-NP [Zhong et al., CVPR 2017] in Market-1501's layout, or from the `.mat` file of its split.

    Args:
        published: its description; kind: "labeled" or "detected".
    Raises:
        FileNotFoundError: neither is there; names both.
        UserError: the `.mat` file is damaged, or names an image that is not there.
    """
    names = (f"cuhk03_new_protocol_config_{kind}.mat", f"images_{kind}")
    expected = f"{published.expected}, or {names[0]} and the folder {names[1]} with images such as 1_001_1_01.png"
    try:
        return load_published(root, published)
    except FileNotFoundError as error:
        try:
            folder = find_folder(root, replace(published, folders=FOLDERS, expected=expected), names)
        except FileNotFoundError as neither:
            raise FileNotFoundError(f"{neither}{not_unpacked(root, names[1])}") from error
    return _read_mat(folder, *names, published)


def _read_mat(folder: Path, name: str, images: str, published: PublishedDataset) -> ReidData:
    file = find_part(folder, name) or folder / name
    try:
        split = {key: np.ravel(np.asarray(values)) for key, values in read_mat(file).items()}
        files = [str(one) for one in split["filelist"]]
        people, cameras = (split[key].astype(np.int64).tolist() for key in ("labels", "camId"))
        parts = [(split[f"{part}_idx"].astype(np.int64) - 1).tolist() for part in ("train", "query", "gallery")]
        places = _places(folder, images)
        train, query, gallery = (
            [LabelledImage(places[files[row]], people[row], str(cameras[row])) for row in part] for part in parts
        )
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise UserError(
            f"{file}: cannot read filelist, labels, camId and the indices of train, query and gallery, or an image is missing in "
            f"{images} ({error!r:.100}); unpack both again"
        ) from error
    return build_records(published, train, query, gallery)


def _places(folder: Path, images: str) -> dict[str, str]:
    place = find_part(folder, images)
    return {path.name: str(path) for path in place.iterdir()} if place else {}


def load_cuhk03(root: str | Path, kind: str, split: int = 0) -> ReidData:
    """Read CUHK03 in a split of its first protocol: test images are queries and, one drawn for each person, the gallery.

    Args:
        kind: "labeled" (boxes by hand) or "detected"; split: 0 to 19.
    Raises:
        FileNotFoundError: the folder is missing.
        UserError: the list of splits is damaged or has no such split, or an image is missing.
    """
    published = CUHK03_CLASSIC[kind]
    try:
        folder = find_folder(root, published, published.subsets)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}{not_unpacked(root, published.subsets[0])}") from error
    file = find_part(folder, published.subsets[1]) or folder
    splits = read_json(file, _SPLIT_BYTES)
    if not isinstance(splits, list) or not 0 <= split < len(splits) or not isinstance(splits[split], dict):
        raise UserError(
            f"{file}: no split {split}; DATASETS.SPLIT_SEED takes 0 to {NUM_SPLITS - 1}, and the file is a list of them"
        )
    places = _places(folder, published.subsets[0])
    train = _of_split(file, splits[split].get("train"), places, 0)
    first = 1 + max((image.pid for image in train), default=-1)
    test = _of_split(file, splits[split].get("query"), places, first)
    return build_records(published, train, test, test)


def _of_split(file: Path, items: Any, places: dict[str, str], first: int) -> list[LabelledImage]:
    """Return the images of a part of a split: lists of a path, a person counted from 0 and a camera counted from 0."""
    found = []
    try:
        for path, pid, camera in items:
            name = str(path).replace("\\", "/").rpartition("/")[2]
            found.append(LabelledImage(places[name], first + int(pid), str(int(camera) + 1)))
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: expected lists of a path, a person and a camera, found {str(items)[:100]}") from error
    except KeyError as error:
        raise UserError(f"{file}: the image {error} is missing; extract all images again") from error
    return found
