"""k-reciprocal re-ranking: a naive dense twin, the original's golden distances, wrong input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import GOLDEN_EVALUATION, golden_arrays
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreid.evaluation import evaluate_distances, evaluate_reranked, evaluate_retrieval, k_reciprocal
from vitreid.evaluation.distances import pairwise
from vitreid.evaluation.reranking import neighbours

CASES = sorted(
    key for key in GOLDEN_EVALUATION if ".rerank." in key and not key.endswith("mAP")
)  # e.g. small.rerank.20.6.0.3


def golden(case):
    """Return query, gallery, (k1, k2, lambda) and the labels of a golden case."""
    name, _, k1, k2, lam = case.split(".", 4)
    query, gallery, *labels = golden_arrays(name)
    return query, gallery, (int(k1), int(k2), float(lam)), labels


def naive(query, gallery, k1, k2, lam, dtype=np.float64):
    """The paper's algorithm with whole matrices and sets; neighbour weights held in `dtype`."""
    crops = np.concatenate([query, gallery]).astype(np.float64)
    distances = ((crops[:, None] - crops[None]) ** 2).sum(-1)
    distances /= distances.max(1, keepdims=True)
    order = np.argsort(distances - np.eye(len(crops)), axis=1, kind="stable").tolist()

    def mutual(i, k):
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    weights = np.zeros(distances.shape, dtype)
    for i in range(len(crops)):
        near = mutual(i, k1)
        halves = [mutual(j, round(k1 / 2)) for j in near]
        members = sorted(near.union(*(half for half in halves if len(half & near) > 2 / 3 * len(half))))
        weights[i, members] = np.exp(-distances[i, members]) / np.exp(-distances[i, members]).sum()
    if k2 > 1:
        weights = np.stack([weights[row[:k2]].mean(0, dtype=dtype) for row in order])
    overlap = np.zeros((len(query), len(crops)), dtype)
    for j in range(len(crops)):
        overlap += np.minimum(weights[: len(query), j, None], weights[None, :, j])
    return ((1 - overlap / (2 - overlap)) * (1 - lam) + distances[: len(query)] * lam)[:, len(query) :]


