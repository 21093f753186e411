"""The web server of a gallery: a fake model, a real gallery, requests without a network."""

import io
import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')
pytest.importorskip("httpx", reason='needs the extra: pip install "vitreid[serve]"')

from fastapi.testclient import TestClient
from web_gallery import COLOURS, FakeEmbedder, encode, ids, person, upload

from vitreid.gallery import Gallery, GalleryInfo, fit_pca, web
from vitreid.gallery.search.search_result import SearchResult
from vitreid.gallery.storage.record_images import BOX, box_of
from vitreid.gallery.web import RequestError, create_app
from vitreid.gallery.web import service as service_module
from vitreid.gallery.web.app import PAGES
from vitreid.gallery.web.models import SearchFields
from vitreid.gallery.web.routes import NUM_OVERLAYS
from vitreid.gallery.web.service import Service

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


def test_a_projected_gallery_is_searched_by_image_and_by_vectors_of_both_sizes(served, tmp_path):
    gallery = fit_pca(Gallery.open(served), tmp_path / "smaller", 2)
    with TestClient(create_app(gallery, FakeEmbedder(), hosts=["testserver"])) as client:
        assert ids(upload(client, encode(person(COLOURS[0]))))[0] == 0
        vector = upload(client, encode(person(COLOURS[2])), "/embed").json()["vector"]
        assert ids(client.post("/search", json={"vector": vector, "topk": 1})) == [2]
        stored = gallery.vectors_of([2])[0].tolist()
        assert ids(client.post("/search", json={"vector": stored, "topk": 1})) == [2]
        refused = client.post("/search", json={"vector": [1.0]})
    assert refused.status_code == 422 and "expected 2 or 3 numbers, got 1" in refused.json()["detail"]


def test_numbers_that_json_does_not_have_are_null(client):
    (found,) = client.post("/search", json={"id": 5, "topk": 1}).json()["results"]
    assert found["id"] == 3 and found["record"]["score"] is None


def test_facets_say_what_can_be_chosen(client):
    facets = client.get("/facets").json()
    assert facets["count"] == 6 and facets["time"] == [0, 500] and facets["threshold"] == 0.25
    assert {item["name"]: item["count"] for item in facets["cameras"]} == {"c1": 2, "c2": 2, "c 3, left": 1}
    assert facets["examples"] == [0, 1, 2, 3, 4, 5]
    assert facets["fmr"] == 0.001 and facets["missed"] == pytest.approx(0.1)


def test_removed_rows_are_gone_everywhere(served, tmp_path, monkeypatch):
    """Another process writes; the server notices."""
    copy = shutil.copytree(served, tmp_path / "copy")
    now = [0.0]
    service = Service(Gallery.open(copy), FakeEmbedder(), clock=lambda: now[0])
    Gallery.open(copy).remove([4])
    assert service.record(4)["pid"] == "red"  # as opened
    now[0] += service_module.REFRESH_SECONDS
    with pytest.raises(RequestError, match="id 4 is not in the gallery"):
        service.located(4)
    assert service.facets()["count"] == 5 and 4 not in service.facets()["examples"]


def test_a_gallery_that_was_deleted_is_not_served_any_more(served, tmp_path, monkeypatch):
    """Until it is back."""
    monkeypatch.setattr(service_module, "REPLACING_SECONDS", 0)
    copy, now = shutil.copytree(served, tmp_path / "copy"), [0.0]
    service = Service(Gallery.open(copy), FakeEmbedder(), clock=lambda: now[0])
    copy.rename(tmp_path / "away")
    now[0] += service_module.REFRESH_SECONDS
    for ask in (
        service.facets,
        lambda: service.record(4),
        lambda: service.located(4),
        lambda: search(service, 4),
    ):
        with pytest.raises(RequestError, match="was deleted or is damaged") as refused:
            ask()
        assert refused.value.status == 503
    (tmp_path / "away").rename(copy)
    now[0] += service_module.REFRESH_SECONDS
    assert service.facets()["count"] == 6 and search(service, 4)["results"]


def search(service, id):
    return service.search(SearchFields(id=id), None)


def test_a_gallery_that_is_replaced_at_this_moment_is_read_again(served, tmp_path, monkeypatch):
    copy, now = shutil.copytree(served, tmp_path / "copy"), [0.0]
    service = Service(Gallery.open(copy), FakeEmbedder(), clock=lambda: now[0])
    copy.rename(tmp_path / "away")
    monkeypatch.setattr(service_module.time, "sleep", lambda _: (tmp_path / "away").rename(copy))
    now[0] += service_module.REFRESH_SECONDS
    assert service.facets()["count"] == 6


@pytest.mark.parametrize("rows", [0, 3])
def test_embeddings_that_another_program_cut_short_are_not_read(rows, served, tmp_path):
    """Reading a memory map beyond the end of its file would end the server (SIGBUS)."""
    copy, now = shutil.copytree(served, tmp_path / "copy"), [0.0]
    service = Service(Gallery.open(copy), FakeEmbedder(), clock=lambda: now[0])
    whole = (copy / "embeddings.npy").read_bytes()
    os.truncate(copy / "embeddings.npy", 128 + 12 * rows)
    for fields, vector in ((SearchFields(id=4), None), (SearchFields(vector=[1, 2, 3]), np.ones(3, np.float32))):
        with pytest.raises(RequestError, match="was deleted or is damaged"):
            service.search(fields, vector)
    (copy / "embeddings.npy").write_bytes(whole)
    now[0] += service_module.REFRESH_SECONDS
    assert search(service, 4)["results"]


