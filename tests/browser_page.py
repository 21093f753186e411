"""The gallery's page in a browser: a server for it, and what the tests of the page wait for."""

import tempfile
import time
from contextlib import contextmanager

import cv2
import numpy as np
from live_server import live
from PIL import Image
from web_gallery import CAMERAS, COLOURS, THRESHOLD, MeanColour

from vitreid.gallery import Gallery, GalleryInfo
from vitreid.gallery.storage.file_names import TRACK_CROPS
from vitreid.gallery.web import create_app


@contextmanager
def serving(files, threshold=THRESHOLD, changes=(), **options):
    """Serve a gallery of the pictures 0.png to 5.png in a folder, a minute apart; yield its address.

    Args:
        changes: (id, values) of records.
        options: of `create_app`.
    """
    info = GalleryInfo(MeanColour.fingerprint, 3, threshold=threshold)
    gallery = Gallery.create(tempfile.mkdtemp(dir=files), info)
    records = [
        {"path": str(files / f"{i}.png"), "camera": CAMERAS[i], "time": 1.7e9 + 60 * i, "pid": f"<b>{i}</b>"}
        for i in range(len(COLOURS))
    ]
    images = [np.asarray(Image.open(record["path"])) for record in records]
    gallery.add(MeanColour()(images, CAMERAS), records, MeanColour.fingerprint)
    for id, values in changes:
        gallery.update([id], values)
    with live(create_app(gallery, MeanColour(), **options)) as (port, _):
        yield f"http://127.0.0.1:{port}/"


def found(page):
    """Wait for the end of the search; return the ids in the order shown."""
    page.wait_for_selector("body:not(.busy) .card .distance")
    return [int(pick.get_attribute("data-id")) for pick in page.query_selector_all(".pick")]


def wait_until(page, condition):
    """Wait for a JavaScript condition; the page's security policy forbids `page.wait_for_function`."""
    deadline = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)


# ---- recordings

FPS, FRAMES, SIZE = 10, 80, (180, 320)  # height and width
BERLIN = "+01:00"
EIGHT = 1769842800.0  # 2026-01-31T08:00+01:00
VISITS = [  # recording, colour, first and last frame: one person (red) in both, another (blue) in the lobby
    ("lobby", (200, 30, 30), 10, 40),
    ("lobby", (30, 30, 200), 45, 70),
    ("yard", (205, 35, 30), 20, 50),
    ("yard", (195, 30, 25), 55, 75),
    ("gate", (200, 40, 40), 5, 30),
]
STARTS = {"lobby": EIGHT, "yard": EIGHT + 3600, "gate": EIGHT + 12 * 3600}
SUFFIXES = {"lobby": ".webm", "yard": ".webm", "gate": ".avi"}


def box_at(first, frame):
    """Return x, y, width and height of a person who walks to the right."""
    return 20 + 4 * (frame - first), 50, 36, 90


def write_recording(path, name):
    """Write a film of grey walls and coloured people; VP8 in WebM, which browsers play, or MJPEG in AVI, which they do not."""
    codec = "VP80" if path.suffix == ".webm" else "MJPG"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), FPS, SIZE[::-1])
    for number in range(FRAMES):
        frame = np.full((*SIZE, 3), 150, np.uint8)
        for recording, colour, first, last in VISITS:
            if recording == name and first <= number <= last:
                x, y, width, height = box_at(first, number)
                frame[y : y + height, x : x + width] = colour[::-1]
        writer.write(frame)
    writer.release()


def make_recordings(folder):
    """Make recordings and the gallery that `vitreid export` would make of them; return its folder."""
    gallery = Gallery.create(folder / "recordings", GalleryInfo(MeanColour.fingerprint, 3, threshold=THRESHOLD))
    crops = gallery.path / TRACK_CROPS
    crops.mkdir()
    for name, suffix in SUFFIXES.items():
        write_recording(folder / f"{name}{suffix}", name)
    records, images = [], []
    for number, (name, colour, first, last) in enumerate(VISITS):
        middle = (first + last) // 2
        x, y, width, height = box_at(first, middle)
        for frame in (first, middle, last):
            Image.new("RGB", (width, height), colour).save(crops / f"0-{name}-{number}-{frame:06d}.jpg")
        images.append(np.full((height, width, 3), colour, np.uint8))
        records.append(
            {
                "path": f"{TRACK_CROPS}/0-{name}-{number}-{middle:06d}.jpg",
                "camera": name,
                "time": STARTS[name] + first / FPS,
                "end_time": STARTS[name] + last / FPS,
                "duration": (last - first) / FPS,
                "time_zone": BERLIN,
                "tracklet": f"{name}/{number}",
                "video": str(folder / f"{name}{SUFFIXES[name]}"),
                "frame": middle,
                "first_frame": first,
                "last_frame": last,
                "x": float(x),
                "y": float(y),
                "width": float(width),
                "height": float(height),
            }
        )
    gallery.add(MeanColour()(images, []), records, MeanColour.fingerprint)
    return gallery.path
