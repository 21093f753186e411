"""CMC, mAP, mINP: by eye, the original's golden values, scikit-learn's average precision, a naive twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import CAMERA_PROTOCOLS, GOLDEN_EVALUATION, WRONG_EVALUATIONS, golden_arrays, problems
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from vitreid.evaluation import evaluate_distances, evaluate_retrieval
from vitreid.evaluation.distances import centred_distances
from vitreid.evaluation.distances.pairwise import distance_blocks
from vitreid.evaluation.rank_counting import ranks_on_cpu, ranks_on_device


def evaluate_row(distances, g_pids, g_camids, **options):
    """One query, pid 7 from camera 0."""
    return evaluate_distances(np.array([distances], np.float32), [7], g_pids, [0], g_camids, **options)


# --- by eye -----------------------------------------------------------------------------------------------------


def test_match_from_the_same_camera_is_junk():
    """The query's own pid in its own camera neither helps nor hurts: the judged ranking is [wrong, right, right]."""
    result = evaluate_row([0.1, 0.2, 0.3, 0.4], [7, 5, 7, 7], [0, 1, 1, 2])
    assert result.mAP == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result.mINP == pytest.approx(2 / 3)
    assert list(result.cmc[:3]) == [0, 1, 1]


def test_protocol_none_counts_matches_from_the_same_camera():
    result = evaluate_row([0.1, 0.2, 0.3, 0.4], [7, 5, 7, 7], [0, 1, 1, 2], protocol="none")
    assert result.mAP == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert result.rank(1) == 1


def test_another_person_from_the_same_camera_is_not_junk():
    assert evaluate_row([0.1, 0.2], [5, 7], [0, 1]).mAP == pytest.approx(1 / 2)


def test_distractor_counts_as_wrong():
    """pid 0 belongs to no query, but ranks before the match."""
    assert evaluate_row([0.1, 0.2], [0, 7], [1, 1]).mAP == pytest.approx(1 / 2)


def test_equal_distances_stand_in_gallery_order():
    assert evaluate_row([0.5, 0.5, 0.5], [5, 7, 5], [1, 1, 1]).first_hit.tolist() == [2]
    assert evaluate_row([0.5, 0.5, 0.5], [7, 5, 5], [1, 1, 1]).first_hit.tolist() == [1]
    assert evaluate_row([0.5, 0.5, 0.5], [7, 5, 7], [0, 1, 1]).first_hit.tolist() == [2]  # junk has no rank


def test_queries_without_a_match_are_counted_and_left_out():
    distances = np.array([[0.1, 0.2], [0.1, 0.2], [0.2, 0.1]])
    result = evaluate_distances(
        distances, [1, 9, 2], [1, 2], [0, 0, 1], [1, 1]
    )  # 9 is absent; 2 was seen by camera 1 only
    assert (result.num_valid, result.num_queries, result.query_index.tolist()) == (1, 3, [0])
    assert result.mAP == 1


def test_small_gallery_has_a_full_cmc_curve():
    result = evaluate_row([0.2, 0.1], [7, 5], [1, 1])
    assert result.cmc.shape == (50,)
    assert result.cmc[0] == 0
    assert (result.cmc[1:] == 1).all()
    assert result.rank(20) == 1


def test_match_beyond_max_rank_is_missing_from_the_curve_only():
    result = evaluate_row(np.arange(30.0), [5] * 29 + [7], [1] * 30, max_rank=10)
    assert result.cmc.tolist() == [0] * 10
    assert result.rank(30) == 1
    assert result.mAP == pytest.approx(1 / 30)


def test_summary_holds_plain_floats():
    summary = evaluate_row([0.1, 0.2], [7, 5], [1, 1]).summary()
    assert summary == {"mAP": 1.0, "mINP": 1.0, "Rank-1": 1.0, "Rank-5": 1.0, "Rank-10": 1.0, "Rank-20": 1.0}
    assert {type(value) for value in summary.values()} == {float}


def test_euclidean_sees_lengths_and_cosine_does_not():
    query, gallery = np.array([[1.0, 0.0]]), np.array([[9.0, 0.0], [1.0, 0.5]])
    args = (query, gallery, [7], [7, 5], [0], [1, 1])
    assert evaluate_retrieval(*args, metric="cosine").first_hit.tolist() == [1]
    assert evaluate_retrieval(*args, metric="euclidean").first_hit.tolist() == [2]


