"""What tracklets and times say before any comparison: who is one person, who is two, and when each image was taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...datasets import Record
from ...datasets.records import TIME
from ...evaluation.clustering.average_linkage import Constraints
from ...evaluation.clustering.cannot_links import seen_together
from ...evaluation.clustering.transit_times import Sightings


def tracklet_links(records: Sequence[Record], together: bool = True, apart: bool = True) -> Constraints:
    """Return the constraints on training images (N,).

    Args:
        together: the images of a tracklet are one person.
        apart: two tracklets, or images without one, of one camera at the same time are apart; for images see `unless_similar`. Times
            are compared within a camera, frames within a recording.
    """
    tracklets = np.array([record.tracklet for record in records])
    constraints = Constraints.none(len(records))
    pairs = same_tracklet(tracklets) if together else constraints.together
    both = _seen_at_once(records, tracklets, together) if apart else constraints.apart
    return Constraints(pairs, both, constraints.owners)


def same_tracklet(tracklets: np.ndarray) -> np.ndarray:
    """Return pairs (M, 2) of the first and each other image of a tracklet, given that of each image (N,), -1 = none.

    >>> same_tracklet(np.array([7, -1, 7, 5, 7, -1])).tolist()
    [[0, 2], [0, 4]]
    """
    known = np.flatnonzero(tracklets >= 0)
    first, inverse = np.unique(tracklets[known], return_index=True, return_inverse=True)[1:]
    leaders = known[first][inverse]
    return np.stack([leaders, known], axis=1)[leaders != known]


def _seen_at_once(records: Sequence[Record], tracklets: np.ndarray, whole: bool) -> np.ndarray:
    """Return pairs (C, 2) of images of two tracklets, or without one, that a camera saw at the same time.

    Args:
        whole: tracklets are compared from their first to their last moment, and stand for all their images by the first; else
            each image is compared alone.
    """
    nodes = np.where((tracklets >= 0) & whole, len(records) + tracklets, np.arange(len(records)))
    leaders, node = np.unique(nodes, return_index=True, return_inverse=True)[1:]
    names = [_clock(record) for record in records]
    numbers = {name: number for number, name in enumerate(sorted(set(names) - {None}))}  # type: ignore[type-var]
    clocks = np.array([-1 if name is None else numbers[name] for name in names])
    start, end = (
        np.array([np.nan if record.moment is None else record.moment[side] for record in records]) for side in (1, 2)
    )
    pairs = leaders[seen_together(node, clocks, start, end)]
    one, other = tracklets[pairs].T
    return pairs[(one < 0) | (one != other)]


def _clock(record: Record) -> tuple[str, int] | None:
    """Return what an image's moment can be compared on: a recording, or the time at its camera."""
    if record.moment is None:
        return None
    return record.moment.clock, record.camid if record.moment.clock == TIME else -1


def sightings_of(records: Sequence[Record]) -> Sightings | None:
    """Return when and where images were taken; None if no time is known. Frames of a recording are no time."""
    times = np.full(len(records), np.nan)
    for place, record in enumerate(records):
        if record.moment is not None and record.moment.clock == TIME:
            times[place] = (record.moment.start + record.moment.end) / 2
    if np.isnan(times).all():
        return None
    return Sightings(np.array([record.camid for record in records]), times)