def test_facets_follow_records_that_change(served, tmp_path):
    """By this process or by another; the number of rows stays."""
    copy, now = shutil.copytree(served, tmp_path / "copy"), [0.0]
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
        self.path, self.info, self.columns, self.inner = gallery.path, gallery.info, gallery.columns, gallery
        self.asked = []

    def __len__(self):
        return len(self.inner)

    def refresh(self):
        self.inner.refresh()

    def select(self, columns):
        self.asked.append(columns)
        return self.inner.select(columns)

    def rows_of(self, ids):
        try:
            return self.inner.rows_at(self.inner.positions(ids))
        except ValueError as error:
            raise KeyError(str(error)) from error


def test_a_gallery_that_looks_up_by_id_is_not_read_whole(served):
    now = [0.0]
    gallery = ById(Gallery.open(served))
    service = Service(gallery, FakeEmbedder(), clock=lambda: now[0])
    facets = service.facets()
    assert facets == Service(gallery.inner, FakeEmbedder()).facets()
    assert service.record(4)["pid"] == "red"
    with pytest.raises(RequestError, match="id 9 is not in the gallery"):
        service.record(9)
    assert gallery.asked == [["id", "camera", "time"]]  # once: the facets are kept for a while
    now[0] += service_module.FACETS_SECONDS
    assert service.facets() == facets and len(gallery.asked) == 2


def test_a_match_that_reranking_cuts_off_is_told(client, monkeypatch):
    def cut(gallery, vectors, topk, where, rerank, cameras=None):
        far = np.ones(1, np.float32)
        return [SearchResult(np.array([3]), far, 0.25, far, lambda: gallery.rows_at([3]), nearest=0.1)]

    monkeypatch.setattr(Gallery, "search", cut)
    answer = client.post("/search", json={"id": 0, "topk": 1, "rerank": True}).json()
    assert answer["verdict"] == "match" and [found["verdict"] for found in answer["results"]] == ["different"]


# ---- images and pages


def test_a_row_that_another_program_removes_meanwhile_means_ask_again(client, monkeypatch):
    """In a Milvus, records are read by id, a moment after the search."""

    def found(gallery, vectors, topk, where, rerank, cameras=None):
        return [SearchResult(np.array([9]), np.ones(1, np.float32), look_up=lambda: {}[9])]

    monkeypatch.setattr(Gallery, "search", found)
    answer = client.post("/search", json={"id": 0})
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
    assert answer.json()["detail"] == "the gallery was rewritten since this search; search again"


def test_an_image_is_the_file_that_the_record_names(client, served):
    response = client.get("/image/2")
    assert response.content == (served.parent / "crops" / "2.png").read_bytes()
    assert response.headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    "path", ["/image/99", "/image/-1", f"/image/{10**30}", "/image/abc", "/image/..%2f..%2fetc%2fpasswd", "/image/"]
)
def test_no_path_from_a_request_touches_the_disk(client, path):
    response = client.get(path)
    assert response.status_code in (404, 422) and response.json()["detail"]


def test_a_record_that_names_no_image_shows_nothing(served, tmp_path):
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
    served = Path(web.__file__).parent / "static"
    assert sorted(PAGES.values()) == sorted(path.name for path in served.iterdir())


def test_the_api_describes_itself(client):
    api = client.get("/openapi.json").json()
    assert {"/search", "/embed", "/image/{id}", "/health"} <= set(api["paths"])
    kinds = {path: api["paths"][path]["post"]["requestBody"]["content"] for path in ("/search", "/attention", "/embed")}
    assert set(kinds["/search"]) == set(kinds["/attention"]) == {"multipart/form-data", "application/json"}
    fields = {path: list(kinds[path]["multipart/form-data"]["schema"]["properties"]) for path in kinds}
    assert fields["/embed"] == ["image", "camera"] and fields["/attention"] == ["image", "camera", "id"]
    assert fields["/search"] == [*fields["/attention"], "vector", "topk", "where", "rerank", "other_cameras"]
    assert kinds["/search"]["application/json"]["schema"]["properties"]["topk"]["maximum"] == 1000
    enrol = api["paths"]["/enrol"]["post"]["requestBody"]["content"]
    form, options = (list(enrol[kind]["schema"]["properties"]) for kind in ("multipart/form-data", "application/json"))
    assert form == ["who", "id", "image", "name", "camera"] and "least" in options
    assert enrol["multipart/form-data"]["schema"]["properties"]["image"]["maxItems"] == 16
    assert "$ref" not in json.dumps([kinds, enrol])  # the page of the API reads the fields in place


def test_attention_is_laid_over_an_upload_or_a_row(client):
    content = encode(person(COLOURS[0]))
    for response in (upload(client, content, "/attention"), client.post("/attention", json={"id": 0})):
        pixels = np.asarray(Image.open(io.BytesIO(response.content)))
        assert pixels.shape == (64, 32, 3) and int(pixels[-1, -1, 0]) > int(pixels[0, 0, 0])  # red where it looks
    assert client.post("/attention", json={"vector": [1, 2, 3]}).status_code == 422


def test_few_overlays_are_pixels_at_the_same_time(served):
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
    with TestClient(create_app(Gallery.open(served), Slow())) as client, ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: upload(client, content, "/attention").status_code, range(8)))
    assert statuses == [200] * 8 and max(most) <= NUM_OVERLAYS


def test_without_attention_there_is_none(served):
    class Plain(FakeEmbedder):
        attention = None

    client = TestClient(create_app(Gallery.open(served), Plain()))
    assert not client.get("/facets").json()["attention"]
    assert client.post("/attention", json={"id": 0}).status_code == 404
