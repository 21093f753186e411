"""Neighbours among lists of near crops: against the exact ones."""

import numpy as np
import pytest
import torch

from vitreid.evaluation.reranking import neighbour_lists
from vitreid.evaluation.reranking.neighbour_lists import (
    farthest_distances,
    nearest_neighbours,
    neighbours_by_lists,
)
from vitreid.evaluation.reranking.neighbours import find_neighbours


def crowd(people=150, images=12, dim=24, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((people, dim)).repeat(images, 0) + 0.5 * rng.standard_normal((people * images, dim))
    return torch.from_numpy(rows).float() + 4


@pytest.fixture
def small_lists(monkeypatch):
    monkeypatch.setattr(neighbour_lists, "LIST_SIZE", 40)


def test_all_lists_give_the_exact_neighbours(small_lists):
    features = crowd()
    exact, found = find_neighbours(features, 12), neighbours_by_lists(features, 12, probed=1000)
    np.testing.assert_array_equal(np.sort(found.index), np.sort(exact.index))


def test_few_lists_find_nearly_all(small_lists):
    features = crowd()
    exact, found = find_neighbours(features, 12), neighbours_by_lists(features, 12, probed=8)
    np.testing.assert_array_equal(found.index[:, 0], np.arange(len(features)))
    shares = [len(np.intersect1d(a, b)) / 12 for a, b in zip(exact.index, found.index)]
    assert np.mean(shares) > 0.85  # of 8 of 45 lists, of people without any order
    again = neighbours_by_lists(features, 12, probed=8)
    np.testing.assert_array_equal(found.index, again.index)
    assert (np.diff([((features[row] - features[found.index[row]]) ** 2).sum(1) for row in range(20)]) > -1e-3).all()


def test_lists_with_too_few_crops_are_joined_by_others(small_lists):
    features = crowd(people=10)
    found = neighbours_by_lists(features, 120, probed=1)
    np.testing.assert_array_equal(np.sort(found.index), np.tile(np.arange(120), (120, 1)))


def test_each_copy_is_its_own_first_neighbour(small_lists):
    features = crowd()
    features[5:60] = features[4]
    np.testing.assert_array_equal(neighbours_by_lists(features, 5).index[:, 0], np.arange(len(features)))


def test_the_farthest_is_that_of_a_sample(monkeypatch):
    features = crowd(people=20)
    expected = (torch.cdist(features, features) ** 2).amax(1)
    torch.testing.assert_close(farthest_distances(features), expected, rtol=1e-4, atol=1e-3)
    monkeypatch.setattr(neighbour_lists, "SAMPLE", 60)
    assert (farthest_distances(features) > 0.7 * expected).all()
    assert (farthest_distances(torch.ones(4, 3)) > 0).all()


def test_few_crops_are_compared_exactly_and_many_by_lists(monkeypatch, small_lists):
    features = crowd()
    exact = find_neighbours(features, 12)
    np.testing.assert_array_equal(nearest_neighbours(features, 12).index, exact.index)
    monkeypatch.setattr(neighbour_lists, "EXACT_CROPS", 100)
    monkeypatch.setattr(neighbour_lists, "PROBED", 1)
    found = nearest_neighbours(features, 12)
    np.testing.assert_array_equal(found.farthest, farthest_distances(features).numpy())
