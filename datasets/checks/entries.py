"""A data set as one list of images with their splits, and its files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..loading.clips import frame_records
from ..records import UNLABELLED, Record, ReidData

SPLITS = ("train", "query", "gallery")


@dataclass(frozen=True)
class CheckedImage:
    """One image with its split: a record, or a frame of one.

    Args:
        place: position among all images.
        record: of the frame alone, if it is one of a tracklet.
    """

    place: int
    split: str
    record: Record

    @property
    def is_test(self) -> bool:
        """Whether the image is in query or gallery."""
        return self.split != "train"


@dataclass(frozen=True)
class Listing:
    """The images of `data`, the frames of tracklets among them, in the order train, query, gallery."""

    data: ReidData

    @cached_property
    def entries(self) -> list[CheckedImage]:
        """All images."""
        lines = [(split, record) for split in SPLITS for record in frame_records(getattr(self.data, split))]
        return [CheckedImage(place, split, record) for place, (split, record) in enumerate(lines)]

    @cached_property
    def files(self) -> list[str]:
        """The image files, each once, in the order of their first entry."""
        return list(dict.fromkeys(entry.record.path for entry in self.entries))

    def person(self, entry: CheckedImage) -> str:
        """Return the user's name of the person, or the pid; "" = unknown."""
        if entry.record.pid == UNLABELLED:
            return ""
        return self.data.person_names.get(entry.record.pid, str(entry.record.pid))

    def describe(self, entry: CheckedImage) -> str:
        """Return `path (train, person 7, camera c1)`."""
        camera = self.data.camera_names[entry.record.camid]
        return f"{entry.record.path} ({entry.split}, person {self.person(entry) or 'unknown'}, camera {camera})"
