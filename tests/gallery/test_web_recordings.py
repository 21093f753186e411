"""The server of a gallery of recordings: parts of videos by range, stored crops, what a row covers; nothing else."""

import os

import numpy as np
import pytest

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')
pytest.importorskip("httpx", reason='needs the extra: pip install "vitreid[serve]"')

from fastapi.testclient import TestClient
from web_gallery import COLOURS, FakeEmbedder, encode, person

from vitreid.gallery import Gallery, GalleryInfo
from vitreid.gallery.web import create_app
from vitreid.gallery.web.guard import tickets
from vitreid.gallery.web.guard.tickets import Tickets
from vitreid.gallery.web.media import file_parts

VIDEO = b"\0\0\0\x20ftypisom" + bytes(range(256)) * 40  # 10,252 bytes that begin as an MP4 file does
TRACK = {
    "first_frame": 50,
    "last_frame": 100,
    "duration": 2.0,
    "frame": 75,
    "x": 1.0,
    "y": 2.0,
    "width": 3.0,
    "height": 4.0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A gallery of four rows: a track of lobby.mp4, one of another recording, a track of one frame, a picture."""
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "lobby.mp4").write_bytes(VIDEO)
    (folder / "yard.avi").write_bytes(b"RIFF")
    gallery = Gallery.create(folder / "g", GalleryInfo("sha256:fake", 3))
    (folder / "g" / "track_crops").mkdir()
    for name in ("0-lobby-7-000060", "0-lobby-7-000075", "0-lobby-70-000075", "0-lobby-7-x", "1-lobby-7-000080"):
        (folder / "g" / "track_crops" / f"{name}.jpg").write_bytes(encode(person(COLOURS[0]), "JPEG"))
    (folder / "picture.png").write_bytes(encode(person(COLOURS[1])))
    lobby = {
        "path": "track_crops/0-lobby-7-000075.jpg",
        "video": str(folder / "lobby.mp4"),
        "tracklet": "lobby/7",
        **TRACK,
    }
    rows = [
        lobby,
        {**lobby, "video": str(folder / "yard.avi")},
        {**lobby, "last_frame": 50, "duration": 0.0},
        {"path": str(folder / "picture.png")},
    ]
    gallery.add(np.eye(4, 3, dtype=np.float32), rows, "sha256:fake")
    return folder


@pytest.fixture(scope="module")
def client(folder):
    with TestClient(create_app(Gallery.open(folder / "g"), FakeEmbedder())) as client:
        yield client


# ---- what a row covers


def test_a_track_says_which_seconds_of_which_recording_it_covers(client):
    found = client.get("/sighting/0").json()
    assert (found["start"], found["stop"], found["moment"], found["box"]) == (2, 4, 3, [1, 2, 3, 4])
    assert found["video"] == "video/0" and found["record"]["tracklet"] == "lobby/7"
    assert found["crops"] == [
        {"frame": 60, "seconds": pytest.approx(2.4), "image": "crop/0/60"},
        {"frame": 75, "seconds": 3, "image": "crop/0/75"},
    ]


def test_a_recording_that_browsers_do_not_play_says_so_and_has_its_crops(client):
    found = client.get("/sighting/1").json()
    assert found["video"] is None and "browsers do not play .avi recordings" in found["reason"]
    assert len(found["crops"]) == 2 and client.get("/video/1").status_code == 404


@pytest.mark.parametrize("id", [2, 3])
def test_a_row_without_seconds_has_no_recording_to_play(id, client):
    found = client.get(f"/sighting/{id}").json()
    assert found["video"] is None and "no part of a recording" in found["reason"] and "start" not in found


def test_stored_crops_are_images_of_the_rows_track_only(client):
    response = client.get("/crop/0/60")
    assert response.status_code == 200 and response.headers["content-type"] == "image/jpeg"
    statuses = [client.get(f"/crop/{path}").status_code for path in ("0/61", "3/75", "9/75", "0/..", "0/-1")]
    assert statuses == [404, 404, 404, 404, 422]


# ---- ranges


@pytest.mark.parametrize(
    "asked, start, stop",
    [
        ("bytes=0-", 0, 10_252),
        ("bytes=10-19", 10, 20),
        ("bytes=-12", 10_240, 10_252),
        ("bytes=10000-99999", 10_000, 10_252),
        ("bytes = 5 - 5", 5, 6),
    ],
)
def test_a_range_is_answered_with_its_bytes(asked, start, stop, client):
    response = client.get("/video/0", headers={"Range": asked})
    assert response.status_code == 206 and response.content == VIDEO[start:stop]
    assert response.headers["content-range"] == f"bytes {start}-{stop - 1}/10252"
    assert response.headers["content-type"] == "video/mp4" and response.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    "asked", ["", "bytes=", "bytes=-", "bytes=9-3", "bytes=0-1,5-6", "lines=1-2", "bytes=-0", f"bytes={'9' * 30}-"]
)
def test_other_ranges_are_answered_with_the_whole_file(asked, client):
    response = client.get("/video/0", headers={"Range": asked})
    if asked == "bytes=-0":
        assert response.status_code == 416
        return
    assert response.status_code == 200 and response.content == VIDEO and response.headers["content-length"] == "10252"


def test_a_range_behind_the_end_is_refused(client):
    response = client.get("/video/0", headers={"Range": "bytes=10252-"})
    assert response.status_code == 416 and response.headers["content-range"] == "bytes */10252"


def test_a_range_of_a_file_that_has_changed_is_the_whole_file(client):
    version = client.get("/video/0").headers["etag"]
    same = client.get("/video/0", headers={"Range": "bytes=0-4", "If-Range": version})
    other = client.get("/video/0", headers={"Range": "bytes=0-4", "If-Range": '"old"'})
    assert (same.status_code, other.status_code) == (206, 200)


def test_a_response_to_a_range_has_a_limited_length(client, monkeypatch):
    """A player that pauses must not keep a connection open."""
    monkeypatch.setattr(file_parts, "MOST_OF_RANGE", 100)
    response = client.get("/video/0", headers={"Range": "bytes=10-"})
    assert response.content == VIDEO[10:110] and response.headers["content-range"] == "bytes 10-109/10252"


def test_files_are_closed(client):
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        client.get("/video/0", headers={"Range": "bytes=0-4"})
        client.get("/video/0", headers={"Range": "bytes=99999-"})
        client.get("/image/3")
        client.post("/attention", json={"id": 3})
    assert len(os.listdir("/dev/fd")) == before


# ---- who may see it, and what


def test_a_token_gives_a_ticket_for_the_one_recording(folder):
    client = TestClient(create_app(Gallery.open(folder / "g"), FakeEmbedder(), token="s3cret"))
    bearer = {"Authorization": "Bearer s3cret"}
    assert client.get("/sighting/0").status_code == client.get("/video/0").status_code == 401
    address = client.get("/sighting/0", headers=bearer).json()["video"]
    assert client.get(f"/{address}").content == VIDEO
    ticket = address.partition("?")[2]
    for path in ("/video/1", "/image/0", "/sighting/0", "/facets"):
        assert client.get(f"{path}?{ticket}").status_code == 401
    assert client.get(f"/{address}0").status_code == 401
    assert client.get("/video/0?ticket=99999999999-00").status_code == 401


def test_a_ticket_ends(monkeypatch):
    now = [1000.0]
    made = Tickets(clock=lambda: now[0])
    ticket = made.issue("/video/0")
    assert made.accepts("/video/0", ticket) and not Tickets(clock=lambda: now[0]).accepts("/video/0", ticket)
    later = f"{int(now[0]) + 2 * tickets.SECONDS}-{ticket.partition('-')[2]}"
    assert not made.accepts("/video/0", later)
    now[0] += tickets.SECONDS + 1
    assert not made.accepts("/video/0", ticket)


@pytest.mark.parametrize("text", ["", "-", "1-", "x-y", "²-1", "9" * 400, "-1-0", "١٢-a"])
def test_what_is_no_ticket_is_not_accepted(text):
    assert not Tickets().accepts("/video/0", text)


@pytest.mark.parametrize("name", ["secret.mp4", "pipe.mp4", "folder.mp4", "gone.mp4", "passwd"])
def test_a_record_that_names_no_video_shows_nothing(name, tmp_path):
    """A gallery from elsewhere cannot make the server hand out other files."""
    (tmp_path / "secret.mp4").write_text("root:x:0:0 is no video")
    (tmp_path / "passwd").write_bytes(VIDEO)
    (tmp_path / "folder.mp4").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.mp4")
    gallery = Gallery.create(tmp_path / "g", GalleryInfo("sha256:fake", 3))
    gallery.add(
        np.eye(1, 3, dtype=np.float32), [{"path": "x.jpg", "video": str(tmp_path / name), **TRACK}], "sha256:fake"
    )
    client = TestClient(create_app(gallery, FakeEmbedder()))
    assert client.get("/video/0").status_code == 404
    found = client.get("/sighting/0").json()
    assert found["video"] is None and found["reason"] and found["crops"] == []


def test_crops_are_those_of_the_gallerys_own_folder(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "0-a-1-000001.jpg").write_bytes(encode(person(COLOURS[0]), "JPEG"))
    gallery = Gallery.create(tmp_path / "g", GalleryInfo("sha256:fake", 3))
    gallery.add(np.eye(1, 3, dtype=np.float32), [{"path": "../other/0-a-1-000001.jpg", **TRACK}], "sha256:fake")
    client = TestClient(create_app(gallery, FakeEmbedder()))
    assert client.get("/sighting/0").json()["crops"] == [] and client.get("/crop/0/1").status_code == 404
