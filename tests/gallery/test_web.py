"""The web server of a gallery: a fake model, a real gallery, requests without a network."""

import io
import json
import os
import shutil
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import CAMERAS, COLOURS, THRESHOLD, MeanColour
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')
pytest.importorskip("httpx", reason='needs the extra: pip install "vitreid[serve]"')

from fastapi import FastAPI
from fastapi.testclient import TestClient
from vitreid.gallery import Gallery, GalleryInfo, web
from vitreid.gallery.search.search_result import SearchResult
from vitreid.gallery.storage.record_images import BOX, box_of
from vitreid.gallery.web import Limits, RequestError, create_app
from vitreid.gallery.web import batcher as batcher_module
from vitreid.gallery.web import service as service_module
from vitreid.gallery.web.app import NUM_OVERLAYS, PAGES
from vitreid.gallery.web.batcher import Batcher
from vitreid.gallery.web.limits import RateLimit
from vitreid.gallery.web.models import SearchFields
from vitreid.gallery.web.service import Service
from vitreid.gallery.web.upload_decode import decode

PIDS = ["red", "red", "green", "blue", "red", "blue"]


class FakeEmbedder(MeanColour):
    """Remembers how many images came at once."""

    def __init__(self):
        self.sizes, self.cameras, self.gate, self.is_busy = [], [], None, threading.Event()

    def __call__(self, images, cameras):
        self.is_busy.set()
        if self.gate:
            self.gate.wait(5)
        self.sizes.append(len(images))
        self.cameras += cameras
        return super().__call__(images, cameras)


def person(colour, size=(64, 32)):
    return np.full((*size, 3), colour, np.uint8)


