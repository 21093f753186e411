"""Readers of images for training elsewhere (CUHK-SYSU's crops, LPW, all of MSMT17), and Market-1501 with its distractors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...readers.distractors import add_distractors, load_distractors
from ...records import ReidData
from ..image_names import LabelledImage, build_records, read_images
from ..market1501 import MARKET1501, load_market1501
from ..msmt17 import MSMT17, load_msmt17
from ..published_dataset import PublishedDataset, check_counts, find_folder, find_part

CUHK_SYSU = PublishedDataset(  # Xiao et al., CVPR 2017; counts as in torchreid, which has the crops
    "cuhk-sysu",
    ("cuhksysu", "cuhk_sysu", "CUHK-SYSU"),
    "the folder cropped_images with images such as p11422_s16929_1.jpg: person, scene, number",
    "http://www.ee.cuhk.edu.hk/~xgwang/PS/dataset.html",
    (34574, 0, 0),
    (11934, 0),
    1,
    ("cropped_images", "", ""),
    pattern=r"p(?P<pid>\d+)_s\d+",
)
LPW = PublishedDataset(  # Song et al., AAAI 2018
    "lpw",
    ("pep_256x128/data_slim", "pep_256x128", "LPW"),
    "the folders scen1, scen2 and scen3 with a folder per view and person, of images such as scen1/view2/12/00001.jpg",
    "http://liuyu.us/dataset/lpw/index.html",
    people=(1975, 756),
    cameras=11,
    subsets=("scen2", "scen1/view2", "scen1"),
    is_nested=True,
)
MSMT17_MERGED = replace(
    MSMT17, name="msmt17-merged", counts=(126441, 0, 0), people=(4101, 0), expected=f"as msmt17: {MSMT17.expected}"
)
MARKET1501_500K = replace(
    MARKET1501,
    name="market1501-500k",
    expected=f"{MARKET1501.expected}, and the folder distractors_500k or images with the distractors",
    counts=(12936, 3368, None),
    cameras=7,
)
_DISTRACTORS = ("distractors_500k", "images")


def load_cuhk_sysu(root: str | Path) -> ReidData:
    """Read the crops of CUHK-SYSU as training images of one unknown camera.

    Raises:
        FileNotFoundError: the folder is missing, or holds no image.
    """
    folder = find_folder(root, CUHK_SYSU, CUHK_SYSU.subsets[:1])
    images, others = read_images(find_part(folder, CUHK_SYSU.subsets[0]) or folder, CUHK_SYSU, camera="unknown")
    return build_records(CUHK_SYSU, images, [], [], others)


def load_lpw(root: str | Path) -> ReidData:
    """Read LPW: scenes 2 and 3 are for training; in scene 1 people of view 2 are looked for in the views 1 and 3.

    Raises:
        FileNotFoundError: the folder or a part of it is missing, or one of them holds no image.
    """
    folder = find_folder(root, LPW, ("scen1/view1", "scen1/view2"))
    images: list[LabelledImage] = []
    left_out: list[str] = []
    for scene in (1, 2, 3):
        place = find_part(folder, f"scen{scene}")
        if place is not None:
            pattern = r"(?P<camera>view\d+)/(?P<pid>\d+)/"
            found, others = read_images(place, LPW, pattern)
            images += [
                one._replace(pid=one.pid * 10 + scene, camera=f"scen{scene}{one.camera.lower()}") for one in found
            ]
            left_out += others
    train = [one for one in images if not one.camera.startswith("scen1")]
    query = [one for one in images if one.camera == "scen1view2"]
    gallery = [one for one in images if one.camera.startswith("scen1") and one.camera != "scen1view2"]
    return build_records(LPW, train, query, gallery, left_out)


def load_msmt17_merged(root: str | Path) -> ReidData:
    """Read all of MSMT17, its test people too, as training images; errors as `load_msmt17`."""
    data = load_msmt17(root)
    every = [*data.train, *data.query, *data.gallery]
    return check_counts(replace(data, name=MSMT17_MERGED.name, train=every, query=[], gallery=[]), MSMT17_MERGED)


def load_market1501_500k(root: str | Path) -> ReidData:
    """Read Market-1501 with 500,000 distractors in its gallery, in `distractors_500k` or `images` in its folder or next to it.

    Raises:
        FileNotFoundError: Market-1501 or the distractors are missing.
    """
    data = load_market1501(root)
    folder = find_folder(root, MARKET1501, MARKET1501.subsets[1:])
    places = [found for place in (folder, folder.parent) for name in _DISTRACTORS if (found := find_part(place, name))]
    if not places:
        raise FileNotFoundError(
            f"{folder}: the distractors of {MARKET1501_500K.name} are missing. Expected: {MARKET1501_500K.expected}. "
            f"Source: {MARKET1501_500K.source}"
        )
    return check_counts(
        replace(add_distractors(data, load_distractors(places[0])), name=MARKET1501_500K.name), MARKET1501_500K
    )