def close_crops(distance, width=768):
    """Embeddings of unit length whose distances are about `distance`: 12 people by one crop as query and two in the gallery."""
    rng = np.random.default_rng(0)
    middle, people = rng.normal(size=width), rng.normal(size=(12, width))
    crops = [middle + 0.7 * distance * (people + 0.8 * rng.normal(size=people.shape)) for _ in range(3)]
    query, *gallery = [crop / np.linalg.norm(crop, axis=1, keepdims=True) for crop in crops]
    labels = (np.arange(12), np.tile(np.arange(12), 2), np.zeros(12, int), np.ones(24, int))
    return query.astype(np.float32), np.concatenate(gallery).astype(np.float32), *labels


@pytest.mark.parametrize("distance", [1.0, 0.02, 0.002])
def test_close_embeddings_are_ranked_as_in_double_precision(distance):
    query, gallery, *labels = close_crops(distance)
    exact = np.linalg.norm(query[:, None].astype(float) - gallery.astype(float), axis=2)
    expected, found = evaluate_distances(exact, *labels), evaluate_retrieval(query, gallery, *labels)
    assert found.ap.tolist() == expected.ap.tolist()
    ((_, squared),) = distance_blocks(torch.tensor(query), torch.tensor(gallery))
    np.testing.assert_allclose(squared.sqrt(), exact, rtol=1e-5)


def test_the_middle_is_taken_out_a_few_rows_at_a_time(monkeypatch):
    monkeypatch.setattr(centred_distances, "CHUNK_ELEMENTS", 768 * 5)
    query, gallery, *_ = close_crops(0.02)
    exact = np.linalg.norm(query[:, None].astype(float) - gallery.astype(float), axis=2)
    ((_, squared),) = distance_blocks(torch.tensor(query), torch.tensor(gallery))
    np.testing.assert_allclose(squared.sqrt(), exact, rtol=1e-5)


# --- the original -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["small", "distractors"])
@pytest.mark.parametrize("block", [None, 1, 7])
def test_retrieval_equals_the_original(name, block):
    result = evaluate_retrieval(*golden_arrays(name), block=block)
    assert result.mAP == pytest.approx(float(GOLDEN_EVALUATION[f"{name}.mAP"]), abs=1e-6)
    np.testing.assert_allclose(result.cmc, GOLDEN_EVALUATION[f"{name}.cmc"], atol=1e-6)


@pytest.mark.parametrize("name", ["small", "distractors"])
def test_cosine_ranks_unit_features_as_euclidean_does(name):
    assert evaluate_retrieval(*golden_arrays(name), metric="cosine").mAP == pytest.approx(
        float(GOLDEN_EVALUATION[f"{name}.mAP"]), abs=1e-6
    )


@pytest.mark.parametrize("name", ["small", "distractors"])
@pytest.mark.parametrize("case", ["20.6.0.3", "50.15.0.3"])
def test_ready_made_distances_equal_the_original(name, case):
    result = evaluate_distances(GOLDEN_EVALUATION[f"{name}.rerank.{case}"], *golden_arrays(name)[2:])
    assert result.mAP == pytest.approx(float(GOLDEN_EVALUATION[f"{name}.rerank.{case}.mAP"]), abs=1e-6)


def test_tensors_and_arrays_give_the_same_result():
    arrays = golden_arrays("small")
    assert evaluate_retrieval(*map(torch.from_numpy, arrays)).mAP == evaluate_retrieval(*arrays).mAP


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_accepted(dtype):
    query, gallery, *labels = map(torch.from_numpy, golden_arrays("small"))
    assert evaluate_retrieval(query.to(dtype), gallery, *labels).mAP == pytest.approx(
        float(GOLDEN_EVALUATION["small.mAP"]), abs=0.02
    )


# --- outside reference ------------------------------------------------------------------------------------------


def test_average_precision_equals_scikit_learn():
    query, gallery, q_pids, g_pids, q_camids, g_camids = golden_arrays("small")
    result = evaluate_retrieval(query, gallery, q_pids, g_pids, q_camids, g_camids)
    for ap, i in zip(result.ap, result.query_index, strict=True):
        judged = (g_pids != q_pids[i]) | (g_camids != q_camids[i])
        assert ap == pytest.approx(
            average_precision_score(g_pids[judged] == q_pids[i], gallery[judged] @ query[i]), abs=1e-6
        )


# --- the naive twin ---------------------------------------------------------------------------------------------


