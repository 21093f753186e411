"""PK batches from clusters that change during the training, alone or with people whose names are known."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from ...common.errors import UserError


class ClusterSampler:
    """P groups of K images per batch, each group of one cluster; a pure function of (seed, epoch, clusters).

    In each pass every cluster comes once, in random order, so large clusters are not seen more often than small ones. Its K images are
    drawn from as many cameras as it has; smaller clusters repeat images. Images that are classes alone come in groups of K
    different ones. A batch has P different clusters, unless there are fewer.

    Args:
        cameras: (N,) camera of each image.
        num_groups: P.
        num_instances: K.
        num_batches: per epoch, whatever the clusters are.
    """

    def __init__(
        self, cameras: Sequence[int] | np.ndarray, num_groups: int, num_instances: int, num_batches: int, seed: int = 0
    ) -> None:
        self.num_groups, self.num_instances, self.seed = num_groups, num_instances, seed
        self.batch_size, self.group_size = num_groups * num_instances, num_instances
        self._cameras, self._num_batches = np.asarray(cameras), num_batches
        self._members: list[np.ndarray] = []
        self._alone = np.empty(0, np.int64)

    def __len__(self) -> int:
        return self._num_batches

    def relabel(self, labels: np.ndarray, num_clusters: int) -> None:
        """Replace the clusters.

        Args:
            labels: (N,) class of each image: below `num_clusters` a cluster, else a class of this image alone; -1 = not drawn.
        """
        order = np.argsort(labels, kind="stable")
        ends = np.searchsorted(labels[order], np.arange(num_clusters + 1))
        self._members = [order[first:last] for first, last in itertools.pairwise(ends)]
        self._alone = order[ends[-1] :]

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return len(self) arrays of P * K positions; the K images of a group are consecutive.

        Raises:
            ValueError: there are no clusters yet.
        """
        if not self._members:
            raise UserError("UNSUPERVISED.CLUSTERING: the images have no clusters yet; vitreid train makes them")
        rng = np.random.default_rng([self.seed, epoch])
        stream = self._batches(rng)
        return [next(stream) for _ in range(len(self))]

    def _batches(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield batches without end; the groups that do not fill the last batch of a pass are left out of it."""
        while True:
            groups = self._groups(rng)
            groups += [groups[place % len(groups)] for place in range(len(groups), self.num_groups)]
            for first in range(0, len(groups) - self.num_groups + 1, self.num_groups):
                some = groups[first : first + self.num_groups]
                yield np.concatenate([self._draw(rng, members) for members in some])

    def _groups(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Return the images of each group of a pass, in random order."""
        alone = rng.permutation(self._alone)
        whole = len(alone) // self.num_instances * self.num_instances
        found = [*self._members, *alone[:whole].reshape(-1, self.num_instances)]
        return [found[place] for place in rng.permutation(len(found))]

    def _draw(self, rng: np.random.Generator, members: np.ndarray) -> np.ndarray:
        """Return K of the images: one of each camera, then the next of each; again from the first if there are fewer than K."""
        shuffled = rng.permutation(members)
        order = np.argsort(self._cameras[shuffled], kind="stable")
        cameras = self._cameras[shuffled][order]
        turn = np.arange(len(order)) - np.searchsorted(cameras, cameras)
        tie = rng.permutation(len(order))  # cameras in another order each time
        chosen = shuffled[order[np.lexsort((tie, turn))]]
        return chosen[np.arange(self.num_instances) % len(chosen)]


class JointSampler:
    """Batches of which one half are clusters of the target's images, the other half people of a labelled source.

    A group of the target and one of the source take turns, so that ranks and micro-batches have both.

    Args:
        target: of the first images; its clusters change.
        source: of the images after them, with as many groups, and as many batches; its people are the first classes.
        labels: (S,) person of each image of the source: 0, 1, …
    Raises:
        ValueError: the halves differ in size.
    """

    def __init__(self, target: ClusterSampler, source: ClusterSampler, labels: np.ndarray) -> None:
        if (len(target), target.batch_size, target.group_size) != (len(source), source.batch_size, source.group_size):
            raise ValueError("the halves of a batch must have equal numbers of batches, groups and instances")
        self.target, self.source = target, source
        self.batch_size, self.group_size = 2 * target.batch_size, target.group_size
        self.num_people = int(labels.max()) + 1
        self._num_source = len(labels)
        source.relabel(labels, self.num_people)

    def __len__(self) -> int:
        return len(self.target)

    def relabel(self, labels: np.ndarray, num_clusters: int) -> None:
        """Replace the clusters of the target.

        Args:
            labels: (N,) class of each image of target and source; the classes of the target come after the people of the source.
            num_clusters: of the target; see `ClusterSampler.relabel`.
        """
        own = labels[: len(labels) - self._num_source]
        self.target.relabel(np.where(own >= 0, own - self.num_people, -1), num_clusters)
        self._num_target = len(own)

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return len(self) arrays of 2 * P * K positions; the K images of a group are consecutive.

        Raises:
            ValueError: there are no clusters yet.
        """
        both = zip(self.target.batches(epoch), self.source.batches(epoch), strict=True)
        size = self.group_size
        return [
            np.stack([own.reshape(-1, size), other.reshape(-1, size) + self._num_target], axis=1).reshape(-1)
            for own, other in both
        ]
