"""Duplicate images: exact copies by hash, near copies by difference hash and thumbnail."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ...common.errors import UserError
from ...labels.protocol import Protocol
from ..records import UNLABELLED
from .entries import CheckedImage, Listing
from .read_files import FileScan

NEAR_BITS, NEAR_PIXELS = 11, 12.0  # see `near_copies`
_BANDS, _BAND_BITS = 4, 16
_BITS_SET = np.array([number.bit_count() for number in range(1 << _BAND_BITS)], np.uint8)
_AT_ONCE = 1 << 21  # candidate pairs in memory
MOST_BITS = 11  # at most two flipped bits in the closest band; three would need 697 look-ups per hash


@dataclass(frozen=True)
class DuplicateGroup:
    """Records of the same picture.

    Args:
        entries: two or more.
        difference: root mean square difference of the thumbnails, in grey levels of 255; 0 for exact copies.
    """

    entries: tuple[CheckedImage, ...]
    difference: float = 0.0

    @property
    def has_two_people(self) -> bool:
        """Same picture, two identities: at least one label is wrong."""
        return len({entry.record.pid for entry in self.entries} - {UNLABELLED}) > 1

    @property
    def has_two_sides(self) -> bool:
        """Same picture in training and test set."""
        return len({entry.is_test for entry in self.entries}) > 1

    @property
    def has_two_cameras(self) -> bool:
        """Same picture and person, two cameras."""
        return not self.has_two_people and len({entry.record.camid for entry in self.entries}) > 1

    def found_for_free(self, protocol: Protocol) -> bool:
        """Return whether a query's person has this picture in the gallery too, and its camera does not make that one junk."""
        queries, gallery = (
            [entry.record for entry in self.entries if entry.split == split] for split in ("query", "gallery")
        )
        return any(
            query.pid == item.pid and not (protocol.ignores_own_camera and query.camid == item.camid)
            for query in queries
            for item in gallery
        )

    @property
    def is_conflict(self) -> bool:
        """Whether the labels contradict each other; needs a decision by hand."""
        return self.has_two_people or self.has_two_sides or self.has_two_cameras

    def repeated(self) -> list[CheckedImage]:
        """Return the redundant entries: same person, camera and split as an earlier one."""
        seen: set[tuple[str, int, int]] = set()
        extra = []
        for entry in self.entries:
            key = (entry.split, entry.record.pid, entry.record.camid)
            if key in seen:
                extra.append(entry)
            seen.add(key)
        return extra


def exact_copies(listing: Listing, scan: FileScan) -> list[DuplicateGroup]:
    """Return the entries with the same pixels (or the same file), in their order."""
    pixels_of = dict(zip(scan.paths, scan.pixels))
    groups: dict[bytes, list[CheckedImage]] = defaultdict(list)
    for entry in listing.entries:
        if pixels_of[entry.record.path]:
            groups[pixels_of[entry.record.path]].append(entry)
    return [DuplicateGroup(tuple(group)) for group in groups.values() if len(group) > 1]


def saved_again(copies: Iterable[DuplicateGroup], scan: FileScan) -> list[DuplicateGroup]:
    """Return the groups of files with equal pixels but different bytes (another format or other metadata)."""
    content_of = dict(zip(scan.paths, scan.contents))
    return [group for group in copies if len({content_of[entry.record.path] for entry in group.entries}) > 1]


def near_copies(
    listing: Listing, scan: FileScan, most_bits: int = NEAR_BITS, most_pixels: float = NEAR_PIXELS
) -> list[DuplicateGroup]:
    """Return pairs of nearly equal pictures, closest first; exact copies count as one picture, frames of one tracklet as none.

    The hash finds candidates, colour thumbnails of 8 x 16 pixels decide. The bounds are from visual inspection of pairs of
    Market-1501: up to a difference of 12 all pairs show the same person at the same moment (or the same object); from 15 on some
    show different people in front of dark, empty backgrounds.

    Args:
        most_bits: largest number of different bits, 0 to 11.
        most_pixels: root mean square difference of the thumbnails, in grey levels.
    """
    position_of = {pixels: place for place, pixels in reversed(list(enumerate(scan.pixels))) if pixels}
    first = np.array(sorted(position_of.values()), np.int64)  # the first readable file of each group with equal pixels
    pairs = first[near_pairs(scan.appearances[first], most_bits)]
    entry_of = {entry.record.path: entry for entry in reversed(listing.entries)}
    if listing.data.items == "tracklets":
        tracklets = _tracklets([entry_of[path] for path in scan.paths])
        pairs = pairs[tracklets[pairs[:, 0]] != tracklets[pairs[:, 1]]]
    difference = _difference(scan.thumbnails, pairs)
    order = np.argsort(difference, kind="stable")
    return [
        DuplicateGroup((entry_of[scan.paths[a]], entry_of[scan.paths[b]]), float(difference[place]))
        for place in order[: int((difference <= most_pixels).sum())]
        for a, b in (pairs[place],)
    ]


