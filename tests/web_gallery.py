"""A small gallery for the tests of the web server and its page: each person is a colour."""

from __future__ import annotations

import io
import threading

import numpy as np
from PIL import Image

from vitreid.gallery import Gallery, GalleryInfo

COLOURS = [(200, 30, 30), (190, 40, 30), (30, 200, 30), (30, 30, 200), (210, 20, 40), (40, 40, 210)]
CAMERAS = ["c1", "c2", "c1", "c2", "c 3, left", None]
THRESHOLD = {
    "distance": 0.25,
    "metric": "euclidean",
    "fmr": 0.001,
    "measured_fmr": 0.001,
    "fmr_low": 0.0,
    "fmr_high": 0.01,
    "tar": 0.9,
    "num_genuine": 10,
    "num_impostor": 1000,
    "level": 0.95,
}


class MeanColour:
    """The mean colour of an image, at unit length; the camera does not matter."""

    fingerprint = "sha256:fake"

    def __call__(self, images, cameras):
        rows = np.array([image.reshape(-1, 3).mean(0) for image in images], np.float32) + 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def attention(self, image, camera):
        return np.linspace(0, 1, 8).reshape(4, 2)


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


def upload(client, content, path="/search", **fields):
    return client.post(path, files={"image": ("crop.png", content)}, data=fields)


def ids(response):
    assert response.status_code == 200, response.text
    return [found["id"] for found in response.json()["results"]]


def make_gallery(root):
    """Make a gallery of six crops: three of one person, one of another, two of a third; the last of no known camera."""
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
