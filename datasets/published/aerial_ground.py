"""Readers of data sets seen from the air and from the ground: AG-ReID and CARGO. Which of the two is the view of a record.

Side information: `MODEL.SIE_VIEW True` gives the model an embedding for each view.
"""

from __future__ import annotations

from pathlib import Path

from ...labels.setting import Setting
from ..records import ReidData
from .image_names import build_records, read_images
from .published_dataset import PublishedDataset, find_folder, find_part

AERIAL, GROUND = "aerial", "ground"
AG_REID = PublishedDataset(
    "ag-reid",
    ("AG-ReID", "ag_reid", "AG-ReID.v1"),
    "the folders bounding_box_train, query_all_c0, query_all_c3, bounding_box_test_all_c0 and bounding_box_test_all_c3 with images "
    "such as P0001T04041A0C0F31.jpg: person, time, altitude, camera (0 = aerial, 3 = ground), frame",
    "https://github.com/huynguyen792/AG-ReID",
    (None, 2663, 10535),  # README: 1,701 aerial and 962 ground queries, 7,204 aerial and 3,331 ground gallery images
    (199, 189),
    2,
    settings=(
        Setting("aerial to ground", query_cameras=("ag-reid/c0",), gallery_cameras=("ag-reid/c3",)),
        Setting("ground to aerial", query_cameras=("ag-reid/c3",), gallery_cameras=("ag-reid/c0",)),
    ),
    pattern=r"P(?P<pid>\d+T\d+A\d+)C(?P<camera>\d+)F",
    views={"0": AERIAL, "3": GROUND},
)
_AERIAL, _GROUND = (tuple(f"cargo/c{number}" for number in numbers) for numbers in (range(1, 6), range(6, 14)))
CARGO = PublishedDataset(
    "cargo",
    ("CARGO",),
    "the folders train, query and gallery with a folder per camera, of images such as Cam2/Cam2_day_2519_320.jpg: camera, time, "
    "person, number; cameras 1 to 5 are aerial, 6 to 13 on the ground",
    "https://github.com/LinlyAC/VDT-AGPReID",
    (51451, 312, 50712),  # README: 134 ground and 178 aerial queries, 18,444 ground and 32,268 aerial gallery images
    (2500, None),  # 60 people have a ground query and 89 an aerial one; how many have either is not published
    13,
    ("train", "query", "gallery"),
    (
        Setting("all"),
        Setting("ground and ground", query_cameras=_GROUND, gallery_cameras=_GROUND),
        Setting("aerial and aerial", query_cameras=_AERIAL, gallery_cameras=_AERIAL),
        Setting("aerial and ground", "same-view"),
        Setting("aerial to ground", query_cameras=_AERIAL, gallery_cameras=_GROUND),
        Setting("ground to aerial", query_cameras=_GROUND, gallery_cameras=_AERIAL),
    ),
    r"Cam\d+/Cam(?P<camera>\d+)_[^_/]+_(?P<pid>\d+)_",
    is_nested=True,
    views={**dict.fromkeys("12345", AERIAL), **{str(number): GROUND for number in range(6, 14)}},
)


def load_ag_reid(root: str | Path) -> ReidData:
    """Read AG-ReID [Nguyen et al., ICME 2023]: an aerial and a ground camera, each with its queries and its gallery.

    A person on another day or at another altitude of the drone is another identity, as in its authors' reader.

    Raises:
        FileNotFoundError: the folder or a part of it is missing, or a part holds no image.
    """
    names = {part: [f"{part}_all_c{camera}" for camera in (0, 3)] for part in ("query", "bounding_box_test")}
    folder = find_folder(root, AG_REID, [name for part in names.values() for name in part])
    query, gallery = (
        [read_images(find_part(folder, name) or folder, AG_REID) for name in part] for part in names.values()
    )
    train_folder = find_part(folder, "bounding_box_train")
    train = read_images(train_folder, AG_REID) if train_folder else ([], ())
    left_out = [path for _, others in (train, *query, *gallery) for path in others]
    asked, searched = ([one for images, _ in part for one in images] for part in (query, gallery))
    return build_records(AG_REID, train[0], asked, searched, left_out)
