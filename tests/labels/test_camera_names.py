"""How a given name of a camera finds the one that a model knows; unknown ones are named once."""

import pytest

from vitreid.labels.camera_names import UnknownNames, find_rows

KNOWN = ("market1501/c1", "market1501/c2", "duke/c2", "gate")


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("market1501/c1", 0),
        ("duke/c2", 2),
        ("gate", 3),
        ("c1", 0),  # the only one that ends so
        ("c2", -1),  # two do
        ("msmt17/c1", -1),  # another data set's
        ("C1", -1),
        ("", -1),
        (None, -1),
    ],
)
def test_a_bare_name_finds_the_only_camera_that_ends_so(name, row):
    assert find_rows([name], KNOWN) == [row]


def test_unknown_cameras_are_named_once(caplog):
    names = UnknownNames("camera", KNOWN)
    names.warn(["c1", "door", None, "door", "c2"])
    names.warn(["door", "hall"])
    first, second = (record.getMessage() for record in caplog.records)
    assert "unknown to the model: c2 (may be market1501/c2 or duke/c2), door;" in first and "market1501/c1" in first
    assert "unknown to the model: hall;" in second


def test_a_model_without_cameras_names_nothing(caplog):
    UnknownNames("camera", ()).warn(["door"])
    assert not caplog.records
