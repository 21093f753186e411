"""What a stranger put in the place of a file: every reader refuses it by name, at once and in little memory, and writes nothing."""

import json
import os
import signal
import socket
import struct
import sys
import tracemalloc
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')

from vitreid.benchmarks.attacks.stranger_files import FILES, read, sample_of
from vitreid.common.errors import UserError
from vitreid.common.text import parse_json

KINDS = [kind for kind in FILES if not kind.startswith("request")]
TOLERANT = {  # readers that do without a file that they cannot read
    "gallery: cameras.npz",  # computed again from the rows
    "gallery: export.json",  # the export starts anew
    "weights: config.json",  # only helps to recognise the model
    "table: film",
}
BLOCKS = 64 * 2**20  # bytes of Python's and NumPy's memory that refusing a file may take
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs pipes and sparse files")


@contextmanager
def at_once(seconds=10):
    """Raise in what hangs."""

    def stop(*_):
        raise AssertionError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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
    assert peak < BLOCKS, f"{peak / 1e6:.0f} MB"
    return message


def pipe(path):
    os.mkfifo(path)


def endless_device(path):
    path.symlink_to("/dev/zero")


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # the name of a socket has at most 108 characters
        server.bind(path.name)


def folder(path):
    path.mkdir()


@pytest.mark.parametrize("put", [pipe, endless_device, unix_socket, folder])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused_by_name(kind, put, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = sample_of(kind, tmp_path / "made")
    path.unlink()
    put(path)
    message = refusal(kind, path)
    assert path.name in message or (not message and kind in TOLERANT)


@pytest.mark.parametrize("kind", KINDS)
def test_64_gigabytes_are_not_read(kind, tmp_path):
    """A sparse file: its end takes no space on the disk."""
    path = sample_of(kind, tmp_path / "made")
    os.truncate(path, 2**36)
    message = refusal(kind, path)
    assert path.name in message or kind in {*TOLERANT, "gallery: embeddings.npy"}, (
        "rows behind the last are of an interrupted addition"
    )