def naive_query(distances, pid, camid, g_pids, g_camids, protocol):
    """Return (ap, inp, first_hit) by walking down the ranking, or None without a match."""
    hits, rank = [], 0
    for i in sorted(range(len(distances)), key=lambda i: (distances[i], i)):
        if protocol == "same-camera" and g_pids[i] == pid and g_camids[i] == camid:
            continue
        rank += 1
        if g_pids[i] == pid:
            hits.append(rank)
    if not hits:
        return None
    return sum((n + 1) / rank for n, rank in enumerate(hits)) / len(hits), len(hits) / hits[-1], hits[0]


@settings(max_examples=300, deadline=None)
@given(problem=problems(), protocol=st.sampled_from(CAMERA_PROTOCOLS), block=st.sampled_from([None, 1, 2]))
def test_result_equals_the_naive_twin(problem, protocol, block):
    query, gallery, q_pids, g_pids, q_camids, g_camids = problem
    distances = ((query[:, None] - gallery[None]) ** 2).sum(-1)  # exact for small integers
    naive = [naive_query(*row, g_pids, g_camids, protocol) for row in zip(distances, q_pids, q_camids, strict=True)]
    expected = [row for row in naive if row is not None]
    if not expected:
        with pytest.raises(ValueError, match="queries has a match"):
            evaluate_retrieval(*problem, protocol=protocol, block=block)
        return
    by_features = evaluate_retrieval(*problem, protocol=protocol, block=block)
    by_distances = evaluate_distances(distances, *problem[2:], protocol=protocol, block=block)
    for result in (by_features, by_distances):
        assert result.query_index.tolist() == [i for i, row in enumerate(naive) if row is not None]
        np.testing.assert_allclose(np.stack([result.ap, result.inp, result.first_hit], 1), expected, rtol=1e-12)
        np.testing.assert_allclose(result.cmc, [(result.first_hit <= k).mean() for k in range(1, 51)])


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), chunk=st.sampled_from([1, 30, 10**6]))
def test_ranks_on_a_device_equal_those_on_the_cpu(seed, chunk):
    """The path for GPUs, run here: both count the same ranks, ties included."""
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.integers(0, 6, (5, 20)).astype(np.float32))
    kinds = rng.integers(0, 3, (5, 20))  # 0 wrong, 1 relevant, 2 junk
    items = [(np.flatnonzero(row == 1), np.flatnonzero(row == 2)) for row in kinds]
    on_device, on_cpu = ranks_on_device(scores.clone(), items, chunk), ranks_on_cpu(scores.clone(), items)
    assert [row.tolist() for row in on_device] == [row.tolist() for row in on_cpu]


def test_ranks_on_a_device_without_any_relevant_item():
    items = [(np.empty(0, np.int64), np.array([1])), (np.empty(0, np.int64), np.empty(0, np.int64))]
    assert [row.tolist() for row in ranks_on_device(torch.zeros(2, 3), items)] == [[], []]


# --- wrong input ------------------------------------------------------------------------------------------------


def arguments(**changes):
    names = ("query", "gallery", "q_pids", "g_pids", "q_camids", "g_camids")
    values = dict(zip(names, golden_arrays("small"), strict=True)) | {
        key: value for key, value in changes.items() if key in names
    }
    return list(values.values()), {key: value for key, value in changes.items() if key not in names}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *WRONG_EVALUATIONS,
        ({"query": np.zeros(12)}, r"query.*\(12,\)"),
        ({"q_camids": np.zeros(41, int)}, r"q_camids.*\b40 .*query"),
        ({"q_pids": np.full(40, 0.5)}, "q_pids.*integers or names"),
        ({"max_rank": 0}, "max_rank: .*0"),
        ({"block": -1}, "block: .*-1"),
    ],
)
def test_bad_input_is_an_error_that_says_which_and_where(changes, message):
    args, options = arguments(**changes)
    with pytest.raises(ValueError, match=message):
        evaluate_retrieval(*args, **options)


def test_nan_distance_is_an_error_with_its_row():
    distances = np.zeros((3, 2))
    distances[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"distances.*row 2 "):
        evaluate_distances(distances, [1, 1, 1], [1, 2], [0, 0, 0], [1, 1], block=2)


def test_rank_below_one_is_an_error():
    with pytest.raises(ValueError, match="k: .*-1"):
        evaluate_row([0.1], [7], [1]).rank(-1)


def test_inputs_are_left_as_they_were():
    arrays = golden_arrays("small")
    distances = np.arange(40 * 300, dtype=np.float32).reshape(40, 300)
    copies = [array.copy() for array in (*arrays, distances)]
    evaluate_retrieval(*arrays)
    evaluate_distances(distances, *arrays[2:])
    assert all(np.array_equal(array, copy) for array, copy in zip((*arrays, distances), copies, strict=True))
