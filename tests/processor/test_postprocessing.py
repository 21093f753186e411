"""TEST.CAMERA_NORM and TEST.NFC: applied before every figure, checked before the images are embedded, with their own thresholds."""

import json

import numpy as np
import pytest
from model_files import script_file

from vitreid import Embedder
from vitreid.configs import load_config
from vitreid.evaluation import centralise, centralise_queries, evaluate_fused, normalise_cameras
from vitreid.labels import camera_norm
from vitreid.labels.match_probability import MatchProbability
from vitreid.processor import Rerank, ScoreOptions, load_features, rank, score
from vitreid.processor.scoring import evaluation_run
from vitreid.processor.scoring.postprocessing import Postprocess
from vitreid.processor.scoring.reranking import RANKINGS, build_rerank
from vitreid.processor.scoring.thresholds import stored_calibration

PLAIN = ScoreOptions()
BOTH = Postprocess("full", 2)
TRUSTED = {"runtime": "torchscript"}  # such a file is a program, which runs only if the user says so


def evaluate(weights=None, words=(), **settings):
    if weights is not None and weights.endswith(".pt"):
        settings["options"] = {**TRUSTED, **settings.pop("options", {})}
    return evaluation_run.test(weights, None, words, **settings)


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
    evaluate(weights, words, save_to=str(tmp_path / "f.safetensors"))
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
        evaluate(weights, asked, asked=ScoreOptions(calibrate=0.2))
    assert "threshold for camera_norm full stored in" in caplog.text
    embedder = Embedder(weights, "cpu", options=TRUSTED)
    written = json.loads((tmp_path / "m.pt.json").read_text())
    assert embedder.threshold["distance"] == written["threshold"]["distance"]
    assert embedder.thresholds["camera_norm full"]["distance"] == written["thresholds"]["camera_norm full"]["distance"]
    plain, judged = (evaluate(weights, asked)["market1501"].calibration for asked in (words, processed))
    assert plain.threshold.distance == embedder.threshold["distance"] != judged.threshold.distance
    assert evaluate(weights, [*words, "TEST.NFC", "2"])["market1501"].calibration is None
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["postprocess"] == "nfc 2" and "market1501: embeddings with nfc 2" in caplog.text


def test_a_checkpoint_keeps_them_too(checkpoint, words):
    for asked in ([*words, "TEST.NFC", "1"], words):
        evaluate(str(checkpoint), asked, asked=ScoreOptions(calibrate=0.2))
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
        evaluate(weights, [*words, *options])


def test_flip_combines_with_both(weights, words):
    report = evaluate(weights, [*words, "TEST.FLIP", "True", "TEST.CAMERA_NORM", "full", "TEST.NFC", "1"])["market1501"]
    assert report.embed["flip"] and report.postprocess == "camera_norm full, nfc 1"


def test_a_calibration_brings_the_probabilities(weights, words, tmp_path):
    """Fitted on the same pairs as the threshold, stored with it in a finished model's JSON file, kept by galleries."""
    report = evaluate(weights, words, asked=ScoreOptions(calibrate=0.2))["market1501"]
    curve = report.calibration.probability
    written = json.loads((tmp_path / "m.pt.json").read_text())["threshold"]["probability"]
    assert MatchProbability.from_dict(written) == curve and curve.metric == "euclidean"
    embedder = Embedder(weights, "cpu", options=TRUSTED)
    assert embedder.threshold["probability"] == written and embedder.info.threshold["probability"] == written
    again = evaluate(weights, words)["market1501"].calibration
    assert again.probability == curve and again == report.calibration


def test_a_calibration_of_an_earlier_version_has_none(weights, words, tmp_path):
    evaluate(weights, words, asked=ScoreOptions(calibrate=0.2))
    values = json.loads((tmp_path / "m.pt.json").read_text())
    del values["threshold"]["probability"]
    (tmp_path / "m.pt.json").write_text(json.dumps(values))
    assert "probability" not in Embedder(weights, "cpu", options=TRUSTED).threshold


def test_features_of_two_models_are_fused(words, tmp_path, caplog):
    """By what each model's calibration says; the figures stand under their own name."""
    files = []
    for name, kind in (("a", "rgb1"), ("b", "imagenet")):
        path = script_file(tmp_path / f"{name}.pt")
        options = {"size": [8, 4], "input": kind}
        evaluate(str(path), words, asked=ScoreOptions(calibrate=0.2), options=options)
        files.append(str(tmp_path / f"{name}.safetensors"))
        evaluate(str(path), words, save_to=files[-1])
    reports = evaluate(features=files, output=str(tmp_path / "out.json"), asked=ScoreOptions(fuse="sum"))
    sets = [load_features(file) for file in files]
    curves = [stored_calibration(one.about).probability for one in sets]
    expected = evaluate_fused([one.data for one in sets], curves)
    assert reports["fused (sum)"].retrieval.mAP == expected.mAP
    numbers = json.loads((tmp_path / "out.json").read_text())
    assert numbers["fused (sum)"]["mAP"] == expected.mAP and numbers["fused (sum)"]["features"] == " + ".join(files)
    assert len(numbers) == 3 and "fused (sum)" in caplog.text


def test_what_cannot_be_fused_is_named(weights, words, tmp_path):
    file = str(tmp_path / "f.safetensors")
    evaluate(weights, words, save_to=file)
    with pytest.raises(
        ValueError, match=r"--fuse: the model of .*f.safetensors has no probabilities: calibrate its weights"
    ):
        evaluate(features=[file, file], output=str(tmp_path / "o.json"), asked=ScoreOptions(fuse="mean"))
    for arguments in ({"weights": weights, "words": words}, {"features": [file]}):
        with pytest.raises(ValueError, match="--fuse: for two or more --features"):
            evaluate(**arguments, asked=ScoreOptions(fuse="sum"))
    with pytest.raises(ValueError, match="--fuse: unknown value 'max'; choose from mean, sum"):
        ScoreOptions(fuse="max")
