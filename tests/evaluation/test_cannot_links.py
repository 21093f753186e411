"""Rows seen at once are apart, in clusters that were made without regard to it too: against naive twins."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreid.evaluation.clustering import cannot_links
from vitreid.evaluation.clustering.average_linkage import Constraints, in_order
from vitreid.evaluation.clustering.cannot_links import parted, seen_together, unless_similar
from vitreid.evaluation.clustering.jaccard_graph import SimilarPairs


def overlaps(one, other):
    """Whether two spans of whole numbers, without their ends, share a time; a moment lasts half a unit."""
    ends = [end if end > start else start + 0.5 for start, end in (one, other)]
    return max(one[0], other[0]) < min(ends)


def naive_pairs(nodes, clocks, start, end):
    spans = {}
    for node, clock, first, last in zip(nodes, clocks, start, end):
        if clock >= 0 and not np.isnan(first):
            last = first if np.isnan(last) else last
            old = spans.get((clock, node), (first, last))
            spans[clock, node] = min(old[0], first), max(old[1], last)
    found = set()
    for (one, span), (other, span_of_other) in itertools.combinations(spans.items(), 2):
        if one[0] == other[0] and overlaps(span, span_of_other):
            found.add((min(one[1], other[1]), max(one[1], other[1])))
    return sorted(found)


@given(st.integers(0, 10_000), st.integers(0, 30))
@settings(deadline=None, max_examples=200)
def test_pairs_seen_at_once_are_those_of_a_naive_twin(seed, count):
    rng = np.random.default_rng(seed)
    nodes, clocks = rng.integers(0, 12, count), rng.integers(-1, 3, count)
    start = rng.integers(0, 12, count).astype(float)
    end = start + rng.integers(0, 4, count)
    start[rng.random(count) < 0.1] = np.nan
    end[rng.random(count) < 0.3] = np.nan
    assert seen_together(nodes, clocks, start, end).tolist() == list(map(list, naive_pairs(nodes, clocks, start, end)))


def test_a_span_has_its_start_and_lacks_its_end():
    start, end = np.array([0.0, 2, 2, 2, 1]), np.array([2.0, 5, 2, 2, np.nan])
    pairs = seen_together(np.arange(5), np.zeros(5, int), start, end)
    assert pairs.tolist() == [[0, 4], [1, 2], [1, 3], [2, 3]]


def problem(seed, count=14):
    """Clusters, similarities without ties, and constraints of some rows."""
    rng = np.random.default_rng(seed)
    upper = np.triu(
        rng.permutation(count * count).reshape(count, count) / count**2 * (rng.random((count, count)) < 0.6), 1
    )
    first, second = np.nonzero(upper)
    together = rng.integers(0, count, (3, 2))
    groups = in_order(rng.integers(-1, 3, count))
    for one, other in together:
        groups[other] = groups[one]
    constraints = Constraints(together, rng.integers(0, count, (5, 2)), np.full(count, -1))
    return groups, upper + upper.T, SimilarPairs(first, second, upper[first, second]), constraints


def naive_parted(groups, similarity, constraints):
    """Each wrong cluster: merge the two most similar parts that may be together, one pair at a time."""
    component = constraints.components()[0]
    apart = {frozenset(component[list(pair)].tolist()) for pair in constraints.apart}

    def wrong(rows):
        return any({component[a], component[b]} in apart for a in rows for b in rows if component[a] != component[b])

    found, number = groups.copy(), groups.max() + 1
    for group in range(groups.max() + 1):
        rows = np.flatnonzero(groups == group)
        if not wrong(rows):
            continue
        parts = [[row for row in rows if component[row] == one] for one in dict.fromkeys(component[rows].tolist())]
        while True:
            able = [
                (similarity[np.ix_(parts[a], parts[b])].mean(), a, b)
                for a, b in itertools.combinations(range(len(parts)), 2)
                if not wrong([*parts[a], *parts[b]])
            ]
            best = max(able, default=(0,))
            if best[0] <= 0:
                break
            parts[best[1]] += parts.pop(best[2])
        for part in parts:
            found[part] = number
            number += 1
    return in_order(found)


@pytest.mark.parametrize("seed", range(60))
def test_clusters_are_parted_as_a_naive_twin_parts_them(seed):
    groups, similarity, pairs, constraints = problem(seed)
    expected = naive_parted(groups, similarity, constraints)
    np.testing.assert_array_equal(in_order(parted(groups, pairs, constraints)), expected)


def test_a_cluster_that_obeys_stays_and_outliers_do():
    groups = np.array([0, 0, -1, 1, 1, 1])
    pairs = SimilarPairs(np.array([0, 3, 4]), np.array([1, 4, 5]), np.array([0.9, 0.5, 0.6], np.float32))
    apart = np.array([[0, 2], [3, 5]])
    found = parted(groups, pairs, Constraints(np.empty((0, 2), int), apart, np.full(6, -1)))
    assert found.tolist() == [0, 0, -1, 1, 2, 2]
    together = Constraints(np.array([[3, 5]]), apart, np.full(6, -1))  # wins
    assert parted(groups, pairs, together).tolist() == groups.tolist()


def test_images_that_look_similar_may_be_one_person_whom_a_detector_found_twice(monkeypatch):
    apart = np.array([[0, 1], [2, 3], [5, 4], [0, 6], [1, 5]])
    near = np.array([[0, 1, 5], [1, 0, 5], [2, 0, 1], [3, 2, 1], [4, 5, 1], [5, 4, 0], [6, 1, 0]])  # 3 is not near 2
    single = np.array([True, True, True, True, False, False, True])  # 4 and 5 are of tracklets
    assert unless_similar(apart, near, single).tolist() == [[2, 3], [5, 4], [0, 6], [1, 5]]
    monkeypatch.setattr(cannot_links, "CHUNK_PAIRS", 2)
    assert unless_similar(apart, near, single).tolist() == [[2, 3], [5, 4], [0, 6], [1, 5]]
    assert unless_similar(np.empty((0, 2), np.int64), near, single).tolist() == []
