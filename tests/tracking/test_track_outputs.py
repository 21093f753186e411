"""What `vitreid track` writes: MOT text, video, sheets, crops by identity, a manifest that training reads."""

import csv
import os
import signal

import cv2
import numpy as np
import pytest
from films import walk_frames, write_boxes, write_folder, write_video

from vitreid.common.errors import UserError
from vitreid.datasets import read_image
from vitreid.datasets.readers.manifest import load_manifest
from vitreid.tools.video import track as track_tool
from vitreid.tracking import recording_tracks
from vitreid.tracking.box_files import read_boxes
from vitreid.tracking.camera_options import CameraOptions
from vitreid.tracking.detections import Detections, VideoFrame
from vitreid.tracking.frames import open_frames
from vitreid.tracking.outputs import track_sheet
from vitreid.tracking.outputs.identity_crops import IdentityCrops
from vitreid.tracking.outputs.mot_file import MotFile
from vitreid.tracking.outputs.people_manifest import PeopleManifest, write_manifest
from vitreid.tracking.outputs.track_run import OutputOptions, write_tracks
from vitreid.tracking.recording_tracks import TrackOptions, find_tracks, follow_tracks
from vitreid.tracking.recordings import Recording
from vitreid.tracking.tracklets.following import TrackedFrame
from vitreid.tracking.tracklets.tracklet import TrackletBuilder


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """lobby.avi with boxes.csv, and the sequence SEQ-FRCNN/img1 with gt/gt.txt."""
    folder = tmp_path_factory.mktemp("film")
    frames, boxes = walk_frames()
    write_video(folder / "lobby.avi", frames)
    write_boxes(folder / "boxes.csv", boxes)
    write_folder(folder / "mot" / "SEQ-FRCNN" / "img1", frames)
    (folder / "mot" / "SEQ-FRCNN" / "gt").mkdir()
    lines = [
        f"{number},{7 if y0 == 8 else 8},{x0 + 1},{y0 + 1},{x1 - x0},{y1 - y0},1,1,1"
        for number, found in enumerate(boxes, 1)
        for x0, y0, x1, y1 in found
    ]
    lines.append("3,9,1,1,20,20,0,1,1")  # to be ignored
    (folder / "mot" / "SEQ-FRCNN" / "gt" / "gt.txt").write_text("\n".join(lines))
    return folder


def options(film, **others):
    return TrackOptions(boxes=str(film / "boxes.csv"), **others)


# --- the API --------------------------------------------------------------------------------------------------------


def test_tracks_of_a_video_are_iterated(film):
    tracks = list(find_tracks(str(film / "lobby.avi"), None, boxes=str(film / "boxes.csv")))
    assert [(track.id, track.first_frame, track.num_boxes) for track in tracks] == [(1, 2, 33), (2, 30, 30)]
    frames = list(follow_tracks(str(film / "lobby.avi"), None, boxes=str(film / "boxes.csv"), stride=2))
    assert [tracked.frame.number for tracked in frames] == list(range(0, 60, 2))
    assert frames[15].ids.tolist() == [1, 2], "frame 30 shows both"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "--detector, --boxes: give one"),
        ({"detector": "motion", "boxes": "a"}, "give one"),
        ({"detector": "motion", "confidence": 2}, "--confidence: 2"),
        ({"detector": "motion", "num_crops": 0}, "--num-crops: 0"),
    ],
)
def test_wrong_options_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        TrackOptions(**given)


# --- MOT text -------------------------------------------------------------------------------------------------------


def tracked(number, boxes, ids):
    frame = VideoFrame(number, number / 10, np.zeros((60, 90, 3), np.uint8))
    return TrackedFrame(frame, Detections.of(boxes), np.array(ids))


def test_mot_text_has_the_final_ids(tmp_path):
    """Track 2 turns out to be 1 in frame 3; its lines from before are changed too, boxes without a track left out."""
    file = MotFile(tmp_path / "a.txt")
    file.add(tracked(0, [[0, 0, 10, 20]], [1]))
    file.add(tracked(2, [[4, 0, 14, 20], [50, 0, 60, 9]], [2, -1]))
    file.rename(2, 1)
    file.add(tracked(3, [[5, 0, 15, 20]], [1]))
    assert not (tmp_path / "a.txt").exists()
    file.finish()
    lines = [line.split(",")[:6] for line in (tmp_path / "a.txt").read_text().splitlines()]
    assert lines == [
        ["1", "1", "1", "1", "10", "20"],
        ["3", "1", "5", "1", "10", "20"],
        ["4", "1", "6", "1", "10", "20"],
    ]


def test_settled_lines_leave_the_memory(tmp_path):
    file = MotFile(tmp_path / "a.txt")
    for number in range(200):
        file.add(tracked(number, [[0, 0, 10, 20]], [1]))
    assert len(file._waiting) < 20
    file.finish()
    assert len((tmp_path / "a.txt").read_text().splitlines()) == 200