@pytest.fixture(scope="module")
def reranked():
    return {case: k_reciprocal(*golden(case)[:2], *golden(case)[2]).numpy() for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_reranking_equals_the_naive_twin(case, reranked):
    query, gallery, options, _ = golden(case)
    np.testing.assert_allclose(reranked[case], naive(query, gallery, *options), atol=2e-6)


@pytest.mark.parametrize("case", CASES)
def test_naive_twin_in_float16_equals_the_original(case):
    """The original keeps weights in float16; the same algorithm with that rounding meets its distances to 2e-3."""
    query, gallery, options, _ = golden(case)
    np.testing.assert_allclose(naive(query, gallery, *options, np.float16), GOLDEN_EVALUATION[case], atol=2e-3)


@pytest.mark.parametrize("case", CASES)
def test_reranking_differs_from_the_original_only_by_its_float16(case, reranked):
    """Sums of up to 200 float16 weights: 2e-3 for 99 of 100 distances, 6e-3 for the worst (k1 = 50)."""
    difference = np.abs(reranked[case] - GOLDEN_EVALUATION[case])
    assert np.quantile(difference, 0.99) < 2e-3
    assert difference.max() < 6e-3


@pytest.mark.parametrize("case", [case for case in CASES if "6.1.0.0" not in case])
def test_reranked_map_equals_the_original(case, reranked):
    assert evaluate_distances(reranked[case], *golden(case)[3]).mAP == pytest.approx(
        float(GOLDEN_EVALUATION[f"{case}.mAP"]), abs=2e-3
    )


@pytest.mark.parametrize("case", [case for case in CASES if "6.1.0.0" in case])
def test_original_map_lies_within_the_order_of_ties(case, reranked):
    """Without the original distance most of the gallery is tied at 1, and the original orders ties by chance."""
    labels = golden(case)[3]
    is_match = labels[1][None, :] == labels[0][:, None]
    best, worst = (evaluate_distances(reranked[case] + sign * 1e-3 * is_match, *labels).mAP for sign in (-1, 1))
    assert worst < float(GOLDEN_EVALUATION[f"{case}.mAP"]) < best


def test_reranking_helps_where_neighbourhoods_are_clean():
    query, gallery, options, labels = golden("small.rerank.20.6.0.3")
    assert (
        evaluate_distances(k_reciprocal(query, gallery, *options), *labels).mAP
        > evaluate_retrieval(query, gallery, *labels).mAP + 0.03
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k1=st.integers(1, 12), k2=st.integers(1, 12), lam=st.floats(0, 1))
def test_reranking_equals_the_naive_twin_for_all_options(seed, k1, k2, lam):
    rng = np.random.default_rng(seed)
    query, gallery = rng.normal(size=(4, 3)), rng.normal(size=(20, 3))
    np.testing.assert_allclose(
        k_reciprocal(query, gallery, k1, k2, lam).numpy(), naive(query, gallery, k1, k2, lam), atol=2e-6
    )


def test_lambda_one_is_the_original_distance():
    query, gallery, _, labels = golden("small.rerank.20.6.0.3")
    assert evaluate_distances(k_reciprocal(query, gallery, 20, 6, 1.0), *labels).mAP == pytest.approx(
        float(GOLDEN_EVALUATION["small.mAP"]), abs=1e-6
    )


def test_blocks_do_not_change_the_result(monkeypatch, reranked):
    query, gallery, options, _ = golden("small.rerank.20.6.0.3")
    monkeypatch.setattr(pairwise, "BLOCK_ELEMENTS", 1000)
    np.testing.assert_allclose(
        k_reciprocal(query, gallery, *options).numpy(), reranked["small.rerank.20.6.0.3"], atol=1e-6
    )


def test_streamed_evaluation_equals_that_of_the_whole_matrix(monkeypatch, reranked):
    case = "small.rerank.20.6.0.3"
    query, gallery, (k1, k2, lam), labels = golden(case)
    monkeypatch.setattr(pairwise, "BLOCK_ELEMENTS", 1000)
    streamed = evaluate_reranked(query, gallery, *labels, k1=k1, k2=k2, lam=lam)
    np.testing.assert_allclose(streamed.ap, evaluate_distances(reranked[case], *labels).ap, atol=1e-6)


def test_streamed_evaluation_checks_labels_before_it_works(monkeypatch):
    query, gallery, _, labels = golden("small.rerank.20.6.0.3")
    monkeypatch.setattr(neighbours, "distance_blocks", lambda *_: pytest.fail("started"))
    with pytest.raises(ValueError, match=r"g_pids.*\b300 "):
        evaluate_reranked(query, gallery, labels[0], labels[1][:-1], *labels[2:])


def test_each_of_many_copies_is_its_own_first_neighbour():
    index = neighbours.find_neighbours(torch.ones(12, 4), 3).index
    assert index[:, 0].tolist() == list(range(12))


def test_copies_of_one_crop_give_finite_distances():
    distances = k_reciprocal(torch.ones(3, 4), torch.ones(9, 4), 2, 2, 0.3)
    assert torch.isfinite(distances).all()
    assert ((distances >= 0) & (distances <= 1)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((0, 6, 0.3), "k1: .*1 to 339 .*340 .*got 0"),
        ((340, 6, 0.3), "k1: .*1 to 339 .*got 340"),
        ((20, -1, 0.3), "k2: .*1 to 339 .*got -1"),
        ((20, 6, 1.5), r"lam: .*1\.5"),
    ],
)
def test_options_out_of_range_are_errors(options, message):
    query, gallery, _, _ = golden("small.rerank.20.6.0.3")
    with pytest.raises(ValueError, match=message):
        k_reciprocal(query, gallery, *options)


def test_nan_is_an_error_with_its_row():
    query, gallery = torch.zeros(2, 3), torch.zeros(5, 3)
    gallery[4, 0] = torch.nan
    with pytest.raises(ValueError, match="gallery.*row 4 "):
        k_reciprocal(query, gallery, 2, 1, 0.3)
