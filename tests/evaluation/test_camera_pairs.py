"""Retrieval figures per pair of cameras: by eye, and against a naive twin."""

import numpy as np
import pytest
import torch
from helpers import CAMERA_PROTOCOLS, make_problem
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreid.evaluation import camera_pairs


def naive_pair(i, j, args, protocol):
    """Return (mAP, Rank-1, number of valid queries) by walking down each ranking of the pair's own gallery."""
    query, gallery, q_pids, g_pids, q_camids, g_camids = args
    distances, found = ((query[:, None] - gallery[None]) ** 2).sum(-1), []
    for q in np.flatnonzero(q_camids == i):
        items = [g for g in range(len(g_pids)) if g_camids[g] == j]
        kept = [g for g in items if protocol != "same-camera" or not (g_pids[g] == q_pids[q] and i == j)]
        is_hit = [g_pids[g] == q_pids[q] for g in sorted(kept, key=lambda g: (distances[q, g], g))]
        ranks = [rank for rank, hit in enumerate(is_hit, 1) if hit]
        if ranks:
            found.append((np.mean([n / rank for n, rank in enumerate(ranks, 1)]), ranks[0] == 1))
    return (*np.mean(found, 0), len(found)) if found else (np.nan, np.nan, 0)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), protocol=st.sampled_from(CAMERA_PROTOCOLS))
def test_camera_pairs_equal_the_naive_twin(seed, protocol):
    args = make_problem(seed, num_queries=8, num_gallery=15)
    cameras = np.unique(args[4]), np.unique(args[5])
    expected = np.array([[naive_pair(i, j, args, protocol) for j in cameras[1]] for i in cameras[0]])
    if not expected[..., 2].any():
        with pytest.raises(ValueError, match="none of the 8 queries"):
            camera_pairs(*args, protocol=protocol)
        return
    table = camera_pairs(*args, protocol=protocol)
    assert (table.query_cameras.tolist(), table.gallery_cameras.tolist()) == (cameras[0].tolist(), cameras[1].tolist())
    np.testing.assert_allclose(np.stack([table.mAP, table.rank1, table.num_valid], -1), expected, rtol=1e-12)


def test_from_one_camera_to_another():
    """Camera 3 finds person 7 in camera 5 behind a stranger, nobody in its own, and camera 9 has no match."""
    table = camera_pairs(np.zeros((1, 1)), np.array([[1.0], [2.0], [3.0], [4.0]]), [7], [4, 7, 7, 4], [3], [5, 5, 3, 9])
    assert (table.query_cameras.tolist(), table.gallery_cameras.tolist()) == ([3], [3, 5, 9])
    np.testing.assert_array_equal(table.mAP, [[np.nan, 0.5, np.nan]])
    np.testing.assert_array_equal(table.rank1, [[np.nan, 0.0, np.nan]])
    assert table.num_valid.tolist() == [[0, 1, 0]]


def test_camera_pairs_take_tensors_and_the_cosine():
    query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[9.0, 0.0], [1.0, 0.5]])
    args = (query, gallery, torch.tensor([7]), torch.tensor([7, 5]), torch.tensor([0]), torch.tensor([1, 1]))
    assert camera_pairs(*args, metric="cosine").rank1.tolist() == [[1.0]]
    assert camera_pairs(*args, metric="euclidean").rank1.tolist() == [[0.0]]


@pytest.mark.parametrize("option", ["metric", "protocol"])
def test_unknown_option_of_camera_pairs_is_an_error(option):
    with pytest.raises(ValueError, match=f"{option}.*'market'"):
        camera_pairs(*make_problem(0), **{option: "market"})