# --- all of them ----------------------------------------------------------------------------------------------------


def test_a_folder_of_text_video_and_sheet(film, tmp_path):
    cameras = CameraOptions(start="2026-01-31T08:00+01:00")
    (found,) = write_tracks(str(film / "lobby.avi"), options(film), OutputOptions(tmp_path / "T"), cameras)
    assert (found.name, found.num_frames, found.num_boxes, found.num_tracks) == ("lobby", 60, 63, 2)
    assert found.seconds == pytest.approx(32 / 25)
    assert sorted(path.name for path in (tmp_path / "T").iterdir()) == ["lobby.mp4", "lobby.png", "lobby.txt"]
    given = read_boxes(tmp_path / "T" / "lobby.txt")
    _, boxes = walk_frames()
    assert np.array_equal(given.detections.boxes, [box for found in boxes for box in found]), (
        "what was written is read back"
    )
    source = open_frames(tmp_path / "T" / "lobby.mp4")
    assert source.count_frames() == 60 and source.fps == 25
    drawn = next(iter(source.frames(start=10))).pixels
    x = 4 + 4 * 8
    edge, inside = drawn[8:56, x].astype(int), drawn[20:40, x + 8 : x + 16].astype(int)
    assert np.abs(edge.mean(0) - inside.mean((0, 1))).max() > 30, "a coloured frame around the person"


def test_only_what_is_asked_for(film, tmp_path):
    write_tracks(str(film / "lobby.avi"), options(film), OutputOptions(tmp_path / "T", video=False, sheet=False))
    assert [path.name for path in (tmp_path / "T").iterdir()] == ["lobby.txt"]
    with pytest.raises(UserError, match="--output, --crops, --manifest: give at least one"):
        OutputOptions()


def test_many_tracks_fill_several_sheets(film, tmp_path, monkeypatch):
    monkeypatch.setattr(track_sheet, "MOST_TRACKS", 20)
    write_tracks(str(film / "lobby.avi"), options(film, track=False), OutputOptions(tmp_path, video=False))
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "lobby-2.png",
        "lobby-3.png",
        "lobby-4.png",
        "lobby.png",
    ]
    assert cv2.imread(str(tmp_path / "lobby.png")).shape[0] > 20 * track_sheet.CROP[0]


def test_a_signal_ends_it_and_what_was_written_is_complete(film, tmp_path, monkeypatch):
    add, count = MotFile.add, []

    def interrupted(self, tracked):
        count.append(1)
        if len(count) == 20:
            os.kill(os.getpid(), signal.SIGINT)
        add(self, tracked)

    monkeypatch.setattr(MotFile, "add", interrupted)
    (found,) = write_tracks(str(film / "lobby.avi"), options(film), OutputOptions(tmp_path))
    assert found.num_frames == 20 and open_frames(tmp_path / "lobby.mp4").count_frames() == 20
    assert len((tmp_path / "lobby.txt").read_text().splitlines()) == 18


# --- crops by identity ----------------------------------------------------------------------------------------------


def test_mot_labels_become_identity_crops_as_reid_of_roboflow_writes_them(film, tmp_path):
    """DIR/SEQUENCE_ID/SEQUENCE_FRAME.jpg, frames as in gt.txt, the detector's suffix left out, ignored boxes too."""
    found = TrackOptions(boxes="gt/gt.txt", least_boxes=1)
    write_tracks(str(film / "mot"), found, OutputOptions(crops=tmp_path / "C"))
    assert sorted(path.name for path in (tmp_path / "C").iterdir()) == ["SEQ_7", "SEQ_8"]
    names = sorted(path.name for path in (tmp_path / "C" / "SEQ_7").iterdir())
    assert names == [f"SEQ_{number:06d}.jpg" for number in range(3, 36)]
    frame = cv2.imread(str(film / "mot" / "SEQ-FRCNN" / "img1" / "000013.png"))
    expected = cv2.imencode(".jpg", np.ascontiguousarray(frame[8:56, 44:68]))[1].tobytes()
    assert (tmp_path / "C" / "SEQ_7" / "SEQ_000013.jpg").read_bytes() == expected
    with pytest.raises(FileExistsError, match="--crops: .*SEQ_7 exists"):
        write_tracks(str(film / "mot"), found, OutputOptions(crops=tmp_path / "C"))


def test_short_tracks_leave_no_crops_and_renamed_ones_move(tmp_path):
    crops = IdentityCrops(tmp_path, Recording("v.mp4", "day/v"))
    for number, ids in enumerate([[1, 2], [1, 3], [1, 3]]):
        crops.add(tracked(number, [[0, 0, 10, 20], [30, 0, 40, 20]], ids))
    crops.rename(3, 2)
    crops.end([], dropped=[1])
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg")) == [
        f"day-v_2/day-v_{number:06d}.jpg" for number in (1, 2, 3)
    ]


