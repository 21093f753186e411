"""Samplers: the images of each batch, as pure functions of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ...common.errors import UserError


class Sampler(Protocol):
    """The batches of every epoch.

    Args:
        batch_size: images per batch, the same in every batch.
        group_size: consecutive images that must stay together if ranks split the batch: K, or 1.
    """

    batch_size: int
    group_size: int

    def __len__(self) -> int:
        """Return the number of batches, the same in every epoch."""
        ...

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return the positions of the images of every batch."""
        ...


class ShuffleSampler:
    """Every image at most once per epoch, in random order; images that do not fill a batch are left out of the epoch.

    Args:
        batch_size: images per batch; a smaller training set makes one batch of all its images.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int = 0) -> None:
        self.num_images, self.seed = num_images, seed
        self.batch_size, self.group_size = min(batch_size, num_images), 1

    def __len__(self) -> int:
        return self.num_images // self.batch_size

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return len(self) arrays of batch_size positions."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.num_images)
        return list(order[: len(self) * self.batch_size].reshape(len(self), self.batch_size))


class PKSampler:
    """P identities x K images per batch [Hermans et al., 2017].

    Every batch has exactly P distinct identities with K images each. Every identity comes in every epoch. An epoch has
    about as many images as the training set, each about once: an identity with fewer than K images is filled by
    repetition, one that would need more batches than there are gets a new random choice of its images every epoch.

    Args:
        labels: (N,) identity of each image.
        num_ids: P.
        num_instances: K.
        balance: the data set of each image, and the share of each data set in every epoch (exact to one identity) and every batch
            (to less than two). Identities of a set with a small share may be absent from an epoch; an identity comes at most
            once per batch, so a set of few identities may miss a large share.
    Raises:
        ValueError: there are fewer than P identities.
    """

    def __init__(
        self,
        labels: Sequence[int] | np.ndarray,
        num_ids: int,
        num_instances: int,
        seed: int = 0,
        balance: tuple[Sequence[int] | np.ndarray, Sequence[float] | np.ndarray] | None = None,
    ) -> None:
        self.num_ids, self.num_instances, self.seed = num_ids, num_instances, seed
        self.batch_size, self.group_size = num_ids * num_instances, num_instances
        first, self._identity, counts = np.unique(
            np.asarray(labels), return_index=True, return_inverse=True, return_counts=True
        )[1:]
        if len(counts) < num_ids:
            raise UserError(
                f"SOLVER.IMS_PER_BATCH / DATALOADER.NUM_INSTANCE asks for {num_ids} identities per batch, the training "
                f"set has {len(counts)}; lower SOLVER.IMS_PER_BATCH to {len(counts) * num_instances} or less"
            )
        self._counts = counts
        self._starts = np.cumsum(counts) - counts
        self._groups = np.maximum(1, np.rint(counts / num_instances).astype(np.int64))  # of K images, per identity
        self._num_batches = -(-int(self._groups.sum()) // num_ids)
        self._sources = np.zeros(len(counts), np.int64) if balance is None else np.asarray(balance[0])[first]
        self._shares = None if balance is None else np.asarray(balance[1], np.float64)

    def __len__(self) -> int:
        return self._num_batches

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return len(self) arrays of P * K positions; the K images of an identity are consecutive."""
        rng = np.random.default_rng([self.seed, epoch])
        groups = self._share_out(rng)
        identity, group = _arrange(rng, groups, self.num_ids, self._sources)  # (P, batches) each
        images = self._images(rng, identity, group)  # (P, batches, K)
        return list(np.ascontiguousarray(images.transpose(1, 0, 2)).reshape(len(self), -1))

    def _share_out(self, rng: np.random.Generator) -> np.ndarray:
        """Return (identities,) groups of K images for this epoch: at most len(self) each, len(self) * P in all."""
        wanted = self._groups if self._shares is None else self._balanced(rng, self._shares)
        groups = np.minimum(wanted, len(self))
        missing = len(self) * self.num_ids - int(groups.sum())
        while missing:
            more = rng.permutation(np.flatnonzero(groups < len(self)))[:missing]
            groups[more] += 1
            missing -= len(more)
        return groups

    def _balanced(self, rng: np.random.Generator, shares: np.ndarray) -> np.ndarray:
        """Return (identities,) groups that add up to each data set's share of an epoch, where it has the identities."""
        groups = np.zeros_like(self._groups)
        ends = np.rint(np.cumsum(shares) / shares.sum() * len(self) * self.num_ids).astype(np.int64)
        for source, total in enumerate(np.diff(ends, prepend=0).tolist()):
            members = np.flatnonzero(self._sources == source)
            groups[members] = _spread(rng, self._groups[members], total, len(self))
        return groups

    def _images(self, rng: np.random.Generator, identity: np.ndarray, group: np.ndarray) -> np.ndarray:
        """Return (P, batches, K) positions: the K images of each identity's group, from its images in random order."""
        shuffled = rng.permutation(len(self._identity))
        by_identity = shuffled[np.argsort(self._identity[shuffled], kind="stable")]
        place = group[..., None] * self.num_instances + np.arange(self.num_instances)
        return by_identity[self._starts[identity][..., None] + place % self._counts[identity][..., None]]


