"""Single-gallery-shot protocol, camera pairs, bootstrap intervals: by eye and against naive twins."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vitreid.evaluation import (
    PROTOCOLS,
    RetrievalResult,
    bootstrap,
    camera_pairs,
    evaluate_retrieval,
    evaluate_single_shot,
)
from vitreid.evaluation.distances import pairwise

SEEDS = st.integers(0, 2**32 - 1)


def problem(seed, num_queries=5, num_gallery=9):
    """Small integers as features make exact distances and ties; few pids and cameras make junk and missing matches."""
    rng = np.random.default_rng(seed)
    query, gallery = rng.integers(-2, 3, (num_queries, 2)), rng.integers(-2, 3, (num_gallery, 2))
    labels = (
        rng.integers(0, 4, num_queries),
        rng.integers(-1, 4, num_gallery),
        rng.integers(0, 3, num_queries),
        rng.integers(0, 3, num_gallery),
    )
    return query.astype(np.float32), gallery.astype(np.float32), *labels


def squared_distances(query, gallery):
    return ((query[:, None] - gallery[None]) ** 2).sum(-1)


def result_of(first_hit, query_index=None, num_queries=None):
    """Result of queries with one match each."""
    first_hit = np.asarray(first_hit)
    query_index = np.arange(len(first_hit)) if query_index is None else np.asarray(query_index)
    return RetrievalResult(query_index, 1 / first_hit, 1 / first_hit, first_hit, num_queries or len(first_hit))


# --- single gallery shot ----------------------------------------------------------------------------------------


def every_rank(distances, pid, camid, g_pids, g_camids):
    """Rank of the match in each of the equally likely galleries of one image per identity, as a Counter; naive."""
    is_drawn = [not (p == pid and c == camid) for p, c in zip(g_pids, g_camids, strict=True)]
    images = {
        p: [i for i in range(len(g_pids)) if g_pids[i] == p and is_drawn[i]] for p in dict.fromkeys(g_pids.tolist())
    }
    if not images.get(pid):
        return Counter()
    ranks = Counter()
    for drawn in product(*(own for own in images.values() if own)):
        order = sorted(drawn, key=lambda i: (distances[i], i))
        ranks[1 + [g_pids[i] for i in order].index(pid)] += 1
    return ranks


def single_row(positions, g_pids, g_camids, **options):
    """One query at 0, pid 7 from camera 0; the gallery at these positions on a line."""
    return evaluate_single_shot(np.zeros((1, 1)), np.array([positions]).T, [7], g_pids, [0], g_camids, **options)


def test_one_image_per_identity_is_drawn():
    """Both images of person 5 stand before the match; a drawn gallery holds one of them."""
    result = single_row([1.0, 2.0, 3.0], [5, 5, 7], [1, 1, 1], repeats=4)
    assert result.first_hit.tolist() == [2, 2, 2, 2]
    assert result.ap.tolist() == result.inp.tolist() == [0.5] * 4


def test_junk_is_never_drawn():
    """The query's own camera holds the person at distance 0; only the image behind person 5 counts."""
    assert set(single_row([0.0, 1.0, 2.0], [7, 5, 7], [0, 1, 1], repeats=50).first_hit) == {2}


def test_either_of_two_matches_is_drawn():
    first_hit = single_row([1.0, 2.0, 3.0], [7, 5, 7], [1, 1, 1], repeats=400).first_hit
    assert set(first_hit) == {1, 2}
    assert (first_hit == 1).mean() == pytest.approx(1 / 2, abs=0.1)


def test_equal_distances_stand_in_gallery_order():
    assert single_row([1.0, 1.0], [5, 7], [1, 1], repeats=1).first_hit.tolist() == [2]
    assert single_row([1.0, 1.0], [7, 5], [1, 1], repeats=1).first_hit.tolist() == [1]


