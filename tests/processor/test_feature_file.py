"""Evaluation without images: saved features, the figures next to mAP, thresholds, and the printed tables."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_test_manifest

from vitreid.evaluation import RetrievalResult
from vitreid.model import load_deploy, save_deploy
from vitreid.processor import (
    RANKINGS,
    FeatureSet,
    Rerank,
    ScoreOptions,
    load_features,
    rank,
    result_table,
    save_features,
    score,
)
from vitreid.processor.embedding.embedder import Embedder
from vitreid.processor.scoring.evaluation_inputs import EvaluationInputs
from vitreid.processor.scoring.evaluation_run import _score_all
from vitreid.processor.scoring.result_tables import report_table
from vitreid.processor.scoring.thresholds import calibrate_on, stored_calibration, try_to_calibrate
from vitreid.tools import test as test_tool


@pytest.fixture
def features():
    """Six people, each seen twice by each of two cameras; embeddings near their person's, of unit length."""
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(6), 4)
    camids = np.tile([0, 0, 1, 1], 6)
    crops = rng.normal(size=(6, 16))[pids] + 0.8 * rng.normal(size=(24, 16))
    crops = torch.nn.functional.normalize(torch.tensor(crops, dtype=torch.float32))
    is_query = np.tile([True, False], 12)
    names = np.array([f"{pid}_{place}é.jpg" for place, pid in enumerate(pids)])
    labels = [values[side] for values in (pids, camids) for side in (is_query, ~is_query)]
    files = [names[side].tolist() for side in (is_query, ~is_query)]
    about = {"embed": {"neck": "before", "normalize": True, "flip": False, "global_only": False}}
    return FeatureSet(
        "six", "same-camera", crops[is_query], crops[~is_query], *labels, *files, ("six/c1", "six/c2"), about
    )


@pytest.fixture
def saved(features, tmp_path):
    save_features(tmp_path / "six.safetensors", features)
    return tmp_path / "six.safetensors"


def run(*words) -> int:
    return test_tool.main([*map(str, words), "--traceback"])


def test_what_is_saved_is_what_is_loaded(features, saved):
    loaded = load_features(saved)
    for mine, theirs in zip(features.arrays, loaded.arrays, strict=True):
        assert np.array_equal(mine, theirs)
    for key in ("dataset", "protocol", "q_names", "g_names", "camera_names", "about"):
        assert getattr(loaded, key) == getattr(features, key)
    assert loaded.query.dtype == torch.float32
    assert not list(saved.parent.glob(".*.tmp"))


@pytest.mark.parametrize("method", RANKINGS)
def test_every_ranking_gives_figures(features, method):
    rerank = Rerank(method, k1=4, k2=2, qe_k=2)
    assert 0.3 < rank(features, rerank).mAP <= 1


def test_database_augmentation_comes_before_query_expansion(features):
    from vitreid.evaluation import augment_database, evaluate_retrieval, expand_queries

    query, gallery, *labels = features.arrays
    gallery = augment_database(gallery, 2, 1.0)
    expected = evaluate_retrieval(expand_queries(query, gallery, 2, 1.0), gallery, *labels)
    assert np.array_equal(rank(features, Rerank("dba+aqe", qe_k=2, qe_alpha=1.0)).ap, expected.ap)


@pytest.mark.parametrize(
    ("rerank", "message"),
    [
        (Rerank("k-reciprocal"), r"TEST\.RERANK_K1.*\b20 .*\b11\b"),
        (Rerank("aqe", qe_k=7), r"TEST\.QE_K.*\b7 .*gallery has 6\b"),
        (Rerank("dba", qe_k=6), r"TEST\.QE_K.*\b6 .*\b5\b"),
    ],
)
def test_more_neighbours_than_images_are_an_error(rerank, message):
    with pytest.raises(ValueError, match=message):
        rerank.check(6, 6)


def test_a_report_holds_what_was_asked_for_and_fits_into_json(features):
    assert set(score(features, Rerank(), ScoreOptions()).numbers()).isdisjoint({"cameras", "confidence", "threshold"})
    report = score(features, Rerank(), ScoreOptions(cameras=True, confidence=True, verification=True, calibrate=0.1))
    numbers = json.loads(json.dumps(report.numbers(), allow_nan=False))
    assert numbers["verification"]["TAR@FAR=1e-4"] is None, "too few pairs to tell: no figure"
    assert numbers["confidence"]["mAP"][0] <= numbers["mAP"] <= numbers["confidence"]["mAP"][1]
    assert [(row["query"], row["gallery"]) for row in numbers["cameras"]] == [
        ("six/c1", "six/c2"),
        ("six/c2", "six/c1"),
    ]
    assert numbers["threshold"]["dataset"] == "six"
    assert numbers["open_set"]["num_mated"] == 12


def test_tables_fit_a_terminal_and_name_their_columns(features):
    report = score(features, Rerank(), ScoreOptions(cameras=True, confidence=True, verification=True, calibrate=0.1))
    text = report_table({"six": report})
    assert all(len(line) <= 120 for line in text.splitlines())
    for word in ("mINP", "95% from", "from \\ to", "EER", "DIR@FAR", "threshold: one person if the euclidean distance"):
        assert word in text


def test_left_out_queries_are_counted_under_the_table():
    result = RetrievalResult(np.array([0]), np.array([0.5]), np.array([0.5]), np.array([2]), num_queries=3)
    text = result_table({"one": result})
    assert "50.00%" in text
    assert "2 of 3 queries have no match in the gallery and are left out" in text


