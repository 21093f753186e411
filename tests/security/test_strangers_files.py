"""What a stranger put in the place of a file: every reader refuses it by name, at once and in little memory."""

import os
import socket
import sys
import tracemalloc

import pytest

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')

from deadline import at_once

from vitreid.benchmarks.attacks.stranger_files import FILES, read, sample_of
from vitreid.common.errors import UserError

KINDS = [kind for kind in FILES if not kind.startswith("request")]
TOLERANT = {  # readers that do without a file that they cannot read
    "gallery: cameras.npz",  # computed again from the rows
    "gallery: export.json",  # the export starts anew
    "weights: config.json",  # only helps to recognise the model
    "run: metrics.jsonl",  # a report without curves
}
READ_FROM_THE_START = {  # what follows is not looked at
    "weights: torch before 1.6",
    "gallery: embeddings.npy",  # rows of an interrupted addition
    *(f"image: {kind}" for kind in ("jpg", "png", "webp", "bmp", "gif", "tiff")),
}
MEMORY = 2**26  # bytes of Python's and NumPy's memory that refusing a file may take
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs pipes and sparse files")


def refusal(kind, path):
    """Return the message with which the reader refuses the file; "" if it does without."""
    tracemalloc.start()
    try:
        with at_once():
            read(kind, path)
        message = ""
    except (UserError, OSError) as error:
        message = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MEMORY, f"{peak / 1e6:.0f} MB"
    return message


def pipe(path):
    os.mkfifo(path)


def endless_device(path):
    path.symlink_to("/dev/zero")


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # the name of a socket has at most 108 characters
        server.bind(path.name)


def link_to_itself(path):
    path.symlink_to(path)


@pytest.mark.parametrize("put", [pipe, endless_device, unix_socket, link_to_itself])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused_by_name(kind, put, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = sample_of(kind, tmp_path / "made")
    path.unlink()
    put(path)
    message = refusal(kind, path)
    assert path.name in message or "/dev/zero" in message or (not message and kind in TOLERANT)


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_to_a_sound_file_is_read(kind, tmp_path):
    """Data sets are often folders of links; only the files that vitreid writes itself are never links (test_writers.py)."""
    path = sample_of(kind, tmp_path / "made")
    elsewhere = path.rename(tmp_path / path.name)
    path.symlink_to(elsewhere)
    assert refusal(kind, path) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_64_gigabytes_are_not_read(kind, tmp_path):
    """A sparse file: its end takes no space on the disk."""
    path = sample_of(kind, tmp_path / "made")
    os.truncate(path, 2**36)
    assert path.name in refusal(kind, path) or kind in TOLERANT | READ_FROM_THE_START


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_is_refused_by_name(kind, size, tmp_path):
    path = sample_of(kind, tmp_path / "made")
    os.truncate(path, size)
    message = refusal(kind, path)
    reads_lines = kind.startswith(("table", "config", "boxes: mot", "boxes: yolo", "boxes: csv", "run"))  # fewer lines
    assert path.name in message or kind in TOLERANT or reads_lines
