"""TEST.CAMERA_NORM and TEST.NFC: applied before every figure, checked before the images are embedded, with their own thresholds."""

import json

import numpy as np
import pytest
from model_files import script_file

from vitreid import Embedder
from vitreid.configs import load_config
from vitreid.evaluation import centralise, centralise_queries, normalise_cameras
from vitreid.labels import camera_norm
from vitreid.processor import Rerank, ScoreOptions, load_features, rank, score
from vitreid.processor.scoring.evaluation_run import test as evaluate
from vitreid.processor.scoring.postprocessing import Postprocess
from vitreid.processor.scoring.reranking import RANKINGS, build_rerank

PLAIN = ScoreOptions()
BOTH = Postprocess("full", 2)


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """The synthetic gallery has 8 images of each camera."""
    monkeypatch.setattr(camera_norm, "LEAST_IMAGES", 5)


@pytest.fixture
def weights(tmp_path):
    path = script_file(tmp_path / "m.pt")
    (tmp_path / "m.pt.json").write_text(json.dumps({"size": [8, 4], "input": "rgb1"}))
    return str(path)


@pytest.fixture
def words(people):
    return ["DATASETS.NAMES", "market1501", "DATASETS.ROOT_DIR", str(people / "synthetic"), "MODEL.DEVICE", "cpu"]


@pytest.fixture
def features(weights, words, tmp_path):
    evaluate(weights, None, words, save_to=str(tmp_path / "f.safetensors"))
    return load_features(tmp_path / "f.safetensors")


def test_the_options_build_what_they_say():
    words = ["TEST.CAMERA_NORM", "mean", "TEST.NFC", "3", "TEST.RERANK", "aqe"]
    assert build_rerank(load_config(None, words)).postprocess == Postprocess("mean", 3)
    assert Postprocess().name == "" and BOTH.name == "camera_norm full, nfc 2" and Postprocess(nfc=2).name == "nfc 2"
    with pytest.raises(ValueError, match="TEST.CAMERA_NORM: unknown value 'all'; choose from full, mean, none"):
        Postprocess("all")


def test_cameras_come_first_then_neighbours(features):
    found = BOTH(features)
    query, gallery = normalise_cameras(features.query, features.gallery, features.q_camids, features.g_camids)
    assert np.allclose(found.gallery, centralise(gallery, 2)) and np.allclose(
        found.query, centralise_queries(query, gallery, 2)
    )
    assert found.about["postprocess"] == BOTH.name and "postprocess" not in features.about
    assert BOTH(found) is found and Postprocess()(features) is features


@pytest.mark.parametrize("method", RANKINGS)
def test_every_ranking_starts_from_the_processed_embeddings(features, method):
    options = {"method": method, "k1": 3, "k2": 2, "qe_k": 2}
    expected = rank(BOTH(features), Rerank(**options))
    found = rank(features, Rerank(**options, postprocess=BOTH))
    assert found.mAP == expected.mAP and np.array_equal(found.cmc, expected.cmc)


def test_all_figures_are_those_of_the_processed_embeddings(features):
    asked = ScoreOptions(cameras=True, verification=True, calibrate=0.2)
    found, expected = score(features, Rerank(postprocess=BOTH), asked), score(BOTH(features), Rerank(), asked)
    assert found.numbers() == {**expected.numbers(), "postprocess": BOTH.name}
    assert found.numbers() != score(features, Rerank(), asked).numbers()


def test_a_threshold_is_kept_for_each_kind_of_embeddings(weights, words, tmp_path, caplog):
    """In a finished model's JSON file as in a checkpoint; none replaces another, each is judged on its kind."""
    processed = [*words, "TEST.CAMERA_NORM", "full"]
    for asked in (words, processed):
        evaluate(weights, None, asked, asked=ScoreOptions(calibrate=0.2))
    assert "threshold for camera_norm full stored in" in caplog.text
    embedder = Embedder(weights, "cpu")
    written = json.loads((tmp_path / "m.pt.json").read_text())
    assert embedder.threshold["distance"] == written["threshold"]["distance"]
    assert embedder.thresholds["camera_norm full"]["distance"] == written["thresholds"]["camera_norm full"]["distance"]
    plain, judged = (evaluate(weights, None, asked)["market1501"].calibration for asked in (words, processed))
    assert plain.threshold.distance == embedder.threshold["distance"] != judged.threshold.distance
    assert evaluate(weights, None, [*words, "TEST.NFC", "2"])["market1501"].calibration is None
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["postprocess"] == "nfc 2" and "market1501: embeddings with nfc 2" in caplog.text


def test_a_checkpoint_keeps_them_too(checkpoint, words):
    for asked in ([*words, "TEST.NFC", "1"], words):
        evaluate(str(checkpoint), None, asked, asked=ScoreOptions(calibrate=0.2))
    embedder = Embedder(checkpoint, "cpu")
    assert embedder.threshold and set(embedder.thresholds) == {"nfc 1"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["TEST.CAMERA_NORM", "mean"],
            r"TEST.CAMERA_NORM: the mean and spread of a camera need 9 images .* market1501/c1 \(8\)",
        ),
        (["TEST.NFC", "24"], "TEST.NFC: 24 neighbours are asked for, the gallery has 24; take fewer"),
    ],
)
def test_too_few_images_are_refused_before_the_model_runs(weights, words, options, message, monkeypatch):
    monkeypatch.setattr(camera_norm, "LEAST_IMAGES", 9)
    with pytest.raises(ValueError, match=message):
        evaluate(weights, None, [*words, *options])


def test_flip_combines_with_both(weights, words):
    report = evaluate(weights, None, [*words, "TEST.FLIP", "True", "TEST.CAMERA_NORM", "full", "TEST.NFC", "1"])[
        "market1501"
    ]
    assert report.embed["flip"] and report.postprocess == "camera_norm full, nfc 1"
