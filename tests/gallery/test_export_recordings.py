"""Export of recordings: one row per track, with camera, times and quality; killed at any point, it gives the same bytes."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from films import walk_frames, write_boxes, write_folder, write_mot, write_video

from vitreid.common.errors import UserError
from vitreid.configs import load_config
from vitreid.datasets import ReidData
from vitreid.gallery import Gallery, compact, merge, verify
from vitreid.gallery.export import recording_job
from vitreid.gallery.export.recording_job import RecordingOptions
from vitreid.gallery.export.track_rows import RowOptions, diverse
from vitreid.gallery.storage.record_images import load_image, read_pixels
from vitreid.model import ModelSpec, ReidModel, save_deploy
from vitreid.processor.embedding.embedder import Embedder
from vitreid.processor.runs.checkpoint import describe_model
from vitreid.tools import export as export_tool
from vitreid.tracking.camera_options import CameraOptions
from vitreid.tracking.frames import live_stream
from vitreid.tracking.recording_tracks import TrackOptions
from vitreid.tracking.tracklets.crop_quality import CropQuality

module = import_module("vitreid.gallery.export.export_job")
WORDS = ["INPUT.SIZE_TEST", "(32,16)", "INPUT.SIZE_TRAIN", "(32,16)", "MODEL.DEVICE", "cpu"]
START = "2026-01-31T08:00+01:00"
EPOCH = 1769842800.0  # seconds since 1970 of START


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    spec = ModelSpec("vit_tiny_patch16_224", (32, 16), embed_dim=16, depth=1, num_heads=2)
    path = tmp_path_factory.mktemp("model") / "best.safetensors"
    save_deploy(
        path, ReidModel(spec), describe_model(load_config(None, WORDS), ReidData("none", [], [], [], ()), {}, {})
    )
    return str(path)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Folder with lobby.avi, its boxes in boxes.csv (no tracks), and the same frames as PNG files in frames/img1."""
    folder = tmp_path_factory.mktemp("film")
    frames, boxes = walk_frames()
    write_video(folder / "lobby.avi", frames)
    write_boxes(folder / "boxes.csv", boxes)
    write_folder(folder / "frames" / "img1", frames)
    return folder


def options(film, rows=None, cameras=None, **tracks):
    given = {"boxes": str(film / "boxes.csv"), **tracks}
    return RecordingOptions(TrackOptions(**given), cameras or CameraOptions(), rows or RowOptions())


def export(weights, source, output, recordings=None, **others):
    words = {"batch_size": 4, "device": "cpu", "precision": "fp32", **others}
    return module.export(weights, str(source), output, recordings=recordings, **words)


def records(gallery):
    return gallery.rows_at(range(len(gallery)))


