"""Neighbours among lists of near crops: against the exact ones."""

import numpy as np
import pytest
import torch

from vitreid.evaluation.reranking import neighbour_lists
from vitreid.evaluation.reranking.neighbour_lists import (
    farthest_distances,
    nearest_neighbours,
    neighbours_by_lists,
    num_lists,
)
from vitreid.evaluation.reranking.neighbours import find_neighbours


def crowd(people=150, images=12, dim=24, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((people, dim)).repeat(images, 0) + 0.5 * rng.standard_normal((people * images, dim))
    return torch.from_numpy(rows).float() + 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_lists_give_the_exact_neighbours(dtype):
    features = crowd().to(dtype)
    exact, found = find_neighbours(features, 12), neighbours_by_lists(features, 12, num_probed=1000)
    np.testing.assert_array_equal(np.sort(found.index), np.sort(exact.index))
    np.testing.assert_allclose(found.farthest, exact.farthest, rtol=0.5)  # of a sample


def test_some_lists_find_nearly_all():
    features = crowd()
    exact, found = find_neighbours(features, 12), neighbours_by_lists(features, 12, num_probed=20)
    np.testing.assert_array_equal(found.index[:, 0], np.arange(len(features)))
    shares = [len(np.intersect1d(a, b)) / 12 for a, b in zip(exact.index, found.index)]
    assert np.mean(shares) > 0.95  # in 20 of 170 lists
    squared = [((features[row] - features[found.index[row]]) ** 2).sum(1) for row in range(20)]
    assert all((np.diff(distances) > -1e-3).all() for distances in squared)


def test_blocks_change_nothing(monkeypatch):
    features = crowd()
    whole = neighbours_by_lists(features, 12)
    monkeypatch.setattr(neighbour_lists, "SEARCHED", 500)
    monkeypatch.setattr(neighbour_lists, "BLOCK_ELEMENTS", 300)
    np.testing.assert_array_equal(neighbours_by_lists(features, 12).index, whole.index)


def test_where_lists_hold_too_few_crops_all_are_searched():
    features = crowd(people=10)
    for k in (40, 120):
        found, exact = neighbours_by_lists(features, k, num_probed=1), find_neighbours(features, k)
        np.testing.assert_array_equal(np.sort(found.index), np.sort(exact.index))


def test_each_copy_is_its_own_first_neighbour():
    features = crowd()
    features[5:60] = features[4]
    np.testing.assert_array_equal(neighbours_by_lists(features, 5).index[:, 0], np.arange(len(features)))
    same = neighbours_by_lists(torch.ones(40, 3), 5).index
    np.testing.assert_array_equal(same[:, 0], np.arange(40))
    assert all(len(set(row)) == 5 for row in same.tolist())


def test_crops_near_the_mean_do_not_fill_the_lists_of_all():
    """Centres by distance would lie near the mean, and be among the nearest of every crop."""
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.standard_normal((4000, 64))).float()
    lists = neighbour_lists._Lists(features, 16)
    searches = torch.bincount(lists.probed.flatten().long(), minlength=num_lists(4000)).double()
    sizes = torch.tensor([len(members) for members in lists.members]).double()
    even = 16 / num_lists(4000)  # share of all pairs that equal lists would compare
    assert (sizes * searches).sum() / 4000**2 < 1.2 * even  # 1.9 by distance


def test_the_farthest_is_that_of_a_sample(monkeypatch):
    features = crowd(people=20)
    expected = (torch.cdist(features, features) ** 2).amax(1)
    torch.testing.assert_close(farthest_distances(features), expected, rtol=1e-4, atol=1e-3)
    monkeypatch.setattr(neighbour_lists, "SAMPLE", 60)
    assert (farthest_distances(features) > 0.7 * expected).all()
    assert (farthest_distances(torch.ones(4, 3)) > 0).all()


def test_few_crops_are_compared_exactly_and_many_by_lists(monkeypatch):
    features = crowd()
    exact, lists = find_neighbours(features, 12).index, neighbours_by_lists(features, 12, num_probed=2).index
    assert (lists != exact).any()
    np.testing.assert_array_equal(nearest_neighbours(features, 12).index, exact)
    monkeypatch.setattr(neighbour_lists, "EXACT_CROPS", 100)
    monkeypatch.setattr(neighbour_lists, "neighbours_by_lists", lambda rows, k: neighbours_by_lists(rows, k, 2))
    np.testing.assert_array_equal(nearest_neighbours(features, 12).index, lists)
