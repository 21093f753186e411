"""Groups without labels: the sparse graph and average linkage against naive twins, constraints, figures of a clustering."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.cluster import DBSCAN
from sklearn.metrics import silhouette_samples
from sklearn.metrics.cluster import pair_confusion_matrix

from vitreid.evaluation import k_reciprocal
from vitreid.evaluation.clustering import jaccard_graph
from vitreid.evaluation.clustering.average_linkage import Constraints, average_linkage, in_order
from vitreid.evaluation.clustering.cluster_figures import compare_with_labels, pairs_among, row_fit, stability
from vitreid.evaluation.clustering.density_clusters import density_clusters, without_small
from vitreid.evaluation.clustering.jaccard_graph import SimilarPairs, jaccard_pairs, mixed_pairs, near_pairs
from vitreid.evaluation.clustering.person_pairs import person_pairs
from vitreid.evaluation.reranking.neighbours import Neighbours, find_neighbours


def people(num_people=12, images=8, dim=16, spread=0.5, seed=0):
    """Unit-length rows of some people, and who is who."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_people), images)
    rows = rng.normal(size=(num_people, dim))[labels] + spread * rng.normal(size=(len(labels), dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def dense(pairs, count):
    """(N, N) similarities, 1 on the diagonal."""
    found = np.eye(count)
    found[pairs.first, pairs.second] = found[pairs.second, pairs.first] = pairs.value
    return found


def pairs_of(similarity):
    """The pairs above 0 of a symmetric matrix (N, N)."""
    first, second = np.nonzero(np.triu(similarity, 1))
    return SimilarPairs(first, second, similarity[first, second])


def linked(together=(), apart=(), owners=(), count=6):
    owned = np.full(count, -1)
    for row, owner in owners:
        owned[row] = owner
    return Constraints(np.array(together, int).reshape(-1, 2), np.array(apart, int).reshape(-1, 2), owned)


def test_similarities_of_all_pairs_are_those_of_the_reranking():
    rows, _ = people()
    pairs = jaccard_pairs(rows, 10, 4, reach=len(rows))
    jaccard = k_reciprocal(rows[:1], rows[1:], 10, 4, lam=0).numpy()[0]  # the row among all others
    np.testing.assert_allclose(dense(pairs, len(rows))[0, 1:], 1 - jaccard, atol=1e-6)


def test_near_pairs_have_the_same_similarity_as_among_all():
    rows, _ = people()
    near, every = jaccard_pairs(rows, 10, 4, reach=6), jaccard_pairs(rows, 10, 4, reach=len(rows))
    assert 0 < len(near.value) < len(every.value)
    np.testing.assert_array_equal(near.value, dense(every, len(rows)).astype(np.float32)[near.first, near.second])


@pytest.mark.parametrize("chunk", [1, 40, 10_000])
def test_near_pairs_are_those_of_a_naive_twin(monkeypatch, chunk):
    monkeypatch.setattr(jaccard_graph, "CHUNK_PAIRS", chunk)
    rows, _ = people(num_people=5)
    neighbours = find_neighbours(torch.from_numpy(rows), 7)
    expected = sorted({(min(i, j), max(i, j)) for i in range(40) for j in neighbours.index[i, :6].tolist() if i != j})
    assert list(zip(*(column.tolist() for column in near_pairs(neighbours, 6)), strict=True)) == expected


def test_neighbours_can_be_given():
    rows, _ = people()
    distances = np.square(rows[:, None] - rows[None]).sum(2)
    np.fill_diagonal(distances, -1)
    given = Neighbours(np.argsort(distances, axis=1, kind="stable").astype(np.int32), distances.max(1))
    for found, expected in zip(jaccard_pairs(rows, 10, 4, neighbours=given), jaccard_pairs(rows, 10, 4), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_mixed_similarities_are_means_of_jaccard_and_cosine():
    rows, _ = people()
    mixed = mixed_pairs(rows, (6, 10), 4, 0.25, reach=len(rows))
    parts = [dense(jaccard_pairs(rows, k1, 4, reach=len(rows)), len(rows)) for k1 in (6, 10)]
    centred = rows - rows.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    expected = 0.75 * (parts[0] + parts[1]) / 2 + 0.25 * (centred @ centred.T).clip(0)
    np.testing.assert_allclose(dense(mixed, len(rows)), expected, atol=1e-5)


@pytest.mark.parametrize("options", [{"k1": 0}, {"k1": 96}, {"k2": 0}, {"reach": 0}])
def test_neighbourhoods_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        jaccard_pairs(people()[0], **options)


@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.2, 0.4, 0.7]), st.floats(0.1, 1))
@settings(deadline=None, max_examples=60)
def test_average_linkage_equals_scipys_on_the_dense_matrix(seed, least, share):
    rng, count = np.random.default_rng(seed), 14
    similarity = np.triu(rng.random((count, count)) * (rng.random((count, count)) < share), 1)
    similarity += similarity.T
    tree = linkage(squareform(1 - similarity, checks=False), "average")
    expected = in_order(fcluster(tree, 1 - least, "distance"))
    np.testing.assert_array_equal(average_linkage(count, pairs_of(similarity), least), expected)


