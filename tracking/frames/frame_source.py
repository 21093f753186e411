"""What all sources of frames have in common."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator

from ...common.errors import UserError
from ..detections import VideoFrame

logger = logging.getLogger(__name__)
DEFAULT_FPS = 25.0  # of a source that states none: the rate of PAL cameras, and what FFmpeg assumes for raw streams
FASTEST = 1000.0  # frames per second; some containers state the ticks of their clock (90000) as their rate


class CorruptVideoError(UserError):
    """A video of which no frame, or fewer than needed, can be decoded."""


class FrameSource(ABC):
    """Frames in ascending order; each call of `frames` reads from the start again, unless the source is live.

    Attributes:
        name: the path or URL, for messages.
        live: whether frames are lost that nobody reads; such a source has no length and no second pass.
        fps: frames per second.
        num_frames: as stated by the source, often an estimate; None = unknown.
    """

    name: str
    live: bool = False
    fps: float = DEFAULT_FPS
    num_frames: int | None = None

    @abstractmethod
    def frames(self, every: int = 1, start: int = 0) -> Iterator[VideoFrame]:
        """Yield the frames whose number is a multiple of `every`, from number `start` on; others are not decoded in full.

        Raises:
            CorruptVideoError: no frame can be decoded.
            UserError: `every` is below 1, or `start` below 0.
        """

    def close(self) -> None:  # noqa: B027
        """End the loop over `frames` of a live source; other sources end when their loop is left."""

    @abstractmethod
    def count_frames(self) -> int:
        """Return the exact number of frames: one above the last frame's number. May read the whole source."""


def check_stride(every: int, start: int) -> None:
    """Raise UserError unless every n-th frame can be read from that start."""
    if every < 1 or start < 0:
        raise UserError(f"frames: every {every} from {start}; give a stride of 1 or more and a start of 0 or more")


def known_fps(name: str, given: float | None, stated: float, quiet: bool = False) -> float:
    """Return the frame rate: the one given, else the one that the source states, else DEFAULT_FPS with a warning.

    Args:
        stated: by the source; 0 = none.
        quiet: without the warning, for a source whose timestamps count.
    Raises:
        UserError: the rate given is not above 0.
    """
    if given is not None:
        if not 0 < given <= FASTEST:
            raise UserError(f"--fps: {given:g}; give the frames per second, more than 0 and up to {FASTEST:g}")
        return given
    if 0 < stated <= FASTEST:
        return stated
    if not quiet:
        logger.warning("%s states no frame rate; %g frames/s are assumed: set --fps", name, DEFAULT_FPS)
    return DEFAULT_FPS
