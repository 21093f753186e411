"""Records, their names, and the rows that a model knows them by."""

import pytest
import torch

from vitreid.datasets import Record, ReidData, label_map, name_rows


def data(records, cameras=("a", "b"), **options):
    return ReidData("mine", records, [], [], cameras, **options)


def test_labels_follow_the_sorted_pids():
    records = [Record("x", pid, 0) for pid in (30, 2, 30, 7)]
    assert label_map(records) == {2: 0, 7: 1, 30: 2}


def test_a_camera_is_found_in_the_model_by_its_name():
    rows = name_rows(("market1501/c1", "market1501/c2"), ("market1501/c2", "duke/c1"))
    assert rows.tolist() == [-1, 0, -1]


def test_an_unknown_id_finds_an_unknown_row():
    assert name_rows(("a",), ("a",))[torch.tensor([0, -1])].tolist() == [0, -1]
    assert name_rows((), ())[torch.tensor([-1])].tolist() == [-1]


def test_train_cameras_are_those_seen_in_training():
    mixed = ReidData("mine", [Record("x", 0, 2), Record("x", 0, 0)], [Record("q", 1, 1)], [], ("a", "b", "c"))
    assert mixed.train_cameras == ("a", "c")
    assert mixed.train_views == ()


def test_unknown_views_are_no_row_of_the_model():
    seen = data([Record("x", 0, 0, viewid=1), Record("x", 0, 0, viewid=-1)], view_names=("front", "back"))
    assert seen.train_views == ("back",)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Record("a.jpg", -2, 0), r"a\.jpg.*pid -2"),
        (Record("a.jpg", 0, 2), r"a\.jpg.*camid 2.*\b2 cameras"),
        (Record("a.jpg", 0, -1), r"a\.jpg.*camid -1"),
        (Record("a.jpg", 0, 0, viewid=0), r"a\.jpg.*viewid 0.*\b0 views"),
    ],
)
def test_a_number_without_a_name_is_an_error(record, message):
    with pytest.raises(ValueError, match=message):
        data([record])


def test_a_name_that_stands_twice_is_an_error():
    with pytest.raises(ValueError, match="camera name stands twice"):
        data([], cameras=("a", "a"))


def test_unknown_protocol_names_the_choices():
    with pytest.raises(ValueError, match=r"'market'.*none, other-clothes, own-file, same-camera"):
        data([], protocol="market")
