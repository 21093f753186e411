"""Frames of tracklets: which of them make a clip, and the frames of many tracklets as one list of images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...common.errors import UserError
from ..records import Record, ReidData


def evenly(count: int, number: int) -> np.ndarray:
    """Return the positions (number,) of frames spread evenly over `count` frames, ascending: the middle one of each part.

    >>> evenly(9, 3).tolist(), evenly(2, 4).tolist()
    ([1, 4, 7], [0, 0, 1, 1])
    """
    return ((2 * np.arange(number) + 1) * count) // (2 * number)


def _evenly(counts: np.ndarray, number: int, _: np.random.Generator) -> np.ndarray:
    return np.stack([evenly(count, number) for count in counts.tolist()])


def _segments(counts: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """One random frame of each of `number` equal parts (Wang et al., ECCV 2016). All frames are drawn equally often.

    Parts meet inside a frame unless `number` divides the frames, so a clip may have such a frame twice.
    """
    places = (np.arange(number) + rng.random((len(counts), number))) / number
    return np.minimum((places * counts[:, None]).astype(np.int64), counts[:, None] - 1)


def _random(counts: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Any frames, in their order, none again before all others."""
    rows = []
    for count in counts.tolist():
        whole, rest = divmod(number, count)
        drawn = rng.choice(count, rest, replace=False) if rest else np.empty(0, np.int64)
        rows.append(np.sort(np.r_[np.tile(np.arange(count), whole), drawn]))
    return np.stack(rows)


SAMPLINGS = {"evenly": _evenly, "random": _random, "segments": _segments}  # DATALOADER.CLIP_SAMPLING


class Clips:
    """The frames of each record, as positions in one list of image files.

    Args:
        records: images and tracklets; an image fills a clip alone.
        number: frames per clip.
        sampling: a key of SAMPLINGS.

    Attributes:
        paths: the image files of all records, one record after the other; of "evenly" those that are drawn.
    Raises:
        UserError: no record is a tracklet, so that every clip would be one image.
    """

    def __init__(self, records: Sequence[Record], number: int, sampling: str) -> None:
        if number > 1 and not any(record.frames for record in records):
            raise UserError(
                f"DATALOADER.CLIP_FRAMES: {number} frames of a tracklet make a clip, and no training item is a tracklet; set it to 1, "
                "or train on a data set of video, e.g. mars"
            )
        self.number, self._sample = number, SAMPLINGS[sampling]
        most = number if sampling == "evenly" else 0
        files = [chosen_frames(record, most) for record in records]
        self.paths = [path for own in files for path in own]
        self._counts = np.array([len(own) for own in files])
        self._starts = np.cumsum(self._counts) - self._counts

    def draw(self, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the positions (B, number) in `paths` of a clip of each of the records at `index` (B,)."""
        return self._starts[index][:, None] + self._sample(self._counts[index], self.number, rng)


def refuse_tracklets(data: ReidData, options: Mapping[str, str]) -> None:
    """Raise UserError if one of the options (key -> value) is on, which embed each training image, and there are tracklets."""
    for key, value in options.items():
        if value not in ("", "none") and any(record.frames for record in data.train):
            raise UserError(
                f"{key}: {value} embeds every training image, and {data.name} has tracklets; leave it at its default"
            )


def frame_records(records: Iterable[Record], most: int = 0) -> list[Record]:
    """Return a record per frame, of a tracklet with more than `most` frames that many, spread evenly; 0 = all frames."""
    return [
        replace(record, path=path, frames=()) if record.frames else record
        for record in records
        for path in chosen_frames(record, most)
    ]


def chosen_frames(record: Record, most: int = 0) -> tuple[str, ...]:
    """Return the image files of a record that `frame_records` takes."""
    files = record.files
    return tuple(files[place] for place in evenly(len(files), most)) if 0 < most < len(files) else files
