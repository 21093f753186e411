"""Query expansion and database-side augmentation: by eye and against a naive twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import GOLDEN_EVALUATION
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreid.evaluation import augment_database, evaluate_retrieval, expand_queries
from vitreid.evaluation.distances import pairwise


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def naive_expansion(rows, gallery, k, alpha, is_same=False):
    """Sort the whole gallery for each row, add the nearest one by one."""
    rows, gallery, expanded = unit(rows), unit(gallery), []
    for i, row in enumerate(rows):
        total, others = row.copy(), [j for j in range(len(gallery)) if not (is_same and j == i)]
        for j in sorted(others, key=lambda j: -row @ gallery[j])[:k]:
            total += max(row @ gallery[j], 0) ** alpha * gallery[j]
        expanded.append(total)
    return unit(np.array(expanded))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(0, 7), alpha=st.sampled_from([0, 0.5, 1, 3.0]))
def test_expansion_and_augmentation_equal_the_naive_twin(seed, k, alpha):
    """Negative similarities occur; the rows are not of unit length."""
    rng = np.random.default_rng(seed)
    query, gallery = rng.standard_normal((5, 3)), rng.standard_normal((8, 3))
    expanded, augmented = expand_queries(query, gallery, k, alpha), augment_database(gallery, k, alpha)
    np.testing.assert_allclose(expanded, naive_expansion(query, gallery, k, alpha), atol=1e-6)
    np.testing.assert_allclose(augmented, naive_expansion(gallery, gallery, k, alpha, is_same=True), atol=1e-6)


def test_plain_average_of_a_query_and_its_neighbour():
    """alpha = 0: the mean of (1, 0) and (0, 1) points between them; the item behind is not among the first."""
    expanded = expand_queries(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [-1.0, 0.0]]), k=1, alpha=0)
    np.testing.assert_allclose(expanded, [[0.5**0.5, 0.5**0.5]], rtol=1e-12)


def test_an_item_at_a_right_angle_or_beyond_has_no_weight():
    query = np.array([[1.0, 0.0]])
    np.testing.assert_allclose(expand_queries(query, np.array([[0.0, 1.0], [-1.0, 0.1]]), k=2), query, atol=1e-12)


def test_no_neighbours_leave_the_rows_at_unit_length():
    rows = np.array([[3.0, 4.0], [0.0, 2.0]], np.float32)
    np.testing.assert_allclose(expand_queries(rows, rows, k=0), [[0.6, 0.8], [0.0, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(augment_database(rows, k=0), [[0.6, 0.8], [0.0, 1.0]], rtol=1e-6)


def test_an_item_is_not_its_own_neighbour_even_among_copies():
    """Each of two copies has the other as its neighbour, the third item the nearer of them: alpha = 0 shows the sums."""
    gallery = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    augmented = augment_database(gallery, k=1, alpha=0)
    np.testing.assert_allclose(augmented, [[1, 0], [1, 0], [0.5**0.5, 0.5**0.5]], rtol=1e-12)


def test_blocks_make_no_difference(monkeypatch):
    rng = np.random.default_rng(0)
    query, gallery = rng.standard_normal((150, 4)), rng.standard_normal((170, 4))
    whole = expand_queries(query, gallery), augment_database(gallery)
    monkeypatch.setattr(pairwise, "BLOCK_ELEMENTS", 1)  # several blocks
    torch.testing.assert_close((expand_queries(query, gallery), augment_database(gallery)), whole)


def test_both_raise_the_accuracy_of_noisy_crops_of_distinct_people():
    """Twelve people, ten gallery crops each; expansion averages the noise away."""
    rng = np.random.default_rng(0)
    people, pids = rng.standard_normal((12, 16)), np.arange(120) % 12
    gallery, query = (people[pids] + 1.2 * rng.standard_normal((120, 16)) for _ in range(2))

    def accuracy(query, gallery):
        return evaluate_retrieval(query, gallery, pids, pids, np.zeros(120, int), np.ones(120, int)).mAP

    plain, expanded = accuracy(unit(query), unit(gallery)), accuracy(expand_queries(query, gallery, 5), unit(gallery))
    augmented = augment_database(gallery, 5)
    assert plain + 0.05 < expanded
    assert plain + 0.05 < accuracy(unit(query), augmented)
    assert expanded + 0.05 < accuracy(expand_queries(query, augmented, 5), augmented)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_precisions_in_and_out(dtype):
    query, gallery = (
        torch.from_numpy(GOLDEN_EVALUATION[f"small.{name}_feat"]).to(dtype) for name in ("query", "gallery")
    )
    expanded = expand_queries(query, gallery)
    assert expanded.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert expanded.shape == query.shape
    torch.testing.assert_close(expanded.norm(dim=1), torch.ones(len(query), dtype=expanded.dtype))


def test_inputs_are_left_as_they_were():
    query, gallery = GOLDEN_EVALUATION["small.query_feat"].copy(), GOLDEN_EVALUATION["small.gallery_feat"].copy()
    expand_queries(query, gallery)
    augment_database(gallery)
    np.testing.assert_array_equal(query, GOLDEN_EVALUATION["small.query_feat"])
    np.testing.assert_array_equal(gallery, GOLDEN_EVALUATION["small.gallery_feat"])


SMALL = np.ones((4, 2))
POISONED = np.array([[1.0, 2.0], [np.nan, 0.0]])


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: expand_queries(SMALL, SMALL, k=5), "k: .*0 to 4 .*got 5"),
        (lambda: expand_queries(SMALL, SMALL, k=-1), "k: .*0 to 4 .*got -1"),
        (lambda: augment_database(SMALL, k=4), "k: .*0 to 3 .*got 4"),
        (lambda: expand_queries(SMALL, SMALL, k=1, alpha=-1), "alpha: .*-1"),
        (lambda: augment_database(SMALL, k=1, alpha=float("nan")), "alpha: .*nan"),
        (lambda: expand_queries(POISONED, SMALL, k=1), "query.*row 1 "),
        (lambda: expand_queries(SMALL, POISONED, k=1), "gallery.*row 1 "),
        (lambda: augment_database(POISONED, k=1), "gallery.*row 1 "),
        (lambda: expand_queries(np.ones((2, 3)), SMALL), r"query.*\b3 .*gallery 2"),
        (lambda: augment_database(np.empty((0, 2))), r"gallery.*\(0, 2\)"),
    ],
)
def test_bad_input_is_an_error_that_says_which_and_where(work, message):
    with pytest.raises(ValueError, match=message):
        work()