def test_average_linkage_is_done_with_equal_similarities_and_without_any():
    same = SimilarPairs(np.array([0, 1, 2, 0]), np.array([1, 2, 3, 3]), np.ones(4))  # a ring: all pairs equal
    assert average_linkage(4, same, 0.5).tolist() == [0, 0, 1, 1] or len(set(average_linkage(4, same, 0.5))) < 4
    none = SimilarPairs(np.empty(0, int), np.empty(0, int), np.empty(0))
    assert average_linkage(3, none, 0.5).tolist() == [0, 1, 2]
    assert average_linkage(0, none, 0.5).tolist() == []


def test_rows_that_cannot_be_together_are_apart_and_those_that_must_are_together():
    near = pairs_of(np.ones((6, 6)) - np.eye(6))
    assert average_linkage(6, near, 0.5).tolist() == [0] * 6
    groups = average_linkage(6, near, 0.5, linked(apart=[(0, 1)]))
    assert groups[0] != groups[1] and len(set(groups)) == 2
    far = SimilarPairs(np.array([0]), np.array([1]), np.array([0.9]))
    assert average_linkage(6, far, 0.5, linked(together=[(3, 5)])).tolist() == [0, 0, 1, 2, 3, 2]


def test_owners_keep_their_rows_and_never_merge():
    near = pairs_of(np.ones((6, 6)) - np.eye(6))
    groups = average_linkage(6, near, 0.5, linked(owners=[(0, 4), (2, 4), (5, 9)]))
    assert groups[0] == groups[2] != groups[5]
    assert set(groups[[1, 3, 4]]) <= {groups[0], groups[5]}  # rows of nobody join either


def test_apart_holds_for_whole_groups():
    """1 and 2 are the most similar; 0 is apart from 2, so it cannot join the two."""
    similarity = np.zeros((3, 3))
    similarity[0, 1] = similarity[1, 0] = 0.8
    similarity[1, 2] = similarity[2, 1] = 0.9
    assert average_linkage(3, pairs_of(similarity), 0.3, linked(apart=[(0, 2)], count=3)).tolist() == [0, 1, 1]
    assert average_linkage(3, pairs_of(similarity), 0.3).tolist() == [0, 0, 0]


def test_rows_together_of_two_owners_are_a_mistake():
    with pytest.raises(ValueError, match="two owners"):
        average_linkage(6, pairs_of(np.zeros((6, 6))), 0.5, linked(together=[(0, 1)], owners=[(0, 0), (1, 1)]))


def naive_figures(labels, groups):
    """Pairs counted one by one, and B-cubed row by row."""
    same_label, same_group = labels[:, None] == labels, groups[:, None] == groups
    other = ~np.eye(len(labels), dtype=bool)
    right = (same_label & same_group & other).sum()
    both = (same_label & same_group).sum(1)
    return (
        right / (same_group & other).sum(),
        right / (same_label & other).sum(),
        (both / same_group.sum(1)).mean(),
        (both / same_label.sum(1)).mean(),
    )


@pytest.mark.parametrize("seed", range(4))
def test_figures_equal_those_of_a_naive_twin_and_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 7, 60), rng.integers(0, 9, 60)
    found = compare_with_labels(labels.astype(str), groups)
    four = (found.precision, found.recall, found.b3_precision, found.b3_recall)
    np.testing.assert_allclose(four, naive_figures(labels, groups))
    (_, wrong), (missed, right) = pair_confusion_matrix(labels, groups)
    assert found.f1 == pytest.approx(2 * right / (2 * right + wrong + missed))
    assert (found.num_true_all, found.num_found_all) == (len(set(labels)), len(set(groups)))


def test_figures_solved_by_eye():
    """Pairs found: 01 and 23; pairs of one person: 01 and 12, 02; one is right."""
    found = compare_with_labels(np.array([0, 0, 0, 1]), np.array([5, 5, 6, 6]))
    assert (found.precision, found.recall) == (1 / 2, 1 / 3)
    assert (found.num_true, found.num_found, found.num_true_all, found.num_found_all) == (1, 2, 2, 2)


