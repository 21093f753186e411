"""The single-gallery-shot protocol: by eye, against a naive twin over all drawn galleries, and its distribution."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from helpers import make_problem
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreid.evaluation import evaluate_retrieval, evaluate_single_shot
from vitreid.evaluation.distances import pairwise

SEEDS = st.integers(0, 2**32 - 1)


def squared_distances(query, gallery):
    return ((query[:, None] - gallery[None]) ** 2).sum(-1)


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
    query, gallery, q_pids, g_pids, q_camids, g_camids = make_problem(seed)
    distances = squared_distances(query, gallery)
    possible = [every_rank(*row, g_pids, g_camids) for row in zip(distances, q_pids, q_camids, strict=True)]
    if not any(possible):
        with pytest.raises(ValueError, match="none of the 5 queries"):
            evaluate_single_shot(*make_problem(seed))
        return
    result = evaluate_single_shot(*make_problem(seed), repeats=7)
    assert result.query_index.tolist() == [i for i, ranks in enumerate(possible) if ranks for _ in range(7)]
    assert all(rank in possible[i] for i, rank in zip(result.query_index, result.first_hit, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_frequencies_of_the_ranks_are_those_of_all_drawn_galleries(seed):
    """Within five standard deviations for each query and rank."""
    query, gallery, q_pids, g_pids, q_camids, g_camids = make_problem(seed)
    result = evaluate_single_shot(*make_problem(seed), repeats=2000)
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
    args = make_problem(3, num_queries=150, num_gallery=60)
    whole = evaluate_single_shot(*args).first_hit
    assert (whole != evaluate_single_shot(*args, seed=1).first_hit).any()
    monkeypatch.setattr(pairwise, "BLOCK_ELEMENTS", 1)  # several blocks
    np.testing.assert_array_equal(whole, evaluate_single_shot(*args).first_hit)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats: .*got 0"),
        ({"max_rank": 0}, "max_rank: .*got 0"),
        ({"seed": -1}, "seed: .*-1"),
        ({"metric": "manhattan"}, "metric.*'manhattan'.*cosine, euclidean"),
    ],
)
def test_wrong_option_of_the_single_shot_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_single_shot(*make_problem(0), **options)
