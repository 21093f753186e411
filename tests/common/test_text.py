"""Values as text for people and as plain JSON types."""

import math
from datetime import datetime

import numpy as np
import pytest

from vitreid.common.text import plain_values, short_names, table


def test_columns_fit_their_longest_cell_and_lines_end_without_spaces():
    assert table([["run", "mAP"], ["a longer name", "-"], ["b", "57.1%"]]) == (
        "run              mAP\na longer name      -\nb              57.1%"
    )
    assert table([["a", ""], ["b", "c"]], left=None) == "a\nb  c"


def test_rows_printed_one_by_one_keep_their_columns():
    rows = [["model", "ms"], ["vit", "12"]]
    assert table(rows, widths=(8, 4)).splitlines() == [table([row], widths=(8, 4)) for row in rows]
    assert table([["a", "b", "c"]], left=2, widths=(2,)) == "a   b  c"


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        table([["a", "b"], ["c"]])


def test_plain_values_are_what_json_can_hold():
    values = {
        1: np.array([1.0, math.nan]),
        "scalar": np.float32(0.5),
        "flag": np.bool_(True),
        "when": datetime(2024, 5, 6, 7),
        "bad": "\ud800",
        "nested": ({"x": math.inf},),
    }
    assert plain_values(values) == {
        "1": [1.0, None],
        "scalar": 0.5,
        "flag": True,
        "when": "2024-05-06T07:00:00",
        "bad": "?",
        "nested": [{"x": None}],
    }


def test_camera_names_without_the_data_set_where_they_still_differ():
    assert short_names(["market1501/c1", "market1501/c2"]) == ["c1", "c2"]
    assert short_names(["market1501/c1", "msmt17/c1"]) == ["market1501/c1", "msmt17/c1"]