def _tracklets(entries: Sequence[CheckedImage]) -> np.ndarray:
    """Return (N,) numbers of the tracklets of frames."""
    number_of: dict[object, int] = {}
    keys = ((one.split, one.record.pid, one.record.camid, one.record.tracklet) for one in entries)
    return np.array([number_of.setdefault(key, len(number_of)) for key in keys])


def _difference(thumbnails: np.ndarray, pairs: np.ndarray, at_once: int = 1 << 15) -> np.ndarray:
    """Return (M,) root mean square differences of thumbnails, for (M, 2) positions."""
    parts: Sequence[np.ndarray] = [
        np.sqrt(np.mean((thumbnails[a].astype(np.float32) - thumbnails[b]) ** 2, axis=(1, 2, 3)))
        for a, b in (pairs[start : start + at_once].T for start in range(0, len(pairs), at_once))
    ]
    return np.concatenate([np.empty(0, np.float32), *parts])


def near_pairs(hashes: np.ndarray, most_bits: int) -> np.ndarray:
    """Return every pair of hashes that differ in at most `most_bits` bits.

    A pair with at most 11 different bits has at most 2 of them in one of four bands of 16 bits. Each band is looked up
    unchanged, and with one or two flipped bits [multi-index hashing, Norouzi et al., CVPR 2012].

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
    bands = np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint16).reshape(-1, _BANDS).T)  # (4, N)
    found = [
        _close(hashes, first, second, most_bits)
        for band in bands
        for first, second in _matches(band, _turns(most_bits // _BANDS))
    ]
    return np.unique(np.concatenate([np.empty((0, 2), np.int64), *found]), axis=0)


def count_bits(values: np.ndarray) -> np.ndarray:
    """Return the number of set bits of each of (N,) uint64."""
    return _BITS_SET[np.ascontiguousarray(values).view(np.uint16).reshape(-1, _BANDS)].sum(axis=1)


def _turns(most_bits: int) -> list[np.uint16]:
    """Return every pattern of at most `most_bits` bits."""
    places = range(_BAND_BITS)
    return [
        np.uint16(sum(1 << place for place in chosen))
        for number in range(most_bits + 1)
        for chosen in combinations(places, number)
    ]


def _matches(band: np.ndarray, turns: list[np.uint16]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions (i, j) with band[i] ^ turn == band[j] for a pattern `turn`, some million pairs at a time."""
    order = np.argsort(band, kind="stable")
    first = np.searchsorted(band[order], np.arange((1 << _BAND_BITS) + 1))
    for turn in turns:
        wanted = (band ^ turn).astype(np.int64)
        yield from _expand(order, first[wanted], first[wanted + 1] - first[wanted])


def _expand(order: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of i and each of order[starts[i] : starts[i] + counts[i]], for every i."""
    cuts = np.searchsorted(np.cumsum(counts), np.arange(_AT_ONCE, counts.sum(), _AT_ONCE))
    for places in np.split(np.arange(len(counts)), cuts):
        i = np.repeat(places, counts[places])
        within = np.arange(len(i)) - np.repeat(np.cumsum(counts[places]) - counts[places], counts[places])
        yield i, order[np.repeat(starts[places], counts[places]) + within]


def _close(hashes: np.ndarray, first: np.ndarray, second: np.ndarray, most_bits: int) -> np.ndarray:
    """Return the candidate pairs with at most `most_bits` different bits, positions ascending."""
    ordered = first < second
    first, second = first[ordered], second[ordered]
    close = count_bits(hashes[first] ^ hashes[second]) <= most_bits
    return np.stack([first[close], second[close]], axis=1)