def encode(pixels, kind="PNG", **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A gallery of six crops: three of one person, one of another, two of a third; the last of no known camera."""
    root = tmp_path_factory.mktemp("served")
    (root / "crops").mkdir()
    for i, colour in enumerate(COLOURS):
        (root / "crops" / f"{i}.png").write_bytes(encode(person(colour)))
    gallery = Gallery.create(root / "gallery", GalleryInfo(FakeEmbedder.fingerprint, 3, threshold=THRESHOLD))
    records = [
        {
            "path": str(root / "crops" / f"{i}.png"),
            "pid": PIDS[i],
            "camera": CAMERAS[i],
            "time": 100.0 * i,
            "score": 0.5,
        }
        for i in range(len(COLOURS))
    ]
    records[3]["score"] = float("nan")
    gallery.add(FakeEmbedder()([person(colour) for colour in COLOURS], CAMERAS), records, FakeEmbedder.fingerprint)
    return root / "gallery"


@pytest.fixture(scope="module")
def client(folder):
    with TestClient(create_app(Gallery.open(folder), FakeEmbedder()), raise_server_exceptions=False) as client:
        yield client


def upload(client, content, path="/search", **fields):
    return client.post(path, files={"image": ("crop.png", content)}, data=fields)


def ids(response):
    assert response.status_code == 200, response.text
    return [found["id"] for found in response.json()["results"]]


# ---- searching


def test_an_upload_finds_its_own_image_first_and_its_person_within_the_threshold(client):
    answer = upload(client, encode(person(COLOURS[0]))).json()
    assert [found["id"] for found in answer["results"][:3]] == [0, 1, 4]
    assert answer["results"][0]["distance"] == pytest.approx(0, abs=1e-3)
    assert [found["verdict"] for found in answer["results"]] == ["same"] * 3 + ["different"] * 3
    assert answer["verdict"] == "match" and answer["threshold"] == 0.25
    assert answer["results"][0]["record"]["camera"] == "c1"


def test_a_stranger_is_unknown(client):
    assert upload(client, encode(person((250, 250, 10)))).json()["verdict"] == "unknown"


def test_a_row_finds_others_but_not_itself(client):
    assert ids(client.post("/search", json={"id": 0, "topk": 2})) == [1, 4]


def test_a_vector_is_what_embed_returns(client):
    answer = upload(client, encode(person(COLOURS[2])), "/embed").json()
    assert answer["dimension"] == 3 and answer["model"] == "sha256:fake"
    assert ids(client.post("/search", json={"vector": answer["vector"], "topk": 1})) == [2]


@pytest.mark.parametrize(
    "where, expected",
    [
        (["camera=c1"], {0, 2}),
        (["camera!=c1,c2"], {4, 5}),
        (['camera="c 3, left"'], {4}),
        (["time>=100", "time<=300"], {1, 2, 3}),
        (["pid=blue", "camera=c2"], {3}),
        (["camera=nowhere"], set()),
    ],
)
def test_what_the_filters_leave_out_is_never_found(client, where, expected):
    content = encode(person(COLOURS[0]))
    assert set(ids(upload(client, content, where=where))) == expected
    assert set(ids(client.post("/search", json={"id": 0, "where": where}))) == expected - {0}


def test_the_querys_own_camera_can_be_left_out(client):
    assert set(ids(client.post("/search", json={"id": 0, "other_cameras": True}))) == {1, 3, 4, 5}
    content = encode(person(COLOURS[0]))
    assert set(ids(upload(client, content, camera="c 3, left", other_cameras="true"))) == {0, 1, 2, 3, 5}
    assert upload(client, content, other_cameras="true").status_code == 422


def test_numbers_that_json_does_not_have_are_null(client):
    (found,) = client.post("/search", json={"id": 5, "topk": 1}).json()["results"]
    assert found["id"] == 3 and found["record"]["score"] is None


def test_facets_say_what_can_be_chosen(client):
    facets = client.get("/facets").json()
    assert facets["count"] == 6 and facets["time"] == [0, 500] and facets["threshold"] == 0.25
    assert {item["name"]: item["count"] for item in facets["cameras"]} == {"c1": 2, "c2": 2, "c 3, left": 1}
    assert facets["examples"] == [0, 1, 2, 3, 4, 5]


def test_removed_rows_are_gone_everywhere(folder, tmp_path, monkeypatch):
    """Another process writes; the server notices."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    now = [0.0]
    service = Service(Gallery.open(copy), FakeEmbedder(), clock=lambda: now[0])
    Gallery.open(copy).remove([4])
    assert service.record(4)["pid"] == "red"  # as opened
    now[0] += service_module.REFRESH_SECONDS
    with pytest.raises(RequestError, match="id 4 is not in the gallery"):
        service.image(4)
    assert service.facets()["count"] == 5 and 4 not in service.facets()["examples"]
    shutil.rmtree(copy)
    now[0] += service_module.REFRESH_SECONDS
    assert service.facets()["count"] == 5  # what was opened is still served


def test_facets_follow_records_that_change(folder, tmp_path):
    """By this process or by another; the number of rows stays."""
    copy, now = shutil.copytree(folder, tmp_path / "copy"), [0.0]
    service = Service(Gallery.open(copy), FakeEmbedder(), clock=lambda: now[0])
    first = service.facets()
    assert service.facets() is first
    for camera, gallery in (("c8", service.gallery), ("c9", Gallery.open(copy))):
        gallery.update([5], {"camera": camera})
        now[0] += service_module.REFRESH_SECONDS
        assert camera in [item["name"] for item in service.facets()["cameras"]]


class ById:
    """A gallery like that of Milvus: no state, no removed rows, and positions cost a listing of all ids."""

    def __init__(self, gallery):
        self.path, self.info, self.columns, self._gallery = gallery.path, gallery.info, gallery.columns, gallery
        self.asked = []

    def __len__(self):
        return len(self._gallery)

    def refresh(self):
        self._gallery.refresh()

    def select(self, columns):
        self.asked.append(columns)
        return self._gallery.select(columns)

    def rows_of(self, ids):
        try:
            return self._gallery.rows_at(self._gallery.positions(ids))
        except ValueError as error:
            raise KeyError(str(error)) from error


def test_a_gallery_that_looks_up_by_id_is_not_read_whole(folder):
    now = [0.0]
    gallery = ById(Gallery.open(folder))
    service = Service(gallery, FakeEmbedder(), clock=lambda: now[0])
    facets = service.facets()
    assert facets == Service(gallery._gallery, FakeEmbedder()).facets()
    assert service.record(4)["pid"] == "red"
    with pytest.raises(RequestError, match="id 9 is not in the gallery"):
        service.record(9)
    assert gallery.asked == [["id", "camera", "time"]]  # once: the facets are kept for a while
    now[0] += service_module.FACETS_SECONDS
    assert service.facets() == facets and len(gallery.asked) == 2


def test_a_match_that_reranking_cuts_off_is_told(client, monkeypatch):
    def cut(gallery, vectors, topk, where, rerank):
        far = np.ones(1, np.float32)
        return [SearchResult(np.array([3]), far, 0.25, far, lambda: gallery.rows_at([3]), nearest=0.1)]

    monkeypatch.setattr(Gallery, "search", cut)
    answer = client.post("/search", json={"id": 0, "topk": 1, "rerank": True}).json()
    assert answer["verdict"] == "match" and [found["verdict"] for found in answer["results"]] == ["different"]


# ---- images and pages


def test_a_row_that_another_program_removes_meanwhile_means_ask_again(client, monkeypatch):
    """In a Milvus, records are read by id, a moment after the search."""

    def found(gallery, vectors, topk, where, rerank):
        return [SearchResult(np.array([9]), np.ones(1, np.float32), look_up=lambda: {}[9])]

    monkeypatch.setattr(Gallery, "search", found)
    answer = client.post("/search", json={"id": 0})
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
    assert answer.json()["detail"] == "the gallery was rewritten since this search; search again"


def test_an_image_is_the_file_that_the_record_names(client, folder):
    response = client.get("/image/2")
    assert response.content == (folder.parent / "crops" / "2.png").read_bytes()
    assert response.headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    "path", ["/image/99", "/image/-1", f"/image/{10**30}", "/image/abc", "/image/..%2f..%2fetc%2fpasswd", "/image/"]
)
def test_no_path_from_a_request_touches_the_disk(client, path):
    response = client.get(path)
    assert response.status_code in (404, 422) and response.json()["detail"]