def test_a_result_of_several_draws_counts_each_query_once():
    query, gallery = np.zeros((3, 1)), np.array([[1.0], [2.0]])
    result = evaluate_single_shot(query, gallery, [7, 9, 5], [7, 5], [0, 0, 0], [1, 1], repeats=3)
    assert result.query_index.tolist() == [0, 0, 0, 2, 2, 2]
    assert (result.num_valid, result.num_queries) == (2, 3)
    assert result.cmc[:2].tolist() == [0.5, 1]
    assert result.summary()["mAP"] == result.mAP == 0.75


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS)
def test_ranks_are_those_of_some_drawn_gallery(seed):
    query, gallery, q_pids, g_pids, q_camids, g_camids = problem(seed)
    distances = squared_distances(query, gallery)
    possible = [every_rank(*row, g_pids, g_camids) for row in zip(distances, q_pids, q_camids, strict=True)]
    if not any(possible):
        with pytest.raises(ValueError, match="none of the 5 queries has a match"):
            evaluate_single_shot(*problem(seed))
        return
    result = evaluate_single_shot(*problem(seed), repeats=7)
    assert result.query_index.tolist() == [i for i, ranks in enumerate(possible) if ranks for _ in range(7)]
    assert all(rank in possible[i] for i, rank in zip(result.query_index, result.first_hit, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_frequencies_of_the_ranks_are_those_of_all_drawn_galleries(seed):
    """Within five standard deviations for each query and rank."""
    query, gallery, q_pids, g_pids, q_camids, g_camids = problem(seed)
    result = evaluate_single_shot(*problem(seed), repeats=2000)
    distances = squared_distances(query, gallery)
    for i in np.unique(result.query_index):
        ranks = every_rank(distances[i], q_pids[i], q_camids[i], g_pids, g_camids)
        found = Counter(result.first_hit[result.query_index == i].tolist())
        for rank, times in ranks.items():
            share = times / ranks.total()
            assert abs(found[rank] / 2000 - share) <= 5 * np.sqrt(share * (1 - share) / 2000)


def test_distribution_with_many_identities_is_a_sum_of_bernoullis():
    """One match; person p stands before it with the share of p's images nearer than it: rank = 1 + sum of Bernoullis."""
    rng = np.random.default_rng(0)
    g_pids, positions = np.append(np.repeat(np.arange(40), 5), 99), np.append(rng.random(200), 0.3)
    result = evaluate_single_shot(
        np.zeros((1, 1)), positions[:, None], [99], g_pids, [0], np.ones(201, int), repeats=4000
    )
    shares = (positions[:200].reshape(40, 5) < 0.3).mean(1)
    ranks = result.first_hit
    deviation = np.sqrt((shares * (1 - shares)).sum())
    assert ranks.mean() == pytest.approx(1 + shares.sum(), abs=5 * deviation / np.sqrt(4000))
    assert ranks.std() == pytest.approx(deviation, rel=0.06)
    distribution = np.ones(1)  # of the number of identities before the match
    for share in shares:
        distribution = np.convolve(distribution, [1 - share, share])
    np.testing.assert_allclose(
        [result.rank(k) for k in range(1, 41)], np.cumsum(distribution)[:40], atol=5 * 0.5 / np.sqrt(4000)
    )


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_gallery_of_single_images_gives_the_ordinary_result(metric):
    rng = np.random.default_rng(1)
    args = (
        *(rng.standard_normal((20, 4)), rng.standard_normal((30, 4))),
        *(np.arange(20), np.arange(30), np.zeros(20, int), np.ones(30, int)),
    )
    single = evaluate_single_shot(*args, metric=metric, repeats=2)
    ordinary = evaluate_retrieval(*args, metric=metric)
    assert single.first_hit.tolist() == np.repeat(ordinary.first_hit, 2).tolist()
    np.testing.assert_array_equal(single.cmc, ordinary.cmc)


def test_draws_depend_on_the_seed_and_not_on_the_blocks(monkeypatch):
    args = problem(3, num_queries=150, num_gallery=60)
    whole = evaluate_single_shot(*args).first_hit
    assert (whole != evaluate_single_shot(*args, seed=1).first_hit).any()
    monkeypatch.setattr(pairwise, "BLOCK_ELEMENTS", 1)  # several blocks
    np.testing.assert_array_equal(whole, evaluate_single_shot(*args).first_hit)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats: 1 or more, got 0"),
        ({"max_rank": 0}, "max_rank: 1 or more, got 0"),
        ({"seed": -1}, "seed: 0 or more, got -1"),
        ({"metric": "manhattan"}, "metric: unknown value 'manhattan'; choose from cosine, euclidean"),
    ],
)
def test_wrong_option_of_the_single_shot_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_single_shot(*problem(0), **options)


