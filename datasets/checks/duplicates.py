"""The same picture twice: exact copies, and pictures that hardly differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .entries import Entry, Listing
from .hash_search import near_pairs
from .read_files import Scan

NEAR_BITS, NEAR_PIXELS = 11, 12.0  # see `near_copies`


@dataclass(frozen=True)
class Copies:
    """Entries that show the same picture.

    Args:
        entries: two or more.
        difference: root mean square difference of the thumbnails, in grey levels of 255; 0 for exact copies.
    """

    entries: tuple[Entry, ...]
    difference: float = 0.0

    @property
    def has_two_people(self) -> bool:
        """One picture under two names: at least one of them is wrong."""
        return len({entry.record.pid for entry in self.entries}) > 1

    @property
    def has_two_sides(self) -> bool:
        """One picture in training and in the test set."""
        return len({entry.is_test for entry in self.entries}) > 1

    @property
    def has_two_cameras(self) -> bool:
        """One picture, of one person, under two cameras."""
        return not self.has_two_people and len({entry.record.camid for entry in self.entries}) > 1

    @property
    def is_conflict(self) -> bool:
        """Something must be wrong, and only a person can say what."""
        return self.has_two_people or self.has_two_sides or self.has_two_cameras

    def repeated(self) -> list[Entry]:
        """Return the entries that add nothing: same person, camera and split as an earlier one."""
        seen: set[tuple[str, int, int]] = set()
        extra = []
        for entry in self.entries:
            key = (entry.split, entry.record.pid, entry.record.camid)
            if key in seen:
                extra.append(entry)
            seen.add(key)
        return extra


def exact_copies(listing: Listing, scan: Scan) -> list[Copies]:
    """Return the entries with the same pixels (or the same file), in their order."""
    pixels_of = dict(zip(scan.paths, scan.pixels))
    groups: dict[bytes, list[Entry]] = defaultdict(list)
    for entry in listing.entries:
        if pixels_of[entry.record.path]:
            groups[pixels_of[entry.record.path]].append(entry)
    return [Copies(tuple(group)) for group in groups.values() if len(group) > 1]


def num_files_saved_again(copies: Iterable[Copies], scan: Scan) -> int:
    """Count the groups whose files have the same pixels, but other bytes (another format, or other metadata)."""
    content_of = dict(zip(scan.paths, scan.contents))
    return sum(len({content_of[entry.record.path] for entry in group.entries}) > 1 for group in copies)


def near_copies(
    listing: Listing, scan: Scan, most_bits: int = NEAR_BITS, most_pixels: float = NEAR_PIXELS
) -> list[Copies]:
    """Return pairs of pictures that hardly differ, the closest first; exact copies count as one picture.

    The hash finds candidates, colour thumbnails of 8 x 16 pixels decide. The bounds were chosen by looking at pairs of
    Market-1501: up to a difference of 12 all are the same person at the same moment (or the same thing), from 15 on different
    people turn up in front of dark, empty backgrounds.

    Args:
        most_bits: bits of the 64 that may differ, 0 to 11.
        most_pixels: root mean square difference of the thumbnails, in grey levels.
    """
    first = _first_of_each(scan)
    pairs = first[near_pairs(scan.appearances[first], most_bits)]
    difference = _difference(scan.thumbnails, pairs)
    entry_of = {entry.record.path: entry for entry in reversed(listing.entries)}
    order = np.argsort(difference, kind="stable")
    return [
        Copies((entry_of[scan.paths[a]], entry_of[scan.paths[b]]), float(difference[place]))
        for place in order[: int((difference <= most_pixels).sum())]
        for a, b in (pairs[place],)
    ]


def _first_of_each(scan: Scan) -> np.ndarray:
    """Return the positions of the readable files whose pixels did not come before."""
    position_of = {pixels: place for place, pixels in reversed(list(enumerate(scan.pixels))) if pixels}
    return np.array(sorted(position_of.values()), np.int64)


def _difference(thumbnails: np.ndarray, pairs: np.ndarray, at_once: int = 1 << 15) -> np.ndarray:
    """Return (M,) root mean square differences of thumbnails, for (M, 2) positions."""
    parts: Sequence[np.ndarray] = [
        np.sqrt(np.mean((thumbnails[a].astype(np.float32) - thumbnails[b]) ** 2, axis=(1, 2, 3)))
        for a, b in (pairs[start : start + at_once].T for start in range(0, len(pairs), at_once))
    ]
    return np.concatenate([np.empty(0, np.float32), *parts])
