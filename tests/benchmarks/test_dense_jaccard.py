"""One clustering next to a project with dense distances: both are measured, and what is missing is said."""

import json

import pytest

from vitreid.benchmarks.galleries import dense_jaccard

DENSE = """
import numpy as np
from vitreid.evaluation.clustering.jaccard_graph import jaccard_pairs

def compute_jaccard_distance(features, k1, k2, search_option, verbose):
    found = jaccard_pairs(features, k1, k2, reach=len(features) - 1)
    dense = np.ones((len(features), len(features)), np.float32)
    dense[found.first, found.second] = dense[found.second, found.first] = 1 - found.value
    np.fill_diagonal(dense, 0)
    return dense
"""


@pytest.mark.slow
def test_a_dense_matrix_of_the_same_distances_gives_the_same_people(tmp_path, capsys):
    file = tmp_path / dense_jaccard.MARKER
    file.parent.mkdir(parents=True)
    file.write_text(DENSE)
    found = tmp_path / "found.json"
    words = ["--quick", "--rows", "400", "--dim", "32", "--openunreid", str(tmp_path), "--json", str(found)]
    assert dense_jaccard.main(words) == 0
    ours, dense = (row["runs"][0] for row in json.loads(found.read_text())["contestants"])
    assert ours["clusters"] == dense["clusters"] > 10
    assert ours["f1"] == pytest.approx(dense["f1"]) and ours["f1"] > 0.5
    assert "of its memory" in capsys.readouterr().out


@pytest.mark.slow
def test_without_a_checkout_only_ours_is_measured_and_a_wrong_one_is_refused(tmp_path, capsys):
    assert dense_jaccard.main(["--quick", "--rows", "200", "--dim", "16"]) == 0
    assert "give --openunreid DIR" in capsys.readouterr().out
    assert dense_jaccard.main(["--quick", "--openunreid", str(tmp_path)]) != 0
    assert "--openunreid" in capsys.readouterr().err
