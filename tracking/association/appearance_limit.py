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
        self.same: np.ndarray = np.zeros(0, np.float64)
        self.tracks: np.ndarray = np.zeros(0, np.int64)  # track id of each of `same`
        self.different: np.ndarray = np.zeros(0, np.float64)

    def add(self, same: np.ndarray, tracks: np.ndarray, different: np.ndarray) -> None:
        """Record distances, and the tracks of the first kind; infinite ones are left out."""
        known = np.isfinite(same)
        self.same = np.concatenate([self.same, same[known]])[-_KEPT:]
        self.tracks = np.concatenate([self.tracks, tracks[known]])[-_KEPT:]
        self.different = np.concatenate([self.different, different[np.isfinite(different)]])[-_KEPT:]

    @property
    def value(self) -> float:
        """The cosine distance up to which two crops may show one person; 0 while nothing is known."""
        if self.fixed is not None:
            return self.fixed
        if not len(self.same):
            return 0.0
        # Each track counts once: something that stands still all the time must not decide how much walkers change.
        near = float(np.median([np.median(self.same[self.tracks == track]) for track in np.unique(self.tracks)]))
        if len(self.different) < _LEAST:
            return _PRIOR * near
        return _SHARE * float(np.median(self.different))
