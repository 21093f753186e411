"""Verification, thresholds and the open set: by eye, scikit-learn, naive twins over all pairs, bad input."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from helpers import CAMERA_PROTOCOLS, WRONG_EVALUATIONS, golden_arrays, problems
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.metrics.pairwise import cosine_distances

from vitreid.evaluation import (
    OpenSetResult,
    Threshold,
    ThresholdReport,
    VerificationResult,
    calibrate,
    evaluate_open_set,
    evaluate_retrieval,
    judge,
    verify,
)
from vitreid.evaluation.distances import pairwise
from vitreid.evaluation.verification.roc import draw_wrong, share_out
from vitreid.evaluation.verification.threshold import fmr_interval

SMALL = golden_arrays("small")


def result_of(genuine, impostor):
    return VerificationResult(np.array(genuine, np.float32), np.array(impostor, np.float32))


def on_a_line(query, gallery, g_pids, g_camids):
    """Queries of pid 7 in camera 0 and gallery items as points on a line."""
    labels = ([7] * len(query), g_pids, [0] * len(query), g_camids)
    return np.array(query, np.float32)[:, None], np.array(gallery, np.float32)[:, None], *labels


def root(squared):
    """torch's float32 root, whose last bit depends on the processor; numpy's does not."""
    return torch.tensor(squared, dtype=torch.float32).sqrt().item()


def naive_pairs(query, gallery, q_pids, g_pids, q_camids, g_camids, protocol):
    """Return the sorted distances of genuine and of impostor pairs, walking through all of them."""
    genuine, impostor = [], []
    for i in range(len(query)):
        for j in range(len(gallery)):
            distance = root(((query[i] - gallery[j]) ** 2).sum())
            if q_pids[i] != g_pids[j]:
                impostor.append(distance)
            elif protocol != "same-camera" or q_camids[i] != g_camids[j]:
                genuine.append(distance)
    return sorted(genuine), sorted(impostor)


distances = st.lists(st.integers(0, 12), min_size=1, max_size=30).map(lambda values: np.sort(np.float32(values) / 8))


# --- verification: by eye ---------------------------------------------------------------------------------------


def test_junk_pairs_are_neither_genuine_nor_impostor():
    """The item at 3 shows the query's person in the query's camera."""
    args = on_a_line([0], [1, 2, 3, 4], [7, 5, 7, 6], [1, 0, 0, 0])
    result = verify(*args)
    assert (result.genuine.tolist(), result.impostor.tolist(), result.impostor_share) == ([1], [2, 4], 1)
    assert verify(*args, protocol="none").genuine.tolist() == [1, 3]


def test_threshold_allows_the_wanted_share_of_impostors():
    """Of ten impostors two may match: the threshold lies below the third, at the genuine pair just before it."""
    result = result_of([0.1, 0.35, 0.45], np.arange(1, 11) / 10 + 0.1)
    assert result.threshold_at(0.2) == pytest.approx(0.35)
    assert result.tar_at_far(0.2) == pytest.approx(2 / 3)
    assert result.threshold_at(1.0) == pytest.approx(1.1)
    assert result.tar_at_far(1.0) == 1


def test_a_far_below_one_pair_is_nan_and_not_a_guess():
    result = result_of([0.1], [0.2] * 999)
    assert math.isnan(result.tar_at_far(1e-3))
    assert math.isnan(result.threshold_at(1e-3))
    assert result_of([0.1], [0.2] * 1000).tar_at_far(1e-3) == 1


def test_rounding_of_the_far_costs_no_pair():
    """0.29 * 100 is 28.999999999999996 for the computer."""
    assert result_of([0], np.arange(100)).threshold_at(0.29) == 28


def test_tied_impostors_match_together_or_not_at_all():
    result = result_of([0.5, 0.5], [0.5, 0.5, 0.5, 0.9])
    assert result.tar_at_far(0.5) == 0
    assert result.threshold_at(0.5) < 0.5
    assert result.tar_at_far(0.75) == 1


def test_impostors_tied_at_zero_leave_a_threshold_that_nothing_meets():
    assert result_of([0], [0, 0]).threshold_at(0.5) < 0


def test_equal_error_rate_of_a_curve_with_a_point_on_the_diagonal():
    """At 2 one of four impostors matches and one of four genuine pairs does not."""
    result = result_of([0, 1, 2, 5], [2, 3, 4, 6])
    assert result.eer == pytest.approx(1 / 4)
    assert result.eer_threshold == 2


@pytest.mark.parametrize(("genuine", "impostor", "eer"), [([1, 2], [3, 4], 0), ([3, 4], [1, 2], 1), ([1], [1], 0.5)])
def test_equal_error_rate_and_auc_at_the_extremes(genuine, impostor, eer):
    result = result_of(genuine, impostor)
    assert result.eer == eer
    assert result.auc == 1 - eer


def test_summary_holds_plain_floats():
    summary = result_of([0.1], [0.2] * 100).summary()
    assert list(summary) == ["AUC", "EER", "TAR@FAR=1e-2", "TAR@FAR=1e-3", "TAR@FAR=1e-4"]
    assert [summary[key] for key in ("AUC", "EER", "TAR@FAR=1e-2")] == [1, 0, 1]
    assert math.isnan(summary["TAR@FAR=1e-3"])
    assert {type(value) for value in summary.values()} == {float}


# --- verification: scikit-learn and the naive twin ----------------------------------------------------------------


def scikit_curve(result):
    """The full ROC curve, every pair a sample."""
    is_genuine = np.repeat([1, 0], [result.num_genuine, result.num_impostor])
    return is_genuine, -np.concatenate([result.genuine, result.impostor]).astype(np.float64)


@settings(max_examples=60, deadline=None)
@given(genuine=distances, impostor=distances)
def test_roc_curve_and_area_equal_scikit_learn_over_all_pairs(genuine, impostor):
    """The corners of ours are points of the full curve, and the full curve lies on the lines between them."""
    result = VerificationResult(genuine, impostor)
    far, tar, thresholds = result.roc()
    is_genuine, scores = scikit_curve(result)
    full_far, full_tar, full_scores = roc_curve(is_genuine, scores, drop_intermediate=False)
    full = {-score: rates for score, rates in zip(full_scores, zip(full_far, full_tar), strict=True)}
    np.testing.assert_allclose([full[t] for t in thresholds], np.stack([far, tar], 1), atol=1e-12)
    path, full_path = np.cumsum(np.append(0, np.diff(far + tar))), full_far + full_tar
    np.testing.assert_allclose(np.interp(full_path, path, far), full_far, atol=1e-12)
    assert result.auc == pytest.approx(roc_auc_score(is_genuine, scores))


@settings(max_examples=60, deadline=None)
@given(genuine=distances, impostor=distances, far=st.sampled_from([0.04, 0.1, 0.25, 1 / 3, 0.5, 1.0]))
def test_rates_and_thresholds_equal_the_naive_twin(genuine, impostor, far):
    """Try every observed distance as the threshold."""
    result = VerificationResult(genuine, impostor)
    tried = np.unique(np.concatenate([[-1], genuine, impostor]))
    fars, tars = (np.array([(values <= t).mean() for t in tried]) for values in (impostor, genuine))
    if far * len(impostor) < 1 - 1e-9:
        assert math.isnan(result.tar_at_far(far))
        assert math.isnan(result.threshold_at(far))
    else:
        best = np.flatnonzero(fars <= far + 1e-9)[-1]
        assert result.tar_at_far(far) == tars[best]
        assert result.threshold_at(far) == pytest.approx(tried[best]) if best else result.threshold_at(far) < tried[1]
    crossing = np.flatnonzero(fars >= 1 - tars - 1e-12)[0]
    assert result.eer_threshold == tried[crossing]
    before = crossing - 1  # the line between the two points meets the diagonal where FAR + TAR = 1
    meet = np.interp(1, (fars + tars)[[before, crossing]], fars[[before, crossing]])
    assert result.eer == pytest.approx(meet)


@settings(max_examples=60, deadline=None)
@given(problem=problems(), protocol=st.sampled_from(CAMERA_PROTOCOLS))
def test_pairs_equal_the_naive_twin(problem, protocol):
    genuine, impostor = naive_pairs(*problem, protocol)
    if not genuine or not impostor:
        with pytest.raises(ValueError, match="no impostor pair" if genuine else "queries has a match"):
            verify(*problem, protocol=protocol)
        return
    result = verify(*problem, protocol=protocol)
    assert result.genuine.tolist() == genuine
    assert result.impostor.tolist() == impostor
    assert result.genuine.dtype == result.impostor.dtype == np.float32


def test_cosine_distances_equal_scikit_learn():
    """Lengths do not matter, and a feature of zeros is as far from everything as a right angle."""
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(3, 5)) * [[1], [20], [0.1]], rng.normal(size=(6, 5))
    gallery[4] = 0
    result = verify(query, gallery, [1, 2, 3], [1, 2, 3, 4, 4, 4], [0] * 3, [1] * 6, metric="cosine")
    expected = cosine_distances(query, gallery)
    np.testing.assert_allclose(result.genuine, np.sort(np.diag(expected[:, :3])), atol=1e-6)
    np.testing.assert_allclose(result.impostor, np.sort(expected[np.arange(6) != np.arange(3)[:, None]]), atol=1e-6)


def in_small_blocks(monkeypatch):
    """Make blocks of 64 queries, the fewest."""
    monkeypatch.setattr(pairwise, "BLOCK_ELEMENTS", 1)


def crowd(num_queries=150, num_gallery=90, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, 4))
    q_pids, g_pids = rng.integers(0, 12, num_queries), rng.integers(0, 12, num_gallery)
    query = centres[q_pids] + 0.4 * rng.normal(size=(num_queries, 4))
    gallery = centres[g_pids] + 0.4 * rng.normal(size=(num_gallery, 4))
    camids = (rng.integers(0, 3, num_queries), rng.integers(0, 3, num_gallery))
    return query.astype(np.float32), gallery.astype(np.float32), q_pids, g_pids, *camids


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("limit", [10**6, 500])
def test_blocks_change_nothing(monkeypatch, metric, limit):
    whole = verify(*crowd(), metric=metric, max_impostors=limit)
    open_set, threshold = evaluate_open_set(*crowd(), metric=metric), calibrate(*crowd(), metric=metric, fmr=0.01)
    in_small_blocks(monkeypatch)
    parts = verify(*crowd(), metric=metric, max_impostors=limit)
    np.testing.assert_allclose(parts.genuine, whole.genuine, atol=1e-5)
    np.testing.assert_allclose(parts.impostor, whole.impostor, atol=1e-5)
    np.testing.assert_allclose(evaluate_open_set(*crowd(), metric=metric).mated, open_set.mated, atol=1e-5)
    assert calibrate(*crowd(), metric=metric, fmr=0.01).distance == pytest.approx(threshold.distance, abs=1e-5)


def test_tensors_and_other_precisions_are_accepted():
    query, gallery, *labels = SMALL
    expected = verify(*SMALL).genuine
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        result = verify(torch.from_numpy(query).to(dtype), torch.from_numpy(gallery), *map(torch.from_numpy, labels))
        assert result.genuine.dtype == np.float32
        np.testing.assert_allclose(result.genuine, expected, atol=0.03)


def test_inputs_are_left_as_they_were():
    copies = [array.copy() for array in SMALL]
    verify(*SMALL, metric="cosine", max_impostors=100)
    evaluate_open_set(*SMALL)
    judge(calibrate(*SMALL, fmr=0.01), *SMALL)
    assert all(np.array_equal(array, copy) for array, copy in zip(SMALL, copies, strict=True))


# --- verification: the draw of impostor pairs -----------------------------------------------------------------------


def test_drawn_impostors_are_as_many_as_allowed_and_impostors_all():
    everything = verify(*SMALL)
    result = verify(*SMALL, max_impostors=777, seed=3)
    assert result.num_impostor == 777
    assert result.impostor_share == pytest.approx(777 / everything.num_impostor)
    assert np.isin(result.impostor, everything.impostor).all()
    assert len(np.unique(result.impostor)) >= 770  # without putting back
    np.testing.assert_array_equal(result.genuine, everything.genuine)
    np.testing.assert_array_equal(result.impostor, verify(*SMALL, max_impostors=777, seed=3).impostor)
    assert not np.array_equal(result.impostor, verify(*SMALL, max_impostors=777, seed=4).impostor)


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=10), limit=st.integers(1, 200))
def test_each_query_gives_the_same_share(counts, limit):
    quotas, total = share_out(np.array(counts), limit), sum(counts)
    assert quotas.sum() == min(total, limit)
    assert (quotas <= counts).all()
    assert (np.abs(quotas - np.array(counts) * min(1, limit / max(1, total))) < 1).all()


def test_a_share_of_very_many_pairs_does_not_overflow():
    counts = np.full(1000, 10**13)
    assert share_out(counts, 20_000_000).tolist() == [20_000] * 1000


@settings(max_examples=40, deadline=None)
@given(num_gallery=st.integers(1, 20), own=st.sets(st.integers(0, 19)), data=st.data())
def test_drawn_columns_are_different_and_never_the_querys_own(num_gallery, own, data):
    own = np.array(sorted(column for column in own if column < num_gallery), np.int64)
    wrong = np.setdiff1d(np.arange(num_gallery), own)
    count = data.draw(st.integers(0, len(wrong)))
    drawn = draw_wrong(own, len(wrong), count, np.random.default_rng(0))
    assert len(np.unique(drawn)) == len(drawn) == count
    assert np.isin(drawn, wrong).all()


def test_each_wrong_item_is_drawn_equally_often():
    rng, own = np.random.default_rng(0), np.array([1, 2, 6])
    drawn = np.concatenate([draw_wrong(own, 5, 2, rng) for _ in range(2000)])
    counts = np.bincount(drawn, minlength=8)
    assert counts[own].sum() == 0
    assert np.abs(np.delete(counts, own) - 800).max() < 100  # 4.5 standard deviations


# --- threshold ------------------------------------------------------------------------------------------------------


def test_calibrated_threshold_has_the_wanted_rate_and_judge_agrees():
    result, threshold = verify(*SMALL), calibrate(*SMALL, fmr=0.01)
    assert threshold.distance == result.threshold_at(0.01)
    assert threshold.measured_fmr == (result.impostor <= threshold.distance).mean() <= 0.01
    assert threshold.tar == (result.genuine <= threshold.distance).mean() == result.tar_at_far(0.01)
    assert threshold.fmr_low <= threshold.measured_fmr <= threshold.fmr_high
    assert (threshold.num_genuine, threshold.num_impostor) == (result.num_genuine, result.num_impostor)
    report = judge(threshold, *SMALL)
    assert report == ThresholdReport(
        threshold.measured_fmr, threshold.tar, threshold.num_genuine, threshold.num_impostor
    )


def test_a_threshold_from_drawn_pairs_is_measured_on_all():
    threshold = calibrate(*SMALL, fmr=0.01, max_impostors=2000)
    assert threshold.num_impostor == verify(*SMALL).num_impostor > 2000
    assert threshold.measured_fmr == pytest.approx(0.01, rel=0.5)


def threshold_of(distance, metric="euclidean"):
    return Threshold(distance, metric, 0.01, 0.01, 0.0, 0.02, 0.9, 10, 1000)


@settings(max_examples=60, deadline=None)
@given(
    problem=problems(),
    protocol=st.sampled_from(CAMERA_PROTOCOLS),
    squared=st.integers(0, 20),
    shift=st.integers(-1, 1),
)
def test_judged_rates_equal_the_naive_twin(problem, protocol, squared, shift):
    """Thresholds at, just below and just above distances that occur, by less than a step of float32."""
    genuine, impostor = naive_pairs(*problem, protocol)
    assume(genuine and impostor)
    limit = float(np.float32(squared) ** np.float32(0.5)) * (1 + shift * 1e-12)
    report = judge(threshold_of(limit), *problem, protocol=protocol)
    assert report.fmr == sum(float(distance) <= limit for distance in impostor) / len(impostor)
    assert report.tar == sum(float(distance) <= limit for distance in genuine) / len(genuine)
    assert (report.num_genuine, report.num_impostor) == (len(genuine), len(impostor))


def test_judge_measures_by_the_thresholds_metric():
    """Both items point where the query does; only the cosine says so."""
    args = on_a_line([1], [5, 9], [7, 5], [1, 1])
    assert judge(threshold_of(0.1, "cosine"), *args).tar == 1
    assert judge(threshold_of(0.1, "euclidean"), *args).tar == 0


def test_threshold_survives_json():
    threshold = calibrate(*SMALL, fmr=0.01, metric="cosine", level=0.9, samples=20)
    stored = json.loads(json.dumps(threshold.to_dict()))
    assert Threshold.from_dict(stored) == threshold
    assert {type(value) for value in stored.values()} == {str, float, int}
    assert Threshold.from_dict(stored | {"tar": 1}).tar == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distance": "0.4"}, r"threshold: distance.*'0\.4'"),
        ({"distance": math.nan}, "threshold: .*distance.*nan"),
        ({"metric": "manhattan"}, "metric 'manhattan'.*cosine, euclidean"),
        ({"num_genuine": True}, "num_genuine.*int.*True"),
        ({"colour": "red"}, r"\['colour'\].*calibrate"),
        ({"tar": None}, "tar .*float.*None"),
    ],
)
def test_a_damaged_threshold_is_an_error_that_names_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        Threshold.from_dict(threshold_of(0.5).to_dict() | changes)


def test_a_threshold_with_missing_fields_is_an_error():
    with pytest.raises(ValueError, match=r"\['fmr', .*'tar'\]"):
        Threshold.from_dict({"distance": 0.5, "metric": "cosine"})


# --- threshold: the interval ------------------------------------------------------------------------------------------


def test_interval_is_wider_where_a_persons_queries_fail_together():
    """The same false matches, in five people alone or spread over all fifty of four queries each."""
    pids, totals = np.repeat(np.arange(50), 4), np.full(200, 100)
    together, spread = np.where(pids < 5, 10, 0), np.where(np.arange(200) % 10 == 0, 10, 0)
    low, high = fmr_interval(pids, together, totals, 0.95, 500, 0)
    spread_low, spread_high = fmr_interval(pids, spread, totals, 0.95, 500, 0)
    assert low < spread_low < 0.01 < spread_high < high


def test_interval_is_seeded_and_grows_with_the_level():
    pids, totals = np.arange(30), np.full(30, 10)
    false = np.random.default_rng(0).integers(0, 4, 30)
    args = (pids, false, totals)
    assert fmr_interval(*args, 0.9, 200, 1) == fmr_interval(*args, 0.9, 200, 1)
    low, high = fmr_interval(*args, 0.9, 200, 1)
    lower, higher = fmr_interval(*args, 0.99, 200, 1)
    assert lower < low < high < higher


def test_interval_covers_the_true_rate_about_as_often_as_it_says():
    """Each person's rate is drawn around 0.1, the queries of a person share it: pairs alone would cover far less."""
    rng, covered = np.random.default_rng(0), 0
    pids, totals = np.repeat(np.arange(60), 3), np.full(180, 50)
    for i in range(100):
        false = rng.binomial(50, rng.beta(2, 18, 60)[pids])
        low, high = fmr_interval(pids, false, totals, 0.9, 100, i)
        covered += low <= 0.1 <= high
    assert 0.83 <= covered / 100 <= 0.96


