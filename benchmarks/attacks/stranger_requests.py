"""Requests to the server of a gallery, as text: a line `METHOD PATH CONTENT-TYPE`, an empty line, the body."""

from __future__ import annotations

import atexit
import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitreid.gallery import Gallery, GalleryInfo
from vitreid.gallery.web import create_app

BOUNDARY = "b-o-u-n-d"
CONDITIONS = ["camera=c1", "pid!=3", "time>=2026-01-31T08:00", "path~a", "note in x,y"]


class ServerError(Exception):
    """A response of the status 500 or above."""


class MeanColour:
    """Embeds an image as its mean colour, at unit length."""

    fingerprint = "sha256:mean-colour"

    def __call__(self, images: list[np.ndarray], cameras: Sequence[str | None]) -> np.ndarray:
        rows = np.array([image.reshape(-1, 3).mean(0) for image in images], np.float32) + 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def attention(self, image: np.ndarray, camera: str | None) -> np.ndarray:
        """Return weights (4, 2) of the image's parts."""
        return np.linspace(0, 1, 8).reshape(4, 2)


def crop(red: int = 90) -> bytes:
    """Return a PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 32), (red, 120, 60)).save(buffer, "PNG")
    return buffer.getvalue()


def form(**fields: str) -> bytes:
    """Return a form with an image."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    image = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'.encode()
        + crop()
        + b"\r\n"
    )
    return b"".join([*parts, image, f"--{BOUNDARY}--\r\n".encode()])


JSON, FORM = "application/json", f"multipart/form-data; boundary={BOUNDARY}"
REQUESTS: dict[str, tuple[str, bytes]] = {
    "search by id": (
        f"POST /search {JSON}",
        json.dumps({"id": 0, "topk": 3, "where": CONDITIONS[:3], "rerank": True}).encode(),
    ),
    "search by vector": (
        f"POST /search {JSON}",
        json.dumps({"vector": [0.5, 0.6, 0.7], "exclude_camera": "c1"}).encode(),
    ),
    "search by image": (f"POST /search {FORM}", form(topk="3", camera="c1", where=CONDITIONS[0])),
    "embed": (f"POST /embed {FORM}", form(camera="c1")),
    "attention": (f"POST /attention {FORM}", form()),
    "attention of a row": (f"POST /attention {JSON}", b'{"id": 1}'),
    "image": ("GET /image/1?width=64 -", b""),
    "facets": ("GET /facets -", b""),
    "page": ("GET / -", b""),
}


HEADER = 60_000  # characters of a header that a server lets through


def make(name: str, folder: Path) -> Path:
    """Write a request and return its path."""
    head, body = REQUESTS[name]
    path = folder / "request.txt"
    path.write_bytes(head.encode() + b"\n\n" + body)
    return path


def send(path: Path) -> object:
    """Send the request in a file to the application; return the status.

    Raises:
        ServerError: the status is 500 or above; 503 means that the server protects itself, which is accepted.
    """
    head, _, body = path.read_bytes().partition(b"\n\n")
    words = head.decode("latin1").split(" ", 2)
    method, url, kind = (words + ["-"] * 3)[:3]
    headers = {} if kind == "-" else {"Content-Type": kind[:HEADER].replace("\n", " ").replace("\r", " ")}
    response = _client().request(
        _token(method), _url(url), content=body, headers={k: v.encode("latin1") for k, v in headers.items()}
    )
    if response.status_code >= 500 and response.status_code != 503:
        raise ServerError(f"{method} {url}: {response.status_code} {response.text[:200]}")
    return response.status_code


def _token(method: str) -> str:
    return "".join(letter for letter in method if letter.isalnum() and letter.isascii())[:20] or "GET"


def _url(text: str) -> str:
    """Return what a client can send: the path without control characters, of a limited length."""
    return "/" + "".join(letter for letter in text if letter.isprintable()).lstrip("/")[:4000]


@cache
def _client() -> Any:
    from fastapi.testclient import TestClient  # an optional extra

    folder = Path(tempfile.mkdtemp(prefix="vitreid-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    embedder, gallery = MeanColour(), Gallery.create(folder / "gallery", GalleryInfo(MeanColour.fingerprint, 3))
    (folder / "crop.png").write_bytes(crop())
    reds = [10 * number for number in range(20)]
    rows = embedder([np.full((4, 2, 3), red, np.uint8) for red in reds], [])
    records = [
        {"path": str(folder / "crop.png"), "pid": str(red % 7), "camera": f"c{red % 3}", "note": "x"} for red in reds
    ]
    gallery.add(rows, records, MeanColour.fingerprint)
    return TestClient(create_app(gallery, embedder), raise_server_exceptions=False)
