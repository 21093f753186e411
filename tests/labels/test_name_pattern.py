"""Labels and times in file names."""

import pytest

from vitreid.labels.name_pattern import NamePattern, time_in_name


@pytest.mark.parametrize(
    ("pattern", "path", "label"),
    [
        (r"c(\d+)_", "ann/c12_1.jpg", "12"),
        (r"c\d+", "ann/c12_1.jpg", "c12"),  # no group: all that matches
        (r"^([^/]+)/", "door/ann/1.jpg", "door"),
        (r"x(\d*)", "ann/x.jpg", None),  # an empty group
        (r"c(\d+)_", "ann/1.jpg", None),
    ],
)
def test_the_first_group_is_the_label(pattern, path, label):
    assert NamePattern("--camera-pattern", pattern).of(path) == label


def test_a_wrong_expression_is_named_with_its_option():
    with pytest.raises(ValueError, match=r"--camera-pattern: '\(' is no regular expression"):
        NamePattern("--camera-pattern", "(")


@pytest.mark.parametrize("text", ["20260131_083000", "20260131083000", "2026-01-31T08:30", "2026.01.31-08h30m00"])
def test_dates_of_digits_are_times(text):
    assert time_in_name(text) == 1769848200


def test_other_times_stay_text():
    assert time_in_name("12.5") == "12.5" and time_in_name("1769848200000") == 1769848200
    assert time_in_name("20260131") == 1769817600
    with pytest.raises(ValueError, match="20261331_000000.*no date"):
        time_in_name("20261331_000000")
