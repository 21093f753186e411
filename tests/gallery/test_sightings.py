"""When and where: sightings in order, times as text, filters by time of day and duration, in all outputs of a search."""

import json
from datetime import datetime, time, timedelta, timezone

import cv2
import numpy as np
import pytest

from vitreid.common.errors import UserError
from vitreid.common.pictures import text_picture
from vitreid.common.text import parse_moment
from vitreid.gallery import Gallery, GalleryInfo
from vitreid.gallery.milvus.filter_expression import as_expression
from vitreid.gallery.search import contact_sheets
from vitreid.gallery.search.contact_sheets import contact_sheet
from vitreid.gallery.search.filters import Where
from vitreid.gallery.search.sightings import TimeLine, span, time_text
from vitreid.tools import search as search_tool

MODEL = "sha256:fake"


def at(text):
    return parse_moment(text).timestamp()


ROWS = [  # camera, from, to, zone
    ("door", "2026-01-31T08:00:00+01:00", "2026-01-31T08:00:07.5+01:00", "+01:00"),
    ("hall", "2026-01-31T22:30:00+01:00", "2026-01-31T22:31:00+01:00", "+01:00"),
    ("door", "2026-02-01T05:59:00+01:00", "2026-02-01T06:01:00+01:00", "+01:00"),
    ("yard", "2026-01-31T12:00:00-05:00", "2026-01-31T12:00:01-05:00", "-05:00"),
]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """Rows of ROWS, and one without a date; embeddings are unit vectors."""
    path = tmp_path_factory.mktemp("g") / "G"
    made = Gallery.create(path, GalleryInfo(MODEL, 5))
    (path / "track_crops").mkdir()
    cv2.imwrite(str(path / "track_crops" / "0.png"), np.full((40, 20, 3), 90, np.uint8))
    records = [
        {
            "path": "track_crops/0.png",
            "camera": camera,
            "time": at(start),
            "end_time": at(end),
            "time_zone": zone,
            "duration": at(end) - at(start),
            "frame": 10 * n,
            "tracklet": f"lobby/{n}",
            "video": "lobby.mp4",
        }
        for n, (camera, start, end, zone) in enumerate(ROWS)
    ]
    records.append({**records[0], "time": 12.0, "end_time": 15.0, "duration": 3.0, "time_zone": None, "camera": None})
    made.add(np.eye(5, dtype=np.float32), records, MODEL)
    return made


def found(gallery, *where):
    return sorted(gallery.search(np.ones(5, np.float32), 9, list(where))[0].ids.tolist())


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("time_of_day>=08:00", [0, 1, 3]),
        ("time_of_day<8:00", [2]),
        ("time_of_day>08:00:00", [1, 3]),
        ("time_of_day=22:00-06:00", [1, 2]),
        ("time_of_day=11:30-12:30,08:00-08:00", [0, 3]),
        ("time_of_day!=22:00-06:00", [0, 3, 4]),
        ("duration>=60", [1, 2]),
        ("duration<3.5", [3, 4]),
    ],
)
def test_filters_by_time_of_day_at_the_camera_and_by_duration(gallery, where, ids):
    assert found(gallery, where) == ids


def test_a_range_of_times_may_be_a_dictionary(gallery):
    for ends in (("22:00", "06:00"), (time(22), time(6))):
        assert gallery.search(np.ones(5, np.float32), 9, {"time_of_day": ends, "camera": "door"})[0].ids.tolist() == [2]
    assert sorted(gallery.search(np.ones(5, np.float32), 9, {"time_of_day": ("12:00", None)})[0].ids.tolist()) == [1, 3]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("time_of_day>=noon", "'noon'"),
        ("time_of_day=08:00", "no range.*08:00-12:00"),
        ("time_of_day>=25:00", "no time of a day"),
        ("time_of_day>=", "one value"),
        ("daytime>=08:00", "no column 'daytime'"),
    ],
)
def test_wrong_times_of_day_are_refused(gallery, where, message):
    with pytest.raises(UserError, match=message):
        found(gallery, where)


def test_a_column_of_that_name_is_an_ordinary_column(tmp_path):
    gallery = Gallery.create(tmp_path / "G", GalleryInfo(MODEL, 2))
    gallery.add(
        np.eye(2, dtype=np.float32),
        [{"path": "a", "time_of_day": "noon"}, {"path": "b", "time_of_day": "night"}],
        MODEL,
    )
    assert gallery.search(np.ones(2, np.float32), 9, ["time_of_day=noon"])[0].ids.tolist() == [0]


