"""The benchmark of one clustering: random people are found, by the way that training goes, and every step is measured."""

import json

import numpy as np
import pytest

from vitreid.benchmarks.galleries import million_crops
from vitreid.benchmarks.galleries.million_crops import CLUSTERINGS, Steps, cluster, random_crops
from vitreid.configs import load_config
from vitreid.datasets import Record
from vitreid.processor.pseudo_labels.clusterings import build_clustering


@pytest.mark.parametrize("name", CLUSTERINGS)
def test_the_clusters_are_those_of_a_training_without_labels(name):
    features, _, cameras = random_crops(800, 32, 16, seed=1)
    steps = Steps("cpu")
    found = cluster(features, cameras, name, "auto", steps)
    words = ["MODEL.PRETRAIN_CHOICE", "none", "UNSUPERVISED.CLUSTERING", name, "UNSUPERVISED.MIN_SIZE", "2"]
    records = [Record(str(row), -1, camera) for row, camera in enumerate(cameras.tolist())]
    trained = build_clustering(load_config(None, words), records, [f"c{n}" for n in range(6)], features.device)(
        features
    )
    inside = trained.groups >= 0  # smaller clusters are left out there
    pairs = np.unique(np.stack([found[inside], trained.groups[inside]]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1] > 10
    assert set(steps.seconds) == {"camera normalisation", "whitening", "neighbours", "similar pairs", "clusters"}


def test_the_people_depend_on_the_seed_alone_and_have_unit_length():
    one, again, other = (random_crops(300, 8, 10, seed)[0] for seed in (0, 0, 1))
    assert (one == again).all() and not (one == other).all()
    np.testing.assert_allclose(one.norm(dim=1), 1, rtol=1e-5)


def test_the_report_has_seconds_memory_and_agreement(tmp_path, capsys):
    file = tmp_path / "found.json"
    assert million_crops.main(["--rows", "1000", "--dim", "64", "--clustering", "dbscan", "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert report["rows"] == 1000 and report["f1"] > 0.9 and report["peak_mb"]["clusters"] > 100
    assert "similar pairs" in capsys.readouterr().out
    assert million_crops.main(["--rows", "0"]) == 2 and "--rows" in capsys.readouterr().err
