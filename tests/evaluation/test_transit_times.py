"""Times that people take between cameras: against a naive twin, and on people who walk."""

from functools import partial

import numpy as np
import pytest
import torch

from vitreid.evaluation.clustering import transit_times
from vitreid.evaluation.clustering.transit_times import (
    BIN,
    DOUBT,
    LAGS,
    LEAST_PAIRS,
    Sightings,
    TransitTimes,
    mutual_pairs,
    neighbours_in_time,
    timed_find,
)
from vitreid.evaluation.reranking.neighbours import Neighbours, find_neighbours


def naive_log_ratio(sightings, pairs, i, j):
    """The definition, one pair of images after the other."""
    bins = np.floor((sightings.times - np.nanmin(sightings.times)) / BIN)
    cameras = sightings.cameras

    def lag(a, b):
        return bins[b] - bins[a]

    def counted(some):
        """Of ordered pairs of the two cameras: all, and those at the lag of i and j, where each lag shares with the next ones."""
        total = near = 0.0
        for a, b in some:
            if (cameras[a], cameras[b]) == (cameras[i], cameras[j]) and not np.isnan([bins[a], bins[b]]).any():
                total += 1
                far, is_far = abs(lag(a, b)) > LAGS, abs(lag(i, j)) > LAGS
                if far or is_far:
                    near += far == is_far
                else:
                    near += {0: 0.5, 1: 0.25}.get(abs(lag(a, b) - lag(i, j)), 0)
        return total, near

    both_ways = [*pairs, *((b, a) for a, b in pairs)]
    every = [(a, b) for a in range(len(cameras)) for b in range(len(cameras))]
    (found, found_near), (chance, chance_near) = counted(both_ways), counted(every)
    if found < LEAST_PAIRS:
        return 0
    return np.log((found_near + DOUBT) / (found * chance_near / max(chance, 1) + DOUBT))


@pytest.mark.parametrize("span", [400, 20_000])  # all lags within the table, and most beyond it
def test_log_ratios_are_those_of_a_naive_twin(span):
    rng = np.random.default_rng(0)
    times = rng.uniform(0, span, 30)
    times[[3, 8]] = np.nan
    sightings = Sightings(rng.integers(0, 3, 30), times)
    pairs = sorted({tuple(sorted(pair)) for pair in rng.integers(0, 30, (70, 2)).tolist() if pair[0] != pair[1]})
    first, second = np.array(pairs).T
    transit = TransitTimes(sightings, first, second)
    i, j = rng.integers(0, 30, (2, 60))
    known = ~np.isnan(times[i]) & ~np.isnan(times[j])
    expected = [naive_log_ratio(sightings, pairs, a, b) if ok else 0 for a, b, ok in zip(i, j, known)]
    np.testing.assert_allclose(transit.log_ratios(i, j), expected, atol=1e-5)
    np.testing.assert_array_equal(transit.log_ratios(i, j), transit.log_ratios(j, i))


def walks(people=120, cameras=3, seed=0, noise=0.8):
    """Embeddings, people and sightings of people who pass cameras one after the other, two minutes apart; many look similar."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), 2 * cameras)
    camera = np.tile(np.repeat(np.arange(cameras), 2), people)
    times = rng.uniform(0, 4 * 3600, people)[person] + 120 * camera + rng.uniform(0, 10, len(person))
    rows = rng.standard_normal((people, 16))[person] + noise * rng.standard_normal((len(person), 16))
    return torch.from_numpy(rows).float(), person, Sightings(camera, times)


def right(neighbours, person, k=5):
    return (person[neighbours.index[:, 1 : k + 1]] == person[:, None]).mean()


def test_time_finds_people_who_look_alike():
    features, person, sightings = walks()
    find = partial(find_neighbours, features)
    plain, timed = find(6), timed_find(features, sightings, 0.1, find)(6)
    assert right(timed, person) > 0.85 > 0.5 > right(plain, person)
    np.testing.assert_array_equal(timed.index[:, 0], np.arange(len(person)))


def test_a_clock_that_is_wrong_by_a_constant_changes_little():
    features, person, sightings = walks()
    find = partial(find_neighbours, features)
    late = Sightings(sightings.cameras, sightings.times + np.array([0, 1800, -3000.0])[sightings.cameras])
    found = [right(neighbours_in_time(features, some, 0.1, find, 6), person) for some in (sightings, late)]
    assert abs(found[0] - found[1]) < 0.03


def test_times_without_meaning_do_little_harm():
    features, person, sightings = walks()
    find = partial(find_neighbours, features)
    shuffled = Sightings(sightings.cameras, np.random.default_rng(1).permutation(sightings.times))
    timed = neighbours_in_time(features, shuffled, 0.05, find, 6)
    assert right(timed, person) > right(find(6), person) - 0.03


def test_without_times_or_weight_the_search_is_the_given_one():
    features, _, sightings = walks(people=5)
    find = partial(find_neighbours, features)
    assert timed_find(features, None, 0.1, find) is find and timed_find(features, sightings, 0.0, find) is find
    unknown = Sightings(sightings.cameras, np.full(len(features), np.nan))
    assert unknown.num_known == 0
    np.testing.assert_array_equal(neighbours_in_time(features, unknown, 0.1, find, 6).index[:, 0], np.arange(30))


def test_few_rows_are_enough():
    features = torch.eye(3)
    sightings = Sightings(np.array([0, 1, 0]), np.array([0.0, 5, np.nan]))
    found = neighbours_in_time(features, sightings, 0.1, partial(find_neighbours, features), 3)
    assert sorted(found.index[2].tolist()) == [0, 1, 2] and found.index[2, 0] == 2


def test_many_cameras_need_little_memory():
    """Each recording may be a camera of its own."""
    count = 20_000
    sightings = Sightings(np.arange(count), np.linspace(0, 86_400, count))
    transit = TransitTimes(sightings, np.arange(count - 1), np.arange(1, count))
    assert transit.table.nbytes + transit.rows.nbytes < 10_000
    assert not transit.log_ratios(np.arange(5), np.arange(5, 10)).any()


def test_the_number_of_candidates_is_bounded(monkeypatch):
    features, _, sightings = walks(people=20)
    asked = []

    def find(k):
        asked.append(k)
        return find_neighbours(features, k)

    neighbours_in_time(features, sightings, 0.1, find, 6)
    monkeypatch.setattr(transit_times, "MOST_CANDIDATES", 20 * 120)
    neighbours_in_time(features, sightings, 0.1, find, 6)
    monkeypatch.setattr(transit_times, "MOST_CANDIDATES", 1)
    neighbours_in_time(features, sightings, 0.1, find, 6)
    assert asked == [60, 20, 6]


def test_mutual_pairs_are_counted_once():
    index = np.array([[0, 1, 2], [1, 0, 2], [2, 1, 0]], np.int32)
    first, second = mutual_pairs(Neighbours(index, np.ones(3, np.float32)), 1)
    assert list(zip(first.tolist(), second.tolist())) == [(0, 1)]
