"""When people pass from camera to camera, learned from images that look similar; and neighbours that take it into account."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn.functional import normalize

from ..input_checks import CHUNK_ELEMENTS
from ..reranking.neighbours import Neighbours

TIME_WEIGHT = 0.05  # of the time next to the cosine: chosen on training people, see docs/identities.md
BIN = 20.0  # seconds in which two differences in time count as equal
LAGS = 360  # bins either way; two images that are further apart share one bin, whatever their difference
DOUBT = 2.0  # pairs added to both sides of each ratio, so that it is near 1 where few pairs were seen
MUTUAL = 10  # two images that are among each other's first so many neighbours count as one person
PASSES = 2  # the second learns from the neighbours of the first
CANDIDATES = 10  # neighbours among which time chooses, as a multiple of those asked for,
MOST_CANDIDATES = 10**8  # and of all images together: index and similarity take 8 bytes each

Find = Callable[[int], Neighbours]  # k -> the k nearest of each image


@dataclass(frozen=True, eq=False)
class Sightings:
    """Where and when N images were taken.

    Args:
        cameras: (N,) number of the camera, 0 or more.
        times: (N,) seconds on one clock, which may differ between cameras by a constant; NaN = unknown.
    """

    cameras: np.ndarray
    times: np.ndarray

    @property
    def num_known(self) -> int:
        """Number of images whose time is known."""
        return int((~np.isnan(self.times)).sum())

    @property
    def bins(self) -> np.ndarray:
        """(N,) int64 bin of each time, -1 = unknown."""
        known = ~np.isnan(self.times)
        first = self.times[known].min() if known.any() else 0.0
        return np.where(known, np.floor((np.where(known, self.times, first) - first) / BIN), -1).astype(np.int64)


class TransitTimes:
    """How much likelier a difference in time makes it that two images show one person.

    For each pair of cameras, the differences in time of images that probably show one person are counted and compared with those of all
    images. The ratio is that of the two densities, p(difference | one person) / p(difference), for bins of BIN seconds. A clock
    that is wrong by a constant only shifts it. Probable pairs that are wrong make it smaller and leave its shape.
    The idea is that of TFusion (Lv et al., CVPR 2018, arXiv:1803.07293), and with labels of st-ReID (Wang et al., AAAI 2019, arXiv:1812.03282).

    Args:
        sightings: of N images.
        first, second: (P,) images that probably show one person, each pair once.
    """

    def __init__(self, sightings: Sightings, first: np.ndarray, second: np.ndarray) -> None:
        self.cameras, self.bins = sightings.cameras, sightings.bins
        number = int(self.cameras.max(initial=-1)) + 1
        known = (self.bins[first] >= 0) & (self.bins[second] >= 0)
        one, other = (np.concatenate([first[known], second[known]]), np.concatenate([second[known], first[known]]))
        found = np.zeros((number, number, 2 * LAGS + 2))
        np.add.at(found, (self.cameras[one], self.cameras[other], self._lag(one, other)), 1)
        chance = _chance(self.cameras, self.bins, number)
        total = np.maximum(chance.sum(2), 1)
        expected = _smoothed(chance * (found.sum(2) / total)[:, :, None])
        self.table = np.log((_smoothed(found) + DOUBT) / (expected + DOUBT)).astype(np.float32)

    def log_ratios(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the natural logarithm (P,) float32 of the ratio of pairs of images; 0 where a time is unknown."""
        found = self.table[self.cameras[first], self.cameras[second], self._lag(first, second)]
        return np.where((self.bins[first] >= 0) & (self.bins[second] >= 0), found, np.float32(0))

    def _lag(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the place (P,) of each pair in the table."""
        lag = self.bins[second] - self.bins[first]
        return np.where(np.abs(lag) <= LAGS, lag + LAGS, 2 * LAGS + 1)


def _chance(cameras: np.ndarray, bins: np.ndarray, number: int) -> np.ndarray:
    """Return how many ordered pairs of images of two cameras (C, C) are apart by each lag (2 * LAGS + 2); the last counts all others."""
    known = bins >= 0
    moments, place = np.unique(bins[known], return_inverse=True)
    seen = np.zeros((number, len(moments)))
    np.add.at(seen, (cameras[known], place), 1)
    counts = np.zeros((number, number, 2 * LAGS + 2))
    for lag in range(LAGS + 1):
        later = np.searchsorted(moments, moments + lag)
        has_later = later < len(moments)
        has_later[has_later] = moments[later[has_later]] == moments[has_later] + lag
        counts[:, :, LAGS + lag] = seen[:, has_later] @ seen[:, later[has_later]].T
        counts[:, :, LAGS - lag] = counts[:, :, LAGS + lag].T
    per_camera = seen.sum(1)
    counts[:, :, -1] = per_camera[:, None] * per_camera - counts[:, :, :-1].sum(2)
    return counts


def _smoothed(counts: np.ndarray) -> np.ndarray:
    """Return counts (C, C, B) in which each lag shares with its neighbours; the last, of all longer ones, does not."""
    found = counts.copy()
    padded = np.pad(counts[:, :, :-1], ((0, 0), (0, 0), (1, 1)))
    found[:, :, :-1] = padded[:, :, :-2] / 4 + padded[:, :, 1:-1] / 2 + padded[:, :, 2:] / 4
    return found


def mutual_pairs(neighbours: Neighbours, k: int = MUTUAL) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs first < second, (P,) each, that are among each other's first `k` neighbours."""
    both = sparse.triu(neighbours.mutual(min(k + 1, neighbours.index.shape[1])), 1, format="coo")
    return both.row, both.col


def neighbours_in_time(features: Tensor, sightings: Sightings, weight: float, find: Find, k: int) -> Neighbours:
    """Return the `k` nearest of each image by cosine + weight * log ratio of `TransitTimes`, which are learned from the neighbours themselves.

    Args:
        features: (N, D) embeddings, compared by their cosine.
        sightings: of the images.
        weight: 0.1 = a ratio of e counts as much as a cosine that is larger by 0.1.
        find: finds neighbours by the features alone, the image itself first; CANDIDATES times as many are asked for.
    """
    count = len(features)
    near = find(min(max(k, min(CANDIDATES * k, MOST_CANDIDATES // count)), count))
    similar, chosen = _similarities(features, near.index), near.index
    for _ in range(PASSES):
        transit = TransitTimes(sightings, *mutual_pairs(Neighbours(chosen, near.farthest)))
        chosen = _chosen(near.index, similar, transit, weight, k)
    return Neighbours(chosen, near.farthest)


def _similarities(features: Tensor, index: np.ndarray) -> np.ndarray:
    """Return the cosine (N, K) float32 of each image and each of its neighbours (N, K)."""
    unit, found = normalize(features), np.empty(index.shape, np.float32)
    rows = max(1, CHUNK_ELEMENTS // (index.shape[1] * unit.shape[1]))
    for start in range(0, len(index), rows):
        some = slice(start, start + rows)
        near = unit[torch.from_numpy(index[some].astype(np.int64)).to(unit.device)]
        found[some] = (near @ unit[some, :, None])[:, :, 0].cpu().numpy()
    return found


def _chosen(index: np.ndarray, similar: np.ndarray, transit: TransitTimes, weight: float, k: int) -> np.ndarray:
    """Return the `k` best (N, k) of each image's neighbours (N, K), best first, and the image itself before them."""
    found, rows = np.empty((len(index), k), np.int32), max(1, CHUNK_ELEMENTS // index.shape[1])
    for start in range(0, len(index), rows):
        near = index[start : start + rows]
        own = np.repeat(np.arange(start, start + len(near)), near.shape[1])
        ratios = transit.log_ratios(own, near.ravel()).reshape(near.shape)
        score = similar[start : start + rows] + np.float32(weight) * ratios
        score[:, 0] = np.inf
        order = torch.from_numpy(score).topk(k).indices.numpy()
        found[start : start + rows] = np.take_along_axis(near, order, axis=1)
    return found


def timed_find(features: Tensor, sightings: Sightings | None, weight: float, find: Find) -> Find:
    """Return the search for `neighbours_in_time`; `find` itself without times or weight."""
    if sightings is None or not weight:
        return find
    return partial(neighbours_in_time, features, sightings, weight, find)