def test_silhouette_is_that_of_scikit_learn():
    rows, labels = people(spread=0.9)
    pairs = jaccard_pairs(rows, 10, 4, reach=len(rows))
    groups = in_order(labels)
    expected = silhouette_samples((1 - dense(pairs, len(rows))).clip(0), groups, metric="precomputed")
    np.testing.assert_allclose(row_fit(pairs, groups).silhouette, expected, atol=1e-5)


def test_a_row_alone_has_no_fit():
    fit = row_fit(SimilarPairs(np.array([0]), np.array([1]), np.array([0.5])), np.array([0, 0, 1]))
    assert np.isnan(fit.own[2]) and fit.silhouette.tolist()[2] == 0 and fit.next_group.tolist() == [-1, -1, -1]


def test_groups_that_fall_apart_without_some_rows_are_not_stable():
    groups = np.repeat([0, 1], 10)

    def cluster(kept):
        return np.where(kept < 10, 0, 1 + kept)  # the second group has come apart

    found = stability(groups, cluster, draws=4)
    assert found.of_group[0] == 1 and found.of_group[1] < 0.2 and (found.num_groups == 0.5).all()


def test_pairs_among_some_rows_are_renumbered():
    found = pairs_among(
        SimilarPairs(np.array([0, 1, 2]), np.array([3, 2, 3]), np.array([0.1, 0.2, 0.3])), np.array([2, 3]), 4
    )
    assert [part.tolist() for part in found] == [[0], [1], [0.3]]


@given(st.integers(0, 10_000), st.floats(0.2, 0.9), st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_density_clusters_equal_scikit_learns_on_the_dense_jaccard_matrix(seed, eps, min_samples):
    rows, _ = people(num_people=8, images=6, spread=0.8, seed=seed)
    pairs = jaccard_pairs(rows, 8, 3, reach=len(rows))
    distances = 1 - dense(pairs, len(rows)).astype(np.float32)
    expected = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(distances)
    found = density_clusters(len(rows), pairs, eps, min_samples)
    np.testing.assert_array_equal(found, in_order(expected))


def test_near_pairs_are_enough_for_density_clusters():
    rows, labels = people(num_people=20, images=12, spread=0.6)
    every, near = (jaccard_pairs(rows, 10, 4, reach=reach) for reach in (len(rows), None))
    found = density_clusters(len(rows), near)
    np.testing.assert_array_equal(found, density_clusters(len(rows), every))
    assert compare_with_labels(labels[found >= 0], found[found >= 0]).f1 > 0.9


def test_rows_without_pairs_are_outliers_and_so_are_those_of_small_clusters():
    none = SimilarPairs(np.empty(0, int), np.empty(0, int), np.empty(0))
    assert density_clusters(3, none).tolist() == [-1, -1, -1]
    assert without_small(np.array([0, 1, 1, -1, 0, 1]), 3).tolist() == [-1, 0, 0, -1, -1, 0]


@pytest.mark.parametrize(("eps", "min_samples", "name"), [(0, 4, "eps"), (1, 4, "eps"), (0.5, 0, "min_samples")])
def test_limits_of_density_clusters_are_checked(eps, min_samples, name):
    with pytest.raises(ValueError, match=name):
        density_clusters(4, pairs_of(np.ones((4, 4))), eps, min_samples)


def test_pairs_by_person_are_the_mixed_ones_at_three_scales():
    rows, _ = people()
    for found, expected in zip(person_pairs(rows, 9, 4), mixed_pairs(rows, (6, 9, 12), 4), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert len(person_pairs(rows[:3]).value) <= 3  # neighbourhoods are cut to the rows that there are


@given(st.integers(0, 10_000), st.integers(0, 12))
@settings(deadline=None, max_examples=30)
def test_rows_that_count_as_equal_have_distance_0_in_density_clusters(seed, count):
    rows, _ = people(num_people=6, images=5, spread=0.8, seed=seed)
    pairs = jaccard_pairs(rows, 6, 3, reach=len(rows))
    together = np.random.default_rng(seed).integers(0, len(rows), (count, 2))
    distances = 1 - dense(pairs, len(rows))
    distances[together[:, 0], together[:, 1]] = distances[together[:, 1], together[:, 0]] = 0
    expected = DBSCAN(eps=0.4, min_samples=3, metric="precomputed").fit_predict(distances)
    np.testing.assert_array_equal(density_clusters(len(rows), pairs, 0.4, 3, together), in_order(expected))
