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
    Chances,
    NearImages,
    Sightings,
    TransitTimes,
    mutual_pairs,
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
    every = [(a, b) for a in range(len(cameras)) for b in range(len(cameras)) if a != b]
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
    transit = TransitTimes(Chances(sightings), first, second)
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


def near(features, sightings, weight, k=6):
    return NearImages(features, partial(find_neighbours, features), sightings, weight).find(k)


def test_time_finds_people_who_look_similar():
    features, person, sightings = walks()
    plain, timed = near(features, None, 0.1), near(features, sightings, 0.1)
    assert right(timed, person) > 0.85 > 0.5 > right(plain, person)
    np.testing.assert_array_equal(timed.index[:, 0], np.arange(len(person)))


def test_a_clock_that_is_wrong_by_a_constant_changes_little():
    features, person, sightings = walks()
    late = Sightings(sightings.cameras, sightings.times + np.array([0, 1800, -3000.0])[sightings.cameras])
    found = [right(near(features, some, 0.1), person) for some in (sightings, late)]
    assert abs(found[0] - found[1]) < 0.03
    since_1970 = Sightings(sightings.cameras, sightings.times + 1_700_000_000)  # a multiple of BIN
    np.testing.assert_array_equal(near(features, since_1970, 0.1).index, near(features, sightings, 0.1).index)


def test_times_without_meaning_do_little_harm():
    features, person, sightings = walks()
    shuffled = Sightings(sightings.cameras, np.random.default_rng(1).permutation(sightings.times))
    assert right(near(features, shuffled, 0.05), person) > right(near(features, None, 0.05), person) - 0.03


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_images_of_which_no_time_is_known_have_the_neighbours_of_their_looks(scale):
    features, _, sightings = walks(people=60)
    features = scale * features + 3  # neither of unit length nor centred
    plain = near(features, None, 0.1).index
    np.testing.assert_array_equal(near(features, sightings, 0.0).index, plain)
    unknown = Sightings(sightings.cameras, np.full(len(features), np.nan))
    assert unknown.num_known == 0
    np.testing.assert_array_equal(near(features, unknown, 0.1).index, plain)
    times = sightings.times.copy()
    times[:30] = np.nan
    some = near(features, Sightings(sightings.cameras, times), 0.1).index
    np.testing.assert_array_equal(some[:30], plain[:30])
    assert (some[30:] != plain[30:]).any()


def test_the_scale_of_the_features_does_not_count():
    features, _, sightings = walks(people=60)
    np.testing.assert_array_equal(near(features, sightings, 0.1).index, near(8 * features, sightings, 0.1).index)


def test_what_looks_similar_is_found_without_time():
    """Strangers who walk together have one time, which must not make them similar."""
    features, _, sightings = walks()
    timed, plain = (NearImages(features, partial(find_neighbours, features), some, 0.5) for some in (sightings, None))
    timed.find(6), plain.find(6)
    np.testing.assert_array_equal(timed.nearest_by_looks(5), plain.nearest_by_looks(5))
    assert plain.nearest_by_looks(5).shape == (len(features), 6)


def test_all_images_may_be_asked_for():
    """Then the candidates are the answer, in another order, and those found by looks stay as they are."""
    features, _, sightings = walks(people=12)
    count, found = len(features), find_neighbours(features, len(features))
    looks = found.index.copy()
    timed = NearImages(features, lambda k: found, sightings, 0.1).find(count)
    np.testing.assert_array_equal(found.index, looks)
    more = NearImages(features, lambda k: found, sightings, 0.1).find(count - 1)  # candidates one more than asked for
    np.testing.assert_array_equal(timed.index[:, : count - 1], more.index)


def test_few_rows_are_enough():
    found = near(torch.eye(3), Sightings(np.array([0, 1, 0]), np.array([0.0, 5, np.nan])), 0.1, 3)
    assert sorted(found.index[2].tolist()) == [0, 1, 2] and found.index[2, 0] == 2


def test_many_cameras_need_little_memory(monkeypatch):
    """Each recording may be another camera."""
    count = 6000
    camera = np.repeat(np.arange(1000), 6)
    chances = Chances(Sightings(camera, np.linspace(0, 86_400, count)))
    first = np.arange(count - 1)
    transit = TransitTimes(chances, first, first + 1)  # five pairs within each camera
    assert len(transit.table) == 1001 and transit.log_ratios(first[:5], first[1:6]).all()
    monkeypatch.setattr(transit_times, "MOST_CAMERAS", 10)
    transit = TransitTimes(chances, first, first + 1)
    assert len(transit.table) == 11 and transit.rows.shape == (11, 11)
    assert np.count_nonzero(transit.log_ratios(first, first + 1)) == 50
    monkeypatch.setattr(transit_times, "LEAST_PAIRS", 11)
    assert not TransitTimes(chances, first, first + 1).log_ratios(first, first + 1).any()


def test_the_number_of_candidates_is_bounded(monkeypatch):
    features, _, sightings = walks(people=20)
    asked = []

    def find(k):
        asked.append(k)
        return find_neighbours(features, k)

    for most in (transit_times.MOST_CANDIDATES, 20 * 120, 1):
        monkeypatch.setattr(transit_times, "MOST_CANDIDATES", most)
        NearImages(features, find, sightings, 0.1).find(6)
    assert asked == [60, 20, 6]


def test_mutual_pairs_are_counted_once():
    index = np.array([[0, 1, 2], [1, 0, 2], [2, 1, 0]], np.int32)
    first, second = mutual_pairs(Neighbours(index, np.ones(3, np.float32)), 1)
    assert list(zip(first.tolist(), second.tolist())) == [(0, 1)]