def test_a_record_that_names_no_image_shows_nothing(folder, tmp_path):
    """A gallery from elsewhere cannot make the server hand out other files."""
    secret = tmp_path / "passwd"
    secret.write_text("root:x:0:0")
    cv2.imwrite(str(tmp_path / "scan.tif"), person((10, 20, 30)))
    gallery = Gallery.create(tmp_path / "g", GalleryInfo("sha256:fake", 3))
    rows = [{"path": str(secret)}, {"path": "gone.png"}, {"path": str(tmp_path / "scan.tif")}, {"path": str(tmp_path)}]
    gallery.add(np.eye(4, 3, dtype=np.float32), rows, "sha256:fake")
    client = TestClient(create_app(gallery, FakeEmbedder()))
    assert [client.get(f"/image/{i}").status_code for i in range(4)] == [404, 404, 200, 404]
    assert "root" not in client.get("/image/0").text
    assert client.get("/image/2").headers["content-type"] == "image/png"  # browsers do not show TIFF


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_record_that_names_no_file_shows_nothing(tmp_path):
    """Nor can it make the server wait for a pipe, or read a device without an end."""
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=(encode(person(COLOURS[0])),), daemon=True).start()
    gallery = Gallery.create(tmp_path / "g", GalleryInfo("sha256:fake", 3))
    gallery.add(np.eye(2, 3, dtype=np.float32), [{"path": str(pipe)}, {"path": "a\0b.png"}], "sha256:fake")
    client = TestClient(create_app(gallery, FakeEmbedder()))
    assert [client.get(f"/image/{i}").status_code for i in range(2)] == [404, 404]
    assert pipe.read_bytes()  # nobody has emptied it; its writer may go


def test_a_crop_of_a_video_is_cut_out(tmp_path):
    film = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for level in (0, 120, 240):
        film.write(np.full((48, 64, 3), level, np.uint8))
    film.release()
    gallery = Gallery.create(tmp_path / "g", GalleryInfo("sha256:fake", 3))
    box = {"path": str(tmp_path / "film.avi"), "frame": 1, "x": 8.0, "y": 4.0, "width": 10.0, "height": 20.0}
    gallery.add(np.eye(1, 3, dtype=np.float32), [box], "sha256:fake")
    content = TestClient(create_app(gallery, FakeEmbedder())).get("/image/0").content
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    assert pixels.shape == (20, 10, 3) and abs(pixels.mean() - 120) < 5


@pytest.mark.parametrize("values", [("a", "b", "c", "d", "e"), ("1", "2", "3", "4", "5"), (0, 2.0, 2.0, 5.0, 5.0)])
def test_an_image_whose_record_speaks_of_a_frame_is_no_video(values, tmp_path):
    """Text of a manifest, or the box that the image was cut out by: the file is the crop."""
    content = encode(person(COLOURS[0]))
    (tmp_path / "0.png").write_bytes(content)
    gallery = Gallery.create(tmp_path / "g", GalleryInfo("sha256:fake", 3))
    record = {"path": str(tmp_path / "0.png"), **dict(zip(BOX, values))}
    gallery.add(np.eye(1, 3, dtype=np.float32), [record], "sha256:fake")
    response = TestClient(create_app(gallery, FakeEmbedder())).get("/image/0")
    assert response.status_code == 200 and response.content == content


