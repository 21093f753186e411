"""Batches of P identities x K images: exact, complete, seeded, fast."""

import time
from collections import Counter

import numpy as np
import pytest

from vitreid.datasets.loading.samplers import PKSampler, ShuffleSampler

CROWDS = {
    "regular": [8] * 20,
    "one image each": [1] * 20,
    "exactly P identities": [4, 5, 6, 50],
    "one giant": [1000, *[4] * 30],
    "like Market-1501": np.random.default_rng(0).integers(2, 40, 200).tolist(),
    "fewer than K": [2, 3, 2, 3, 1, 7],
}
P, K = 4, 4


def labels_of(counts):
    return np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))


@pytest.fixture(params=CROWDS.values(), ids=CROWDS.keys())
def labels(request):
    return labels_of(request.param)


def test_every_batch_has_exactly_p_identities_with_k_images(labels):
    sampler = PKSampler(labels, P, K, seed=0)
    for epoch in range(3):
        for batch in sampler.batches(epoch):
            assert sorted(Counter(labels[batch].tolist()).values()) == [K] * P


def test_the_k_images_of_an_identity_stand_together(labels):
    for batch in PKSampler(labels, P, K).batches(0):
        assert (labels[batch].reshape(P, K) == labels[batch].reshape(P, K)[:, :1]).all()


def test_every_identity_comes_in_every_epoch(labels):
    for epoch in range(3):
        seen = labels[np.concatenate(PKSampler(labels, P, K).batches(epoch))]
        assert set(seen.tolist()) == set(labels.tolist())


def test_length_is_exact(labels):
    sampler = PKSampler(labels, P, K)
    assert [len(sampler.batches(epoch)) for epoch in range(3)] == [len(sampler)] * 3


def test_images_repeat_within_a_batch_only_if_there_are_too_few(labels):
    counts = Counter(labels.tolist())
    for batch in PKSampler(labels, P, K).batches(0):
        for group in batch.reshape(P, K):
            assert len(set(group.tolist())) == min(K, counts[int(labels[group[0]])])


def test_an_epoch_is_about_as_long_as_the_training_set():
    labels = labels_of(CROWDS["like Market-1501"])
    drawn = np.concatenate(PKSampler(labels, P, K).batches(0))
    assert len(drawn) == pytest.approx(len(labels), rel=0.03)
    assert len(set(drawn.tolist())) > 0.9 * len(labels)


def test_images_left_out_of_one_epoch_come_in_others():
    labels = labels_of([7] * 8)  # 7 images fill two groups of 4: none is left out; of 5, one is
    five = labels_of([5] * 8)
    assert set(np.concatenate(PKSampler(labels, P, K).batches(0))) == set(range(56))
    sampler = PKSampler(five, P, K)
    assert set(np.concatenate([batch for epoch in range(12) for batch in sampler.batches(epoch)])) == set(range(40))


def test_order_is_a_function_of_seed_and_epoch():
    labels = labels_of(CROWDS["regular"])
    first, again = PKSampler(labels, P, K, seed=3), PKSampler(labels, P, K, seed=3)
    again.batches(7)  # no hidden state
    np.testing.assert_array_equal(first.batches(2), again.batches(2))
    assert not np.array_equal(first.batches(2), first.batches(3))
    assert not np.array_equal(first.batches(2), PKSampler(labels, P, K, seed=4).batches(2))


def test_companions_change_between_epochs():
    """Identities are not tied to each other: over epochs, everybody meets everybody."""
    labels = labels_of([4] * 12)
    sampler, met = PKSampler(labels, P, K), set()
    for epoch in range(60):
        for batch in sampler.batches(epoch):
            ids = set(labels[batch].tolist())
            met.update((a, b) for a in ids for b in ids if a < b)
    assert len(met) == 12 * 11 / 2


def test_fewer_identities_than_p_is_an_error_that_names_the_keys():
    message = r"SOLVER\.IMS_PER_BATCH / DATALOADER\.NUM_INSTANCE.*\b4 .*\b3\b.*\b12 "
    with pytest.raises(ValueError, match=message):
        PKSampler([0, 0, 1, 1, 2, 2], 4, 4)


