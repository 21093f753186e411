"""What the web server refuses, limits and survives: tokens, sizes, rates, wrong input, many requests at once."""

import json
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')
pytest.importorskip("httpx", reason='needs the extra: pip install "vitreid[serve]"')

from fastapi import FastAPI
from fastapi.testclient import TestClient
from web_gallery import COLOURS, FakeEmbedder, encode, ids, person, upload

from vitreid.gallery import Gallery
from vitreid.gallery.web import Limits, RequestError, create_app
from vitreid.gallery.web import batcher as batcher_module
from vitreid.gallery.web.batcher import Batcher
from vitreid.gallery.web.guard.limits import RateLimit
from vitreid.gallery.web.media.upload_decode import decode
from vitreid.gallery.web.models import SearchFields

# ---- who may ask, how much


def test_another_models_embedder_is_refused(served):
    other = FakeEmbedder()
    other.fingerprint = "sha256:other"
    with pytest.raises(ValueError, match="sha256:fake.*sha256:other"):
        create_app(Gallery.open(served), other)


def test_with_a_token_only_its_bearer_sees_people(served):
    client = TestClient(create_app(Gallery.open(served), FakeEmbedder(), token="s3cret"))
    for path in ("/facets", "/image/0", "/nothing"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get(path, headers={"Authorization": b"Bearer \xff"}).status_code == 401
    refused = client.post("/search", json={"id": 0})
    assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
    assert "default-src 'none'" in refused.headers["content-security-policy"]
    assert client.get("/").status_code == client.get("/health").status_code == 200
    assert client.get("/image/0", headers={"Authorization": "Bearer s3cret"}).status_code == 200


def test_a_server_on_this_machine_answers_to_its_own_name_only(served):
    """Another site's name that resolves to 127.0.0.1 (DNS rebinding) must not read the gallery."""
    app = create_app(Gallery.open(served), FakeEmbedder(), hosts=("localhost", "[::1]"))
    client = TestClient(app)
    codes = {
        host: client.get("/facets", headers={"Host": host}).status_code
        for host in ("localhost:8000", "[::1]:80", "evil.com")
    }
    assert codes == {"localhost:8000": 200, "[::1]:80": 200, "evil.com": 421}


def test_too_many_requests_have_to_wait(served):
    client = TestClient(create_app(Gallery.open(served), FakeEmbedder(), rate=1e-3))
    assert client.post("/search", json={"id": 0}).status_code == 200
    refused = client.post("/search", json={"id": 0})
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 100
    assert client.get("/image/0").status_code == 200  # the page's own pictures are not counted


def test_below_another_application_the_same_rules_hold(served):
    outer = FastAPI()
    outer.mount("/people", create_app(Gallery.open(served), FakeEmbedder(), token="secret", rate=0.5))
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
    assert rate.wait("a") == 0  # its bucket was dropped for a newer client's


def test_large_bodies_are_stopped(served):
    client = TestClient(create_app(Gallery.open(served), FakeEmbedder(), max_bytes=2000))
    assert upload(client, bytes(3000)).status_code == 413
    assert client.post("/search", content=b" " * 3000, headers={"Content-Type": "application/json"}).status_code == 413


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
    ({}, "one of"),
    ({"id": 1, "vector": [1, 2, 3]}, "one of"),
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
    ({"id": 1, "where": ["camera=c1"] * 40}, "where: expected at most 16 items"),
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


def test_a_failing_model_is_reported_without_its_secrets(served):
    class Broken(FakeEmbedder):
        def __call__(self, images, cameras):
            raise RuntimeError("/secret/path")

    client = TestClient(create_app(Gallery.open(served), Broken()), raise_server_exceptions=False)
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


def test_a_batch_has_images_at_the_models_size(served):
    shapes = []

    class AtSize(FakeEmbedder):
        def planes(self, image):
            return np.ascontiguousarray(cv2.resize(image, (16, 32)).transpose(2, 0, 1))

        def __call__(self, images, cameras):
            shapes.extend(image.shape for image in images)
            return super().__call__(images, cameras)

    with TestClient(create_app(Gallery.open(served), AtSize(), hosts=["testserver"])) as client:
        for size in ((64, 32), (3000, 2000)):
            answer = upload(client, encode(person(COLOURS[0], size)), "/embed")
            assert answer.status_code == 200, answer.text
    assert shapes == [(32, 16, 3)] * 2
