"""The probability that a result is the person: in results, verdicts, tables and JSON, if the threshold has one."""

import json

import numpy as np
import pytest
from web_gallery import THRESHOLD, FakeEmbedder, encode, person, upload

from vitreid.gallery import Gallery, GalleryInfo
from vitreid.labels.match_probability import MatchProbability
from vitreid.tools import search as tool

CURVE = MatchProbability((0.0, 1.0), (6.0, -6.0), "euclidean", 2.0)
ROWS = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], np.float32)


@pytest.fixture
def gallery(tmp_path):
    made = Gallery.create(tmp_path / "gallery", GalleryInfo("sha256:fake", 2, threshold=THRESHOLD))
    made.add(ROWS, [{"path": f"{i}.jpg"} for i in range(4)], "sha256:fake")
    return made


def with_curve(gallery, **change):
    gallery.set_info(threshold={**THRESHOLD, "probability": {**CURVE.to_dict(), **change}})
    return gallery


def test_results_have_the_probability_of_a_gallery_of_this_size(gallery):
    """Two of four images are expected to show the person; more images make each less likely."""
    assert gallery.search(ROWS[0], 3)[0].probabilities is None
    result = with_curve(gallery).search(ROWS[0], 3)[0]
    assert np.allclose(result.probabilities, CURVE(result.distances, prior=0.5))
    gallery.add(np.tile(-ROWS, (25, 1)), [{"path": f"{i}"} for i in range(100)], "sha256:fake")
    found = gallery.search(ROWS[0], 2)[0]
    assert np.allclose(found.probabilities, CURVE(found.distances, prior=2 / 104))
    assert [one["probability"] for one in found.to_dict()["results"]] == found.probabilities.tolist()


def test_reranked_results_keep_the_probability_of_their_distance(gallery):
    result = with_curve(gallery).search(ROWS[0], 3, rerank={"k1": 2, "k2": 1})[0]
    assert np.allclose(result.probabilities, CURVE(result.distances, prior=0.5))


def test_two_crops_are_compared_at_even_odds(gallery):
    assert gallery.same_person(ROWS[0], ROWS[1]).probability is None
    assert "probability" not in gallery.same_person(ROWS[0], ROWS[1]).to_dict()
    verdict = with_curve(gallery).same_person(ROWS[0], ROWS[1])
    assert verdict.probability == pytest.approx(float(CURVE(verdict.distance)))
    assert verdict.to_dict()["probability"] == verdict.probability


def test_damaged_numbers_are_named(gallery):
    with pytest.raises(ValueError, match="probability: expected ascending distances .*calibrate again"):
        with_curve(gallery, distances=[1.0, 0.0]).search(ROWS[0])


def test_tables_and_json_show_it(gallery):
    plain = gallery.search(ROWS[0], 2)
    assert "probability" not in tool.as_text(["a.jpg"], plain) + tool.as_json(["a.jpg"], plain)
    found = with_curve(gallery).search(ROWS[0], 4)
    text = tool.as_text(["a.jpg"], found)
    assert "probability" in text.splitlines()[1] and ">99 %" in text and "<1 %" in text
    assert json.loads(tool.as_json(["a.jpg"], found))[0]["results"][0]["probability"] > 0.99


def test_the_server_sends_it(client, served):
    pytest.importorskip("fastapi", reason="not installed: fastapi")
    from fastapi.testclient import TestClient

    from vitreid.gallery.web import create_app

    content = encode(person((200, 30, 30)))
    assert upload(client, content).json()["results"][0]["probability"] is None
    gallery = Gallery.open(served)
    gallery.set_info(threshold={**THRESHOLD, "probability": CURVE.to_dict()})
    with TestClient(create_app(Gallery.open(served), FakeEmbedder())) as other:
        found = upload(other, content).json()["results"]
    gallery.set_info(threshold=THRESHOLD)
    assert found[0]["probability"] > found[-1]["probability"]
