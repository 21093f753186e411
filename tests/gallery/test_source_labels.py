"""What a source of an export knows of its images: by the columns of a CSV file, by the names of files, never silently wrong."""

import csv
import logging

import pytest

from vitreid.gallery.export.sources import open_source
from vitreid.labels.name_options import NameOptions


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a CSV file."""

    def write(*lines):
        with (tmp_path / "m.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(lines)
        return str(tmp_path / "m.csv")

    return write


@pytest.fixture
def files(tmp_path):
    """Return a function that makes empty image files and returns their folder."""

    def make(*names):
        for name in names:
            (tmp_path / "crops" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "crops" / name).touch()
        return str(tmp_path / "crops")

    return make


def labels(source, *fields):
    return [tuple(getattr(row, field) for field in fields) for row in source.rows()]


@pytest.mark.parametrize(
    "header",
    [("path", "pid", "camid", "viewid"), ("Path", "PID", "Camera", "View"), ("image", "person_id", "cam", "viewpoint")],
)
def test_columns_may_have_the_fields_other_names(write, header):
    source = open_source(write(header, ("1.png", "Ann", "door", "front")))
    assert labels(source, "pid", "camera", "view") == [("Ann", "door", "front")]
    assert source.extra == {}


def test_a_second_name_of_a_field_is_a_column_like_any_other(write):
    source = open_source(write(("path", "pid", "identity", "file"), ("1.png", "7", "Ann", "x.mp4")))
    assert source.extra == {"identity": str, "file": str}
    assert next(source.rows()).to_dict()["identity"] == "Ann"


def test_pandas_numbers_and_missing_values(write):
    lines = [
        ("path", "pid", "camid", "room"),
        ("1.png", "1.0", "2", "1.0"),
        ("2.png", "nan", "3", ""),
        ("3.png", "12.0", "", "x"),
    ]
    source = open_source(write(*lines))
    assert labels(source, "pid", "camera") == [("1", "2"), (None, "3"), ("12", None)]
    assert next(source.rows()).extra == {"room": "1.0"}  # a column of the user's stays as written


def test_decimals_that_mean_something_stay(write):
    assert labels(open_source(write(("path", "camid"), ("1.png", "1.0"), ("2.png", "1.5"))), "camera") == [
        ("1.0",),
        ("1.5",),
    ]


def test_junk_is_nobody(write):
    assert labels(open_source(write(("path", "pid"), ("1.png", "-1"), ("2.png", "7"))), "pid") == [(None,), ("7",)]


def test_windows_paths_are_named(write):
    source = open_source(write(("path", "pid"), ("crops\\1.png", "7")))
    with pytest.raises(ValueError, match=r"m\.csv:2: no file .*Windows path: write /"):
        labels(source, "path")


def test_boxes_of_a_video_have_names_too(write):
    header = ("video", "frame", "x", "y", "width", "height", "Cam", "track_id")
    assert labels(open_source(write(header, ("v.mp4", 0, 0, 0, 9, 9, "door", "4"))), "camera", "tracklet") == [
        ("door", "4")
    ]


# --- names of files ---------------------------------------------------------------------------------------------------


def test_names_of_another_scheme_are_an_error(files):
    folder = files("0017C1T0001F001.jpg", "0018C1T0001F001.jpg")
    with pytest.raises(ValueError, match="--names: none of the 2 files is named PID_cCAMERA.*first: .*0017C1T0001F001"):
        labels(open_source(folder, names="dukemtmc"), "pid")


def test_some_names_of_another_scheme_are_counted_once(files, caplog):
    source = open_source(files("0017_C1_F0001_X00001.jpg", "holiday.jpg"), names="dukemtmc")
    assert labels(source, "pid", "camera") == labels(source, "pid", "camera") == [("17", "dukemtmc/c1"), (None, None)]
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert "1 of 2 files are not named PID_cCAMERA…" in record.getMessage()


def test_patterns_read_camera_and_time(files):
    folder = files("gate/ann_20260131_083000.jpg", "hall/bob_20260131_083001.jpg")
    source = open_source(folder, names=NameOptions(camera_pattern=r"^(\w+)/", time_pattern=r"_(\d{8}_\d{6})\."))
    assert labels(source, "camera", "time") == [("gate", 1769848200.0), ("hall", 1769848201.0)]


def test_a_pattern_that_does_not_fit_is_named(files):
    with pytest.raises(ValueError, match=r"--camera-pattern: .* not found .*x\.jpg"):
        labels(open_source(files("x.jpg"), names=NameOptions(camera_pattern=r"c(\d)")), "camera")
    with pytest.raises(ValueError, match=r"x\.jpg.*expected seconds or ISO 8601"):
        labels(open_source(files("x.jpg"), names=NameOptions(time_pattern=r"(\w)\.")), "time")


def test_a_csv_without_cameras_may_have_them_in_its_paths(write):
    names = NameOptions(camera_pattern=r"c(\d)")
    assert labels(open_source(write(("path",), ("c3/1.png",)), names=names), "camera") == [("3",)]
    with pytest.raises(ValueError, match="--camera-pattern: .*has a column for it"):
        open_source(write(("path", "camid"), ("c3/1.png", "3")), names=names)


def test_patterns_are_for_own_images(people):
    with pytest.raises(ValueError, match="--camera-pattern.*market1501 says in another way"):
        open_source("market1501:query", str(people), NameOptions(camera_pattern="c"))
