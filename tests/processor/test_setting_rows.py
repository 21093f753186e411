"""Settings of a test set: the rows of `vitreid test`, the features' file, training's choice and the report agree."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY
from published_trees import draw_tree

from vitreid.configs import load_config
from vitreid.evaluation import evaluate_drawn_per_camera, evaluate_retrieval, evaluate_single_shot
from vitreid.labels.setting import PER_CAMERA, PER_PERSON, PER_QUERY, Setting
from vitreid.processor import Rerank, ScoreOptions, load_features, rank, save_features, score, train
from vitreid.processor.scoring.feature_file import FORMAT, FeatureSet
from vitreid.processor.scoring.result_tables import report_table
from vitreid.tools import report as report_tool
from vitreid.tools import test as test_tool

CAMERAS = ("six/air", "six/ground", "six/street")
SETTINGS = (
    Setting("to the ground", query_cameras=CAMERAS[:1], gallery_cameras=CAMERAS[1:]),
    Setting("changed clothes", "same-clothes"),
    Setting("single shot", "same-place", draw=PER_CAMERA, repeats=3),
    Setting("nowhere", "same-view"),
)


@pytest.fixture
def features():
    """Eight people before three cameras, in two sets of clothes; all images are of one view."""
    rng = np.random.default_rng(0)
    pids, camids = np.repeat(np.arange(8), 9), np.tile(np.repeat([0, 1, 2], 3), 8)
    crops = torch.from_numpy(rng.normal(size=(8, 16))[pids] + 2 * rng.normal(size=(72, 16))).float()
    is_query = np.arange(72) % 3 == 0
    sides = is_query, ~is_query
    labels = {"clothes": rng.integers(0, 2, 72), "view": np.zeros(72, np.int64), "place": np.minimum(camids, 1)}
    return FeatureSet(
        "six",
        SETTINGS[0].protocol,
        *(crops[side] for side in sides),
        *(values[side] for values in (pids, camids) for side in sides),
        *([f"{row}.jpg" for row in np.flatnonzero(side)] for side in sides),
        CAMERAS,
        {"embed": {}},
        settings=SETTINGS,
        extra={name: tuple(values[side] for side in sides) for name, values in labels.items()},
    )


def test_each_setting_has_its_queries_its_gallery_and_its_junk(features):
    q, g = features.q_camids == 0, features.g_camids > 0
    arrays = features.query[q], features.gallery[g], features.q_pids[q], features.g_pids[g]
    expected = evaluate_retrieval(*arrays, features.q_camids[q], features.g_camids[g])
    report = score(features, Rerank(), ScoreOptions(confidence=True, cameras=True, verification=True))
    assert report.retrieval.ap.tolist() == expected.ap.tolist() == rank(features, Rerank()).ap.tolist()
    assert (report.setting.name, report.num_gallery) == ("to the ground", int(g.sum()))
    assert report.confidence["mAP"][0] < expected.mAP < report.confidence["mAP"][1]
    assert set(report.cameras.query_cameras) == {0} and set(report.cameras.gallery_cameras) == {1, 2}
    changed = evaluate_retrieval(*features.arrays, protocol="same-clothes", extra=features.extra)
    drawn = evaluate_drawn_per_camera(*features.arrays, protocol="same-place", extra=features.extra, repeats=3)
    assert {name: result.mAP for name, result in report.further.items()} == {
        "changed clothes": changed.mAP,
        "single shot": drawn.mAP,
    }  # nobody has two views, so that "nowhere" has no figures


def test_tables_and_json_name_the_settings(features):
    report = score(features, Rerank(), ScoreOptions())
    table = report_table({"six": report})
    assert [line.split("  ")[0] for line in table.splitlines()][1:4] == [
        "six to the ground",
        "six changed clothes",
        "six single shot",
    ]
    numbers = json.loads(json.dumps(report.numbers()))
    assert numbers["setting"] == "to the ground" and list(numbers["settings"]) == ["changed clothes", "single shot"]
    assert numbers["settings"]["single shot"]["Rank-1"] == report.further["single shot"].rank(1)


def test_a_file_of_features_keeps_settings_and_labels(features, tmp_path):
    save_features(tmp_path / "f.safetensors", features)
    loaded = load_features(tmp_path / "f.safetensors")
    assert loaded.settings == features.settings and loaded.same_images(features)
    for name, pair in features.extra.items():
        assert all(np.array_equal(a, b) for a, b in zip(pair, loaded.extra[name], strict=True))
    assert score(loaded, Rerank(), ScoreOptions()).numbers() == score(features, Rerank(), ScoreOptions()).numbers()
    assert not loaded.same_images(replace(features, settings=()))


def test_a_file_of_an_earlier_version_knows_its_drawn_galleries(features, tmp_path, monkeypatch):
    old = replace(features, protocol="own-file", settings=(), extra={})
    dumps = json.dumps
    monkeypatch.setattr(
        json, "dumps", lambda facts, **_: dumps(facts | {"gallery_draws": 10} if "dataset" in facts else facts)
    )
    save_features(tmp_path / "old.safetensors", old)
    monkeypatch.undo()
    loaded = load_features(tmp_path / "old.safetensors")
    assert FORMAT and loaded.settings == (Setting("", "own-file", draw=PER_PERSON, repeats=10),)


def test_one_image_for_each_query_is_the_single_shot_of_cuhk03(features):
    one = replace(features, settings=(Setting("", "same-camera", draw=PER_QUERY, repeats=4),))
    expected = evaluate_single_shot(*features.arrays, repeats=4)
    assert rank(one, Rerank()).first_hit.tolist() == expected.first_hit.tolist()


def test_reranking_needs_the_whole_gallery(features):
    with pytest.raises(ValueError, match=r"TEST\.RERANK: aqe does not go with six, whose evaluation draws galleries"):
        score(features, Rerank("aqe"), ScoreOptions())
    whole = replace(features, settings=SETTINGS[:2])
    assert set(score(whole, Rerank("aqe", qe_k=2), ScoreOptions()).further) == {"changed clothes"}


def test_cameras_that_no_image_is_from_are_named(features):
    lost = replace(features, settings=(Setting("at night", query_cameras=("six/moon",)),))
    with pytest.raises(
        ValueError, match=r"six: no query image is from six/moon, which 'at night' takes; there are six/air"
    ):
        rank(lost, Rerank())


def test_training_tables_and_report_agree(tmp_path, capsys):
    """The first setting gives the figures that training selects by; the page shows all of them."""
    draw_tree(tmp_path, "ltcc")
    run = tmp_path / "run"
    words = [
        "SOLVER.MAX_EPOCHS",
        "1",
        "DATASETS.NAMES",
        "ltcc",
        "DATASETS.ROOT_DIR",
        str(tmp_path),
        "OUTPUT_DIR",
        str(run),
    ]
    result = train(load_config(None, [*TINY, *words]))
    assert (
        test_tool.main(["--weights", str(run / "best.safetensors"), "--save-features", str(run / "f.safetensors")]) == 0
    )
    numbers = json.loads((run / "metrics.json").read_text())
    assert numbers["mAP"] == pytest.approx(result.mAP) and numbers["protocol"] == "same-clothes"
    capsys.readouterr()
    assert report_tool.main([str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "ltcc changed clothes: 24 queries" in page
    for name in ("same clothes", "general"):
        assert f">{name}<" in page and f"{100 * numbers['settings'][name]['mAP']:.1f}" in page