@pytest.fixture(scope="module")
def whole(weights, film, tmp_path_factory):
    """The gallery of an export that was not interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording_job, "CHUNK_FRAMES", 8)
        cameras = CameraOptions(camera="entrance", start=START)
        output = tmp_path_factory.mktemp("whole") / "G"
        return Gallery.open(export(weights, film / "lobby.avi", output, options(film, cameras=cameras)))


def test_a_track_becomes_one_row(whole):
    first, second = records(whole)
    assert (first["tracklet"], second["tracklet"]) == ("lobby/1", "lobby/2")
    assert first["camera"] == "entrance" and first["label"] == "person" and first["pid"] is None
    assert (first["first_frame"], first["last_frame"], first["num_images"]) == (2, 34, 33)
    assert first["time"] == pytest.approx(EPOCH + 2 / 25) and first["end_time"] == pytest.approx(EPOCH + 34 / 25)
    assert first["duration"] == pytest.approx(32 / 25) and first["time_zone"] == "+01:00"
    assert first["confidence"] == 1 and 0 < first["quality"] <= 1
    assert (first["x"], first["y"], first["width"], first["height"]) == (4 + 4 * (first["frame"] - 2), 8, 24, 48)
    assert verify(whole.path) == []


def test_the_thumbnail_is_the_box_and_lies_in_the_gallery(whole, film):
    for record in records(whole):
        path = whole.image_path(record["path"])
        assert path.is_relative_to(whole.path) and len(list(path.parent.iterdir())) > 3
        pixels = read_pixels(load_image(path, record)).astype(int)
        video = cv2.VideoCapture(str(film / "lobby.avi"))
        frames = [video.read()[1] for _ in range(record["frame"] + 1)]
        x, y = int(record["x"]), int(record["y"])
        assert np.abs(pixels - frames[-1][y : y + 48, x : x + 24, ::-1]).mean() < 12, "JPEG"


def test_a_row_is_the_quality_weighted_mean_of_its_crops(weights, film, tmp_path, monkeypatch):
    rows = import_module("vitreid.gallery.export.track_rows")
    seen = []
    pool = rows.pool
    monkeypatch.setattr(rows, "pool", lambda *given: seen.append(given) or pool(*given))
    gallery = Gallery.open(export(weights, film / "lobby.avi", tmp_path / "G", options(film)))
    for (embeddings, quality), row in zip(seen, gallery.embeddings, strict=True):
        mean = (embeddings * quality[:, None]).sum(0)
        expected = mean / np.linalg.norm(mean) * np.linalg.norm(embeddings, axis=1).mean()
        assert np.allclose(row, expected, atol=1e-5) and len(embeddings) > 3


def test_an_embedding_of_a_crop_is_that_of_the_box_cut_by_hand(weights, film, tmp_path):
    recordings = options(film, RowOptions(templates=1))
    gallery = Gallery.open(export(weights, film / "frames", tmp_path / "G", recordings))
    embed = Embedder(weights, "cpu", "fp32")
    for record, row in zip(records(gallery), gallery.embeddings):
        pixels = cv2.imread(str(film / "frames" / "img1" / f"{record['frame'] + 1:06d}.png"))[..., ::-1]
        x, y = int(record["x"]), int(record["y"])
        crop = np.ascontiguousarray(pixels[y : y + 48, x : x + 24])
        assert np.allclose(embed(crop, record["camera"])[0], row, atol=1e-6)


def test_templates_are_the_crops_that_differ_most(weights, film, tmp_path):
    gallery = Gallery.open(export(weights, film / "lobby.avi", tmp_path / "G", options(film, RowOptions(templates=3))))
    names = [record["tracklet"] for record in records(gallery)]
    assert names == ["lobby/1"] * 3 + ["lobby/2"] * 3
    assert len({record["path"] for record in records(gallery)}) == 6
    rows = np.array([[1, 0], [1, 0], [0.9, 0.1], [0, 1]], float)
    assert diverse(rows, 2) == [0, 3] and diverse(rows, 9) == [0, 3, 2], "equal rows are no templates"


def test_without_tracking_each_box_is_a_row(weights, film, tmp_path):
    gallery = Gallery.open(export(weights, film / "lobby.avi", tmp_path / "G", options(film, track=False, stride=4)))
    found = records(gallery)
    assert {record["frame"] % 4 for record in found} == {0} and {record["num_images"] for record in found} == {1}
    assert len({record["tracklet"] for record in found}) == len(found) == 15


def test_without_crops_the_recording_is_read_again_to_show_them(weights, film, tmp_path):
    for source in ("lobby.avi", "frames"):
        recordings = options(film, RowOptions(thumbnails=False))
        gallery = Gallery.open(export(weights, film / source, tmp_path / source, recordings))
        assert not (gallery.path / "track_crops").exists() and verify(gallery.path) == []
        for record in records(gallery):
            pixels = read_pixels(load_image(gallery.image_path(record["path"]), record)).astype(int)
            x, y = int(record["x"]), int(record["y"])
            frame = cv2.imread(str(film / "frames" / "img1" / f"{record['frame'] + 1:06d}.png"))
            assert pixels.shape == (48, 24, 3)
            assert np.abs(pixels - frame[y : y + 48, x : x + 24, ::-1]).mean() < 25, "Motion JPEG"


def test_tracks_that_the_box_file_states_are_kept(weights, film, tmp_path):
    (tmp_path / "SEQ" / "gt").mkdir(parents=True)
    write_mot(tmp_path / "SEQ" / "gt" / "gt.txt", walk_frames()[1])
    (tmp_path / "SEQ" / "img1").symlink_to(film / "frames" / "img1")
    gallery = Gallery.open(export(weights, tmp_path / "SEQ" / "gt" / "gt.txt", tmp_path / "G"))
    assert [record["tracklet"] for record in records(gallery)] == ["SEQ/7", "SEQ/8"], "MOT text alone is enough"
    assert {record["camera"] for record in records(gallery)} == {"SEQ"}
    best = records(gallery)[0]
    assert (best["x"], best["y"]) == (4 + 4 * (best["frame"] - 2), 8), "frames and pixels count from 1"


def test_a_folder_of_videos_with_a_table(weights, film, tmp_path):
    (tmp_path / "in" / "day").mkdir(parents=True)
    for name in ("a.avi", "day/b.avi"):
        (tmp_path / "in" / name).write_bytes((film / "lobby.avi").read_bytes())
    (tmp_path / "t.csv").write_text(f"video,camera,start\nin/a.avi,door,{START}\nin/day/b.avi,gate,\n")
    cameras = CameraOptions(table=str(tmp_path / "t.csv"))
    gallery = Gallery.open(export(weights, tmp_path / "in", tmp_path / "G", options(film, cameras=cameras)))
    found = [(record["tracklet"], record["camera"], record["time_zone"]) for record in records(gallery)]
    assert found == [
        ("a/1", "door", "+01:00"),
        ("a/2", "door", "+01:00"),
        ("day/b/1", "gate", None),
        ("day/b/2", "gate", None),
    ]
    assert records(gallery)[2]["time"] == pytest.approx(2 / 25), "without a start, seconds in the recording"
    paths = [record["path"] for record in records(gallery)]
    assert len(set(paths)) == 4 and all((gallery.path / path).is_file() for path in paths)


def test_a_video_that_cannot_be_read_stops_the_export_or_is_listed(weights, film, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.avi").write_bytes((film / "lobby.avi").read_bytes())
    (tmp_path / "in" / "b.avi").write_bytes(b"")
    with pytest.raises(UserError, match=r"b\.avi.*empty"):
        export(weights, tmp_path / "in", tmp_path / "G", options(film))
    gallery = Gallery.open(export(weights, tmp_path / "in", tmp_path / "G", options(film), corrupt="skip"))
    assert len(gallery) == 2 and "b.avi" in (gallery.path / "skipped.txt").read_text()


def test_a_detector_in_a_file_is_opened_while_the_embedder_loads(tmp_path, monkeypatch):
    """Each of the two waits for the other, so neither would end if one came after the other."""
    both = threading.Barrier(2, timeout=10)

    def arrive(what):
        both.wait()
        return what

    (tmp_path / "people.xml").touch()
    monkeypatch.setattr(TrackOptions, "open_detector", lambda self: arrive("detector"))
    recordings = RecordingOptions(TrackOptions(detector=str(tmp_path / "people.xml")))
    assert recordings.open_models(lambda: arrive("embedder")) == ("embedder", "detector")


def test_nobody_is_a_gallery_too(weights, film, tmp_path, caplog):
    (tmp_path / "none.csv").write_text("frame,x1,y1,x2,y2\n")
    gallery = Gallery.open(
        export(weights, film / "lobby.avi", tmp_path / "G", options(film, boxes=str(tmp_path / "none.csv")))
    )
    assert len(gallery) == 0 and "nobody was found" in caplog.text


def test_other_formats_keep_no_crops(weights, film, tmp_path):
    output = export(weights, film / "lobby.avi", tmp_path / "people.parquet", options(film), format="parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["people.parquet"]
    assert set(pq.read_table(output)["path"].to_pylist()) == {str(film / "lobby.avi")}


# --- what was wrong -------------------------------------------------------------------------------------------------


def test_a_bare_video_asks_what_finds_the_people(weights, film, tmp_path):
    (tmp_path / "film").write_bytes((film / "lobby.avi").read_bytes())
    for source in (film / "lobby.avi", tmp_path / "film", "rtsp://user:secret@camera/door"):
        with pytest.raises(UserError, match="--detector NAME|FILE|motion") as caught:
            export(weights, source, tmp_path / "G")
        assert "secret" not in str(caught.value)


def test_mot_text_without_its_frames_asks_for_them(weights, tmp_path):
    (tmp_path / "det.txt").write_text("1,-1,10,10,20,40,0.9,-1,-1,-1\n")
    with pytest.raises(UserError, match=r"MOTChallenge.*--input VIDEO --boxes .*det\.txt"):
        export(weights, tmp_path / "det.txt", tmp_path / "G")


def still(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8)
    cv2.imwrite(str(path), pixels)
    return pixels[..., ::-1]


@pytest.mark.parametrize(
    ("columns", "box"),
    [("x,y,width,height", (10, 5, 20, 40)), ("x1,y1,x2,y2", (10, 5, 30, 45)), ("xmin,ymin,xmax,ymax", (10, 5, 30, 45))],
)
def test_boxes_in_stills_are_cut_out(weights, tmp_path, columns, box):
    pixels = still(tmp_path / "a.png", 1)
    (tmp_path / "t.csv").write_text(f"path,{columns}\na.png,{','.join(map(str, box))}\na.png,0,0,15,15\n")
    gallery = Gallery.open(export(weights, tmp_path / "t.csv", tmp_path / "G"))
    crop = np.ascontiguousarray(pixels[5:45, 10:30])
    assert np.allclose(gallery.embeddings[0], Embedder(weights, "cpu", "fp32")(crop)[0], atol=1e-6)
    first = records(gallery)[0]
    assert [first[name] for name in ("x", "y", "width", "height")] == [10, 5, 20, 40]
    assert np.array_equal(read_pixels(load_image(tmp_path / "a.png", first)), crop), "and shown as cut"


def test_a_still_with_the_frame_it_was_cut_from_is_the_crop(weights, tmp_path):
    pixels = still(tmp_path / "a.png", 1)
    (tmp_path / "t.csv").write_text("path,frame,x,y,width,height\na.png,7,10,5,20,40\n")
    gallery = Gallery.open(export(weights, tmp_path / "t.csv", tmp_path / "G"))
    assert np.allclose(
        gallery.embeddings[0], Embedder(weights, "cpu", "fp32")(np.ascontiguousarray(pixels))[0], atol=1e-6
    )


def test_frames_counted_from_1_are_refused_or_shifted(weights, film, tmp_path):
    """The film has 60 frames; number 60 exists only if they count from 1."""
    lines = [
        ("video", "frame", "x", "y", "width", "height"),
        (film / "lobby.avi", 3, 4, 8, 24, 48),
        (film / "lobby.avi", 60, 0, 0, 9, 9),
    ]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    with pytest.raises(UserError, match=r"up to frame 60 of .*lobby\.avi.*60 frames.*--frames-from 1"):
        export(weights, tmp_path / "t.csv", tmp_path / "G")
    gallery = Gallery.open(export(weights, tmp_path / "t.csv", tmp_path / "G", frames_from=1))
    assert [record["frame"] for record in records(gallery)] == [2, 59]
    pixels = read_pixels(load_image(film / "lobby.avi", records(gallery)[0]))
    assert pixels.std() > 20, "the person, not the grey room"
    with pytest.raises(UserError, match="frame 0.*count from 1.*--frames-from 0"):
        (tmp_path / "t.csv").write_text(f"video,frame,x,y,width,height\n{film / 'lobby.avi'},0,0,0,9,9\n")
        export(weights, tmp_path / "t.csv", tmp_path / "H", frames_from=1)


def test_boxes_of_pictures_are_rows_without_a_sequence(weights, tmp_path):
    (tmp_path / "in").mkdir()
    one, two = still(tmp_path / "in" / "street_3.png", 1), still(tmp_path / "in" / "yard_3.png", 2)
    coco = {
        "images": [
            {"id": 1, "file_name": "street_3.png", "width": 80, "height": 60},
            {"id": 2, "file_name": "yard_3.png", "width": 80, "height": 60},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 5, 20, 40]},
            {"id": 2, "image_id": 2, "category_id": 1, "bbox": [0, 0, 30, 30]},
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    recordings = RecordingOptions(TrackOptions(boxes=str(tmp_path / "coco.json"), track=False))
    gallery = Gallery.open(export(weights, tmp_path / "in", tmp_path / "G", recordings))
    crops = [np.ascontiguousarray(one[5:45, 10:30]), np.ascontiguousarray(two[:30, :30])]
    assert np.allclose(gallery.embeddings, Embedder(weights, "cpu", "fp32")(crops), atol=1e-6)


# --- resumed, again, another ----------------------------------------------------------------------------------------


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(recording_job, "CHUNK_FRAMES", 8)


def files_of(folder):
    folder = Path(folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def same_gallery(one, other):
    kept = ("gallery.json", "export.json", ".lock")  # the time of the export; the lock of a process that was killed
    mine, theirs = ({k: v for k, v in files_of(place).items() if k not in kept} for place in (one, other))
    differing = [name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name)]
    assert not differing
    return True


ENTRANCE = CameraOptions(camera="entrance", start=START)


def test_an_interrupted_export_resumes_behind_its_last_chunk(
    weights, film, whole, tmp_path, monkeypatch, small_chunks, caplog
):
    save = recording_job.RecordingFolder.save
    calls = []

    def failing(self, number, part, progress, state):
        save(self, number, part, progress, state)
        calls.append(progress.next_frame)
        if len(calls) == 3:
            raise OSError("the plug was pulled")

    monkeypatch.setattr(recording_job.RecordingFolder, "save", failing)
    with pytest.raises(OSError, match="plug"):
        export(weights, film / "lobby.avi", tmp_path / "G", options(film, cameras=ENTRANCE))
    export(weights, film / "lobby.avi", tmp_path / "G", options(film, cameras=ENTRANCE))
    assert calls == [8, 16, 24, 32, 40, 48, 56, 60] and "24 frames are done already" in caplog.text
    assert same_gallery(tmp_path / "G", whole.path)
    assert [path.name for path in tmp_path.iterdir()] == ["G"]


def test_a_motion_detector_sees_the_frames_before_when_it_resumes(weights, film, tmp_path, monkeypatch, small_chunks):
    recordings = RecordingOptions(TrackOptions(detector="motion", confidence=0.2))
    expected = export(weights, film / "lobby.avi", tmp_path / "whole", recordings)
    save, calls = recording_job.RecordingFolder.save, []

    def failing(self, *given):
        save(self, *given)
        calls.append(1)
        if len(calls) in (2, 5):
            raise OSError("the plug was pulled")

    monkeypatch.setattr(recording_job.RecordingFolder, "save", failing)
    for _ in range(2):
        with pytest.raises(OSError, match="plug"):
            export(weights, film / "lobby.avi", tmp_path / "G", recordings)
    export(weights, film / "lobby.avi", tmp_path / "G", recordings)
    assert same_gallery(tmp_path / "G", expected) and len(Gallery.open(expected)) >= 2


def test_a_finished_export_run_again_does_nothing(weights, film, tmp_path, monkeypatch, caplog):
    export(weights, film / "lobby.avi", tmp_path / "G", options(film))
    monkeypatch.setattr(Embedder, "embed", None)
    export(weights, film / "lobby.avi", tmp_path / "G", options(film))
    assert "nothing is left to do" in caplog.text


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"stride": 2}, "stride was 1, is now 2"),
        ({"confidence": 0.3}, "confidence was 0.5"),
        ({"track": False}, "track was True"),
    ],
)
def test_another_export_is_named(weights, film, tmp_path, other, message):
    export(weights, film / "lobby.avi", tmp_path / "G", options(film))
    with pytest.raises(FileExistsError, match=message):
        export(weights, film / "lobby.avi", tmp_path / "G", options(film, **other))
    export(weights, film / "lobby.avi", tmp_path / "G", options(film, **other), overwrite=True)
    with pytest.raises(FileExistsError, match="exported videos, and now exports images"):
        export(weights, film / "frames" / "img1", tmp_path / "G")


def test_a_refused_box_file_stands_in_nobodys_way(weights, film, tmp_path):
    """Nothing was saved under it, so the corrected call needs no --overwrite."""
    write_boxes(tmp_path / "late.csv", walk_frames()[1], first=50)
    with pytest.raises(UserError, match="covers 110 frames"):
        export(weights, film / "lobby.avi", tmp_path / "G", options(film, boxes=str(tmp_path / "late.csv")))
    assert len(Gallery.open(export(weights, film / "lobby.avi", tmp_path / "G", options(film)))) == 2


def test_a_box_file_that_was_changed_is_noticed(weights, film, tmp_path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_bytes((film / "boxes.csv").read_bytes())
    export(weights, film / "lobby.avi", tmp_path / "G", options(film, boxes=str(boxes)))
    boxes.write_text("frame,x1,y1,x2,y2\n1,1,1,20,40\n")
    with pytest.raises(FileExistsError, match="boxes was"):
        export(weights, film / "lobby.avi", tmp_path / "G", options(film, boxes=str(boxes)))


def test_a_video_replaced_during_an_interruption_is_followed_anew(weights, film, tmp_path, monkeypatch, small_chunks):
    video = tmp_path / "lobby.avi"
    write_video(video, walk_frames(seed=1)[0])
    with monkeypatch.context() as patch:
        patch.setattr(recording_job.RecordingJob, "join", lambda self: None)
        export(weights, video, tmp_path / "G", options(film, cameras=ENTRANCE))
    video.write_bytes((film / "lobby.avi").read_bytes())
    made = Gallery.open(export(weights, video, tmp_path / "G", options(film, cameras=ENTRANCE)))
    expected = Gallery.open(export(weights, film / "lobby.avi", tmp_path / "H", options(film, cameras=ENTRANCE)))
    assert np.array_equal(made.embeddings, expected.embeddings)


def test_several_processes_share_the_recordings(weights, film, tmp_path, small_chunks):
    """Two processes in turn, as in test_export.py."""
    from vitreid.processor.distributed.process_group import Ranks

    (tmp_path / "in").mkdir()
    for name in ("a.avi", "b.avi", "c.avi"):
        (tmp_path / "in" / name).write_bytes((film / "lobby.avi").read_bytes())
    expected = export(weights, tmp_path / "in", tmp_path / "whole", options(film))
    shares = []

    def job():
        return options(film).job(str(tmp_path / "in"), tmp_path / "G", "gallery", Embedder(weights, "cpu", "fp32", 4))

    def others():
        shares.append(job().work.folder.is_dir())
        if len(shares) == 1:
            job().run(Ranks(1, 2))

    job().run(Ranks(0, 2, others))
    assert shares == [True, True] and same_gallery(tmp_path / "G", expected)


# --- updates ---------------------------------------------------------------------------------------------------------


def put(film, place):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes((film / "lobby.avi").read_bytes())


def test_new_recordings_are_added_and_removed_tracks_stay_out(weights, film, tmp_path, caplog, monkeypatch):
    put(film, tmp_path / "in" / "b.avi")
    output = export(weights, tmp_path / "in", tmp_path / "G", options(film))
    gallery = Gallery.open(output)
    gallery.remove([0])
    compact(gallery)
    put(film, tmp_path / "in" / "a.avi")
    export(weights, tmp_path / "in", output, options(film))
    gallery = Gallery.open(output)
    assert [record["tracklet"] for record in records(gallery)] == ["b/2", "a/1", "a/2"]
    assert len({record["path"] for record in records(gallery)}) == 3 and verify(output) == []
    assert "2 new tracks of 1 new recordings; 1 recordings were there already; 3 rows" in caplog.text
    monkeypatch.setattr(Embedder, "embed", None)
    export(weights, tmp_path / "in", output, options(film))
    assert "nothing is left to do" in caplog.text
    (tmp_path / "in" / "b.avi").unlink()
    export(weights, tmp_path / "in", output, options(film))
    assert "1 recordings are not in" in caplog.text and len(Gallery.open(output)) == 3
    put(film, tmp_path / "in" / "a.avi")
    with pytest.raises(FileExistsError, match=r"a\.avi was changed"):
        export(weights, tmp_path / "in", output, options(film))
    put(film, tmp_path / "other" / "a.avi")
    with pytest.raises(UserError, match="both called a"):
        export(weights, tmp_path / "other", output, options(film))


def test_crops_of_removed_tracks_are_not_written_again(weights, film, tmp_path, caplog):
    output = export(weights, film / "lobby.avi", tmp_path / "G", options(film))
    gallery = Gallery.open(output)
    gallery.remove([0])
    with pytest.raises(FileExistsError, match=r"drop its 1 rows.*0 of its 1 suppressed keys.*--yes"):
        export(weights, film / "lobby.avi", output, options(film), overwrite=True, confirmed=False)
    export(weights, film / "lobby.avi", output, options(film), overwrite=True)
    assert [record["tracklet"] for record in records(Gallery.open(output))] == ["lobby/2"]
    assert {name.split("-")[2] for name in crops_of(output)} == {"2"} and verify(output) == []
    assert "1 of 2 rows were removed earlier" in caplog.text


def test_blurred_crops_have_the_embeddings_of_the_sharp_ones(weights, film, whole, tmp_path):
    blurred = options(film, RowOptions(blur=True), CameraOptions(camera="entrance", start=START))
    made = Gallery.open(export(weights, film / "lobby.avi", tmp_path / "G", blurred))
    np.testing.assert_allclose(made.embeddings, whole.embeddings, atol=1e-6)
    path = records(made)[0]["path"]
    hazy, sharp = (cv2.imread(str(gallery.path / path)).astype(int) for gallery in (made, whole))
    edges = [np.abs(np.diff(image, axis=1)).mean() for image in (hazy, sharp)]
    assert hazy.shape == sharp.shape and edges[0] < edges[1] - 1
    assert (
        "blur" not in (whole.path / "export.json").read_text()
        and '"blur": true' in (made.path / "export.json").read_text()
    )
    with pytest.raises(UserError, match="--blur-crops, --no-crops"):
        RowOptions(thumbnails=False, blur=True)


# --- the crops stay with their rows ----------------------------------------------------------------------------------


def crops_of(folder):
    return sorted(path.name for path in (Path(folder) / "track_crops").iterdir())


def test_crops_are_replaced_with_the_rows(weights, film, tmp_path):
    output = export(weights, film / "lobby.avi", tmp_path / "G", options(film))
    before = crops_of(output)
    export(weights, film / "lobby.avi", output, options(film, stride=2), overwrite=True)
    after = crops_of(output)
    assert set(after) != set(before) and all(int(name[-10:-4]) % 2 == 0 for name in after)
    assert verify(output) == [] and [path.name for path in tmp_path.iterdir()] == ["G"]
    (output / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"mine\.jpg"):
        export(weights, film / "lobby.avi", output, options(film), overwrite=True)


def test_crops_stay_when_the_gallery_is_rewritten(weights, film, tmp_path):
    gallery = Gallery.open(export(weights, film / "lobby.avi", tmp_path / "G", options(film)))
    before = crops_of(gallery.path)
    gallery.remove([0])
    compact(gallery)
    assert crops_of(gallery.path) == before and len(gallery) == 1 and verify(gallery.path) == []
    merged = Gallery.create(tmp_path / "M", gallery.info)
    merge(merged, [gallery])
    assert verify(merged.path) == [], "its rows name the crops where they are"


def test_an_empty_gallery_in_its_place_takes_the_crops_away(weights, film, tmp_path):
    gallery = Gallery.open(export(weights, film / "lobby.avi", tmp_path / "G", options(film)))
    Gallery.create(gallery.path, gallery.info, overwrite=True)
    assert not (gallery.path / "track_crops").exists() and [path.name for path in tmp_path.iterdir()] == ["G"]


def test_a_folder_of_that_name_in_another_gallery_is_the_users(weights, film, tmp_path):
    gallery = Gallery.open(export(weights, film / "frames" / "img1", tmp_path / "G"))
    (gallery.path / "track_crops").mkdir()
    (gallery.path / "track_crops" / "mine.jpg").write_bytes(b"mine")
    Gallery.create(gallery.path, gallery.info, overwrite=True)
    assert crops_of(gallery.path) == ["mine.jpg"]


KILLER = """
import os, random, shutil, signal, sys
from importlib import import_module

