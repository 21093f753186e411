"""Readers of images of people cut out of YouTube's videos, for training before re-identification: LUPerson and LUPerson-NL.

Their authors give out lists of videos and of boxes, and scripts that cut the images out. The layouts are those of the scripts, and
of the names that the images get in an LMDB; LMDBs themselves are not read. A camera is a video.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from ...readers.image_files import walk_images
from ...records import UNLABELLED, ReidData
from ..image_names import LabelledImage, build_records
from ..published_dataset import PublishedDataset, find_folder

log = logging.getLogger(__name__)

# Images of both: github.com/tinyvision/SOLIDER/issues/5; half of LUPerson, 2,090,122: dino/README.md of TransReID-SSL.
LUPERSON = PublishedDataset(  # Fu et al., CVPR 2021
    "luperson",
    ("luperson", "LUPerson", "LUP"),
    "a folder per country, city and video of images such as COUNTRY/CITY/VIDEO/00000120_0003.jpg (frame, person), or images such as "
    "30_00_0292_00000238.jpg (country, city, video, number), in one folder or several. Nobody is named: training on it needs "
    "UNSUPERVISED.CLUSTERING. An LMDB is not read. We could not confirm the number of videos, nor the names in copies that others give out",
    "https://github.com/DengpanFu/LUPerson has the lists of videos and boxes, and the scripts",
    (4180243, 0, 0),
)
LUPERSON_NL = PublishedDataset(  # Fu et al., CVPR 2022
    "luperson-nl",
    ("lup-nl", "LUPerson-NL", "luperson_nl", "LUPNL"),
    "a folder per country, city and video of images such as COUNTRY/CITY/VIDEO/000012_0000120_03.jpg (person, frame, number in the frame), or "
    "images such as 00001_000012_0000120_03.jpg (video first), in one folder or several. The labels are a tracker's, with mistakes. We could not confirm the "
    "number of videos",
    "https://github.com/DengpanFu/LUPerson-NL has the lists of videos and boxes, and the scripts",
    (10683716, 0, 0),
    (433997, 0),
)
_NAMES = {  # of the files; the camera is the group, or else the folder
    LUPERSON.name: re.compile(r"(?:(?P<camera>\d{1,9}_\d{1,9}_\d{1,9})_\d+|\d+_\d+)\.", re.ASCII),
    LUPERSON_NL.name: re.compile(r"(?:(?P<camera>\d{1,9})_)?(?P<pid>\d{1,15})_\d+_\d+\.", re.ASCII),
}


def load_luperson(root: str | Path) -> ReidData:
    """Read LUPerson [Fu et al., CVPR 2021, arXiv:2012.03753] as training images of unknown people.

    Raises:
        FileNotFoundError: the folder is missing, or holds no image of such a name.
    """
    return _load(root, LUPERSON)


def load_luperson_nl(root: str | Path) -> ReidData:
    """Read LUPerson-NL [Fu et al., CVPR 2022, arXiv:2203.16533] as training images; a number is one person in all videos.

    Raises:
        FileNotFoundError: the folder is missing, or holds no image of such a name.
    """
    return _load(root, LUPERSON_NL)


def _load(root: str | Path, published: PublishedDataset) -> ReidData:
    folder = find_folder(root, published, ())
    images, others = [], []
    for path in walk_images(folder) if folder.is_dir() else ():
        place, name = os.path.split(path)
        if match := _NAMES[published.name].fullmatch(name[: name.rfind(".") + 1]):
            labels = match.groupdict()
            pid = int(labels["pid"]) if "pid" in labels else UNLABELLED
            images.append(LabelledImage(path, pid, labels["camera"] or _folder_name(place, folder)))
        else:
            others.append(path)
    if not images:
        raise FileNotFoundError(
            f"DATASETS.ROOT_DIR: no image of {published.name} among {len(others)} images in {folder}. Expected: {published.expected}, in "
            f"{Path(root) / published.folders[0]}. Found: other names{f', such as {Path(others[0]).name}' if others else ''}. "
            f"Source: {published.source}"
        )
    if others:
        log.warning("%s: %d files left out that have other names, first %s", folder, len(others), Path(others[0]).name)
    return build_records(published, images, [], [], others)


def _folder_name(place: str, folder: Path) -> str:
    """Return country, city and video as its authors join them, "+" between; "unknown" for the data set's folder itself."""
    below = os.path.relpath(place, folder)
    return "unknown" if below == os.curdir else below.replace(os.sep, "+")
