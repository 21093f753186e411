"""A gallery's file that another program cuts short while the server reads it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from helpers import ROOT

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')
pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')

from live_server import answer, connect, request, wait_until

from vitreid.gallery import Gallery, GalleryInfo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "preadv"), reason="this system cuts no file short that is open"),
]
DIM, SECONDS = 64, 0.3
ROWS = 2**22 // (4 * DIM) + 10_000  # more than a block that is read at once
SEARCH = request(
    "POST", "/search", json.dumps({"vector": [1.0] * DIM, "topk": 3}).encode(), Content_Type="application/json"
)
HEALTH = request("GET", "/health")

# Arguments: the gallery, how it is opened, the bytes of memory that are available, and a file: when it is there, the next block is cut
# short, by a read that finds half of it, or between the look at the file's length and the reading.
SERVER = """
import os, sys
from pathlib import Path
from vitreid.gallery import Gallery
from vitreid.gallery.search import exact_index
from vitreid.gallery.storage import embeddings_file
from vitreid.gallery.web import create_app, server, service
from web_gallery import FakeEmbedder

gallery, way, memory, flag = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
file, preadv, check_length = gallery / "embeddings.npy", os.preadv, exact_index.check_length

def cut_at(size):
    if flag.exists():
        flag.unlink()
        os.truncate(file, size)

def read_half(handle, buffers, place):
    if not flag.exists():
        return preadv(handle, buffers, place)
    count = preadv(handle, [buffers[0][: len(buffers[0]) // 2]], place)
    cut_at(place + count)
    return count

def check_then_cut(rows):
    check_length(rows)
    cut_at(128 + 1000)

os.preadv, exact_index.check_length = read_half, check_then_cut
embeddings_file.available_memory = lambda: memory
service.REFRESH_SECONDS = SECONDS_OF_TEST
opened = Gallery.open(gallery, rows=way)
print(type(opened.embeddings).__name__, flush=True)
with server.listening("127.0.0.1", 0) as sockets:
    app = create_app(opened, FakeEmbedder())
    server.run(app, sockets, [], lambda: print(sockets[0].getsockname()[1], flush=True))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large") / "gallery"
    rows = np.random.default_rng(0).standard_normal((ROWS, DIM), np.float32)
    gallery = Gallery.create(folder, GalleryInfo("sha256:fake", DIM))
    gallery.add(rows, [{"path": f"{number}.jpg"} for number in range(ROWS)], "sha256:fake")
    return folder


@contextmanager
def serving(folder, way, memory, flag):
    """Serve the gallery in another process; yield the process, the class of its rows, and its port."""
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})\n{SERVER.replace('SECONDS_OF_TEST', str(SECONDS))}"
    arguments = [sys.executable, "-c", code, folder, way, str(memory), flag]
    process = subprocess.Popen([*map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process, process.stdout.readline().decode().strip(), int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def ask(port, content):
    status, body = answer(connect(port, content))
    return status, json.loads(body)


def found(answer):
    return [(row["id"], row["distance"]) for row in answer[1]["results"]]


@pytest.mark.parametrize("way", ["kept", "read"])
def test_a_gallery_that_does_not_fit_into_memory_is_cut_short_while_a_block_is_read(way, large, tmp_path):
    copy, flag = shutil.copytree(large, tmp_path / "copy"), tmp_path / "flag"
    content = (copy / "embeddings.npy").read_bytes()
    with serving(copy, way, len(content), flag) as (process, kind, port):
        assert kind == "FileRows"
        whole = ask(port, SEARCH)
        assert whole[0] == 200
        flag.touch()
        status, body = ask(port, SEARCH)
        size = (copy / "embeddings.npy").stat().st_size
        assert (
            status == 503 and not flag.exists() and 128 < size < len(content) and size % 4096
        )  # in the middle of a block
        assert (
            f"embeddings.npy was cut short by another program: {size} of {len(content)} bytes are left"
            in body["detail"]
        )
        assert ask(port, HEALTH)[0] == 200 and ask(port, SEARCH)[0] == 503 and process.poll() is None
        (copy / "embeddings.npy").write_bytes(content)
        wait_until(lambda: ask(port, SEARCH)[0] == 200)
        assert found(ask(port, SEARCH)) == found(whole)


def test_a_gallery_in_memory_answers_until_it_is_next_looked_at(large, tmp_path):
    copy, flag = shutil.copytree(large, tmp_path / "copy"), tmp_path / "flag"
    content = (copy / "embeddings.npy").read_bytes()
    with serving(copy, "kept", 4 * len(content), flag) as (process, kind, port):
        assert kind == "ndarray"
        whole = ask(port, SEARCH)
        flag.touch()
        assert found(ask(port, SEARCH)) == found(whole) and not flag.exists()
        wait_until(lambda: ask(port, SEARCH)[0] == 503)
        assert ask(port, HEALTH)[0] == 200 and process.poll() is None
        (copy / "embeddings.npy").write_bytes(content)
        wait_until(lambda: ask(port, SEARCH)[0] == 200)
        assert found(ask(port, SEARCH)) == found(whole)


@pytest.mark.skipif(sys.platform != "linux", reason="another signal elsewhere")
def test_the_same_moment_ends_a_process_that_reads_through_a_map(large, tmp_path):
    """What the other ways are for: without this, the tests above would not show anything."""
    copy, flag = shutil.copytree(large, tmp_path / "copy"), tmp_path / "flag"
    with serving(copy, "mapped", 0, flag) as (process, kind, port):
        assert kind == "memmap" and ask(port, SEARCH)[0] == 200
        flag.touch()
        connection = connect(port, SEARCH)
        assert process.wait(60) == -signal.SIGBUS
        connection.close()
