"""The nearest neighbours of very many crops: each is compared with those in the lists nearest to it."""

from __future__ import annotations

import warnings

import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from torch.nn.functional import normalize

from ..distances.pairwise import BLOCK_ELEMENTS, distance_blocks
from ..input_checks import squared_norms
from .neighbours import Neighbours, find_neighbours

EXACT_CROPS = 100_000  # more are searched by lists, on a CPU
LISTS_PER_ROOT, PROBED = 4, 64  # lists, as a multiple of the root of the number of crops; lists searched for each crop
TRAIN_PER_LIST, PASSES = 64, 10  # of the k-means that finds the lists
SEARCHED = 2**18  # crops searched at once, at most
SAMPLE = 1000  # crops that the farthest distance is estimated from


def nearest_neighbours(features: Tensor, k: int) -> Neighbours:
    """Return the `k` nearest of the features (N, D): exactly on a GPU and for up to EXACT_CROPS, else by lists."""
    exactly = features.is_cuda or len(features) <= EXACT_CROPS
    return find_neighbours(features, k) if exactly else neighbours_by_lists(features, k)


@torch.no_grad()
def neighbours_by_lists(features: Tensor, k: int, num_probed: int = PROBED) -> Neighbours:
    """Return the `k` nearest of the features (N, D), on a CPU, by euclidean distance, among those in the nearest lists.

    The lists are the cells of a k-means (inverted file: Jégou, Douze & Schmid, TPAMI 2011). Some neighbours are missed: how many is
    in docs/identities.md. FAISS searches such lists one crop at a time; here all crops that search a list are compared with it in
    one matrix product (`benchmarks/galleries/million_crops.py` measures both).

    Args:
        k: neighbours of each crop, the crop itself included; up to N.
        num_probed: lists that are searched for each crop.
    """
    lists = _Lists(features, num_probed)
    index = torch.empty(len(features), k, dtype=torch.int32)
    step = max(1, min(SEARCHED, 2 * BLOCK_ELEMENTS // k))
    for start in range(0, len(features), step):
        index[start : start + step] = lists.nearest(start, start + step, k)
    few = torch.nonzero(index[:, -1] < 0).flatten()
    if len(few):  # the lists searched hold fewer than k crops
        for start, distances in distance_blocks(features[few], features):
            crops = few[start : start + len(distances), None]
            index[crops[:, 0]] = distances.scatter_(1, crops, -1).topk(k, largest=False).indices.int()
    return Neighbours(index.numpy(), farthest_distances(features).numpy())


class _Lists:
    """Features (N, D) in L lists by their direction from the mean of all.

    Directions, not distances: a centre near the mean would be among the nearest of every crop.

    Args:
        num_probed: as for `neighbours_by_lists`.
    Attributes:
        probed: (N, P) int32 nearest lists of each crop, nearest first.
        list_of: (N,) int64 nearest list of each crop, which holds it.
        members: crops (m,) int64 of each list, ascending.
        place: (N,) int64 of each crop among the members of its list.
    """

    def __init__(self, features: Tensor, num_probed: int) -> None:
        self.features, self.mean = features, features.mean(0)
        self.norms = squared_norms(features, self.mean)
        directions = list_directions(features, self.mean)
        self.probed = _nearest_directions(features, self.mean, directions, min(num_probed, len(directions)))
        self.list_of = self.probed[:, 0].long()
        sizes = torch.bincount(self.list_of, minlength=len(directions))
        order = torch.argsort(self.list_of, stable=True)
        self.members = order.split(sizes.tolist())
        self.place = torch.empty_like(order)
        self.place[order] = torch.arange(len(order)) - (sizes.cumsum(0) - sizes)[self.list_of[order]]

    def nearest(self, start: int, stop: int, k: int) -> Tensor:
        """Return the nearest crops (b, k) int32 of the crops from `start` to `stop`, nearest first; -1 after the last one found."""
        probed = self.probed[start:stop]
        index = torch.full((len(probed), k), -1, dtype=torch.int32)
        distances = torch.full((len(probed), k), torch.inf, dtype=self.features.dtype)
        order = torch.argsort(probed.flatten(), stable=True) // probed.shape[1]
        sizes = torch.bincount(probed.flatten(), minlength=len(self.members)).tolist()
        for number, (members, rows) in enumerate(zip(self.members, order.split(sizes), strict=True)):
            others = self._centred(members)
            for some in rows.split(max(1, BLOCK_ELEMENTS // max(k + len(members), self.features.shape[1]))):
                compared = torch.cat([distances[some], self._distances(start + some, number, others)], 1)
                near = torch.cat([index[some], members.int().expand(len(some), -1)], 1)
                distances[some], kept = compared.topk(k, largest=False, sorted=False)
                index[some] = near.gather(1, kept)
        return index.gather(1, distances.argsort(stable=True, dim=1))

    def _distances(self, crops: Tensor, number: int, others: Tensor) -> Tensor:
        """Return squared distances (b, m) of crops (b,) to the members of a list, but for the crops' squared lengths.

        The distance of a crop to itself is -inf.

        Args:
            others: (m, D) centred features of the members.
        """
        distances = torch.addmm(self.norms[self.members[number]], self._centred(crops), others.T, alpha=-2)
        inside = torch.nonzero(self.list_of[crops] == number).flatten()
        distances[inside, self.place[crops[inside]]] = -torch.inf
        return distances

    def _centred(self, crops: Tensor) -> Tensor:
        return self.features.index_select(0, crops).sub_(self.mean)


def num_lists(count: int) -> int:
    """Return the number of lists of `count` crops."""
    return min(count, round(LISTS_PER_ROOT * count**0.5))


def list_directions(features: Tensor, mean: Tensor) -> Tensor:
    """Return the directions (L, D), at unit length, of lists of the features (N, D) around their mean: the centres of a k-means."""
    count = num_lists(len(features))
    sample = features[drawn_places(len(features), TRAIN_PER_LIST * count)].sub_(mean)
    means = KMeans(count, init="random", n_init=1, max_iter=PASSES, tol=0, random_state=0, copy_x=False)
    with warnings.catch_warnings():  # fewer different crops than lists: some lists stay empty
        warnings.simplefilter("ignore", ConvergenceWarning)
        centres = means.fit(sample.numpy()).cluster_centers_
    return normalize(torch.from_numpy(centres).to(features))


def _nearest_directions(features: Tensor, mean: Tensor, directions: Tensor, count: int) -> Tensor:
    """Return the nearest of the directions (L, D) for each of the features (N, D), nearest first: (N, count) int32."""
    offsets, found = directions @ mean, torch.empty(len(features), count, dtype=torch.int32)
    rows = max(1, BLOCK_ELEMENTS // len(directions))
    for block, places in zip(features.split(rows), found.split(rows), strict=True):
        places.copy_(torch.addmm(offsets, block, directions.T, beta=-1).topk(count).indices)
    return found


def farthest_distances(features: Tensor) -> Tensor:
    """Return the squared distance (N,) of each of the features (N, D) to the farthest of SAMPLE of them, above 0."""
    mean = features.mean(0)
    sample = features[drawn_places(len(features), SAMPLE)].sub_(mean)
    norms, found = squared_norms(sample), []
    for block in features.split(max(1, BLOCK_ELEMENTS // max(sample.shape))):
        centred = block - mean
        found.append(torch.addmm(norms, centred, sample.T, alpha=-2).amax(1) + squared_norms(centred))
    return torch.cat(found).clamp_(min=1e-12)


def drawn_places(count: int, most: int) -> Tensor:
    """Return up to `most` of `count` places, ascending, drawn with seed 0."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most].sort().values
