"""What all outputs of tracks have in common."""

from __future__ import annotations

from collections.abc import Sequence

from ..tracklets.following import TrackedFrame
from ..tracklets.tracklet import Tracklet


class TrackOutput:
    """Writes the tracks of one recording while it is followed; by default it does nothing."""

    def add(self, tracked: TrackedFrame) -> None:
        """Add the next frame."""

    def rename(self, old: int, new: int) -> None:
        """Take track `old` as the continuation of track `new`; called before `add` of the frame that showed it."""

    def end(self, tracklets: Sequence[Tracklet], dropped: Sequence[int]) -> None:
        """Take notice of tracks that have ended, and of the ids of those with too few boxes."""

    def finish(self) -> None:
        """Write what is left; after the last frame."""
