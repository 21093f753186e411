"""The benchmark of groups and of new or known people, on random people."""

import numpy as np
import pytest

from vitreid.benchmarks.galleries import answers, identities
from vitreid.evaluation.clustering.cluster_figures import compare_with_labels


def test_names_of_market1501_have_an_order_of_time():
    names = ["a/0002_c1s2_000001_00.jpg", "0002_c3s1_000009_01.jpg", "0002_c1s1_000002_01.jpg"]
    assert identities.moments(names).tolist() == [2, 1, 0]
    assert identities.moments(["b.jpg", "a.jpg"]).tolist() == [0, 1]


def test_half_of_the_people_are_enrolled_with_their_first_images():
    data = identities.Labelled(
        np.empty((24, 2)), np.repeat(list("abc0"), 6), np.full(24, "c1"), np.arange(24)[::-1], np.zeros(24)
    )
    enrol, known, unknown = identities.halves(data, 0)
    person = np.unique(data.pids[enrol])
    assert len(person) == 1 and person != "0" and (enrol.sum(), known.sum(), unknown.sum()) == (3, 3, 18)
    assert data.order[enrol].max() < data.order[known].min()


def test_features_of_an_export_are_read(tmp_path):
    rows = np.eye(3, dtype=np.float32)
    columns = {"pid": np.array(["1", "2", "2"]), "camera": np.array(["c1"] * 3), "path": np.array(["x", "y", "z"])}
    np.savez(tmp_path / "people.npz", embeddings=rows, **columns)
    found = identities.read(tmp_path / "people.npz")
    assert found.pids.tolist() == ["1", "2", "2"] and np.isnan(found.times).all()
    columns["path"] = np.array(["1_c1s1_000000_00.jpg", "2_c1s1_000050_01.jpg", "2_c1s2_000025_00.jpg"])
    np.savez(tmp_path / "timed.npz", embeddings=rows, **columns)
    assert identities.read(tmp_path / "timed.npz").times.tolist() == [0, 2, 3]  # the second sequence follows the first
    np.savez(tmp_path / "few.npz", embeddings=rows)
    with pytest.raises(ValueError, match="camera, path, pid"):
        identities.read(tmp_path / "few.npz")


@pytest.mark.slow
def test_random_people_are_found(tmp_path):
    data = identities.random_people(640, 0, spread=0.5)
    report = identities.grouping(tmp_path / "G", data)
    assert report["vitreid identities"]["f1"] > 0.9
    found = identities.open_set(tmp_path / "G", data, 0)
    assert found["vitreid identify"]["0.01"] > 0.9 and found["decisions"]["new called known"] < 0.1


def test_the_best_changes_are_a_split_and_a_join():
    own, groups = np.array(list("aabba")), np.array([0, 0, 0, 0, 1])
    one, both = (answers.best_changes(own, groups, count) for count in (1, 2))
    assert compare_with_labels(own, one).f1 < 1 and compare_with_labels(own, both).f1 == 1


def test_questions_of_the_page_are_worth_more_than_random_ones(tmp_path):
    data = identities.random_people(1200, 0, spread=1.6)
    trial = answers.AnswerTrial(tmp_path / "G", data, data.pids)
    before = compare_with_labels(data.pids, trial.start).f1
    asked, random = (found.f1 for _, found in (trial.asked(40), trial.random(40, 0)))
    assert asked > max(before, random)