def test_a_threshold_is_for_the_embeddings_it_was_measured_on(features, caplog):
    calibration = calibrate_on(features, 0.1)
    own = replace(features, about={**features.about, "threshold": json.loads(json.dumps(calibration.to_dict()))})
    assert stored_calibration(own.about) == calibration
    flipped = {**own.about, "embed": {**features.about["embed"], "flip": True}}
    assert stored_calibration(flipped) is None
    assert "threshold is left aside" in caplog.text
    unnamed = {name: value for name, value in own.about["threshold"].items() if name != "embed"}
    assert stored_calibration({**own.about, "threshold": unnamed}).threshold == calibration.threshold


@pytest.mark.parametrize("entry", [{}, {"embed": {}}])
def test_a_threshold_without_an_embedding_counts_in_scores_as_in_a_gallery(checkpoint, features, entry):
    """`Embedder`, which fills galleries, and `score` once disagreed."""
    model, about = load_deploy(checkpoint)
    threshold = calibrate_on(features, 0.1).threshold
    save_deploy(checkpoint, model, {**about, "threshold": {**threshold.to_dict(), **entry}})
    same_model = replace(features, about=load_deploy(checkpoint)[1])
    assert Embedder(checkpoint, "cpu").threshold == threshold.to_dict()
    assert score(same_model, Rerank(), ScoreOptions()).calibration.threshold == threshold


def test_every_rank_embeds_all_test_sets(features):
    """A rank that stopped after the first would leave the others waiting in the next gather."""
    embedded = []

    def inputs(found):
        def make():
            for number in range(3):
                embedded.append(number)
                yield found

        return EvaluationInputs((Path("a"), Path("b"), Path("c")), 3, Rerank(), None, make)

    reports = _score_all(inputs(None), ScoreOptions(), None)
    assert embedded == [0, 1, 2] and not reports, "ranks but the first: nothing to use, everything embedded"
    assert len(_score_all(inputs(features), ScoreOptions(), None)) == 3


def test_the_same_images_in_another_folder(features):
    moved = replace(features, q_names=[f"elsewhere/{name}" for name in features.q_names])
    assert features.same_images(moved) and features.same_images(replace(features, query=-features.query))
    assert not features.same_images(replace(features, g_pids=features.g_pids + 1))
    assert not features.same_images(replace(features, g_names=features.g_names[::-1]))
    assert not features.same_images(replace(features, protocol="none"))


def test_too_few_validation_people_do_not_end_a_training(features, caplog):
    assert try_to_calibrate(features, 1e-6) is None
    assert "no threshold is stored (TEST.FMR 1e-06 on six): fmr: 1e-06 cannot be measured" in caplog.text


def test_saved_features_need_neither_images_nor_model(saved, tmp_path, caplog):
    assert run("--features", saved, "--cameras", "--verification", "TEST.RERANK", "aqe", "TEST.QE_K", 2) == 0
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert (numbers["dataset"], numbers["rerank"], numbers["features"]) == ("six", "aqe", str(saved))
    assert "Rank-1, queries of a camera" in caplog.text


def test_two_files_of_one_data_set_are_two_rows(saved, tmp_path):
    assert run("--features", saved, "--features", saved, "--output", tmp_path / "both.json") == 0
    both = json.loads((tmp_path / "both.json").read_text())
    assert list(both) == ["six", f"six ({saved})"]


def test_a_checkpoints_features_give_its_figures_again(checkpoint, tmp_path):
    """Saved under one command, evaluated under another: the same numbers, the stored threshold included."""
    file, output = tmp_path / "kept.safetensors", tmp_path / "again.json"
    assert run("--weights", checkpoint, "--calibrate", 0.05) == 0
    before = load_deploy(checkpoint)[1]
    assert before["threshold"]["dataset"] == "market1501"
    assert run("--weights", checkpoint, "--save-features", file) == 0
    assert run("--features", file, "--output", output) == 0
    first, again = (json.loads(path.read_text()) for path in (tmp_path / "metrics.json", output))
    first.pop("weights"), again.pop("features")
    assert first == again
    assert first["threshold_here"]["fmr"] == first["threshold"]["measured_fmr"] <= 0.05


def test_calibrating_changes_nothing_but_the_threshold(checkpoint):
    model, about = load_deploy(checkpoint)
    assert run("--weights", checkpoint, "--calibrate", 0.05) == 0
    after, said = load_deploy(checkpoint)
    assert all(torch.equal(value, after.state_dict()[name]) for name, value in model.state_dict().items())
    assert {key: value for key, value in said.items() if key != "threshold"} == about


def test_several_test_sets_in_one_run(checkpoint, people, tmp_path, caplog):
    """One table with a row per set; numbers and features by name."""
    words = ["DATASETS.TEST", "('market1501', 'dukemtmc')", "DATASETS.ROOT_DIR", people / "synthetic"]
    assert run("--weights", checkpoint, "--save-features", tmp_path / "f.safetensors", *words) == 0
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert list(numbers) == ["market1501", "dukemtmc"]
    assert load_features(tmp_path / "f.dukemtmc.safetensors").camera_names[0] == "dukemtmc/c1"
    headlines = [message for message in caplog.messages if message.startswith("data set")]
    assert len(headlines) == 1 and len(headlines[0].splitlines()) == 3


def test_a_model_is_evaluated_on_another_domain_with_other_cameras(checkpoint, people, tmp_path):
    """Trained on A, tested on B: side information falls back for cameras that the model has never seen."""
    manifest = write_test_manifest(people, tmp_path / "b.csv")
    assert run("--weights", checkpoint, "DATASETS.TEST", "manifest", "DATASETS.MANIFEST", manifest) == 0
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["dataset"] == "manifest" and 0 < numbers["mAP"] <= 1
