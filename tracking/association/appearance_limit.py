"""How different two crops of one person may look: learned from the video itself, for any embedding.

Two tracks in one frame are two people, and successive crops of one track are one person. So a tracker sees pairs of both kinds, and
the distance between their distributions needs no calibration. A model's cosine distances have a scale that depends on its training, so
no fixed number fits two models.
"""

from __future__ import annotations

import numpy as np

_KEPT = 256  # pairs of each kind
_LEAST = 3  # pairs of different people before their distances count
_PRIOR = 1.0  # without such pairs: limit over the median distance of one person
_SHARE = 0.36  # limit over the median distance of two people


class AppearanceLimit:
    """The last distances between crops of one person and of two, and the limit between them.

    Args:
        fixed: use this cosine distance; None = learn it.
    """

    def __init__(self, fixed: float | None = None) -> None:
        self.fixed = fixed
        self.load(np.zeros(0, np.float64), np.zeros(0, np.int64), np.zeros(0, np.float64))

    def load(self, same: np.ndarray, tracks: np.ndarray, different: np.ndarray) -> None:
        """Start from these distances, as `add` would have kept them."""
        self.same, self.tracks, self.different = same, tracks, different
        self._value: float | None = None  # what `value` returned since the last distances came

    def add(self, same: np.ndarray, tracks: np.ndarray, different: np.ndarray) -> None:
        """Record distances, and the tracks of the first kind; infinite ones are left out."""
        known, finite = np.isfinite(same), np.isfinite(different)
        self.load(
            np.concatenate([self.same, same[known]])[-_KEPT:],
            np.concatenate([self.tracks, tracks[known]])[-_KEPT:],
            np.concatenate([self.different, different[finite]])[-_KEPT:],
        )

    @property
    def value(self) -> float:
        """The cosine distance up to which two crops may show one person; 0 while nothing is known."""
        if self.fixed is not None:
            return self.fixed
        if self._value is None:
            self._value = self._learned()
        return self._value

    def _learned(self) -> float:
        if not len(self.same):
            return 0.0
        if len(self.different) >= _LEAST:
            return _SHARE * float(np.median(self.different))
        # Each track counts once: something that stands still all the time must not decide how much walkers change.
        near = float(np.median([np.median(self.same[self.tracks == track]) for track in np.unique(self.tracks)]))
        return _PRIOR * near