from killed_process import FILE_STEPS, die_at, in_child

module = import_module("vitreid.gallery.export.export_job")
job = import_module("vitreid.gallery.export.recording_job")
job.CHUNK_FRAMES = 8
TrackOptions = import_module("vitreid.tracking.recording_tracks").TrackOptions
CameraOptions = import_module("vitreid.tracking.camera_options").CameraOptions
weights, source, boxes, start, output = sys.argv[1:]

def attempt(deadly):
    die_at(deadly, [*FILE_STEPS, (shutil, "rmtree"), (module.Embedder, "embed")])
    recordings = job.RecordingOptions(TrackOptions(boxes=boxes), CameraOptions(camera="entrance", start=start))
    module.export(weights, source, output, batch_size=4, device="cpu", precision="fp32", recordings=recordings)

rng = random.Random(int(os.environ.get("SEED", 0)))
ends = [in_child(attempt, rng.randint(2, 12)) for _ in range(5)]
deadly = 8
while ends[-1] == -signal.SIGKILL:  # later and later, up to an attempt that lives to its end
    deadly += rng.randint(3, 7)
    ends.append(in_child(attempt, deadly))
print(ends.count(-signal.SIGKILL), in_child(attempt, 0))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork, which Windows lacks")
@pytest.mark.slow
def test_kill_9_at_any_step_changes_no_byte(weights, film, whole, tmp_path):
    """Attempts are killed before a write, a rename, a deletion or a batch, drawn at random; the last is left alone."""
    words = [weights, str(film / "lobby.avi"), str(film / "boxes.csv"), START, str(tmp_path / "G")]
    run = subprocess.run(
        [sys.executable, "-c", KILLER, *words],
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    kills, last = map(int, run.stdout.split()[-2:])
    assert kills >= 10 and last == 0, run.stderr.decode()[-2000:]
    assert same_gallery(tmp_path / "G", whole.path)
    assert [path.name for path in tmp_path.iterdir()] == ["G"], "nothing is left behind"


# --- live -----------------------------------------------------------------------------------------------------------


class FakeCapture:
    """A camera that shows the film once, then ends, or continues until `close` of the stream."""

    frames = ()

    def __init__(self, *given):
        self.left = list(self.frames)

    def isOpened(self):
        return True

    def get(self, what):
        return 25.0

    def grab(self):
        time.sleep(0.02)  # a camera that is no faster than the detector
        return bool(self.left)

    def retrieve(self):
        return True, self.left.pop(0)

    def release(self):
        pass


@pytest.fixture
def camera(monkeypatch):
    """rtsp://… shows the film to a detector that knows its boxes."""
    frames, boxes = walk_frames()
    monkeypatch.setattr(live_stream.cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(FakeCapture, "frames", list(frames))
    return boxes


def test_a_live_source_ends_with_its_stream_and_keeps_its_tracks(weights, film, tmp_path, camera, small_chunks):
    recordings = options(film, cameras=CameraOptions(camera="door", time_zone="+02:00"), frames_from=0)
    gallery = Gallery.open(export(weights, "rtsp://me:secret@cam/door", tmp_path / "G", recordings))
    found = records(gallery)
    assert len(found) >= 1 and {record["camera"] for record in found} == {"door"}
    assert {record["time_zone"] for record in found} == {"+02:00"} and found[0]["time"] > 1.7e9
    assert "secret" not in "".join(map(str, found)) + (gallery.path / "export.json").read_text()
    again = records(Gallery.open(export(weights, "rtsp://me:secret@cam/door", tmp_path / "G", recordings)))
    assert again[: len(found)] == found and len(again) > len(found), "what is seen later is added"
    assert len({record["tracklet"] for record in again}) == len({record["path"] for record in again}) == len(again)


def test_a_signal_ends_a_live_source_and_keeps_its_tracks(weights, film, tmp_path, camera, small_chunks, monkeypatch):
    add, count = recording_job.TrackRows.add, []

    def interrupted(self, tracklets):
        count.append(1)
        if len(count) == 20:
            os.kill(os.getpid(), signal.SIGINT)
        add(self, tracklets)

    monkeypatch.setattr(recording_job.TrackRows, "add", interrupted)
    gallery = Gallery.open(export(weights, "rtsp://cam/door", tmp_path / "G", options(film)))
    assert len(gallery) >= 1 and len(count) <= 22 and verify(gallery.path) == []


def test_what_a_killed_call_saw_of_a_live_source_stays(weights, film, tmp_path, camera, small_chunks, monkeypatch):
    save = recording_job.RecordingFolder.save

    def failing(self, number, part, progress, state):
        save(self, number, part, progress, state)
        if progress.num_chunks == 2:
            raise OSError("the plug was pulled")

    with monkeypatch.context() as patch:
        patch.setattr(recording_job.RecordingFolder, "save", failing)
        with pytest.raises(OSError, match="plug"):
            export(weights, "rtsp://cam/door", tmp_path / "G", options(film))
    gallery = Gallery.open(export(weights, "rtsp://cam/door", tmp_path / "G", options(film)))
    takes = {record["tracklet"].rpartition("/")[0] for record in records(gallery)}
    assert len(takes) == 2, "those of both calls"
    assert records(gallery)[0]["num_images"] <= 14


def test_a_live_source_keeps_its_crops(weights, film, tmp_path, camera):
    with pytest.raises(UserError, match="--no-crops.*live"):
        export(weights, "rtsp://cam/door", tmp_path / "G", options(film, RowOptions(thumbnails=False)))


# --- command line ---------------------------------------------------------------------------------------------------


def test_the_command_makes_a_gallery_of_a_video(weights, film, tmp_path, capsys):
    words = [
        "--weights",
        weights,
        "--input",
        str(film / "lobby.avi"),
        "--device",
        "cpu",
        "--output",
        str(tmp_path / "G"),
    ]
    assert export_tool.main([*words, "--stride", "0", "--boxes", str(film / "boxes.csv")]) == 2
    assert "--stride: 0" in capsys.readouterr().err
    assert export_tool.main([*words, "--detector", "motion", "--boxes", "x"]) == 2
    assert "give one of them" in capsys.readouterr().err
    words += [
        "--boxes",
        str(film / "boxes.csv"),
        "--camera",
        "hall",
        "--start",
        START,
        "--best",
        "4",
        "--templates",
        "2",
    ]
    assert export_tool.main(words) == 0
    found = records(Gallery.open(tmp_path / "G"))
    assert len(found) == 4 and {record["camera"] for record in found} == {"hall"}
    plan = json.loads((tmp_path / "G" / "export.json").read_text())
    assert plan["settings"]["num_crops"] == 4 and plan["recordings"][0][2] == "hall"


def test_quality_is_stored_by_its_factors(whole):
    for record in records(whole):
        factors = [record[name] for name in CropQuality._fields]
        assert record["quality"] == pytest.approx(np.prod(factors)) or record["confidence"] == 1