def test_only_the_best_crops(film, tmp_path):
    write_tracks(str(film / "lobby.avi"), options(film, num_crops=4), OutputOptions(crops=tmp_path, best=True))
    assert all(2 <= len(list(folder.iterdir())) <= 4 for folder in tmp_path.iterdir())


# --- manifest -------------------------------------------------------------------------------------------------------


def lines_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_manifest_of_tracks_is_read_for_training(film, tmp_path):
    manifest = tmp_path / "people.csv"
    cameras = CameraOptions(camera="entrance")
    write_tracks(str(film / "lobby.avi"), options(film, stride=3), OutputOptions(manifest=manifest), cameras)
    lines = lines_of(manifest)
    assert set(lines[0]) == {"path", "frame", "x", "y", "width", "height", "camid", "tracklet", "pid", "split"}
    assert lines[0]["path"] == str(film / "lobby.avi") and [int(line["frame"]) for line in lines] == sorted(
        int(line["frame"]) for line in lines
    )
    data = load_manifest(manifest)
    assert data.camera_names == ("entrance",) and sorted(data.person_names.values()) == ["lobby/1", "lobby/2"]
    assert len(data.train) == len(lines) == 21 and {record.tracklet for record in data.train} == {0, 1}
    video = open_frames(film / "lobby.avi")
    frames = {frame.number: frame.pixels for frame in video.frames()}
    for line, record in zip(lines, data.train, strict=True):
        x, y = int(line["x"]), int(line["y"])
        crop = frames[int(line["frame"])][y : y + 48, x : x + 24, ::-1]
        assert np.array_equal(read_image(record.path), crop), "the crop is the box"


def test_a_manifest_of_crops_or_of_frames_names_pictures(film, tmp_path):
    crops = OutputOptions(crops=tmp_path / "C", manifest=tmp_path / "crops.csv", best=True)
    write_tracks(str(film / "lobby.avi"), options(film, num_crops=4), crops)
    lines = lines_of(tmp_path / "crops.csv")
    assert all((tmp_path / line["path"]).is_file() and line["frame"] for line in lines), "relative to the manifest"
    data = load_manifest(tmp_path / "crops.csv")
    assert {record.path for record in data.train} == {str(tmp_path / line["path"]) for line in lines}, "not cut again"
    write_tracks(str(film / "mot"), TrackOptions(boxes="gt/gt.txt"), OutputOptions(manifest=tmp_path / "frames.csv"))
    lines = lines_of(tmp_path / "frames.csv")
    assert lines[0]["path"].endswith("SEQ-FRCNN/img1/000003.png") and lines[0]["frame"] == ""
    assert (lines[0]["camid"], lines[0]["pid"]) == ("SEQ-FRCNN", "SEQ-FRCNN/7"), "sequence = camera, identity = person"
    data = load_manifest(tmp_path / "frames.csv")
    assert np.array_equal(
        read_image(data.train[0].path), read_image(film / "mot" / "SEQ-FRCNN" / "img1" / "000003.png")[8:56, 4:28]
    )


def test_a_renamed_track_is_one_person_in_the_manifest(tmp_path):
    part = PeopleManifest(Recording("v.mp4", "v"), False, lambda id, frame: ("v.mp4", frame))
    builder = TrackletBuilder()
    for number, id in ((0, 1), (5, 2)):
        step = tracked(number, [[0, 0, 10, 20]], [id])
        part.add(step)
        builder.add(*step)
    part.rename(2, 1)
    builder.rename(2, 1)
    part.end(builder.finish(), [])
    assert write_manifest(tmp_path / "m.csv", [part]) == 2
    assert [line["pid"] for line in lines_of(tmp_path / "m.csv")] == ["v/1", "v/1"]


# --- command line ---------------------------------------------------------------------------------------------------


def test_the_command(film, tmp_path, capsys):
    words = ["--input", str(film / "lobby.avi"), "--output", str(tmp_path / "T")]
    assert track_tool.main(words) == 2
    assert "--detector, --boxes: name what finds the people" in capsys.readouterr().err
    assert track_tool.main([*words, "--detector", "motion", "--confidence", "0.2", "--no-video"]) == 0
    assert "recording  frames  boxes  tracks  longest\nlobby          60 " in capsys.readouterr().out
    assert track_tool.main(["--input", "rtsp://cam/1", "--detector", "motion", "--output", str(tmp_path)]) == 2
    assert "cannot be opened" in capsys.readouterr().err


def test_a_live_source_has_no_manifest_of_frames(film, tmp_path, monkeypatch):
    source = open_frames(film / "lobby.avi")
    monkeypatch.setattr(type(source), "live", True)
    monkeypatch.setattr(recording_tracks, "open_frames", lambda *given: source)
    with pytest.raises(UserError, match="--manifest.*--crops DIR"):
        write_tracks(
            str(film / "lobby.avi"), TrackOptions(detector="motion"), OutputOptions(manifest=tmp_path / "m.csv")
        )