def test_galleries_without_time_zones_count_in_utc(tmp_path):
    gallery = Gallery.create(tmp_path / "G", GalleryInfo(MODEL, 2))
    rows = [{"path": "a", "time": "2026-01-31T08:00"}, {"path": "b", "time": None}]
    gallery.add(np.eye(2, dtype=np.float32), rows, MODEL)
    assert gallery.search(np.ones(2, np.float32), 9, ["time_of_day=08:00-08:00"])[0].ids.tolist() == [0]


def test_milvus_says_that_it_cannot(gallery):
    with pytest.raises(UserError, match="time_of_day.*Milvus"):
        as_expression(Where.of("time_of_day>=08:00").typed(gallery.schema))


# --- sightings ------------------------------------------------------------------------------------------------------


def test_sightings_are_in_order_and_by_camera(gallery):
    line = TimeLine(gallery.rows_of(range(5)))
    assert [one.id for one in line.sightings] == [4, 0, 3, 1, 2] and len(line) == 5
    assert {camera: [one.id for one in found] for camera, found in line.cameras.items()} == {
        "door": [0, 2],
        "hall": [1],
        "yard": [3],
        None: [4],
    }


def test_the_next_and_the_previous_sighting(gallery):
    line = TimeLine(gallery.rows_of([0, 1, 2, 3]))
    assert (line.next(0).id, line.next(0, same_camera=True).id, line.next(2)) == (3, 2, None)
    assert (line.previous(1).id, line.previous(1, same_camera=True), line.previous(0)) == (3, None, None)
    assert str(line.next(0, same_camera=True)) == "door, 2026-02-01T05:59:00+01:00 to 06:01:00"
    with pytest.raises(UserError, match="row 4"):
        line.next(4)


def test_hits_of_a_search_make_a_time_line(gallery):
    line = TimeLine(gallery.search(np.ones(5, np.float32), 9, ["camera=door"])[0].rows)
    assert [one.id for one in line.sightings] == [0, 2]


def test_rows_without_a_time_are_left_out():
    assert len(TimeLine([{"id": 0, "time": None}, {"id": 1}])) == 0


def test_a_track_over_midnight_names_both_days():
    record = {
        "time": at("2026-01-31T23:59:50+01:00"),
        "end_time": at("2026-02-01T00:00:10+01:00"),
        "time_zone": "+01:00",
    }
    assert time_text(record) == "2026-01-31T23:59:50+01:00 to 2026-02-01T00:00:10"
    assert span(record)[1] == datetime(2026, 2, 1, 0, 0, 10, tzinfo=timezone(timedelta(hours=1)))
    assert span({"time": 5.0}) is None and span({"time": 1e300}) is None


# --- output ---------------------------------------------------------------------------------------------------------


def test_text_shows_camera_times_frame_and_track(gallery):
    text = search_tool.as_text(["q.jpg"], gallery.search(np.eye(5, dtype=np.float32)[:1], 5))
    lines = text.splitlines()
    assert lines[1].split() == ["id", "distance", "camera", "time", "frame", "tracklet", "path"]
    assert "door    2026-01-31T08:00:00+01:00 to 08:00:07  0      lobby/0" in lines[2]
    assert any("-       12.0 to 15.0 " in line for line in lines)


def test_json_has_from_and_to_with_the_time_zone(gallery):
    (found,) = json.loads(search_tool.as_json(["q.jpg"], gallery.search(np.eye(5, dtype=np.float32)[:1], 5)))
    first = found["results"][0]
    assert (first["from"], first["to"]) == ("2026-01-31T08:00:00+01:00", "2026-01-31T08:00:07.500000+01:00")
    assert (
        first["record"]["camera"] == "door"
        and first["record"]["frame"] == 0
        and first["record"]["tracklet"] == "lobby/0"
    )
    assert [one["from"] for one in found["results"] if one["id"] == 4] == [None]


def test_a_sheet_shows_the_same(gallery, tmp_path, monkeypatch):
    written = []
    labelled = contact_sheets.labelled
    monkeypatch.setattr(
        contact_sheets, "labelled", lambda image, lines, *rest: written.append(lines) or labelled(image, lines, *rest)
    )
    result = gallery.search(np.eye(5, dtype=np.float32)[:1], 5)[0]
    contact_sheet(tmp_path / "s.png", [(text_picture(["?"]), result)], gallery.image_path)
    assert written[1][1:] == ["door", "", "2026-01-31", "08:00:00 to", "08:00:07 +01:00", "frame 0", "track 0"]
    assert next(lines[3:] for lines in written[1:] if lines[1] == "") == ["12.0 to 15.0 s", "frame 0", "track 0"]
