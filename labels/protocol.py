"""Protocols: which images of the query's person are junk, i.e. ignored by an evaluation, neither right nor wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.errors import choose

CAMERA, FILE = "camera", "file"  # the labels that a protocol compares


@dataclass(frozen=True)
class Protocol:
    """A gallery image of the query's person is junk if one of these labels is the query's.

    Args:
        name: as in options, files and tables.
        same: the labels: "camera"; "file" = the image file itself, or one with the same bytes.
        about: the rule in words.
    """

    name: str
    same: tuple[str, ...]
    about: str

    @property
    def ignores_own_camera(self) -> bool:
        """Whether images from the query's camera are junk."""
        return CAMERA in self.same

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
        for label in self.same:
            if label in query and label in items:
                junk |= items[label] == query[label]
        return junk


PROTOCOLS = {
    one.name: one
    for one in (
        # Market-1501, DukeMTMC-reID, MSMT17, VeRi-776
        Protocol(
            "same-camera", (CAMERA, FILE), "images of the query's person from the query's camera, or its own file"
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