@pytest.mark.parametrize("totals", [[5, 5], [5, 0]])
def test_one_person_tells_no_interval(totals):
    pids = [1, 1] if totals[1] else [1, 2]
    assert all(map(math.isnan, fmr_interval(np.array(pids), np.array([1, 0]), np.array(totals), 0.95, 10, 0)))


# --- open set -------------------------------------------------------------------------------------------------------


def test_a_person_is_detected_within_the_threshold_and_only_if_first():
    """Three searches find their person first, at 1, 2 and 9; one finds somebody else first. Without them: 3, 4, 5, 6."""
    result = OpenSetResult(
        np.array([1, 2, 9, 1], np.float32), np.array([True, True, True, False]), np.array([5, 3, 4, 6], np.float32)
    )
    assert result.threshold_at(0.25) == 3
    assert result.dir_at_far(0.25) == 2 / 4
    assert result.dir_at_far(1.0) == 3 / 4
    assert math.isnan(result.dir_at_far(0.2))
    assert all(map(math.isnan, result.summary().values()))
    assert list(result.summary()) == ["DIR@FAR=1e-1", "DIR@FAR=1e-2"]


def test_nobody_found_is_a_rate_of_zero():
    result = OpenSetResult(np.ones(2, np.float32), np.zeros(2, bool), np.ones(10, np.float32))
    assert result.summary()["DIR@FAR=1e-1"] == 0