SIZES = (60, 300, 15)  # identities of three data sets, 8 images each


def mixed(shares, batch=8):
    labels = np.repeat(np.arange(sum(SIZES)), 8)
    sources = np.repeat([0, 1, 2], SIZES)
    return PKSampler(labels, batch, K, 0, (sources[labels], shares)), labels, sources


def counts_of(batches, labels, sources):
    """(batches, 3) identities of each data set in every batch."""
    return np.stack([np.bincount(sources[labels[batch]], minlength=3) // K for batch in batches])


@pytest.mark.parametrize("shares", [(1, 1, 1), (1, 0, 1), (60**0.5, 300**0.5, 15**0.5), (0.1, 5, 1)])
def test_every_data_set_has_its_share_of_every_batch_and_epoch(shares):
    sampler, labels, sources = mixed(shares)
    wanted = 8 * np.array(shares) / sum(shares)
    for epoch in range(2):
        batches = sampler.batches(epoch)
        counts = counts_of(batches, labels, sources)
        assert len(batches) == len(sampler)
        assert (np.abs(counts - wanted) < 2).all()
        assert np.abs(counts.sum(0) - wanted * len(sampler)).max() <= 1
        for batch in batches:
            assert sorted(Counter(labels[batch].tolist()).values()) == [K] * 8


def test_balanced_identities_of_a_data_set_come_about_as_often_as_each_other():
    sampler, labels, sources = mixed((1, 1, 1))
    drawn = np.bincount(labels[np.concatenate(sampler.batches(0))], minlength=sum(SIZES)) // K
    for source in range(3):
        assert np.ptp(drawn[sources == source]) <= 1
    small = [np.bincount(labels[np.concatenate(sampler.batches(epoch))], minlength=sum(SIZES)) for epoch in range(12)]
    assert (np.sum(small, 0) > 0).all()  # those left out of one epoch come in others


def test_a_data_set_with_fewer_identities_than_its_share_gives_what_it_has():
    labels = np.repeat(np.arange(32), 8)
    sources = (np.arange(32) >= 30).astype(int)  # 2 identities in the second set
    sampler = PKSampler(labels, 8, K, 0, (sources[labels], (1, 1)))
    for batch in sampler.batches(0):
        groups = Counter(labels[batch].tolist())
        assert sorted(groups.values()) == [K] * 8
        assert sum(sources[label] for label in groups) == 2


def test_balanced_order_is_a_function_of_seed_and_epoch():
    first, again = mixed((1, 2, 1))[0], mixed((1, 2, 1))[0]
    again.batches(5)
    np.testing.assert_array_equal(first.batches(1), again.batches(1))
    assert not np.array_equal(first.batches(1), first.batches(2))


def test_a_million_images_take_under_a_second():
    sampler = PKSampler(np.random.default_rng(0).integers(0, 100_000, 1_000_000), 16, 4)
    started = time.thread_time()
    sampler.batches(0)
    assert time.thread_time() - started < 2  # 0.4 s on a free core; the margin is for a busy one


def test_shuffle_shows_every_image_at_most_once_in_full_batches():
    batches = ShuffleSampler(10, 4, seed=0).batches(0)
    assert [len(batch) for batch in batches] == [4, 4]
    assert len(set(np.concatenate(batches).tolist())) == 8


def test_shuffle_of_fewer_images_than_a_batch_is_one_batch():
    sampler = ShuffleSampler(3, 64)
    assert len(sampler) == 1
    assert sorted(sampler.batches(0)[0].tolist()) == [0, 1, 2]


def test_shuffle_is_a_function_of_seed_and_epoch():
    np.testing.assert_array_equal(ShuffleSampler(50, 5, 1).batches(2), ShuffleSampler(50, 5, 1).batches(2))
    assert not np.array_equal(ShuffleSampler(50, 5, 1).batches(2), ShuffleSampler(50, 5, 1).batches(3))