@pytest.mark.parametrize(
    "changes", [{"x": "8"}, {"x": float("nan")}, {"width": float("inf")}, {"frame": True}, {"y": None}]
)
def test_a_box_has_numbers(changes):
    record = {**dict.fromkeys(BOX, 1.0), "frame": 3}
    assert box_of(Path("film.mp4"), record) == (3, 1, 1, 1, 1)
    assert box_of(Path("film.mp4"), {**record, **changes}) is None and box_of(Path("crop.JPG"), record) is None


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json"])
def test_pages_need_nothing_from_another_site(client, path):
    response = client.get(path)
    assert response.status_code == 200
    assert "default-src 'none'" in response.headers["content-security-policy"]
    links = response.text.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in links and "https://" not in links


def test_every_static_file_is_served():
    folder = Path(web.__file__).parent / "static"
    assert sorted(name for name, _ in PAGES.values()) == sorted(path.name for path in folder.iterdir())


def test_the_api_describes_itself(client):
    api = client.get("/openapi.json").json()
    assert {"/search", "/embed", "/image/{id}", "/health"} <= set(api["paths"])
    kinds = {path: api["paths"][path]["post"]["requestBody"]["content"] for path in ("/search", "/attention", "/embed")}
    assert set(kinds["/search"]) == set(kinds["/attention"]) == {"multipart/form-data", "application/json"}
    fields = {path: list(kinds[path]["multipart/form-data"]["schema"]["properties"]) for path in kinds}
    assert fields["/embed"] == ["image", "camera"] and fields["/attention"] == ["image", "camera", "id"]
    assert fields["/search"] == [*fields["/attention"], "vector", "topk", "where", "rerank", "other_cameras"]
    assert kinds["/search"]["application/json"]["schema"]["properties"]["topk"]["maximum"] == 1000
    assert "$ref" not in json.dumps(kinds)  # the page of the API reads the fields in place


def test_attention_is_laid_over_an_upload_or_a_row(client):
    content = encode(person(COLOURS[0]))
    for response in (upload(client, content, "/attention"), client.post("/attention", json={"id": 0})):
        pixels = np.asarray(Image.open(io.BytesIO(response.content)))
        assert pixels.shape == (64, 32, 3) and int(pixels[-1, -1, 0]) > int(pixels[0, 0, 0])  # red where it looks
    assert client.post("/attention", json={"vector": [1, 2, 3]}).status_code == 422


def test_few_overlays_are_pixels_at_the_same_time(folder):
    """A small file may hold many pixels, so the number of clients must not decide how much memory that takes."""
    lock, running, most = threading.Lock(), [], []

    class Slow(FakeEmbedder):
        def attention(self, image, camera):
            with lock:
                running.append(image)
                most.append(len(running))
            time.sleep(0.1)
            with lock:
                running.pop()
            return super().attention(image, camera)

    content = encode(person(COLOURS[0]))
    with TestClient(create_app(Gallery.open(folder), Slow())) as client, ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: upload(client, content, "/attention").status_code, range(8)))
    assert statuses == [200] * 8 and max(most) <= NUM_OVERLAYS


def test_without_attention_there_is_none(folder):
    class Plain(FakeEmbedder):
        attention = None

    client = TestClient(create_app(Gallery.open(folder), Plain()))
    assert not client.get("/facets").json()["attention"]
    assert client.post("/attention", json={"id": 0}).status_code == 404


# ---- who may ask, how much


def test_another_models_embedder_is_refused(folder):
    other = FakeEmbedder()
    other.fingerprint = "sha256:other"
    with pytest.raises(ValueError, match="sha256:fake.*sha256:other"):
        create_app(Gallery.open(folder), other)