def _spread(rng: np.random.Generator, weights: np.ndarray, total: int, most: int) -> np.ndarray:
    """Return integers in proportion to `weights`, at most `most` each, with the sum `total` if possible."""
    numbers = np.zeros_like(weights)
    total = min(total, most * len(weights))
    while (missing := total - int(numbers.sum())) > 0:  # repeat if some reached their limit
        free = rng.permutation(np.flatnonzero(numbers < most))
        ends = np.cumsum(weights[free])
        marks = np.floor(ends / ends[-1] * missing + rng.random()).astype(np.int64)  # fractions are rounded at random
        numbers[free] = np.minimum(numbers[free] + np.diff(marks, prepend=0), most)
    return numbers


def _arrange(
    rng: np.random.Generator, groups: np.ndarray, num_rows: int, sources: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Place the groups of every identity in a (rows, batches) table, no identity twice in a column.

    The groups fill the table row by row: data set by data set, so that each has its share of every column, and identities in random
    order. An identity has at most as many groups as there are columns, so it lies in one row, or at the end of one row and
    the beginning of the next. Each row is then shuffled; an identity continued from the row above avoids its columns there.

    Args:
        groups: (identities,) groups of each, 0 to the number of batches.
        sources: (identities,) data set of each.
    Returns:
        The identity, and the number of its group, at every place: two (rows, batches) arrays.
    """
    order = rng.permutation(len(groups))
    order = order[np.argsort(sources[order], kind="stable")]
    identity = np.repeat(order, groups[order])
    group = np.arange(len(identity)) - np.repeat(np.cumsum(groups[order]) - groups[order], groups[order])
    identities, numbers = identity.reshape(num_rows, -1), group.reshape(num_rows, -1)
    for row in range(num_rows):
        above = identities[row - 1] if row else None
        columns = _free_shuffle(rng, identities[row], above)
        identities[row, columns], numbers[row, columns] = identities[row].copy(), numbers[row].copy()
    return identities, numbers


def _free_shuffle(rng: np.random.Generator, row: np.ndarray, above: np.ndarray | None) -> np.ndarray:
    """Return a random column for every entry of `row`; its first identity avoids its columns in the row above."""
    if above is None or not (taken := above == row[0]).any():
        return rng.permutation(len(row))
    num_continued = int((row == row[0]).sum())
    first = rng.permutation(np.flatnonzero(~taken))[:num_continued]
    rest = np.setdiff1d(np.arange(len(row)), first)
    return np.concatenate([first, rng.permutation(rest)])
