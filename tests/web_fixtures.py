"""The gallery that the tests of the web server ask, as fixtures of their folders' conftest.py."""

import pytest
from web_gallery import FakeEmbedder, make_gallery

from vitreid.gallery import Gallery


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    return make_gallery(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def client(served):
    from fastapi.testclient import TestClient  # an optional extra, as is the application's FastAPI

    from vitreid.gallery.web import create_app

    with TestClient(create_app(Gallery.open(served), FakeEmbedder()), raise_server_exceptions=False) as client:
        yield client
