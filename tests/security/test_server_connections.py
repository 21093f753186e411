"""The server's connections: what a client does not send in time, how many there may be, who must leave."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest
from helpers import ROOT

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')
pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')

from live_server import answer, connect, is_closed, live, request, wait_until
from uvicorn.protocols.http.h11_impl import H11Protocol
from web_gallery import COLOURS, FakeEmbedder, encode, person

from vitreid.gallery import Gallery
from vitreid.gallery.web import create_app
from vitreid.gallery.web.guard import connections, middleware

pytestmark = pytest.mark.slow
SEARCH = request("POST", "/search", b'{"id": 0}', Content_Type="application/json")
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="image"; filename="f"\r\n\r\n'
    + encode(person(COLOURS[0]))
    + b"\r\n--b--\r\n"
)
UPLOAD = request("POST", "/embed", FORM, Content_Type="multipart/form-data; boundary=b")


@pytest.fixture
def app(served):
    return create_app(Gallery.open(served), FakeEmbedder())


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)


@pytest.mark.parametrize(
    "start",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: y", b"\r\n", request("GET", "/health")],
    ids=["nothing", "half a line", "half a head", "an empty line", "one request"],
)
def test_a_client_that_sends_no_request_in_time_is_disconnected(start, app, impatient):
    with live(app) as (port, _pool):
        assert is_closed(connect(port, start))
        assert answer(connect(port, request("GET", "/health")))[0] == 200


def test_a_client_that_sends_byte_by_byte_gains_no_time(app, impatient):
    with live(app) as (port, _):
        connection, stop = connect(port, b"GET / HTTP/1.1\r\n"), threading.Event()

        def trickle():
            while not stop.wait(0.02):
                try:
                    connection.send(b"X: y\r\n")
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        assert is_closed(connection)
        stop.set()
        thread.join()


def test_a_body_that_does_not_arrive_is_answered_and_its_connection_closed(app, monkeypatch):
    monkeypatch.setattr(middleware, "BODY_SECONDS", 0.2)
    with live(app) as (port, _):
        connection = connect(port, SEARCH[:-1])
        status, body = answer(connection)
        assert status == 408 and "did not arrive within 0.2 s" in json.loads(body)["detail"]
        assert is_closed(connection)


def test_a_body_in_many_small_parts_is_refused_before_it_is_read(app):
    """Each part of one byte would cost as much as the head of a request."""
    head = request("POST", "/search", Content_Type="application/json", Transfer_Encoding="chunked")
    with live(app) as (port, _):
        for parts in (b"", b"1\r\nx\r\n" * 30_000):
            connection = connect(port, head + parts)
            assert answer(connection)[0] == 411
            assert is_closed(connection)


@pytest.mark.parametrize("requests", [("/image/0",), ("/image/0",) * 3, ("/image/0", "/image/x")])
def test_a_client_that_does_not_read_is_disconnected(requests, served, tmp_path, impatient, monkeypatch):
    monkeypatch.setattr(middleware, "SEND_SECONDS", 0.2)
    (tmp_path / "large.png").write_bytes(encode(person(COLOURS[0])) + bytes(20_000_000))
    gallery = Gallery.open(served)
    gallery.image_path = lambda _: tmp_path / "large.png"
    with live(create_app(gallery, FakeEmbedder())) as (port, pool):
        connection = connect(port, b"".join(request("GET", path) for path in requests))
        wait_until(lambda: len(pool) == 1)
        wait_until(lambda: not len(pool))
        connection.close()


def test_a_client_that_reads_slowly_is_not_disconnected(served, tmp_path, impatient, monkeypatch):
    monkeypatch.setattr(middleware, "SEND_SECONDS", 0.5)
    (tmp_path / "large.png").write_bytes(encode(person(COLOURS[0])) + bytes(20_000_000))
    gallery = Gallery.open(served)
    gallery.image_path = lambda _: tmp_path / "large.png"
    with live(create_app(gallery, FakeEmbedder())) as (port, _):
        connection, length = connect(port, request("GET", "/image/0") + request("GET", "/health")), 0
        while length < 20_000_000:  # for about two seconds
            time.sleep(0.05)
            length += (taken := len(connection.recv(500_000)))
            assert taken


def test_a_request_before_the_end_of_another_waits(app):
    with live(app) as (port, _):
        connection = connect(port, SEARCH + request("GET", "/health") + SEARCH)
        assert answer(connection)[0] == 200


# ---- how many


def test_new_connections_replace_the_oldest_idle_ones(app):
    with live(app, most=4) as (port, pool):
        idle = [connect(port, b"GET / HTTP/1.1\r\n") for _ in range(4)]
        for _ in range(3):
            assert answer(connect(port, request("GET", "/health")))[0] == 200
        assert is_closed(idle[0]) and len(pool) <= 4


def test_a_connection_that_has_sent_requests_outlives_those_that_never_did(app):
    with live(app, most=4) as (port, _):
        known = connect(port, request("GET", "/health"))
        assert answer(known)[0] == 200
        for _ in range(12):
            connect(port)
        known.sendall(request("GET", "/health"))
        assert answer(known)[0] == 200


def test_a_request_at_work_is_never_cut_off(served):
    embedder = FakeEmbedder()
    embedder.gate = threading.Event()
    with live(create_app(Gallery.open(served), embedder), most=2) as (port, _):
        busy = [connect(port, UPLOAD) for _ in range(2)]
        assert embedder.is_busy.wait(20)
        while True:  # until both are at work there may be room for one more
            late = connect(port)
            if is_closed(late):
                break
        embedder.gate.set()
        assert [answer(connection)[0] for connection in busy] == [200, 200]


def test_a_request_whose_client_has_left_is_stopped(served):
    """Otherwise a client that leaves at once could queue more work than one that waits."""
    embedder = FakeEmbedder()
    embedder.gate = threading.Event()
    with live(create_app(Gallery.open(served), embedder)) as (port, pool):
        first = connect(port, UPLOAD)
        assert embedder.is_busy.wait(20)
        for _ in range(5):
            connect(port, UPLOAD).close()
        wait_until(lambda: len(pool) == 1)
        embedder.gate.set()
        assert answer(first)[0] == 200
        assert answer(connect(port, UPLOAD))[0] == 200
    assert sum(embedder.sizes) == 2


SERVER = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
from web_gallery import FakeEmbedder
from vitreid.gallery import Gallery
from vitreid.gallery.web import create_app, server
with server.listening("127.0.0.1", 0) as sockets:
    ready = lambda: print(sockets[0].getsockname()[1], flush=True)
    server.run(create_app(Gallery.open(sys.argv[1]), FakeEmbedder()), sockets, (), ready)
"""


