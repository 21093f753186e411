"""The metric that collects batches: the same numbers as all at once."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from helpers import golden_arrays

from vitreid.evaluation import RetrievalMetric, evaluate_retrieval


def all_rows():
    """Embeddings, pids, camids and is_query of queries and gallery, shuffled together."""
    query, gallery, q_pids, g_pids, q_camids, g_camids = golden_arrays("small")
    is_query = np.arange(len(query) + len(gallery)) < len(query)
    columns = (
        *(np.concatenate([query, gallery]), np.concatenate([q_pids, g_pids]), np.concatenate([q_camids, g_camids])),
        is_query,
    )
    order = np.random.default_rng(0).permutation(len(is_query))
    return [torch.from_numpy(column[order]) for column in columns]


def filled(rows, size=32, **options):
    metric = RetrievalMetric(**options)
    for batch in zip(*(column.split(size) for column in rows), strict=True):
        metric.update(*batch)
    return metric


def assert_same(result, expected):
    assert result.summary() == pytest.approx(expected.summary(), abs=1e-9)
    assert (result.num_valid, result.num_queries) == (expected.num_valid, expected.num_queries)


@pytest.mark.parametrize("options", [{}, {"metric": "cosine", "protocol": "none", "max_rank": 7}])
@pytest.mark.parametrize("size", [1, 32, 1000])
def test_batches_of_queries_and_gallery_mixed_give_the_result_of_all_at_once(options, size):
    expected = evaluate_retrieval(*golden_arrays("small"), **options)
    result = filled(all_rows(), size, **options).compute()
    assert_same(result, expected)
    np.testing.assert_allclose(result.cmc, expected.cmc)


def test_one_flag_tells_for_a_whole_batch():
    query, gallery, q_pids, g_pids, q_camids, g_camids = golden_arrays("small")
    metric = RetrievalMetric()
    metric.update(gallery, g_pids, g_camids, is_query=False)
    metric.update(query, q_pids, q_camids, is_query=True)
    result, expected = metric.compute(), evaluate_retrieval(*golden_arrays("small"))
    np.testing.assert_array_equal(result.first_hit, expected.first_hit)
    np.testing.assert_array_equal(result.query_index, expected.query_index)


def test_compute_keeps_what_was_accumulated_and_reset_forgets_it():
    rows = all_rows()
    metric = filled([column[:200] for column in rows])
    metric.compute()
    metric.update(*(column[200:] for column in rows))
    assert_same(metric.compute(), evaluate_retrieval(*golden_arrays("small")))
    metric.reset()
    with pytest.raises(ValueError, match="query: nothing accumulated"):
        metric.compute()
    metric.update(torch.ones(2, 5), [1, 1], [0, 1], torch.tensor([True, False]))  # another number of features
    assert metric.compute().num_queries == 1


def test_a_merge_of_processes_gives_the_result_of_one():
    rows = all_rows()
    first, second = filled([column[::2] for column in rows]), filled([column[1::2] for column in rows])
    first.merge(pickle.loads(pickle.dumps(second)))
    assert_same(first.compute(), evaluate_retrieval(*golden_arrays("small")))
    kept = second.compute().num_queries
    first.reset()
    assert second.compute().num_queries == kept


def test_a_process_without_data_can_be_merged_either_way():
    empty, full = RetrievalMetric(), filled(all_rows())
    full.merge(empty)
    empty.merge(full)
    assert_same(empty.compute(), evaluate_retrieval(*golden_arrays("small")))


@pytest.mark.parametrize("is_query", [True, torch.ones(2, dtype=torch.bool)])
def test_a_buffer_may_be_reused_after_the_update(is_query):
    metric, buffer, pids = RetrievalMetric(), torch.eye(2), np.array([1, 2])
    metric.update(buffer, pids, [0, 0], is_query)
    buffer.fill_(0)
    pids.fill(9)
    metric.update(torch.eye(2), [1, 2], [1, 1], False)
    assert metric.compute().mAP == 1


def test_gradients_are_not_kept():
    metric, embeddings = RetrievalMetric(), torch.eye(2, requires_grad=True)
    metric.update(embeddings * 2, [1, 2], [0, 0], True)
    metric.update(embeddings, [1, 2], [1, 1], False)
    assert metric.compute().mAP == 1


def update(**changes):
    values = {"embeddings": torch.eye(3), "pids": [1, 2, 3], "camids": [0, 0, 0], "is_query": True} | changes
    metric = RetrievalMetric()
    metric.update(torch.ones(1, 3), [1], [1], False)
    metric.update(**values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embeddings": torch.ones(3)}, r"embeddings.*\(3,\)"),
        ({"embeddings": torch.tensor([[1.0, 1, 1], [1, 1, 1], [1, float("nan"), 1]])}, "embeddings.*row 2 "),
        ({"embeddings": torch.ones(3, 5)}, r"embeddings.*\b5 .*\b3 "),
        ({"pids": [1, 2]}, r"^pids.*\b3 .*\(2,\)"),
        ({"camids": [0.5, 1, 1]}, "camids.*integers.*float64"),
        ({"is_query": [True, False]}, r"is_query.*\b3 .*bool of shape \(2,\)"),
        ({"is_query": torch.tensor([0, 1, 1])}, r"is_query.*\b3 .*int64"),
    ],
)
def test_bad_batch_is_an_error_that_says_which_and_where(changes, message):
    with pytest.raises(ValueError, match=message):
        update(**changes)


def test_a_bad_batch_leaves_the_metric_as_it_was():
    metric = filled(all_rows())
    with pytest.raises(ValueError, match="is_query"):
        metric.update(torch.ones(1, 12), [1], [1], torch.tensor([3]))
    assert_same(metric.compute(), evaluate_retrieval(*golden_arrays("small")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "manhattan"}, "metric.*'manhattan'.*cosine, euclidean"),
        ({"protocol": "market"}, "protocol.*'market'.*none, other-clothes, own-file, same-camera"),
        ({"max_rank": 0}, "max_rank: .*0"),
    ],
)
def test_wrong_option_is_an_error_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        RetrievalMetric(**options)


def test_missing_gallery_is_an_error_that_says_what_to_do():
    metric = RetrievalMetric()
    metric.update(torch.eye(2), [1, 2], [0, 0], True)
    with pytest.raises(ValueError, match=r"gallery.*is_query=False"):
        metric.compute()


def test_unlike_metrics_do_not_merge():
    with pytest.raises(ValueError, match="metric.*'cosine'.*'euclidean'"):
        RetrievalMetric().merge(RetrievalMetric("cosine"))
    narrow, wide = RetrievalMetric(), RetrievalMetric()
    narrow.update(torch.ones(1, 3), [1], [1], False)
    wide.update(torch.ones(1, 5), [1], [1], True)
    with pytest.raises(ValueError, match=r"embeddings.*\b5 .*\b3 "):
        narrow.merge(wide)