# --- camera pairs -----------------------------------------------------------------------------------------------


def naive_pair(i, j, args, protocol):
    """Return (mAP, Rank-1, number of valid queries) by walking down each ranking of the pair's own gallery."""
    query, gallery, q_pids, g_pids, q_camids, g_camids = args
    distances, found = squared_distances(query, gallery), []
    for q in np.flatnonzero(q_camids == i):
        items = [g for g in range(len(g_pids)) if g_camids[g] == j]
        kept = [g for g in items if protocol == "none" or not (g_pids[g] == q_pids[q] and i == j)]
        is_hit = [g_pids[g] == q_pids[q] for g in sorted(kept, key=lambda g: (distances[q, g], g))]
        ranks = [rank for rank, hit in enumerate(is_hit, 1) if hit]
        if ranks:
            found.append((np.mean([n / rank for n, rank in enumerate(ranks, 1)]), ranks[0] == 1))
    return (*np.mean(found, 0), len(found)) if found else (np.nan, np.nan, 0)


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, protocol=st.sampled_from(sorted(PROTOCOLS)))
def test_camera_pairs_equal_the_naive_twin(seed, protocol):
    args = problem(seed, num_queries=8, num_gallery=15)
    cameras = np.unique(args[4]), np.unique(args[5])
    expected = np.array([[naive_pair(i, j, args, protocol) for j in cameras[1]] for i in cameras[0]])
    if not expected[..., 2].any():
        with pytest.raises(ValueError, match="none of the 8 queries has a match"):
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


def changed(position, value, row=None):
    """The arguments of a problem with one array, or one row of it, replaced."""
    args = list(problem(0))
    if row is None:
        args[position] = value
    else:
        args[position][row] = value
    return args


WRONG_ARRAYS = [
    (changed(0, np.nan, row=4), "query: row 4 holds NaN"),
    (changed(1, np.inf, row=7), "gallery: row 7 holds NaN, infinite"),
    (changed(1, np.empty((0, 2))), r"gallery: expected a non-empty matrix.*\(0, 2\)"),
    (changed(0, np.zeros((5, 3))), "query has 3 features per row and gallery 2"),
    (changed(3, np.zeros(8, int)), r"g_pids: expected 9 labels, one per row of gallery, got shape \(8,\)"),
    (changed(4, np.zeros(5)), "q_camids: expected integers, got float64"),
    (changed(2, np.full(5, 12345)), "none of the 5 queries has a match"),
]


@pytest.mark.parametrize("evaluate", [camera_pairs, evaluate_single_shot])
@pytest.mark.parametrize(("args", "message"), WRONG_ARRAYS)
def test_bad_array_is_an_error_that_says_which_and_where(evaluate, args, message):
    with pytest.raises(ValueError, match=message):
        evaluate(*args)


@pytest.mark.parametrize("option", ["metric", "protocol"])
def test_unknown_option_of_camera_pairs_is_an_error(option):
    with pytest.raises(ValueError, match=f"{option}: unknown value 'market'; choose from"):
        camera_pairs(*problem(0), **{option: "market"})


@pytest.mark.parametrize("evaluate", [camera_pairs, evaluate_single_shot])
def test_inputs_are_left_as_they_were(evaluate):
    args = problem(0)
    evaluate(*args)
    assert all(np.array_equal(array, copy) for array, copy in zip(args, problem(0), strict=True))