def test_with_few_file_descriptors_the_server_stays_reachable_and_its_log_short(served, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}){SERVER}"
    with open(tmp_path / "log", "w+b") as log:
        process = subprocess.Popen([sys.executable, "-c", code, str(served)], stdout=subprocess.PIPE, stderr=log)
        try:
            port = int(process.stdout.readline())
            idle = [connect(port) for _ in range(300)]
            for _ in range(20):
                connection = connect(port, SEARCH)
                assert answer(connection)[0] == 200
                connection.close()
                idle.append(connect(port, b"no request\r\n\r\n"))
        finally:
            process.terminate()
            assert process.wait(20) in (0, -signal.SIGTERM)  # uvicorn ends in order, then passes the signal on
        assert log.seek(0, 2) < 20_000


# ---- refused bodies


def test_the_rest_of_a_refused_body_is_dropped_in_large_pieces(app, monkeypatch):
    """In pieces of a head's size, it would cost as much as thousands of requests."""
    received, sizes = H11Protocol.data_received, []
    monkeypatch.setattr(
        H11Protocol, "data_received", lambda self, data: sizes.append(len(data)) or received(self, data)
    )
    body = b" " * 5_000_000
    with live(app) as (port, _):
        connection = connect(port, request("POST", "/search", body, Content_Type="application/json"))
        assert answer(connection)[0] == 413
        connection.sendall(request("GET", "/health"))  # the connection stays usable
        assert answer(connection)[0] == 200
    assert sum(sizes) > len(body) and len(sizes) < 400


# ---- who asks


def test_another_address_in_a_header_does_not_lift_the_rate_limit(served):
    app = create_app(Gallery.open(served), FakeEmbedder(), rate=1e-3)
    with live(app) as (port, _):
        statuses = [
            answer(connect(port, SEARCH.replace(b"Host", b"X-Forwarded-For: 10.0.0.%d\r\nHost" % i)))[0]
            for i in range(3)
        ]
    assert statuses == [200, 429, 429]


def test_a_trusted_proxy_names_its_clients(served):
    app = create_app(Gallery.open(served), FakeEmbedder(), rate=1e-3)
    with live(app, proxies=["127.0.0.1"]) as (port, _):
        forged = [SEARCH.replace(b"Host", b"X-Forwarded-For: 10.0.0.%d, 10.0.1.1\r\nHost" % i) for i in range(2)]
        other = SEARCH.replace(b"Host", b"X-Forwarded-For: 10.0.1.2\r\nHost")
        assert [answer(connect(port, content))[0] for content in (*forged, other)] == [200, 429, 200]
        if sys.platform == "linux":  # all of 127.0.0.0/8 are this machine
            assert answer(connect(port, forged[1], source="127.0.0.9"))[0] == 200  # no proxy: it is the client itself
