"""Recordings: what an input names, and where camera and start come from."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from vitreid.common.errors import UserError
from vitreid.tracking.camera_options import CameraOptions, parse_start, parse_zone, with_names, with_table
from vitreid.tracking.recordings import Recording, list_recordings

UTC = timezone.utc


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def names(found):
    return [recording.name for recording in found]


def test_a_folder_of_videos_with_its_sub_folders(tmp_path):
    touch(tmp_path, "b.mp4", "a.MKV", "day/a.mp4", "notes.txt", ".hidden.mp4", ".cache/c.mp4", "stills/1.jpg")
    (tmp_path / "day" / "again").symlink_to(tmp_path)
    assert names(list_recordings(str(tmp_path))) == ["a", "b", "day/a"]


def test_sequences_of_motchallenge(tmp_path):
    touch(tmp_path, "MOT17-02/img1/000001.jpg", "MOT17-02/gt/gt.txt", "MOT17-04/img1/000001.jpg")
    assert names(list_recordings(str(tmp_path))) == ["MOT17-02", "MOT17-04"]
    for place in ("MOT17-02", "MOT17-02/img1"):
        (found,) = list_recordings(str(tmp_path / place))
        assert found.name == "MOT17-02" and found.folder == tmp_path / "MOT17-02" and found.source.endswith("img1")


def test_a_folder_of_pictures_is_one_recording(tmp_path):
    (found,) = list_recordings(str(touch(tmp_path / "walk", "1.png", "2.png")))
    assert found == Recording(str(tmp_path / "walk"), "walk") and found.folder is None


def test_a_stream_is_live():
    (found,) = list_recordings("rtsp://camera/door")
    assert found.live and found.name == "live"


@pytest.mark.parametrize(("make", "message"), [(("notes.txt",), "no video"), (("a.mp4", "a.avi"), "differ only in")])
def test_a_folder_that_is_none_is_refused(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        list_recordings(str(touch(tmp_path, *make)))


def test_what_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.*rtsp"):
        list_recordings(str(tmp_path / "gone.mp4"))


# --- times ----------------------------------------------------------------------------------------------------------


def test_times_count_from_the_start_of_the_recording():
    start = datetime(2026, 1, 31, 8, tzinfo=timezone(timedelta(hours=1)))
    known, unknown = Recording("a", "a", start=start), Recording("a", "a")
    assert known.time(2.5) == start.timestamp() + 2.5 and known.utc_offset(2.5) == "+01:00"
    assert unknown.time(2.5) == 2.5 and unknown.utc_offset(2.5) is None


def test_a_recording_through_the_change_to_summer_time():
    recording = Recording("a", "a", start=datetime(2026, 3, 29, 1, 30, tzinfo=ZoneInfo("Europe/Berlin")))
    assert [recording.utc_offset(seconds) for seconds in (0, 3600)] == ["+01:00", "+02:00"]
    assert recording.moment(3600).strftime("%H:%M") == "03:30"


@pytest.mark.parametrize(
    ("text", "hours"), [("UTC", 0), ("Z", 0), ("+01:00", 1), ("-0530", -5.5), ("Europe/Berlin", 1)]
)
def test_zones(text, hours):
    assert datetime(2026, 1, 31, tzinfo=parse_zone(text)).utcoffset() == timedelta(hours=hours)


def test_wrong_times_are_named():
    with pytest.raises(UserError, match=r"--time-zone.*'Mars/Olympus'.*Europe/Berlin"):
        parse_zone("Mars/Olympus")
    with pytest.raises(UserError, match=r"--start.*2026-01-31T08:00\+01:00.*'noon'"):
        parse_start("noon", UTC)


# --- tables and names -----------------------------------------------------------------------------------------------

VIDEOS = [Recording("/v/lobby.mp4", "lobby"), Recording("/v/day/door.mp4", "day/door")]


def table(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    return tmp_path / "t.csv"


def test_a_table_gives_camera_and_start(tmp_path):
    lines = "video,camera,start\nlobby.mp4,entrance,2026-01-31T08:00\nday/door,,2026-01-31T09:00+02:00\n"
    lobby, door = with_table(VIDEOS, table(tmp_path, lines), parse_zone("+01:00"))
    assert (lobby.camera, lobby.start.isoformat()) == ("entrance", "2026-01-31T08:00:00+01:00")
    assert (door.camera, door.start.isoformat()) == (None, "2026-01-31T09:00:00+02:00")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,camera\nlobby.mp4,a\n", r"t\.csv:1: missing column video; found file, camera"),
        ("video,start\nlobby.mp4,noon\n", r"t\.csv:2: start.*'noon'"),
        ("video,camera\nhall.mp4,a\n", r"t\.csv:2: no recording 'hall\.mp4' among lobby, day/door"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        with_table(VIDEOS, table(tmp_path, text), UTC)


def test_a_name_that_two_recordings_have_is_refused(tmp_path):
    twins = [Recording("/v/a/x.mp4", "a/x"), Recording("/v/b/x.mp4", "b/x")]
    with pytest.raises(UserError, match="names 2 recordings"):
        with_table(twins, table(tmp_path, "video\nx.mp4\n"), UTC)


@pytest.mark.parametrize(
    ("pattern", "name", "camera", "start"),
    [
        ("{camera}_%Y-%m-%d_%H-%M-%S", "front_door_2026-01-31_08-00-05", "front_door", "2026-01-31T08:00:05+00:00"),
        ("%Y%m%d%H%M%S-{camera}", "20260131080005-c1", "c1", "2026-01-31T08:00:05+00:00"),
        ("{camera}_*_%s", "c1_motion_1769842805", "c1", "2026-01-31T07:00:05+00:00"),
        ("{camera}/%Y-%m-%d_%H%M%z", "gate/2026-01-31_0800+0100", "gate", "2026-01-31T08:00:00+01:00"),
        ("{camera}-*", "c1-whatever", "c1", None),
    ],
)
def test_names_give_camera_and_start(pattern, name, camera, start):
    (found,) = with_names([Recording(f"/v/{name}.mp4", name)], pattern, UTC)
    assert (found.camera, found.start.isoformat() if found.start else None) == (camera, start)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{camera}_%Q", "unknown code %Q"),
        ("lobby", "neither"),
        ("{camera}_%Y", "'lobby'.*does not fit"),
        ("{camera}{camera}", "once"),
    ],
)
def test_a_pattern_that_does_not_fit_is_refused(pattern, message):
    with pytest.raises(UserError, match=message):
        with_names(VIDEOS[:1], pattern, UTC)


def test_camera_options_say_where_it_comes_from(tmp_path, caplog):
    touch(tmp_path, "lobby.mp4", "door.mp4")
    found = CameraOptions().recordings(str(tmp_path))
    assert [recording.camera for recording in found] == ["door", "lobby"], "by default the recording's name"
    found = CameraOptions(camera="hall").recordings(str(tmp_path))
    assert [recording.camera for recording in found] == ["hall"] * 2
    with pytest.raises(UserError, match="--start.*2 recordings.*--recordings"):
        CameraOptions(start="2026-01-31T08:00").recordings(str(tmp_path))
    (one,) = CameraOptions(start="2026-01-31T08:00", time_zone="+01:00").recordings(str(tmp_path / "lobby.mp4"))
    assert one.start.isoformat() == "2026-01-31T08:00:00+01:00"
    assert "lobby: camera lobby, from 2026-01-31T08:00:00+01:00" in caplog.text


def test_the_folder_of_the_table_is_where_paths_start(tmp_path):
    touch(tmp_path, "a/x.mp4", "b/x.mp4")
    (tmp_path / "t.csv").write_text("video,camera\nb/x.mp4,two\n")
    found = with_table(list_recordings(str(tmp_path)), Path(tmp_path / "t.csv"), UTC)
    assert [recording.camera for recording in found] == [None, "two"]
