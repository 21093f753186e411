"""Reader of VeRi-776: vehicles, with the side that each picture shows.

Names are those of Market-1501 with a vehicle in the place of the person: `0001_c001_00016450_0.jpg`. Views are in `keypoint_train.txt`
and `keypoint_test.txt` [Wang et al., ICCV 2017], lines of a path, 20 key points and a number from 0 to 7.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ...common.errors import UserError
from ...common.inputs.regular_files import read_lines
from ..records import Record, ReidData
from .market1501 import load_published
from .published_dataset import PublishedDataset, find_folder, find_part

log = logging.getLogger(__name__)

VIEW_FILES = ("keypoint_train.txt", "keypoint_test.txt")
NUM_VIEWS = 8
VERI = PublishedDataset(
    "veri",
    ("VeRi", "VeRi-776", "VeRi776"),
    "the folders image_train, image_query and image_test with images such as 0001_c001_00016450_0.jpg; for views also "
    "keypoint_train.txt and keypoint_test.txt",
    "https://github.com/JDAI-CV/VeRidataset; views: https://github.com/Zhongdao/VehicleReIDKeyPointData",
    (37778, 1678, 11579),
    (576, 200),
    20,
    ("image_train", "image_query", "image_test"),
)


def load_veri(root: str | Path, only_with_view: bool = False) -> ReidData:
    """Read VeRi-776 [Liu et al., ECCV 2016] from `root` or a folder below it.

    Args:
        only_with_view: leave out images without a view, 64 of all, as the original TransReID does; else their view is unknown.
    Raises:
        FileNotFoundError: the folder is missing, or, with `only_with_view`, the lists of views.
        UserError: a line of a list cannot be read; names file and line.
    """
    data = load_published(root, VERI)
    folder = find_folder(root, VERI, VERI.subsets[1:])
    files = [path for name in VIEW_FILES if (path := find_part(folder, name) or find_part(folder.parent, name))]
    if only_with_view and len(files) < len(VIEW_FILES):
        raise FileNotFoundError(
            f"DATASETS.NAMES: veri-views needs {' and '.join(VIEW_FILES)} in {folder} or {folder.parent}; they are in "
            "github.com/Zhongdao/VehicleReIDKeyPointData. veri needs no views"
        )
    if not files:
        return data
    views = {name: view for path in files for name, view in _read_views(path)}
    sides = [_with_views(records, views, only_with_view) for records in (data.train, data.query, data.gallery)]
    unknown = sum(record.viewid < 0 for records in sides for record in records)
    left_out = sum(map(len, (data.train, data.query, data.gallery))) - sum(map(len, sides))
    log.info("veri: %d images without a view, %d left out for that", unknown + left_out, left_out)
    train, query, gallery = sides
    names = tuple(f"veri/view{number}" for number in range(NUM_VIEWS))
    name = "veri-views" if only_with_view else VERI.name
    return replace(data, name=name, train=train, query=query, gallery=gallery, view_names=names)


def _with_views(records: list[Record], views: dict[str, int], only_with_view: bool) -> list[Record]:
    found = [replace(record, viewid=views.get(Path(record.path).name, -1)) for record in records]
    return [record for record in found if record.viewid >= 0] if only_with_view else found


def _read_views(path: Path) -> Iterable[tuple[str, int]]:
    """Yield the image's name and its view, per line."""
    for number, line in enumerate(read_lines(path), 1):
        words = line.split()
        if not words:
            continue
        if len(words) < 2 or not words[-1].isdigit() or int(words[-1]) >= NUM_VIEWS:
            raise UserError(
                f"{path}:{number}: cannot read {line.strip()[:200]!r}; expected a path, 20 key points and a view from 0 to {NUM_VIEWS - 1}"
            )
        yield words[0].replace("\\", "/").rpartition("/")[2], int(words[-1])
