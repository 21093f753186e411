"""PK batches of clusters that change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreid.datasets.loading.cluster_sampler import ClusterSampler, JointSampler

CAMERAS = np.arange(60) % 3


def sampler(labels, num_clusters, cameras=CAMERAS, num_groups=4, num_instances=4, num_batches=12, seed=0):
    made = ClusterSampler(cameras, num_groups, num_instances, num_batches, seed)
    made.relabel(np.asarray(labels), num_clusters)
    return made


def groups_of(batch, size=4):
    return np.asarray(batch).reshape(-1, size)


@given(st.integers(0, 1000), st.integers(1, 12), st.booleans())
@settings(deadline=None, max_examples=40)
def test_groups_are_clusters_or_different_images_alone(seed, num_clusters, with_alone):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, num_clusters, 60)
    labels[:num_clusters] = np.arange(num_clusters)
    alone = np.flatnonzero(labels < 0)
    if with_alone:
        labels[alone] = num_clusters + np.arange(len(alone))
    batches = sampler(labels, num_clusters, seed=seed).batches(3)
    assert len(batches) == 12
    for batch in batches:
        assert len(batch) == 16 and (labels[batch] >= 0).all()
        for group in groups_of(batch):
            found = set(labels[group].tolist())
            assert len(found) == 1 or (min(found) >= num_clusters and len(set(group.tolist())) == 4)
        clusters = [labels[group[0]] for group in groups_of(batch) if labels[group[0]] < num_clusters]
        if num_clusters >= 4:
            assert len(set(clusters)) == len(clusters)


def test_a_pass_has_every_cluster_once_whatever_its_size():
    labels = np.repeat(np.arange(8), [26, 12, 8, 4, 4, 2, 2, 2])
    first, second, *_ = sampler(labels, 8).batches(0)
    assert sorted(labels[groups_of(first)[:, 0]].tolist() + labels[groups_of(second)[:, 0]].tolist()) == list(range(8))


def test_a_group_has_as_many_cameras_as_its_cluster():
    cameras = np.array([0] * 50 + [1, 2] + [0] * 8)
    labels = np.zeros(60, int)
    labels[52:] = 1  # of one camera
    for batch in sampler(labels, 2, cameras).batches(0):
        for group in groups_of(batch):
            expected = {0, 1, 2} if labels[group[0]] == 0 else {0}
            assert set(cameras[group].tolist()) == expected


def test_batches_depend_on_seed_epoch_and_clusters_only():
    labels = np.arange(60) // 6
    one, other = sampler(labels, 10), sampler(labels, 10)
    for epoch in (5, 2):
        assert all(map(np.array_equal, one.batches(epoch), other.batches(epoch)))
    assert not all(map(np.array_equal, one.batches(1), one.batches(2)))
    one.relabel(labels[::-1].copy(), 10)
    one.relabel(labels, 10)
    assert all(map(np.array_equal, one.batches(1), other.batches(1)))


def test_without_clusters_there_are_no_batches():
    with pytest.raises(ValueError, match=r"UNSUPERVISED\.CLUSTERING.*no clusters yet"):
        ClusterSampler(CAMERAS, 4, 4, 2).batches(1)


def joint(seed=0, num_batches=7):
    """The first 60 images are the target's, 30 more are of ten people of a source."""
    source = ClusterSampler(np.arange(30) % 2, 4, 4, num_batches, seed)
    return JointSampler(sampler([], 0, num_batches=num_batches, seed=seed), source, np.arange(30) % 10)


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_each_half_is_that_of_its_own_sampler_in_turns(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(-1, 6, 60)
    groups[:6] = np.arange(6)
    both, alone, source = (
        joint(seed),
        sampler(groups, 6, num_batches=7, seed=seed),
        ClusterSampler(np.arange(30) % 2, 4, 4, 7, seed),
    )
    source.relabel(np.arange(30) % 10, 10)
    both.relabel(np.concatenate([np.where(groups >= 0, groups + 10, -1), np.arange(30) % 10]), 6)
    assert (both.batch_size, both.group_size, len(both)) == (32, 4, 7)
    for batch, own, other in zip(both.batches(2), alone.batches(2), source.batches(2), strict=True):
        parts = groups_of(batch)
        np.testing.assert_array_equal(parts[0::2].ravel(), own)
        np.testing.assert_array_equal(parts[1::2].ravel(), other + 60)


def test_halves_of_different_sizes_are_a_mistake():
    with pytest.raises(ValueError, match="halves of a batch"):
        JointSampler(sampler([0], 1), sampler([0], 1, num_groups=2), np.zeros(60, int))
