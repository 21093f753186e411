"""Protocols: which images of the query's person are junk, i.e. ignored by an evaluation, neither right nor wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.errors import choose

# the labels that a protocol compares
CAMERA, FILE, CLOTHES, VIEW, TRACKLET, PLACE = "camera", "file", "clothes", "view", "tracklet", "place"


@dataclass(frozen=True)
class Protocol:
    """Which gallery images do not count for a query.

    Args:
        name: as in options, files and tables.
        same: a gallery image of the query's person is junk if one of these labels is the query's: "camera"; "file" = the image file
            itself, or one with the same bytes; "clothes"; "view"; "tracklet"; "place" = where its camera stands.
        about: the rule in words.
        other: an image of the query's person is junk if one of these labels is not the query's.
        hidden: an image of anyone is left out of a query's gallery if one of these labels is the query's.
        wanted: what a match is, besides another image of the person, in words; "" = nothing more.
    """

    name: str
    same: tuple[str, ...]
    about: str
    other: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    wanted: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels that the protocol compares."""
        return (*self.same, *self.other, *self.hidden)

    @property
    def ignores_own_camera(self) -> bool:
        """Whether images from the query's camera are junk."""
        return CAMERA in self.same or PLACE in self.hidden

    @property
    def caution(self) -> str:
        """What a reader of the figures must know, a sentence; "" for figures across cameras, which are the field's."""
        if self.ignores_own_camera:
            return ""
        return (
            f"Cameras are not known or not compared (protocol {self.name}): images from a query's own camera count as matches, "
            "which are easier to find than those from another camera."
        )

    def is_junk(self, query: Mapping[str, Any], items: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return True for each of the images (N,) that is junk for the query.

        Args:
            query: the query's labels; an unknown one is absent.
            items: labels (N,) of gallery images of the query's person; "camera" is always there.
        """
        junk = np.zeros(len(items[CAMERA]), bool)
        for label in (*self.same, *self.hidden):
            if label in query and label in items:
                junk |= items[label] == query[label]
        for label in self.other:
            junk |= items[label] != query[label]
        return junk

    def is_hidden(self, query: Mapping[str, Any], items: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return True for each of the images (N,) of anyone that the query's gallery lacks; arguments as for `is_junk`."""
        hidden = np.zeros(len(items[CAMERA]), bool)
        for label in self.hidden:
            hidden |= items[label] == query[label]
        return hidden


PROTOCOLS = {
    one.name: one
    for one in (
        # Market-1501, DukeMTMC-reID, MSMT17, VeRi-776
        Protocol(
            "same-camera",
            (CAMERA, FILE),
            "images of the query's person from the query's camera, or its own file",
            wanted="from another camera",
        ),
        # PRCC, LTCC: changed clothes
        Protocol(
            "same-clothes",
            (CAMERA, FILE, CLOTHES),
            "images of the query's person from the query's camera, or in the query's clothes, or its own file",
            wanted="from another camera, in other clothes",
        ),
        # PRCC, LTCC: same clothes
        Protocol(
            "other-clothes",
            (CAMERA, FILE),
            "images of the query's person from the query's camera, or in other clothes than the query's, or its own file",
            other=(CLOTHES,),
            wanted="from another camera, in the same clothes",
        ),
        # CARGO: from the air and from the ground
        Protocol(
            "same-view",
            (CAMERA, FILE, VIEW),
            "images of the query's person from the query's camera or view, or its own file",
            wanted="from another view",
        ),
        # DeepChange
        Protocol(
            "same-tracklet",
            (TRACKLET, FILE),
            "images of the query's person from the query's tracklet, or its own file; others of its camera count",
            wanted="from another tracklet",
        ),
        # SYSU-MM01
        Protocol(
            "same-place",
            (CAMERA, FILE),
            "images of anyone from a camera at the place of the query's camera",
            hidden=(PLACE,),
            wanted="from another place",
        ),
        Protocol("own-file", (FILE,), "the query's own file, or an exact copy of it; images of its camera count"),
        Protocol("none", (), "nothing: even the query's own file counts"),
    )
}


def find_protocol(protocol: str | Protocol) -> Protocol:
    """Return the protocol of that name; a `Protocol` is returned as it is.

    Raises:
        UserError: the name is unknown.
    """
    return protocol if isinstance(protocol, Protocol) else choose("protocol", protocol, PROTOCOLS)
