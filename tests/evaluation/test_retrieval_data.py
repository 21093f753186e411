"""One input for all evaluations: whole, or field by field; and which gallery items are junk."""

import inspect
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from helpers import CAMERA_PROTOCOLS

from vitreid.datasets import records
from vitreid.datasets.records import Record, ReidData
from vitreid.evaluation import (
    PROTOCOLS,
    RetrievalData,
    calibrate,
    camera_pairs,
    evaluate_open_set,
    evaluate_reranked,
    evaluate_retrieval,
    evaluate_single_shot,
    judge,
    verify,
)
from vitreid.evaluation.distances.pairwise import DISTANCES
from vitreid.evaluation.matches import Matches
from vitreid.evaluation.retrieval import SCORES
from vitreid.evaluation.retrieval_data import METRICS


def arrays(seed=0):
    """Twelve queries and forty gallery images of five people and three cameras."""
    rng = np.random.default_rng(seed)
    pids, camids = rng.integers(0, 5, 52), rng.integers(0, 3, 52)
    crops = (rng.normal(size=(5, 8))[pids] + rng.normal(size=(52, 8))).astype(np.float32)
    return crops[:12], crops[12:], pids[:12], pids[12:], camids[:12], camids[12:]


NAMES = ("query", "gallery", "q_pids", "g_pids", "q_camids", "g_camids")
FUNCTIONS = {
    "retrieval": (evaluate_retrieval, {"max_rank": 7}),
    "single shot": (evaluate_single_shot, {"repeats": 2}),
    "camera pairs": (camera_pairs, {}),
    "verify": (verify, {"seed": 1}),
    "open set": (evaluate_open_set, {}),
    "calibrate": (calibrate, {"fmr": 0.1}),
}


def equal(left, right):
    return all(np.array_equal(vars(left)[name], vars(right)[name]) for name in vars(left))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_data_or_its_fields_are_the_same_input(name, metric):
    function, options = FUNCTIONS[name]
    whole = function(RetrievalData(*arrays(), protocol="none", metric=metric), **options)
    assert equal(whole, function(*arrays(), protocol="none", metric=metric, **options))
    by_name = dict(zip(NAMES, arrays(), strict=True))
    assert equal(whole, function(**by_name, protocol="none", metric=metric, **options))


def test_a_threshold_is_judged_in_its_own_metric():
    threshold = calibrate(*arrays(), fmr=0.1, metric="cosine")
    expected = judge(threshold, *arrays())
    assert (
        expected
        == judge(threshold, RetrievalData(*arrays()))
        == judge(threshold=threshold, data=RetrievalData(*arrays()))
    )
    assert expected == judge(threshold=threshold, **dict(zip(NAMES, arrays(), strict=True)))
    assert expected.fmr == threshold.measured_fmr


def test_reranking_refuses_a_metric_that_it_does_not_measure():
    assert equal(evaluate_reranked(*arrays(), k1=3), evaluate_reranked(RetrievalData(*arrays()), k1=3))
    with pytest.raises(ValueError, match="metric: .*'cosine'"):
        evaluate_reranked(*arrays(), k1=3, metric="cosine")


def test_a_missing_array_and_a_metric_by_position_are_errors():
    with pytest.raises(TypeError, match="g_camids"):
        verify(*arrays()[:-1])
    with pytest.raises(TypeError):
        verify(*arrays(), "cosine")
    assert next(iter(inspect.signature(verify).parameters)) == "data"


def test_the_data_are_converted_once_and_stay():
    query, gallery, *labels = arrays()
    data = RetrievalData(query.astype(np.float64), gallery, *map(torch.from_numpy, labels[:2]), *map(list, labels[2:]))
    assert data.query.dtype == data.gallery.dtype == torch.float64
    assert all(getattr(data, name).dtype == np.int64 for name in NAMES[2:])
    with pytest.raises(FrozenInstanceError):
        data.protocol = "none"
    with pytest.raises(ValueError, match="protocol.*'market'.*none, other-clothes, own-file, same-camera"):
        replace(data, protocol="market")


def test_selected_rows_are_the_same_evaluation_as_those_arrays():
    data, (query, gallery, q_pids, g_pids, q_camids, g_camids) = RetrievalData(*arrays()), arrays()
    rows, columns = np.array([3, 1, 7]), np.arange(0, 40, 2)
    part = data.select(rows, columns)
    own = (query[rows], gallery[columns], q_pids[rows], g_pids[columns], q_camids[rows], g_camids[columns])
    assert equal(evaluate_retrieval(part), evaluate_retrieval(*own))
    assert len(data.select(gallery=columns).query) == 12


def test_every_metric_can_rank_and_measure():
    assert set(SCORES) == set(DISTANCES) == set(METRICS)


def test_data_sets_and_evaluation_know_the_same_protocols():
    assert set(records.PROTOCOLS) == set(PROTOCOLS)


@pytest.mark.parametrize("protocol", CAMERA_PROTOCOLS)
@pytest.mark.parametrize("seed", range(5))
def test_data_sets_and_evaluation_agree_on_queries_without_a_match(protocol, seed):
    rng = np.random.default_rng(seed)
    query, gallery = ([Record("", *map(int, row)) for row in rng.integers(0, (9, 3), (count, 2))] for count in (20, 6))
    data = ReidData("", [], query, gallery, ("a", "b", "c", "d"), protocol=protocol)
    columns = [np.array([getattr(r, n) for r in side]) for n in ("pid", "camid") for side in (query, gallery)]
    is_valid = Matches(*columns, protocol).is_valid()
    assert 0 < is_valid.sum() < 20
    assert data.unmatched_queries() == [record for record, valid in zip(query, is_valid, strict=True) if not valid]


WRONG_ARRAYS = {  # array: its value, or a row of it and that row's value; the message
    "query is NaN": ("query", 4, np.nan, "query.*row 4 "),
    "gallery is infinite": ("gallery", 7, np.inf, "gallery.*row 7 .*infinite"),
    "no gallery": ("gallery", None, np.empty((0, 8)), r"gallery.*\(0, 8\)"),
    "widths differ": ("query", None, np.zeros((12, 3)), r"query.*\b3 .*gallery 8"),
    "too few labels": ("g_pids", None, np.zeros(8, int), r"g_pids.*\b40 .*\(8,\)"),
    "labels of floats": ("q_camids", None, np.zeros(12), "q_camids.*integers.*float64"),
    "nobody in the gallery": ("q_pids", None, np.full(12, 12345), "none of the 12 queries"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("array", "row", "value", "message"), WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
def test_bad_array_is_an_error_that_says_which_and_where(name, array, row, value, message):
    args = dict(zip(NAMES, arrays(), strict=True))
    if row is None:
        args[array] = value
    else:
        args[array][row] = value
    with pytest.raises(ValueError, match=message):
        FUNCTIONS[name][0](**args)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_inputs_are_left_as_they_were(name):
    args = arrays()
    FUNCTIONS[name][0](*args, **FUNCTIONS[name][1])
    assert all(np.array_equal(array, copy) for array, copy in zip(args, arrays(), strict=True))
