"""The nearest neighbours of very many crops: each crop is compared with those in lists of crops that lie near its own list."""

from __future__ import annotations

import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from ..distances.pairwise import BLOCK_ELEMENTS
from ..input_checks import squared_norms
from .neighbours import Neighbours, find_neighbours

EXACT_CROPS = 100_000  # on a CPU more are searched by lists
LIST_SIZE = 512  # crops in a list on average
PROBED = 20  # lists that are searched for the crops of one, itself included
TRAIN_PER_LIST, BATCH, PASSES = 64, 8192, 3  # of the k-means that finds the centres of the lists
ENOUGH = 4  # crops searched, at least, as a multiple of the neighbours asked for
SAMPLE = 1000  # crops that the farthest distance is estimated from


def nearest_neighbours(features: Tensor, k: int) -> Neighbours:
    """Return the `k` nearest of the features (N, D): exactly on a GPU and for up to EXACT_CROPS, else by lists."""
    if features.is_cuda or len(features) <= EXACT_CROPS:
        return find_neighbours(features, k)
    return neighbours_by_lists(features, k)


@torch.no_grad()
def neighbours_by_lists(features: Tensor, k: int, probed: int = PROBED) -> Neighbours:
    """Return the `k` nearest of the features (N, D) float32, by euclidean distance, among those in the nearest lists.

    The lists are the cells of a k-means (inverted file: Jégou, Douze & Schmid, TPAMI 2011). All crops of a list are compared with the
    same other lists, in one matrix product. Some neighbours are missed; the same features give the same neighbours.

    Args:
        probed: lists that are searched for the crops of one; more where they hold fewer than ENOUGH * k crops.
    """
    centres = list_centres(features)
    of_crop = nearest_centre(features, centres)
    order = torch.argsort(of_crop, stable=True)
    members = order.split(torch.bincount(of_crop, minlength=len(centres)).tolist())
    index = torch.empty(len(features), k, dtype=torch.int32, device=features.device)
    for number, own in enumerate(members):
        if not len(own):
            continue
        nearest = squared_norms(centres - centres[number]).argsort(stable=True).tolist()
        nearest.remove(number)
        searched, found = [own], len(own)
        for place, other in enumerate(nearest, 1):
            if place >= probed and found >= ENOUGH * k:
                break
            searched.append(members[other])
            found += len(members[other])
        near = torch.cat(searched)
        index[own] = near[_nearest_of(features, own, near, centres[number], k)].int()
    return Neighbours(index.cpu().numpy(), farthest_distances(features).cpu().numpy())


def _nearest_of(features: Tensor, own: Tensor, near: Tensor, centre: Tensor, k: int) -> Tensor:
    """Return the places (n, k) of the nearest crops among `near` (M,) for the crops `own` (n,), its first ones; each its own first."""
    others = features[near] - centre
    norms, found = squared_norms(others), []
    for start in range(0, len(own), max(1, BLOCK_ELEMENTS // len(near))):
        block = others[start : min(start + max(1, BLOCK_ELEMENTS // len(near)), len(own))]
        distances = torch.addmm(
            norms, block, others.T, alpha=-2
        )  # without the own squared length, which changes no order
        rows = torch.arange(len(block), device=features.device)
        distances[rows, start + rows] = -torch.inf
        found.append(distances.topk(k, largest=False).indices)
    return torch.cat(found)


def list_centres(features: Tensor) -> Tensor:
    """Return the centres (L, D) of lists of LIST_SIZE of the features (N, D) on average."""
    count = max(1, round(len(features) / LIST_SIZE))
    sample = features[_spread(len(features), TRAIN_PER_LIST * count)].cpu().numpy()
    means = MiniBatchKMeans(
        count, init="random", n_init=1, max_iter=PASSES, batch_size=BATCH, max_no_improvement=None, random_state=0
    )
    return torch.from_numpy(means.fit(sample).cluster_centers_).to(features)


def nearest_centre(features: Tensor, centres: Tensor) -> Tensor:
    """Return the nearest of the centres (L, D) for each of the features (N, D): (N,) int64."""
    norms, rows = squared_norms(centres), max(1, BLOCK_ELEMENTS // len(centres))
    return torch.cat([torch.addmm(norms, block, centres.T, alpha=-2).argmin(1) for block in features.split(rows)])


def farthest_distances(features: Tensor) -> Tensor:
    """Return the squared distance (N,) of each of the features (N, D) to the farthest of SAMPLE of them, above 0."""
    sample = features[_spread(len(features), SAMPLE)]
    norms, found = squared_norms(sample), []
    for block in features.split(max(1, BLOCK_ELEMENTS // len(sample))):
        found.append(torch.addmm(norms, block, sample.T, alpha=-2).amax(1) + squared_norms(block))
    return torch.cat(found).clamp_(min=1e-12)


def _spread(count: int, wanted: int) -> Tensor:
    """Return at most `wanted` places below `count`, at equal distances."""
    wanted = min(count, wanted)
    return torch.arange(wanted) * count // wanted
