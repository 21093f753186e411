"""Readers of data sets with a folder per tracklet: DukeMTMC-VideoReID, iLIDS-VID and PRID 2011 (multi shot)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ....common.errors import UserError
from ....common.inputs.regular_files import read_json
from ...records import ReidData
from ..image_names import LabelledImage, build_records, read_images
from ..published_dataset import PublishedDataset, find_folder, find_part
from .mat_table import read_table

DUKEMTMC_VIDEO = PublishedDataset(  # Wu et al., CVPR 2018
    "dukemtmc-video",
    ("DukeMTMC-VideoReID", "dukemtmc-vidreid/DukeMTMC-VideoReID", "dukemtmc-vidreid"),
    "the folders train, query and gallery with a folder per person and tracklet, of images such as "
    "0001/0000/0001_C6_F0001_X30823.jpg: person, camera, frame",
    "https://github.com/Yu-Wu/DukeMTMC-VideoReID",
    (2196, 702, 2636),
    (702, 702),
    8,
    ("train", "query", "gallery"),
    pattern=r"(?P<pid>\d+)/(?P<tracklet>[^/]+)/\d+_?C(?P<camera>\d)_?F\d+",
    is_nested=True,
    items="tracklets",
)
ILIDS_VID = PublishedDataset(  # Wang et al., ECCV 2014
    "ilids-vid",
    ("iLIDS-VID", "ilids-vid"),
    "the folders i-LIDS-VID/sequences/cam1 and cam2 with a folder per person, of images such as person001/cam1_person001_00317.png, "
    "and 'train-test people splits/train_test_splits_ilidsvid.mat' with the ten splits",
    "http://www.eecs.qmul.ac.uk/~xiatian/downloads_qmul_iLIDS-VID_ReID_dataset.html",
    (300, 150, 150),
    (150, 150),
    2,
    (
        "train-test people splits/train_test_splits_ilidsvid.mat",
        "i-LIDS-VID/sequences/cam1",
        "i-LIDS-VID/sequences/cam2",
    ),
    pattern=r"person(?P<pid>\d+)/",
    is_nested=True,
    items="tracklets",
)
PRID_VIDEO = PublishedDataset(  # Hirzer et al., SCIA 2011
    "prid-video",
    ("prid2011/prid_2011", "prid_2011", "prid2011"),
    "the folders multi_shot/cam_a and multi_shot/cam_b with a folder per person, of images such as person_0001/0001.png, and "
    "splits_prid2011.json, the ten splits of torchreid, there or one folder up",
    "https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/PRID11/",
    (178, 89, 89),  # of the people that both cameras see long enough
    (89, 89),
    2,
    ("splits_prid2011.json", "multi_shot/cam_a", "multi_shot/cam_b"),
    pattern=r"person_(?P<pid>\d+)/",
    is_nested=True,
    items="tracklets",
)
_SPLIT_BYTES = 2**22


def load_dukemtmc_video(root: str | Path) -> ReidData:
    """Read DukeMTMC-VideoReID from `root` or a folder below it; the training folder may be missing.

    Raises:
        FileNotFoundError: the folder is missing, or one of its parts holds no image.
        UserError: frames of two cameras lie in one tracklet's folder.
    """
    folder = find_folder(root, DUKEMTMC_VIDEO, DUKEMTMC_VIDEO.subsets[1:])
    places = [find_part(folder, subset) for subset in DUKEMTMC_VIDEO.subsets]
    read = [read_images(place, DUKEMTMC_VIDEO) if place else ([], ()) for place in places]
    train, query, gallery = (to_tracklets(images) for images, _ in read)
    return build_records(DUKEMTMC_VIDEO, train, query, gallery, [path for _, others in read for path in others])


def to_tracklets(images: Iterable[LabelledImage]) -> list[LabelledImage]:
    """Return the tracklets of frames, in the order of their first; frames with one person and tracklet are one.

    Raises:
        UserError: a tracklet has frames of two cameras.
    """
    frames: dict[tuple[int, str], list[LabelledImage]] = defaultdict(list)
    for image in images:
        frames[image.pid, image.tracklet].append(image)
    for own in frames.values():
        if other := [image for image in own if image.camera != own[0].camera]:
            raise UserError(
                f"{other[0].path}: camera {other[0].camera}, and {own[0].path} of the same tracklet is of camera {own[0].camera}; a "
                "tracklet is of one camera, unpack the data set again"
            )
    return [own[0]._replace(frames=tuple(image.path for image in own)) for own in frames.values()]


def load_ilids_vid(root: str | Path, split: int = 0) -> ReidData:
    """Read iLIDS-VID from `root` or a folder below it: people of camera 1 are looked for in camera 2.

    Args:
        split: number of its split, 0 to 9; the first half of the people in its row are for the test.
    Raises:
        FileNotFoundError: the folder or a part of it is missing.
        UserError: the file with the splits is damaged or has no such split.
    """
    folder = find_folder(root, ILIDS_VID, ILIDS_VID.subsets)
    file = find_part(folder, ILIDS_VID.subsets[0]) or folder
    tracklets, left_out = _read_two_cameras(folder, ILIDS_VID, "12")
    people = sorted({one.pid for one in tracklets})  # the splits are places in the list of people
    rows = read_table(file, "the people of a split in each row")
    if not 0 <= split < len(rows):
        raise UserError(f"{file}: no split {split}; DATASETS.SPLIT_SEED takes 0 to {len(rows) - 1}")
    row = rows[split].tolist()
    if sorted(row) != list(range(1, len(people) + 1)):
        raise UserError(
            f"{file}: split {split} has {len(row)} people, 1 to {max(row, default=0)}, and the cameras have {len(people)}; unpack the data set again"
        )
    test, train = ({people[place - 1] for place in half} for half in (row[: len(row) // 2], row[len(row) // 2 :]))
    return _split(ILIDS_VID, tracklets, train, test, left_out)


def load_prid_video(root: str | Path, split: int = 0) -> ReidData:
    """Read PRID 2011's multi-shot images from `root` or a folder below it: people of camera a are looked for in camera b.

    Args:
        split: number of the split in splits_prid2011.json, 0 to 9.
    Raises:
        FileNotFoundError: the folder or a part of it is missing.
        UserError: the file with the splits is damaged or has no such split, or one of its people is missing.
    """
    folder = find_folder(root, PRID_VIDEO, PRID_VIDEO.subsets[1:])
    name = PRID_VIDEO.subsets[0]
    file = find_part(folder, name) or find_part(folder.parent, name)
    if file is None:
        raise FileNotFoundError(f"{folder}: {name} is missing. Expected: {PRID_VIDEO.expected}")
    splits = read_json(file, _SPLIT_BYTES)
    if not isinstance(splits, list) or not 0 <= split < len(splits) or not isinstance(splits[split], dict):
        count = len(splits) if isinstance(splits, list) else 0
        raise UserError(
            f"{file}: no split {split}; it is a list of {count}, and DATASETS.SPLIT_SEED counts them from 0"
        )
    train, test = (_people_of(file, splits[split].get(part)) for part in ("train", "test"))
    if not train or not test or train & test:
        raise UserError(
            f"{file}: split {split} has no people for training or for the test, or the same in both; copy the file again"
        )
    tracklets, left_out = _read_two_cameras(folder, PRID_VIDEO, "ab")
    return _split(PRID_VIDEO, tracklets, train, test, left_out)


def _people_of(file: Path, names: Any) -> set[int]:
    """Return the numbers of people called person_0001."""
    try:
        return {int(name.removeprefix("person_")) for name in names}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: expected lists of people such as person_0001, found {str(names)[:100]}") from error


def _read_two_cameras(folder: Path, published: PublishedDataset, cameras: str) -> tuple[list[LabelledImage], list[str]]:
    """Return a tracklet per person and camera, and the images with other names."""
    read = [
        read_images(find_part(folder, subset) or folder, published, camera=camera, tracklet=camera)
        for subset, camera in zip(published.subsets[1:], cameras, strict=True)
    ]
    return to_tracklets(one for images, _ in read for one in images), [path for _, others in read for path in others]


def _split(
    published: PublishedDataset,
    tracklets: Sequence[LabelledImage],
    train: set[int],
    test: set[int],
    left_out: Sequence[str],
) -> ReidData:
    """Return the data set of a split; the first camera asks, the second is the gallery.

    Raises:
        UserError: a camera has no tracklet of one of the people.
    """
    first, second = sorted({one.camera for one in tracklets})
    for camera in (first, second):
        if missing := (train | test) - {one.pid for one in tracklets if one.camera == camera}:
            raise UserError(
                f"{published.name}: camera {camera} has no tracklet of person {min(missing)} and {len(missing) - 1} others of the "
                f"split. Expected: {published.expected}"
            )
    parts = {
        camera: [one for one in tracklets if one.camera == camera and one.pid in test] for camera in (first, second)
    }
    training = [one for one in tracklets if one.pid in train]
    return build_records(published, training, parts[first], parts[second], left_out)