def test_without_the_person_junk_is_gone_too():
    """Query at 0: right at 2, junk at 1, another at 3. With the person the nearest is right, without it is 3 away."""
    result = evaluate_open_set(*on_a_line([0], [2, 1, 3], [7, 7, 5], [1, 0, 0]))
    assert (result.mated.tolist(), result.is_first.tolist(), result.non_mated.tolist()) == ([2], [True], [3])


@pytest.mark.parametrize(("g_pids", "is_first"), [([7, 5, 7], True), ([5, 7, 7], False), ([7, 5, 5], False)])
def test_equally_near_items_stand_in_gallery_order(g_pids, is_first):
    """All at the same place; the first item is junk where it is of the query's camera."""
    args = on_a_line([0], [2, 2, 2], g_pids, [1, 1, 1])
    if g_pids == [7, 5, 5]:
        args = on_a_line([0], [2, 2, 2, 2], [*g_pids, 7], [0, 1, 1, 1])
    assert evaluate_open_set(*args).is_first.tolist() == [is_first]


def naive_open_set(query, gallery, q_pids, g_pids, q_camids, g_camids, protocol):
    """Sort the gallery of each search, with and without the person."""
    mated, is_first, non_mated = [], [], []
    for i in range(len(query)):
        items = [(root(((query[i] - gallery[j]) ** 2).sum()), j) for j in range(len(gallery))]
        junk = [
            g_pids[j] == q_pids[i] and g_camids[j] == q_camids[i] and protocol == "same-camera"
            for j in range(len(gallery))
        ]
        kept = sorted(item for item in items if not junk[item[1]])
        right = [item for item in kept if g_pids[item[1]] == q_pids[i]]
        wrong = [item for item in kept if g_pids[item[1]] != q_pids[i]]
        if right:
            mated.append(right[0][0])
            is_first.append(kept[0] == right[0])
        if wrong:
            non_mated.append(wrong[0][0])
    return mated, is_first, non_mated


