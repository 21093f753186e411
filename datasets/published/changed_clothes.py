"""Readers of data sets whose people change clothes: PRCC, LTCC, VC-Clothes and DeepChange.

A query in changed clothes looks for its person in other clothes: images in the query's clothes are junk (protocol "same-clothes").
For one in the same clothes it is the other way round ("other-clothes"). In general clothes do not matter.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from ...common.errors import UserError
from ...common.inputs.regular_files import read_lines
from ...labels.setting import CHANGED_CLOTHES, GENERAL, SAME_CLOTHES, Setting
from ..records import ReidData
from .image_names import LabelledImage, build_records, read_images
from .published_dataset import PublishedDataset, find_folder, find_part

PRCC = PublishedDataset(
    "prcc",
    ("prcc", "PRCC"),
    "the folders rgb/train with a folder per person, of images such as 001/A_cropped_rgb001.jpg, and rgb/test/A, B and C with "
    "folders such as 001; cameras A and B see a person in the same clothes, camera C in others",
    "https://www.isee-ai.cn/~yangqize/clothing.html",
    (17896, 7416, 3384),
    (150, 71),
    3,
    ("rgb/train", "rgb/test/B", "rgb/test/A"),
    (CHANGED_CLOTHES, SAME_CLOTHES),
    is_nested=True,
)
LTCC = PublishedDataset(
    "ltcc",
    ("LTCC_ReID", "LTCC"),
    "the folders train, query and test with images such as 000_1_c1_000451.png: person, clothes, camera",
    "https://naiq.github.io/LTCC_Perosn_ReID.html",
    (9576, 493, 7050),
    (77, 75),
    12,
    ("train", "query", "test"),
    (CHANGED_CLOTHES, SAME_CLOTHES, GENERAL),
    r"(?P<pid>\d+)_(?P<clothes>\d+)_c(?P<camera>\d+)",
)
_VC_CAMERAS = tuple(f"vc-clothes/c{number}" for number in range(5))
VC_CLOTHES = PublishedDataset(
    "vc-clothes",
    ("VC-Clothes", "VC_Clothes"),
    "the folders train, query and gallery with images such as 0001-01-01-01.jpg: person, camera, clothes, number",
    "https://wanfb.github.io/dataset.html",
    (9449, 1020, 8591),
    (256, 256),
    4,
    ("train", "query", "gallery"),
    (  # all people wear the same clothes before cameras 2 and 3, and others before camera 4
        GENERAL,
        replace(GENERAL, name=SAME_CLOTHES.name, query_cameras=_VC_CAMERAS[2:4], gallery_cameras=_VC_CAMERAS[2:4]),
        replace(GENERAL, name=CHANGED_CLOTHES.name, query_cameras=_VC_CAMERAS[3:], gallery_cameras=_VC_CAMERAS[3:]),
    ),
    r"(?P<pid>\d+)-0*(?P<camera>\d+)-(?P<clothes>\d+)-\d+",
)
DEEPCHANGE = PublishedDataset(  # of 178,407 images of 1,121 people, as its README says, the rest are for validation
    "deepchange",
    ("DeepChangeDataset", "DeepChange"),
    "the folders train-set, test-set-query and test-set-gallery next to train-set-bbox.txt, test-set-query-bbox.txt and "
    "test-set-gallery-bbox.txt, whose lines are an image and the number of its tracklet, such as 'P1_C2_S3_4.jpg,12': person, camera, clothes",
    "https://github.com/PengBoXiangShang/deepchange",
    (75083, 17527, 62956),
    (450, 521),
    17,
    ("train-set", "test-set-query", "test-set-gallery"),
    (Setting("", "same-tracklet"),),
)
_DEEPCHANGE_NAME = re.compile(r"P(\d{1,15})_C0*(\d{1,9})_([^_.]+)", re.IGNORECASE)


def load_prcc(root: str | Path) -> ReidData:
    """Read PRCC [Yang et al., TPAMI 2019]; queries are the images of cameras B and C, the gallery those of camera A.

    Raises:
        FileNotFoundError: the folder or a part of it is missing.
    """
    folder = find_folder(root, PRCC, ("rgb/test/A", "rgb/test/B", "rgb/test/C"))
    pattern = r"(?P<pid>\d+)/(?P<camera>[ABC])"
    parts = {"gallery": ("rgb/test/A", "A"), "same": ("rgb/test/B", "B"), "changed": ("rgb/test/C", "C")}
    read = {
        name: read_images(find_part(folder, place) or folder, PRCC, r"(?P<pid>\d+)/", camera=camera)
        for name, (place, camera) in parts.items()
    }
    train_folder = find_part(folder, "rgb/train")
    read["train"] = read_images(train_folder, PRCC, pattern) if train_folder else ([], ())
    left_out = [path for _, others in read.values() for path in others]
    train, same, changed, gallery = (
        [_dressed(one) for one in read[name][0]] for name in ("train", "same", "changed", "gallery")
    )
    return build_records(PRCC, train, same + changed, gallery, left_out)


def _dressed(image: LabelledImage) -> LabelledImage:
    camera = image.camera.upper()
    return image._replace(camera=camera, clothes="second" if camera == "C" else "first")


def load_deepchange(root: str | Path) -> ReidData:
    """Read DeepChange [Xu and Zhu, ICCV 2023] from `root` or a folder below it; its validation people are left aside.

    Images of the query's camera count, except those of its tracklet.

    Raises:
        FileNotFoundError: the folder, a list or an image is missing, or a list is empty.
        UserError: a line of a list cannot be read; names file and line.
    """
    folder = find_folder(root, DEEPCHANGE, [f"{subset}-bbox.txt" for subset in DEEPCHANGE.subsets[1:]])
    train, query, gallery = (_read_list(folder, subset) for subset in DEEPCHANGE.subsets)
    return build_records(DEEPCHANGE, train, query, gallery)


def _read_list(folder: Path, subset: str) -> list[LabelledImage]:
    """Return the images of a list, none if there is no such list."""
    file, images = find_part(folder, f"{subset}-bbox.txt"), find_part(folder, subset)
    if file is None:
        return []
    if images is None:
        raise FileNotFoundError(f"{folder}: the folder {subset} is missing. Expected: {DEEPCHANGE.expected}")
    found = []
    for number, line in enumerate(read_lines(file), 1):
        name, _, tracklet = line.strip().partition(",")
        match = _DEEPCHANGE_NAME.match(name)
        if not name:
            continue
        if match is None or not tracklet.strip().isdigit():
            raise UserError(f"{file}:{number}: cannot read {line.strip()[:200]!r}; expected 'P1_C2_S3_4.jpg,12'")
        found.append(LabelledImage(str(images / name), int(match[1]), match[2], match[3], tracklet=tracklet.strip()))
    if not found:
        raise FileNotFoundError(f"{file}: the list is empty. Expected: {DEEPCHANGE.expected}")
    return found
