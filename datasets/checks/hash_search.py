"""Pairs of 64-bit hashes that differ in few bits, found without comparing all with all."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from ...common.errors import UserError

_BANDS, _BAND_BITS = 4, 16
_BITS_SET = np.array([number.bit_count() for number in range(1 << _BAND_BITS)], np.uint8)
_AT_ONCE = 1 << 21  # candidate pairs in memory
MOST_BITS = 11  # two turned bits in the closest band; three would be 697 look-ups each


def near_pairs(hashes: np.ndarray, most_bits: int) -> np.ndarray:
    """Return every pair of hashes that differ in at most `most_bits` bits.

    A pair that differs in 11 bits or fewer differs in at most 2 bits in one of four bands of 16 bits. So each band is
    looked up as it is, and with one or two of its bits turned [multi-index hashing, Norouzi et al., CVPR 2012].

    Args:
        hashes: (N,) uint64.
        most_bits: 0 to 11.
    Returns:
        (M, 2) int64 positions i < j, in ascending order, each pair once.
    Raises:
        ValueError: `most_bits` is not in 0-11.
    """
    if not 0 <= most_bits <= MOST_BITS:
        raise UserError(f"bits that may differ: {most_bits} is not possible; choose from 0 to {MOST_BITS}")
    found = [
        _close(hashes, first, second, most_bits)
        for band in _bands(hashes)
        for first, second in _matches(band, _turns(most_bits // _BANDS))
    ]
    return np.unique(np.concatenate([np.empty((0, 2), np.int64), *found]), axis=0)


def count_bits(values: np.ndarray) -> np.ndarray:
    """Return how many bits are set in each of (N,) uint64."""
    return _BITS_SET[np.ascontiguousarray(values).view(np.uint16).reshape(-1, _BANDS)].sum(axis=1)


def _turns(most_bits: int) -> list[np.uint16]:
    """Return every pattern of at most that many bits."""
    places = range(_BAND_BITS)
    return [
        np.uint16(sum(1 << place for place in chosen))
        for number in range(most_bits + 1)
        for chosen in combinations(places, number)
    ]


def _bands(hashes: np.ndarray) -> np.ndarray:
    """Return (4, N) uint16: the quarters of each hash."""
    return np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint16).reshape(-1, _BANDS).T)


def _matches(band: np.ndarray, turns: list[np.uint16]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions (i, j) where band[i], with the bits of a turn turned, is band[j]; some million pairs at a time."""
    order = np.argsort(band, kind="stable")
    first = np.searchsorted(band[order], np.arange((1 << _BAND_BITS) + 1))
    for turn in turns:
        wanted = (band ^ turn).astype(np.int64)
        yield from _expand(order, first[wanted], first[wanted + 1] - first[wanted])


def _expand(order: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield i, and order[starts[i]], order[starts[i] + 1], …, counts[i] of them, for every i."""
    cuts = np.searchsorted(np.cumsum(counts), np.arange(_AT_ONCE, counts.sum(), _AT_ONCE))
    for places in np.split(np.arange(len(counts)), cuts):
        i = np.repeat(places, counts[places])
        within = np.arange(len(i)) - np.repeat(np.cumsum(counts[places]) - counts[places], counts[places])
        yield i, order[np.repeat(starts[places], counts[places]) + within]


def _close(hashes: np.ndarray, first: np.ndarray, second: np.ndarray, most_bits: int) -> np.ndarray:
    """Return the pairs among candidates that are close, in ascending order of their positions."""
    ordered = first < second
    first, second = first[ordered], second[ordered]
    close = count_bits(hashes[first] ^ hashes[second]) <= most_bits
    return np.stack([first[close], second[close]], axis=1)