@settings(max_examples=60, deadline=None)
@given(problem=problems(), protocol=st.sampled_from(CAMERA_PROTOCOLS))
def test_open_set_equals_the_naive_twin(problem, protocol):
    mated, is_first, non_mated = naive_open_set(*problem, protocol)
    assume(mated and non_mated)
    result = evaluate_open_set(*problem, protocol=protocol)
    assert (result.mated.tolist(), result.is_first.tolist(), result.non_mated.tolist()) == (mated, is_first, non_mated)
    assert result.is_first.mean() == evaluate_retrieval(*problem, protocol=protocol).rank(1)
    for far in (0.25, 0.5, 1.0):
        allowed = [t for t in [-1, *mated, *non_mated] if np.mean(np.array(non_mated) <= t) <= far]
        rate = np.mean([first and distance <= max(allowed) for distance, first in zip(mated, is_first, strict=True)])
        assert result.dir_at_far(far) == (
            pytest.approx(rate) if far * len(non_mated) >= 1 else pytest.approx(math.nan, nan_ok=True)
        )


def test_rank_one_is_the_detection_rate_without_a_threshold():
    result = evaluate_open_set(*SMALL)
    retrieval = evaluate_retrieval(*SMALL)
    assert result.num_mated == retrieval.num_valid
    assert result.num_non_mated == retrieval.num_queries
    np.testing.assert_array_equal(result.is_first, retrieval.first_hit == 1)


