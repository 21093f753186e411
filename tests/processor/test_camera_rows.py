"""Cameras given by name find their rows of side information: whole or bare; unknown ones are named once, not silently replaced."""

import logging

import numpy as np
import pytest

from vitreid.processor.embedding.embedder import Embedder
from vitreid.tools import test as tool


@pytest.fixture
def embedder(untrained):
    """It knows market1501/c1, /c2 and /c3, whose rows differ."""
    return Embedder(untrained, device="cpu", precision="fp32")


@pytest.fixture
def image(people):
    return str(sorted((people / "synthetic" / "query").glob("*.jpg"))[0])


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_bare_name_is_the_camera_of_the_training_set(embedder, image, caplog):
    whole, bare, fallback = (embedder(image, camera) for camera in ("market1501/c2", "c2", None))
    assert np.array_equal(whole, bare) and not np.array_equal(bare, fallback)
    assert not warnings(caplog)


def test_pandas_cameras_are_names(embedder, image, caplog):
    embedder([image, image], [1.0, float("nan")])
    assert warnings(caplog)[0].startswith("camera unknown to the model: 1;")


def test_an_unknown_camera_is_named_once(embedder, image, caplog):
    found = embedder([image] * 3, ["door", "market1501/c9", None])
    embedder(image, "door")
    embedder.attention(image, "door")
    assert np.array_equal(found[0], found[2])
    (message,) = warnings(caplog)
    assert "camera unknown to the model: door, market1501/c9; " in message
    assert "It knows market1501/c1, market1501/c2, market1501/c3" in message


def test_an_evaluation_names_unknown_cameras_once(people, checkpoint, tmp_path, caplog):
    images = sorted((people / "synthetic" / "query").glob("*.jpg"))[:2]
    lines = [f"{images[0]},1,c1,query", f"{images[1]},1,door,gallery"]
    (tmp_path / "people.csv").write_text("\n".join(["path,pid,camid,split", *lines]))
    words = ["DATASETS.NAMES", "manifest", "DATASETS.MANIFEST", str(tmp_path / "people.csv")]
    assert tool.main(["--weights", str(checkpoint), "--output", str(tmp_path / "numbers.json"), *words]) == 0
    found = [message for message in warnings(caplog) if "unknown to the model" in message]
    assert len(found) == 1 and "model: door;" in found[0]