# --- bootstrap --------------------------------------------------------------------------------------------------


def naive_bootstrap(result, units, level, samples, seed):
    """Draw units one by one, gather the rows of each, take the means; the same draws as the code under test."""
    rng, means = np.random.default_rng(seed), []
    names = list(dict.fromkeys(sorted(units[i] for i in result.query_index)))
    for _ in range(samples):
        chosen = [names[n] for n in rng.integers(len(names), size=len(names))]
        rows = [row for name in chosen for row, i in enumerate(result.query_index) if units[i] == name]
        hits = [[result.first_hit[row] <= k for row in rows] for k in (1, 5, 10, 20)]
        means.append([np.mean(column) for column in (result.ap[rows], result.inp[rows], *hits)])
    tails = (1 - level) / 2, (1 + level) / 2
    return [tuple(np.quantile(column, tails)) for column in zip(*means, strict=True)]


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("groups", [None, [4, 4, 9, 2, 2, 2, 9, 0]])
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_intervals_equal_the_naive_twin(repeats, groups, level):
    """Rows of one query, or of one group, are drawn together; query 3 has no match and is never drawn."""
    rng = np.random.default_rng(5)
    index = np.repeat([0, 1, 2, 4, 5, 6, 7], repeats)
    result = result_of(rng.integers(1, 30, len(index)), index, num_queries=8)
    intervals = bootstrap(result, level=level, samples=50, seed=2, groups=groups)
    expected = naive_bootstrap(result, range(8) if groups is None else groups, level, 50, 2)
    assert list(intervals) == list(result.summary())
    np.testing.assert_allclose(list(intervals.values()), expected, rtol=1e-12)
    assert {type(end) for ends in intervals.values() for end in ends} == {float}


def test_interval_is_that_of_the_normal_distribution_for_many_queries():
    first_hit = np.random.default_rng(0).integers(1, 3, 2000)
    low, high = bootstrap(result_of(first_hit), samples=2000)["Rank-1"]
    share = (first_hit == 1).mean()
    half = 1.96 * np.sqrt(share * (1 - share) / 2000)
    assert (low, high) == (pytest.approx(share - half, abs=0.002), pytest.approx(share + half, abs=0.002))


def test_people_with_equal_queries_widen_the_interval():
    """Ten copies of each query carry no news: drawn as people, the interval is as wide as for one copy."""
    first_hit = np.random.default_rng(0).integers(1, 3, 100)
    one = np.diff(bootstrap(result_of(first_hit))["Rank-1"])
    copies = result_of(np.repeat(first_hit, 10))
    assert np.diff(bootstrap(copies, groups=np.repeat(np.arange(100), 10))["Rank-1"]) == pytest.approx(one)
    assert np.diff(bootstrap(copies)["Rank-1"]) < 0.5 * one


def test_queries_that_all_agree_leave_no_doubt():
    assert bootstrap(result_of([2, 2, 2]))["mAP"] == (0.5, 0.5)


def test_one_query_or_one_person_tells_nothing_about_others():
    assert np.isnan(bootstrap(result_of([2]))["mAP"]).all()
    assert np.isnan(bootstrap(result_of([2, 1, 3]), groups=[7, 7, 7])["Rank-1"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 95}, "level: a share above 0 and below 1, e.g. 0.95, got 95"),
        ({"level": float("nan")}, "level: .* got nan"),
        ({"samples": 0}, "samples: 1 or more, got 0"),
        ({"seed": -1}, "seed: 0 or more, got -1"),
        ({"groups": [1, 2]}, r"groups: expected 3 labels, one per row of query, got shape \(2,\)"),
        ({"groups": ["a", "b", "c"]}, "groups: expected integers"),
    ],
)
def test_wrong_option_of_the_bootstrap_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(result_of([1, 2, 3]), **options)
