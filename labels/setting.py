"""Settings: the evaluations of one test set that papers report next to each other, as one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..common.errors import UserError, choose
from .protocol import Protocol, find_protocol

# how galleries are drawn
ALL, PER_PERSON, PER_QUERY, PER_CAMERA = "all", "per-person", "per-query", "per-camera"
DRAWS = {
    ALL: "the gallery as it is",
    PER_PERSON: "one drawn image of each identity",  # VehicleID
    PER_QUERY: "one drawn image of each identity, for each query, whose person's is one of its matches",  # CUHK03
    PER_CAMERA: "one drawn image of each identity and camera",  # SYSU-MM01
}


@dataclass(frozen=True)
class Setting:
    """Queries, gallery and junk of one evaluation.

    Args:
        name: of its row, after the data set's; "" for the only one.
        protocol: the name in PROTOCOLS of the rule for junk.
        query_cameras, gallery_cameras: names of the cameras that the images are from; empty = all.
        draw: a key of DRAWS.
        repeats: galleries drawn, over which figures are averaged; 0 if none is drawn.
        images: images drawn of each identity and camera.
        with_queries: the queries are in the gallery, too; each query itself is junk by its camera.
        interpolates: average precision is the area under straight lines between the points of recall and precision, as in the code
            of Market-1501's and MARS's authors, not the mean of the precision at each hit.
    Raises:
        UserError: the protocol or the way to draw is unknown, or the number of galleries does not fit it.
    """

    name: str = ""
    protocol: str = "same-camera"
    query_cameras: tuple[str, ...] = ()
    gallery_cameras: tuple[str, ...] = ()
    draw: str = ALL
    repeats: int = 0
    images: int = 1
    with_queries: bool = False
    interpolates: bool = False

    def __post_init__(self) -> None:
        find_protocol(self.protocol)
        choose("draw", self.draw, DRAWS)
        if (self.repeats > 0) != (self.draw != ALL):
            raise UserError(
                f"repeats: {self.repeats} galleries do not fit draw {self.draw!r}; draw 1 or more, or all once"
            )
        if (self.with_queries or self.interpolates) and self.draw != ALL:
            raise UserError(f"with_queries, interpolates: go with draw {ALL!r} only, got {self.draw!r}")

    @property
    def rule(self) -> Protocol:
        """The rule for junk."""
        return find_protocol(self.protocol)

    @property
    def about(self) -> str:
        """The gallery and the average precision in words; "" if they are the usual ones."""
        if self.draw == ALL:
            words = {"gallery with the queries": self.with_queries, "interpolated average precision": self.interpolates}
            return ", ".join(text for text, is_so in words.items() if is_so)
        what = DRAWS[self.draw]
        if self.images > 1:
            what = what.replace("one drawn image", f"{self.images} drawn images")
        return f"mean of {self.repeats} galleries of {what}"

    def to_dict(self) -> dict[str, Any]:
        """Return the setting in JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Setting:
        """Return the setting that `to_dict` described."""
        cameras = {key: tuple(values[key]) for key in ("query_cameras", "gallery_cameras") if key in values}
        return cls(**{**values, **cameras})


# of people whose clothes are known
GENERAL = Setting("general", "same-camera")
SAME_CLOTHES = Setting("same clothes", "other-clothes")
CHANGED_CLOTHES = Setting("changed clothes", "same-clothes")
