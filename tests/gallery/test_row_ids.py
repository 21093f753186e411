"""Ids are whole numbers, everywhere they are taken: a mask of rows would name rows 0 and 1. Names as pandas writes them."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
import torch

from vitreid.gallery import Gallery, GalleryInfo
from vitreid.gallery.storage.row_ids import as_ids


@pytest.fixture
def gallery(tmp_path):
    """24 rows of one value; the ids are the positions."""
    made = Gallery.create(tmp_path / "G", GalleryInfo(model="sha256:a", dimension=1))
    rows = np.arange(24, dtype=np.float32).reshape(-1, 1)
    made.add(rows, [{"path": f"{i}.jpg", "pid": str(i)} for i in range(24)], "sha256:a")
    return made


MASK = np.isin(np.arange(24), [20, 21])
TAKERS = {
    "remove": lambda gallery, ids: gallery.remove(ids),
    "update": lambda gallery, ids: gallery.update(ids, {"pid": "x"}),
    "positions": lambda gallery, ids: gallery.positions(ids),
    "rows_of": lambda gallery, ids: gallery.rows_of(ids),
    "vectors_of": lambda gallery, ids: gallery.vectors_of(ids),
    "rows_at": lambda gallery, ids: gallery.rows_at(ids),
    "vectors": lambda gallery, ids: gallery.vectors(ids),
}
WRONG = {
    "mask": (MASK, "whole numbers, got booleans; .*ids\\[mask\\]"),
    "mask as a list": (MASK.tolist(), "got booleans"),
    "mask as a tensor": (torch.from_numpy(MASK), "got booleans"),
    "booleans among numbers": ([3, True], "got booleans"),
    "booleans among objects": (np.array([3, True], object), "got booleans"),
    "fractions": ([3.0, 4.5], "got 4.5"),
    "missing values": ([3.0, float("nan")], "got nan"),
    "infinity": ([float("inf")], "got inf"),
    "text": (["3"], "got '3'"),
    "nothing": ([None], "got None"),
    "too large": ([2**70], "whole numbers"),
}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize(("ids", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_whole_number_is_refused(gallery, taker, ids, message):
    with pytest.raises(ValueError, match=message):
        TAKERS[taker](gallery, ids)
    assert len(gallery) == 24 and gallery.records["pid"].to_pylist() == [str(i) for i in range(24)]


def test_the_rows_of_a_mask_are_removed_by_their_ids(gallery):
    assert gallery.remove(gallery.ids[MASK]) == 2
    assert np.flatnonzero(~gallery.is_live).tolist() == [20, 21]


@pytest.mark.parametrize(
    "ids",
    [
        [20, 21],
        (20, 21),
        np.array([20, 21], np.uint8),
        np.array([20.0, 21.0]),
        torch.tensor([20, 21]),
        [np.int32(20), 21.0],
    ],
)
def test_whole_numbers_of_any_type_are_ids(gallery, ids):
    assert [row["path"] for row in gallery.rows_of(ids)] == ["20.jpg", "21.jpg"]


def test_no_ids_are_no_rows_and_one_number_is_a_list_of_it():
    assert as_ids([]).tolist() == []
    assert as_ids(7).tolist() == [7] and as_ids([Decimal(7)]).tolist() == [7]


@pytest.mark.parametrize(
    "records",
    [
        [
            {"path": "a", "pid": 1.0, "camera": np.float64(2), "tracklet": 3},
            {"path": "b", "pid": float("nan"), "camera": None},
        ],
        [
            {"path": "a", "pid": "1", "camera": "2", "tracklet": "3"},
            {"path": "b", "pid": "nan", "camera": "", "tracklet": "<NA>"},
        ],
        pa.table({"path": ["a", "b"], "pid": [1.0, float("nan")], "camera": [2.0, None], "tracklet": [3, None]}),
    ],
    ids=["numbers", "texts", "arrow"],
)
def test_pandas_numbers_and_missing_values_are_names_and_unknown(tmp_path, records):
    made = Gallery.create(tmp_path / "G", GalleryInfo(model="sha256:a", dimension=1))
    made.add(np.zeros((2, 1), np.float32), records, "sha256:a")
    assert [made.records[name].to_pylist() for name in ("pid", "camera", "tracklet")] == [
        ["1", None],
        ["2", None],
        ["3", None],
    ]


def test_updates_take_pandas_numbers_too(gallery):
    gallery.update([0], {"pid": np.float64(7)})
    gallery.update([1], {"pid": float("nan")})
    assert gallery.records["pid"].to_pylist()[:3] == ["7", None, "2"]
