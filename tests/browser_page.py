"""The gallery's page in a browser: a server for it, and what the tests of the page wait for."""

import tempfile
import time
from contextlib import contextmanager

import numpy as np
from live_server import live
from PIL import Image
from web_gallery import CAMERAS, COLOURS, THRESHOLD, MeanColour

from vitreid.gallery import Gallery, GalleryInfo
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
