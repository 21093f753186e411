"""All tracks that can still continue, as arrays: what a tracker remembers between two frames."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from .kalman import Motion, correct, start

SELDOM = 2  # intervals between two embeddings of a track of which half of those that are kept are there


@dataclass
class TrackTable:
    """T tracks, visible or lost.

    Args:
        ids: (T,) int64. labels: (T,) class names.
        mean, cov: their Kalman filters, as in Motion; moving: (T,) bool, False = the filter no longer predicts.
        displaced: (T,) bool, True = the camera was cut since, so the last position says nothing.
        first, seen, sure: (T,) seconds of the first box, the last one, and the last one of high confidence.
        hits: (T,) int64 number of boxes.
        vectors: (T, k, D) float32 unit embeddings; counts: (T,) int64 how many of the k are filled.
        embedded: (T,) seconds of the last embedding, -inf = none.
    """

    ids: np.ndarray
    labels: np.ndarray
    mean: np.ndarray
    cov: np.ndarray
    moving: np.ndarray
    displaced: np.ndarray
    first: np.ndarray
    seen: np.ndarray
    sure: np.ndarray
    hits: np.ndarray
    vectors: np.ndarray
    counts: np.ndarray
    embedded: np.ndarray

    @classmethod
    def new(
        cls, ids: np.ndarray, labels: np.ndarray, boxes: np.ndarray, seconds: float, shape: tuple[int, int]
    ) -> TrackTable:
        """Return tracks that start with one box each.

        Args:
            ids, labels: (T,); boxes: (T, 4).
            shape: k and D of the embeddings.
        """
        number, motion = len(ids), start(boxes)
        times = np.full(number, seconds)
        return cls(
            ids=np.asarray(ids, np.int64),
            labels=np.asarray(labels, np.str_),
            mean=motion.mean,
            cov=motion.cov,
            moving=np.ones(number, bool),
            displaced=np.zeros(number, bool),
            first=times,
            seen=times.copy(),
            sure=times.copy(),
            hits=np.ones(number, np.int64),
            vectors=np.zeros((number, *shape), np.float32),
            counts=np.zeros(number, np.int64),
            embedded=np.full(number, -np.inf),
        )

    @classmethod
    def empty(cls, num_vectors: int) -> TrackTable:
        """Return a table without tracks; the width of the embeddings is not known yet."""
        none = np.zeros(0, np.int64)
        return cls.new(none, none.astype(np.str_), np.zeros((0, 4)), 0.0, (num_vectors, 0))

    def __len__(self) -> int:
        return len(self.ids)

    def motion_of(self, rows: np.ndarray) -> Motion:
        """Return the filters of some rows: indices, or a mask."""
        return Motion(self.mean[rows], self.cov[rows])

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def select(self, rows: np.ndarray) -> TrackTable:
        """Return the tracks of some rows: indices, or a mask."""
        return TrackTable(**{name: column[rows] for name, column in self.arrays().items()})

    def joined(self, other: TrackTable) -> TrackTable:
        """Return the tracks of this table, followed by those of another."""
        theirs = other.arrays()
        return TrackTable(**{name: np.concatenate([own, theirs[name]]) for name, own in self.arrays().items()})

    def is_due(self, rows: np.ndarray, seconds: float, interval: float) -> np.ndarray:
        """Return the mask (R,) of the tracks whose last embedding is `interval` seconds old, or SELDOM times that if half are filled."""
        known_well = 2 * self.counts[rows] >= self.vectors.shape[1]
        return seconds - self.embedded[rows] >= np.where(known_well, SELDOM * interval, interval)

    def widen(self, width: int) -> None:
        """Make room for embeddings of a width that was not known before."""
        if self.vectors.shape[2] != width:
            self.vectors = np.zeros((*self.vectors.shape[:2], width), np.float32)

    def observe(self, rows: np.ndarray, boxes: np.ndarray, high: np.ndarray, seconds: float) -> None:
        """Continue tracks (R,) with the boxes (R, 4) found now, of high confidence or not (R,); filters that no longer predict start anew."""
        if not len(rows):
            return
        motion, still = correct(self.motion_of(rows), boxes), ~self.moving[rows]
        if still.any():
            motion.mean[still], motion.cov[still] = start(boxes[still])
        self.mean[rows], self.cov[rows] = motion
        self.moving[rows], self.displaced[rows] = True, False
        self.seen[rows] = seconds
        self.sure[rows[high]] = seconds
        self.hits[rows] += 1
