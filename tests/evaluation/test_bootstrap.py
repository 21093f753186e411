"""Bootstrap intervals: by eye, against a naive twin, and against the normal distribution."""

import numpy as np
import pytest

from vitreid.evaluation import RetrievalResult, bootstrap


def result_of(first_hit, query_index=None, num_queries=None):
    """Result of queries with one match each."""
    first_hit = np.asarray(first_hit)
    query_index = np.arange(len(first_hit)) if query_index is None else np.asarray(query_index)
    return RetrievalResult(query_index, 1 / first_hit, 1 / first_hit, first_hit, num_queries or len(first_hit))


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
        ({"level": 95}, "level: .*got 95"),
        ({"level": float("nan")}, "level: .*nan"),
        ({"samples": 0}, "samples: .*got 0"),
        ({"seed": -1}, "seed: .*-1"),
        ({"groups": [1, 2]}, r"groups.*\b3 .*\(2,\)"),
        ({"groups": [0.5, 1.5, 2.5]}, "groups.*integers"),
    ],
)
def test_wrong_option_of_the_bootstrap_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(result_of([1, 2, 3]), **options)
