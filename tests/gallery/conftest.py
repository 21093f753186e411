"""The gallery that the tests of the web server ask."""

import pytest
from web_gallery import CAMERAS, COLOURS, PIDS, THRESHOLD, FakeEmbedder, encode, person

from vitreid.gallery import Gallery, GalleryInfo


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A gallery of six crops: three of one person, one of another, two of a third; the last of no known camera."""
    root = tmp_path_factory.mktemp("served")
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


@pytest.fixture(scope="module")
def client(served):
    from fastapi.testclient import TestClient  # an optional extra, as is the application's FastAPI

    from vitreid.gallery.web import create_app

    with TestClient(create_app(Gallery.open(served), FakeEmbedder()), raise_server_exceptions=False) as client:
        yield client