def test_with_a_token_only_its_bearer_sees_people(folder):
    client = TestClient(create_app(Gallery.open(folder), FakeEmbedder(), token="s3cret"))
    for path in ("/facets", "/image/0", "/nothing"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get(path, headers={"Authorization": b"Bearer \xff"}).status_code == 401
    refused = client.post("/search", json={"id": 0})
    assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
    assert "default-src 'none'" in refused.headers["content-security-policy"]
    assert client.get("/").status_code == client.get("/health").status_code == 200
    assert client.get("/image/0", headers={"Authorization": "Bearer s3cret"}).status_code == 200


def test_a_server_on_this_machine_answers_to_its_own_name_only(folder):
    """Another site's name that resolves to 127.0.0.1 (DNS rebinding) must not read the gallery."""
    app = create_app(Gallery.open(folder), FakeEmbedder(), hosts=("localhost", "[::1]"))
    client = TestClient(app)
    codes = {
        host: client.get("/facets", headers={"Host": host}).status_code
        for host in ("localhost:8000", "[::1]:80", "evil.com")
    }
    assert codes == {"localhost:8000": 200, "[::1]:80": 200, "evil.com": 421}


def test_too_many_requests_have_to_wait(folder):
    client = TestClient(create_app(Gallery.open(folder), FakeEmbedder(), rate=1e-3))
    assert client.post("/search", json={"id": 0}).status_code == 200
    refused = client.post("/search", json={"id": 0})
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 100
    assert client.get("/image/0").status_code == 200  # the page's own pictures are not counted


def test_below_another_application_the_same_rules_hold(folder):
    outer = FastAPI()
    outer.mount("/people", create_app(Gallery.open(folder), FakeEmbedder(), token="secret", rate=0.5))
    client, bearer = TestClient(outer), {"Authorization": "Bearer secret"}
    assert client.get("/people/").status_code == 200 and client.get("/people/facets").status_code == 401
    statuses = [client.post("/people/search", json={"id": 0}, headers=bearer).status_code for _ in range(2)]
    assert statuses == [200, 429]


def test_the_bucket_of_a_client_fills_again():
    now = [0.0]
    rate = RateLimit(2, clock=lambda: now[0], max_clients=2)
    assert [rate.wait("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert rate.wait("b") == 0
    now[0] = 0.5
    assert rate.wait("a") == 0 and rate.wait("a") > 0
    rate.wait("c")
    rate.wait("d")
    assert len(rate._buckets) == 2


def test_large_bodies_are_stopped(folder):
    client = TestClient(create_app(Gallery.open(folder), FakeEmbedder(), max_bytes=2000))
    assert upload(client, bytes(3000)).status_code == 413
    parts = (b"x" * 500 for _ in range(10))  # no Content-Length
    assert client.post("/search", content=parts, headers={"Content-Type": "application/json"}).status_code == 413
    boundary = {"Content-Type": "multipart/form-data; boundary=b"}
    parts = (
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="f"\r\n\r\n' + b"x" * 500 for _ in range(10)
    )
    assert client.post("/search", content=parts, headers=boundary).status_code == 413


@pytest.mark.parametrize("length", [b"x", b"-1", b"\xb2"])
def test_a_length_that_is_no_number_is_refused(client, length):
    response = client.post("/search", content=b"{}", headers={"Content-Length": length})
    assert response.status_code == 400 and "Content-Length" in response.json()["detail"]


@pytest.mark.parametrize(
    "values", [{"max_bytes": 0}, {"max_pixels": -1}, {"rate": 0.0}, {"token": ""}, {"token": "ü"}, {"token": " a"}]
)
def test_wrong_limits_are_named(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Limits(**values)


# ---- what is sent


def test_images_of_every_kind_are_read_as_opencv_reads_them():
    rng = np.random.default_rng(0)
    pixels = cv2.GaussianBlur(rng.integers(0, 256, (40, 24, 3), np.uint8), (5, 5), 0)
    files = [encode(pixels, kind) for kind in ("PNG", "JPEG", "WEBP", "BMP")]
    files.append(cv2.imencode(".png", rng.integers(0, 65536, (40, 24), np.uint16))[1].tobytes())  # 16-bit grey
    files.append(cv2.imencode(".png", rng.integers(0, 65536, (40, 24, 3), np.uint16))[1].tobytes())  # 16-bit colour
    files.append(encode(Image.fromarray(pixels).convert("P")))
    files.append(encode(Image.fromarray(np.dstack([pixels, pixels[..., 0]]))))  # transparent
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    files.append(encode(pixels, "JPEG", exif=exif))
    for content in files:
        expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(decode(content, 10_000), expected)
    assert decode(files[-1], 10_000).shape == (24, 40, 3)


def test_cmyk_has_its_own_colours_back():
    content = encode(Image.fromarray(person(COLOURS[0])).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode(content, 10_000).reshape(-1, 3).mean(0) - COLOURS[0]).max() < 6


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_does_not_spoil_an_image():
    assert decode(encode(person(COLOURS[0]), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), 10_000).shape == (
        64,
        32,
        3,
    )


def png_claiming(width, height):
    """A small file whose header promises a huge picture."""
    content = bytearray(encode(person(COLOURS[0])))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


BAD_IMAGES = {
    "empty": (b"", 400, "empty"),
    "text": (b"hello", 415, "not an image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not an image"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(50), 415, "HEIC"),
    "avif": (b"\0\0\0\x18ftypavif" + bytes(50), 415, "AVIF"),
    "cut short": (
        encode(np.random.default_rng(0).integers(0, 256, (64, 32, 3), np.uint8), "JPEG")[:-800],
        400,
        "cut short",
    ),
    "png cut short": (
        encode(np.random.default_rng(0).integers(0, 256, (64, 32, 3), np.uint8))[:-800],
        400,
        "cut short",
    ),
    "one pixel": (encode(person(COLOURS[0], (1, 1))), 422, "1 x 1"),
    "a line": (encode(person(COLOURS[0], (1, 5000))), 422, "5000 x 1"),
    "bomb": (png_claiming(9000, 9000), 413, "million pixels"),
    "huge bomb": (png_claiming(2**30, 2**30), 413, "million pixels"),
    "long": (png_claiming(2**20, 10), 413, "million pixels"),
    "tiff": (encode(person(COLOURS[0]), "TIFF"), 415, "JPEG or PNG"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_images_get_a_sentence(client, name):
    content, status, text = BAD_IMAGES[name]
    for path in ("/search", "/embed", "/attention"):
        response = upload(client, content, path)
        assert (response.status_code, text in response.json()["detail"]) == (status, True), response.text


BAD_FIELDS = [
    ({}, "exactly one of"),
    ({"id": 1, "vector": [1, 2, 3]}, "exactly one of"),
    ({"id": "x"}, "id: expected a whole number, got 'x'"),
    ({"id": True}, "id: expected a whole number, got True"),
    ({"id": 2**70}, f"got {2**70}"),
    ({"id": 1, "topk": 0}, "topk: expected a number greater than or equal to 1, got 0"),
    ({"id": 1, "topk": 10**9}, "topk"),
    ({"id": 1, "rerank": "maybe"}, "rerank: expected true or false, got 'maybe'"),
    ({"id": 1, "where": {"camera": "c1"}}, "where"),
    ({"id": 1, "where": ["camera"]}, "camera"),
    ({"id": 1, "where": ["colour=red"]}, "colour"),
    ({"id": 1, "where": ["time>=yesterday"]}, "yesterday"),
    ({"id": 1, "where": ["camera=a\rb", 'camera="']}, "where"),
    ({"id": 1, "where": ["x" * 600]}, "where"),
    ({"id": 1, "where": ["camera=c1"] * 40}, "where: expected at most 32 items"),
    ({"id": 1, "camera": 5}, "camera"),
    ({"id": 1, "top_k": 5}, "unknown field 'top_k'"),
    ({"vector": []}, "vector"),
    ({"vector": [1, 2]}, "vector: expected 3 numbers, got 2"),
    ({"vector": ["a", 2, 3]}, "vector"),
    ({"vector": [10**400, 2, 3]}, "vector.0: expected"),
    ({"vector": [1e20, 2, 3]}, "vector.0: expected a number less than or equal to 1000000000000000, got 1e+20"),
    ({"image": "x.png"}, "image: expected a file"),
]


@pytest.mark.parametrize("fields, text", BAD_FIELDS)
def test_wrong_fields_are_named(client, fields, text):
    response = client.post("/search", json=fields)
    assert response.status_code == 422 and text in response.json()["detail"], response.text


@pytest.mark.parametrize(
    "content, kind",
    [
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[1]", "application/json"),
        (b'{"vector": [NaN, 1, 2]}', "application/json"),
        (b'{"id": 1, "where": ["camera=\\ud800"]}', "application/json"),
        (b'{"\\ud800": 1}', "application/json"),
        (b'{"id": ' + b"9" * 5000 + b"}", "application/json"),
        (b"id=1", "application/x-www-form-urlencoded"),
        (b"x", "text/plain"),
        (b"x", "multipart/form-data"),
        (b"x", "multipart/form-data; boundary=b"),
        (b"--b\r\n\r\n\r\n--b--", "multipart/form-data; boundary=b"),
    ],
)
def test_bodies_that_cannot_be_read(client, content, kind):
    response = client.post("/search", content=content, headers={"Content-Type": kind})
    assert 400 <= response.status_code < 500 and response.json()["detail"], response.text


def test_a_field_given_twice_is_refused(client):
    body = b'--b\r\nContent-Disposition: form-data; name="id"\r\n\r\n1\r\n' * 2 + b"--b--"
    response = client.post("/search", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert response.status_code == 422 and "id: " in response.json()["detail"]


def test_embed_needs_an_image(client):
    response = client.post("/embed", json={"camera": "c1"})
    assert response.status_code == 422 and "image" in response.json()["detail"]


def test_an_id_that_is_not_there(client):
    assert client.post("/search", json={"id": 77}).status_code == 404


def test_a_form_is_read_like_json():
    form = SearchFields.model_validate(
        {"vector": "[1, 2.5]", "topk": "7", "where": "a=1", "rerank": "on", "camera": ""}
    )
    body = SearchFields.model_validate({"vector": [1, 2.5], "topk": 7, "where": ["a=1"], "rerank": True})
    assert form == body
    assert (form.vector, form.topk, form.where, form.rerank, form.camera) == ([1, 2.5], 7, ("a=1",), True, None)


# ---- fuzzing

ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = ATOMS | st.lists(ATOMS, max_size=3) | st.dictionaries(st.text(max_size=3), ATOMS, max_size=2)
NAMES = st.sampled_from(["id", "vector", "image", "camera", "topk", "where", "rerank", "other_cameras", "x", ""])
FUZZ = settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SEEDS = [encode(person(COLOURS[0], (16, 8)), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]


@FUZZ
@given(fields=st.dictionaries(NAMES, VALUES, max_size=4), path=st.sampled_from(["/search", "/embed", "/attention"]))
def test_strange_json_is_never_the_servers_fault(client, fields, path):
    response = client.post(path, content=json.dumps(fields).encode(), headers={"Content-Type": "application/json"})
    assert response.status_code < 500, response.text


@FUZZ
@given(where=st.lists(st.from_regex(r'[a-z"=!<>, ]{0,6}(camera|time|id|score)?[=!<>]{1,2}[\w", .:-]{0,8}'), max_size=3))
def test_strange_conditions_are_never_the_servers_fault(client, where):
    response = client.post("/search", json={"id": 0, "where": where})
    assert response.status_code in (200, 422), response.text


@FUZZ
@given(
    seed=st.sampled_from(SEEDS),
    cut=st.integers(0, 400),
    spoiled=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=6),
)
def test_spoiled_images_are_never_the_servers_fault(client, seed, cut, spoiled):
    content = bytearray(seed)
    for place, value in spoiled:
        content[place % len(content)] = value
    response = upload(client, bytes(content[: len(content) - cut % len(content)]))
    assert response.status_code < 500, response.text


@FUZZ
@given(
    body=st.lists(
        st.sampled_from(
            [
                b"--b\r\n",
                b"--b--",
                b'Content-Disposition: form-data; name="image"',
                b'; filename="\xff"',
                b"\r\n",
                b"\r\n\r\n",
            ]
        )
        | st.sampled_from([b'Content-Disposition: form-data; name="id"\r\n\r\n1', b'name="where"', b"Content-Type: x"])
        | st.binary(max_size=12),
        max_size=12,
    ),
    kind=st.sampled_from(
        [
            "multipart/form-data; boundary=b",
            "multipart/form-data; boundary=b; charset=\xe9",
            "multipart/form-data; boundary=",
        ]
    ),
)
def test_strange_forms_are_never_the_servers_fault(client, body, kind):
    response = client.post("/search", content=b"".join(body), headers={"Content-Type": kind.encode("latin-1")})
    assert response.status_code < 500, response.text


# ---- many at once


def test_what_waits_goes_through_the_model_together():
    embedder = FakeEmbedder()
    embedder.gate = threading.Event()
    batcher = Batcher(embedder, batch_size=8)
    first = batcher.submit(person(COLOURS[0]), "c1")
    assert embedder.is_busy.wait(5)
    others = [batcher.submit(person(colour)) for colour in COLOURS * 2]
    embedder.gate.set()
    expected = FakeEmbedder()([person(colour) for colour in COLOURS], [None] * 6)
    for job, row in zip([first, *others], [expected[0], *expected, *expected], strict=True):
        np.testing.assert_array_equal(job.result(5), row)
    batcher.close()
    assert embedder.sizes == [1, 8, 4] and embedder.cameras[:2] == ["c1", None]


def test_one_bad_image_does_not_fail_the_others():
    class Fails(FakeEmbedder):
        def __call__(self, images, cameras):
            if any(image.max() == 0 for image in images):
                raise RuntimeError("black")
            return super().__call__(images, cameras)

    embedder = Fails()
    batcher = Batcher(embedder, batch_size=4)
    embedder.gate = threading.Event()
    jobs = [batcher.submit(person(colour)) for colour in [COLOURS[0], (0, 0, 0), COLOURS[1]]]
    assert not jobs[2].cancel() or jobs[2].cancelled()
    embedder.gate.set()
    assert jobs[0].result(5).shape == (3,)
    with pytest.raises(RuntimeError, match="black"):
        jobs[1].result(5)
    batcher.close()
    assert batcher._num_waiting == batcher._bytes_waiting == 0


def test_a_queue_that_is_full_says_so(monkeypatch):
    monkeypatch.setattr(batcher_module, "MAX_WAITING", 1)
    embedder = FakeEmbedder()
    embedder.gate = threading.Event()
    batcher = Batcher(embedder)
    batcher.submit(person(COLOURS[0]))
    with pytest.raises(RequestError) as refused:
        batcher.submit(person(COLOURS[0]))
    assert refused.value.status == 503
    embedder.gate.set()
    batcher.close()
    assert batcher.submit(person(COLOURS[0])).result(5).shape == (3,)  # opens again
    batcher.close()


def test_a_failing_model_is_reported_without_its_secrets(folder):
    class Broken(FakeEmbedder):
        def __call__(self, images, cameras):
            raise RuntimeError("/secret/path")

    client = TestClient(create_app(Gallery.open(folder), Broken()), raise_server_exceptions=False)
    response = upload(client, encode(person(COLOURS[0])))
    assert response.status_code == 500 and "secret" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert client.post("/search", json={"id": 0}).status_code == 200


def test_many_clients_at_once_get_their_own_answers(client):
    contents = [encode(person(colour)) for colour in COLOURS]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: ids(upload(client, contents[i % 6], topk=1)), range(24)))
    assert found == [[i % 6] for i in range(24)]


def test_the_tool_serves_loopback_by_its_own_names(monkeypatch):
    pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')
    from vitreid.tools import serve

    made = {}
    monkeypatch.setattr(serve, "Embedder", lambda weights, device: (weights, device))
    monkeypatch.setattr(serve.Gallery, "open", lambda path: path)
    monkeypatch.setattr(serve, "create_app", lambda *what, **options: made.update(options))
    parse = serve.get_parser().parse_args
    serve.make_app(parse(["--gallery", "g", "--weights", "w"]))
    assert made["hosts"] == ("localhost", "127.0.0.1", "[::1]") and made["rate"] is None and made["token"] is None
    serve.make_app(parse(["--gallery", "g", "--weights", "w", "--name", "Reid.example.org"]))
    assert made["hosts"][-2:] == ("[::1]", "reid.example.org") and made["rate"] == 10  # a proxy passes others on
    serve.make_app(parse(["--gallery", "g", "--weights", "w", "--host", "0.0.0.0", "--token", "t", "--max-mb", "2"]))
    assert made["hosts"] == () and made["rate"] == 10 and made["token"] == "t" and made["max_bytes"] == 2_000_000


@pytest.mark.parametrize(
    "arguments, is_warned",
    [
        ([], False),
        (["--name", "reid.example.org"], True),
        (["--host", "0.0.0.0"], True),
        (["--name", "a", "--token", "t"], False),
    ],
)
def test_the_tool_says_when_anybody_can_look(arguments, is_warned, monkeypatch, capsys):
    uvicorn = pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')
    from vitreid.tools import serve

    monkeypatch.delenv("VITREID_TOKEN", raising=False)
    monkeypatch.setattr(serve, "make_app", lambda args: None)
    monkeypatch.setattr(uvicorn, "run", lambda *_, **__: None)
    assert serve.main(["--gallery", "g", "--weights", "w", *arguments]) == 0
    assert ("anybody who reaches" in capsys.readouterr().out) == is_warned


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_the_tool_names_the_package_that_is_missing(missing, folder, monkeypatch, capsys):
    pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')
    from vitreid.tools import serve

    monkeypatch.setattr(serve, "Embedder", lambda weights, device: FakeEmbedder())
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "vitreid.gallery.web.app", raising=False)
    assert serve.main(["--gallery", str(folder), "--weights", "w"]) == 2
    assert f'serving a gallery needs {missing}: pip install "vitreid[serve]"' in capsys.readouterr().err