# --- wrong input ------------------------------------------------------------------------------------------------------


FUNCTIONS = {
    "verify": verify,
    "calibrate": calibrate,
    "open set": evaluate_open_set,
    "judge": lambda *args, metric="cosine", **options: judge(threshold_of(0.5, metric), *args, **options),
}
NAMES = ("query", "gallery", "q_pids", "g_pids", "q_camids", "g_camids")


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *WRONG_EVALUATIONS,
        ({"q_camids": np.zeros(40)}, "q_camids.*integers"),
        ({"q_pids": np.zeros(40, int), "g_pids": np.zeros(300, int)}, r"g_pids.*\b300 gallery"),
    ],
)
def test_bad_input_is_an_error_that_says_which_and_where(function, changes, message):
    values = dict(zip(NAMES, SMALL, strict=True)) | {key: value for key, value in changes.items() if key in NAMES}
    options = {key: value for key, value in changes.items() if key not in NAMES}
    with pytest.raises(ValueError, match=message):
        FUNCTIONS[function](*values.values(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fmr": 0.0}, r"fmr: .*got 0\.0"),
        ({"fmr": math.nan}, "fmr: .*got nan"),
        ({"fmr": 1e-6}, r"fmr: 1e-06 .*\d+ impostor pairs.*e-05"),
        ({"level": 1.0}, r"level: .*got 1\.0"),
        ({"samples": 0}, "samples: .*0"),
        ({"max_impostors": 0}, "max_impostors: .*0"),
    ],
)
def test_bad_options_of_a_calibration_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        calibrate(*SMALL, **options)


@pytest.mark.parametrize("far", [0, -0.1, 1.5, math.nan])
def test_a_far_that_is_no_share_is_an_error(far):
    with pytest.raises(ValueError, match=f"far: .*{far}"):
        result_of([1], [2]).tar_at_far(far)


@pytest.mark.parametrize("values", [[], [2, 1], [[1, 2]]])
def test_distances_that_are_not_ascending_are_an_error(values):
    with pytest.raises(ValueError, match="impostor.*float32"):
        result_of([1], values)
