"""When people pass from camera to camera, learned from images that look similar; and neighbours that take it into account."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ..distances.pairwise import BLOCK_ELEMENTS
from ..input_checks import CHUNK_ELEMENTS, squared_norms
from ..reranking.neighbours import Neighbours

TIME_WEIGHT = 0.05  # of the time next to the similarity: chosen on training people, see docs/identities.md
MOST_WEIGHT = 10.0  # far above all that is of use
BIN = 20.0  # seconds in which two differences in time count as equal
LAGS = 360  # bins either way; two images that are further apart share one bin, whatever their difference
LEAST_PAIRS = 10  # ordered pairs of images from which something is known of two cameras; five pairs within one camera
MOST_CAMERAS = 2000  # of which something is known: those with the most images; 16 MB
DOUBT = 2.0  # pairs added to both sides of each ratio, so that it is near 1 where few pairs were seen
MUTUAL = 10  # two images that are among each other's first so many neighbours count as one person
PASSES = 2  # the second learns from the neighbours of the first
CANDIDATES = 10  # neighbours by looks among which time chooses, as a multiple of those asked for
MOST_CANDIDATES = 10**8  # of all images together: index and similarity take 8 bytes each
CHUNK_BINS = 2**13  # bins of a camera whose lags are counted at once

Find = Callable[[int], Neighbours]  # k -> the k nearest of each image, the image itself first


@dataclass(frozen=True, eq=False)
class Sightings:
    """Where and when N images were taken.

    Args:
        cameras: (N,) number of the camera, 0 or more.
        times: (N,) seconds on the clock of the camera, which may differ from others by a constant; NaN = unknown.
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


