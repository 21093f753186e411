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
LEAST_PAIRS = (
    10  # pairs of images, in both orders where the camera is one, that two cameras need; with fewer nothing is known
)
DOUBT = 2.0  # pairs added to both sides of each ratio, so that it is near 1 where few pairs were seen
MUTUAL = 10  # two images that are among each other's first so many neighbours count as one person
PASSES = 2  # the second learns from the neighbours of the first
CANDIDATES = 10  # neighbours among which time chooses, as a multiple of those asked for,
CHUNK_BINS = 2**13  # bins of a camera whose lags are counted at once
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
        cameras, self.bins = sightings.cameras, sightings.bins
        known = (self.bins[first] >= 0) & (self.bins[second] >= 0)
        one, other = np.concatenate([first[known], second[known]]), np.concatenate([second[known], first[known]])
        partners, of_pair, counts = np.unique(
            np.stack([cameras[one], cameras[other]]), axis=1, return_inverse=True, return_counts=True
        )
        lags = np.split(self._lag(one, other)[np.argsort(of_pair.ravel(), kind="stable")], np.cumsum(counts)[:-1])
        enough = np.flatnonzero(counts >= LEAST_PAIRS)
        names = np.unique(partners[:, enough])
        seen = {camera: _seen(self.bins[cameras == camera]) for camera in names.tolist()}
        self.table = np.zeros(
            (len(enough) + 1, 2 * LAGS + 2), np.float32
        )  # the first row is of all other pairs of cameras
        for row, place in enumerate(enough.tolist(), 1):
            found = np.bincount(lags[place], minlength=2 * LAGS + 2)
            chance = _chance(*seen[partners[0, place]], *seen[partners[1, place]])
            expected = chance * (found.sum() / chance.sum())
            self.table[row] = np.log((_smoothed(found) + DOUBT) / (_smoothed(expected) + DOUBT))
        self.rows = np.zeros((len(names) + 1, len(names) + 1), np.int32)  # of two cameras; the last is any other camera
        self.rows[tuple(np.searchsorted(names, partners[:, enough]))] = np.arange(1, len(enough) + 1)
        places = np.searchsorted(names, cameras)
        self.cameras = np.where(np.isin(cameras, names), places, len(names))

    def log_ratios(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the natural logarithm (P,) float32 of the ratio of pairs of images; 0 where nothing is known."""
        found = self.table[self.rows[self.cameras[first], self.cameras[second]], self._lag(first, second)]
        return np.where((self.bins[first] >= 0) & (self.bins[second] >= 0), found, np.float32(0))

    def _lag(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the place (P,) of each pair in a row of the table."""
        lag = self.bins[second] - self.bins[first]
        return np.where(np.abs(lag) <= LAGS, lag + LAGS, 2 * LAGS + 1)


def _seen(bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bins in which a camera saw somebody, ascending, and the number of images in each."""
    return np.unique(bins[bins >= 0], return_counts=True)


def _chance(bins: np.ndarray, counts: np.ndarray, other_bins: np.ndarray, other_counts: np.ndarray) -> np.ndarray:
    """Return how many pairs of an image of one camera and one of another are apart by each lag (2 * LAGS + 2,); the last counts all others."""
    found = np.zeros(2 * LAGS + 2)
    for start in range(0, len(bins), CHUNK_BINS):
        some = slice(start, start + CHUNK_BINS)
        low = np.searchsorted(other_bins, bins[some] - LAGS, "left")
        lengths = np.searchsorted(other_bins, bins[some] + LAGS, "right") - low
        entries = np.repeat(low - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        lags = other_bins[entries] - np.repeat(bins[some], lengths) + LAGS
        found += np.bincount(lags, np.repeat(counts[some], lengths) * other_counts[entries], len(found))
    found[-1] = counts.sum() * other_counts.sum() - found.sum()
    return found


def _smoothed(counts: np.ndarray) -> np.ndarray:
    """Return counts (B,) in which each lag shares with its neighbours; the last, of all longer ones, does not."""
    return np.append(np.convolve(counts[:-1], (0.25, 0.5, 0.25), "same"), counts[-1])


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