class Chances:
    """How many pairs of two cameras' images are apart by each difference in time; each is counted when first needed."""

    def __init__(self, sightings: Sightings) -> None:
        self.cameras, self.bins = sightings.cameras, sightings.bins
        known = np.flatnonzero(self.bins >= 0)
        order = known[np.argsort(self.cameras[known], kind="stable")]
        names, starts = np.unique(self.cameras[order], return_index=True)
        self._rows = dict(zip(names.tolist(), np.split(order, starts[1:])))  # no time is known: one empty part
        self._counts: dict[tuple[int, int], np.ndarray] = {}

    def between(self, camera: int, other: int) -> np.ndarray:
        """Return the number (2 * LAGS + 2,) of ordered pairs of two images at each lag; the last counts all longer ones."""
        if (camera, other) not in self._counts:
            counts = _lag_counts(*self._seen(camera), *self._seen(other))
            if camera == other:
                counts[LAGS] -= len(self._rows[camera])  # an image and itself are no pair
            self._counts[camera, other] = counts
            self._counts[other, camera] = np.append(counts[-2::-1], counts[-1])
        return self._counts[camera, other]

    def num_images(self, camera: int) -> int:
        """Return the number of a camera's images whose time is known."""
        return len(self._rows[camera])

    def _seen(self, camera: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the bins in which a camera saw somebody, ascending, and the number of images in each."""
        return np.unique(self.bins[self._rows[camera]], return_counts=True)


def _lag_counts(bins: np.ndarray, counts: np.ndarray, other_bins: np.ndarray, other_counts: np.ndarray) -> np.ndarray:
    """Return how many pairs of images in bins of one camera and of another are apart by each lag (2 * LAGS + 2,)."""
    found = np.zeros(2 * LAGS + 2)
    for start in range(0, len(bins), CHUNK_BINS):
        some = slice(start, start + CHUNK_BINS)
        low = np.searchsorted(other_bins, bins[some] - LAGS, "left")
        lengths = np.searchsorted(other_bins, bins[some] + LAGS, "right") - low
        entries = np.repeat(low - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        lags = other_bins[entries] - np.repeat(bins[some], lengths) + LAGS
        found += np.bincount(lags, np.repeat(counts[some], lengths) * other_counts[entries], len(found))
    found[-1] = float(counts.sum()) * float(other_counts.sum()) - found.sum()
    return found


class TransitTimes:
    """How much likelier a difference in time makes it that two images show one person.

    For each pair of cameras, the differences in time of images that probably show one person are counted and compared with those of all
    images. The ratio is that of the two densities, p(difference | one person) / p(difference), for bins of BIN seconds. A clock
    that is wrong by a constant only shifts it. Probable pairs that are wrong make it smaller and leave its shape.
    The idea is that of TFusion (Lv et al., CVPR 2018, arXiv:1803.07293), and with labels of st-ReID (Wang et al., AAAI 2019, arXiv:1812.03282).

    Args:
        chances: of N images.
        first, second: (P,) images that probably show one person, each pair once.

    Attributes:
        table: (R + 1, 2 * LAGS + 2) float32 logarithms of the ratio, the row 0 for cameras of which nothing is known.
        rows: (C + 1, C + 1) row of the table for two of the cameras of which something is known; the last one is any other camera.
        cameras: (N,) number of the camera of each image in `rows`.
    """

    def __init__(self, chances: Chances, first: np.ndarray, second: np.ndarray) -> None:
        cameras, self.bins = chances.cameras, chances.bins
        known = (self.bins[first] >= 0) & (self.bins[second] >= 0)
        one, other = np.concatenate([first[known], second[known]]), np.concatenate([second[known], first[known]])
        partners, of_pair, counts = np.unique(
            np.stack([cameras[one], cameras[other]]), axis=1, return_inverse=True, return_counts=True
        )
        lags = np.split(self._lag(one, other)[np.argsort(of_pair.ravel(), kind="stable")], np.cumsum(counts)[:-1])
        names = np.unique(partners[:, counts >= LEAST_PAIRS])
        if len(names) > MOST_CAMERAS:
            sizes = [chances.num_images(camera) for camera in names.tolist()]
            names = np.sort(names[np.argsort(sizes, kind="stable")[-MOST_CAMERAS:]])
        places = np.flatnonzero((counts >= LEAST_PAIRS) & np.isin(partners, names).all(0)).tolist()
        self.table = np.zeros((len(places) + 1, 2 * LAGS + 2), np.float32)
        self.rows = np.zeros((len(names) + 1, len(names) + 1), np.int32)
        for row, place in enumerate(places, 1):
            found = np.bincount(lags[place], minlength=2 * LAGS + 2)
            chance = chances.between(*partners[:, place].tolist())
            expected = chance * (found.sum() / max(chance.sum(), 1))
            self.table[row] = np.log((_smoothed(found) + DOUBT) / (_smoothed(expected) + DOUBT))
            self.rows[tuple(np.searchsorted(names, partners[:, place]))] = row
        self.cameras = np.where(np.isin(cameras, names), np.searchsorted(names, cameras), len(names))

    def log_ratios(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the natural logarithm (P,) float32 of the ratio of pairs of images, first (P,) and second (P,); 0 where nothing is known."""
        found = self.table[self.rows[self.cameras[first], self.cameras[second]], self._lag(first, second)]
        return np.where((self.bins[first] >= 0) & (self.bins[second] >= 0), found, np.float32(0))

    def _lag(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the place (P,) of each pair in a row of the table."""
        lag = self.bins[second] - self.bins[first]
        return np.where(np.abs(lag) <= LAGS, lag + LAGS, 2 * LAGS + 1)


def _smoothed(counts: np.ndarray) -> np.ndarray:
    """Return counts (B,) in which each lag shares with its neighbours; the last, of all longer ones, does not."""
    return np.append(np.convolve(counts[:-1], (0.25, 0.5, 0.25), "same"), counts[-1])


class NearImages:
    """The nearest images of each image: by their looks, and by looks and time.

    Args:
        features: (N, D) embeddings, compared by euclidean distance.
        by_looks: finds neighbours by the features alone.
        sightings: of the images; None = time does not count.
        weight: how much the logarithm of `TransitTimes` counts next to the similarity, which is - distance^2 / 2, divided by the mean squared
            distance to the features' mean: 0.1 = a ratio of e counts as much as a cosine that is larger by 0.1, if that mean is 0. 0 =
            time does not count.
    """

    def __init__(
        self, features: Tensor, by_looks: Find, sightings: Sightings | None = None, weight: float = TIME_WEIGHT
    ) -> None:
        self.features, self.sightings, self.weight = features, sightings if weight else None, weight
        self._by_looks = by_looks
        self._found: Neighbours | None = None

    def find(self, k: int) -> Neighbours:
        """Return the `k` nearest of each image, the image itself first; with times, among CANDIDATES times as many that look similar."""
        if self.sightings is None:
            self._found = self._by_looks(k)
            return self._found
        count = len(self.features)
        near = self._found = self._by_looks(min(max(k, min(CANDIDATES * k, MOST_CANDIDATES // count)), count))
        similar, chances, chosen = _similarities(self.features, near.index), Chances(self.sightings), near.index
        for _ in range(PASSES):
            transit = TransitTimes(chances, *mutual_pairs(Neighbours(chosen, near.farthest)))
            chosen = _chosen(near.index, similar, transit, self.weight, k)
        return Neighbours(chosen, near.farthest)

    def nearest_by_looks(self, k: int) -> np.ndarray:
        """Return the `k` nearest (N, k + 1) of each image by looks alone, the image itself first; after `find` of more."""
        assert self._found is not None, "find comes first"
        return self._found.index[:, : k + 1]


def mutual_pairs(neighbours: Neighbours, k: int = MUTUAL) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs first < second, (P,) each, that are among each other's first `k` neighbours."""
    both = sparse.triu(neighbours.mutual(min(k + 1, neighbours.index.shape[1])), 1, format="coo")
    return both.row, both.col


def _similarities(features: Tensor, index: np.ndarray) -> np.ndarray:
    """Return - distance^2 / 2 (N, K) float32 of each image and each of its neighbours (N, K), at the scale of `NearImages`."""
    centred, found = features - features.mean(0), np.empty(index.shape, np.float32)
    norms = squared_norms(centred)
    scale = norms.mean().clamp(min=1e-12)
    rows = max(1, (BLOCK_ELEMENTS if features.is_cuda else CHUNK_ELEMENTS) // (index.shape[1] * features.shape[1]))
    for start in range(0, len(index), rows):
        some = slice(start, start + rows)
        near = torch.from_numpy(index[some].astype(np.int64)).to(features.device)
        products = (centred[near] @ centred[some, :, None])[:, :, 0]
        found[some] = ((products - (norms[near] + norms[some, None]) / 2) / scale).cpu().numpy()
    return found


def _chosen(index: np.ndarray, similar: np.ndarray, transit: TransitTimes, weight: float, k: int) -> np.ndarray:
    """Return the `k` best (N, k) int32 of each image's neighbours (N, K), the image itself first; where time says nothing, the first `k`."""
    found, rows = index[:, :k].astype(np.int32), max(1, CHUNK_ELEMENTS // index.shape[1])  # a copy
    for start in range(0, len(index), rows):
        near = index[start : start + rows]
        own = np.repeat(np.arange(start, start + len(near)), near.shape[1])
        ratios = transit.log_ratios(own, near.ravel()).reshape(near.shape)
        told = np.flatnonzero(ratios.any(1))
        score = similar[start + told] + np.float32(weight) * ratios[told]
        score[:, 0] = np.inf
        order = torch.from_numpy(score).topk(k).indices.numpy()
        found[start + told] = np.take_along_axis(near[told], order, axis=1)
    return found
