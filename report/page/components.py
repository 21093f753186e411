"""The components of a page as plain values: sections with text, tables, charts and strips of crops. page.html.j2 shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np

from .charts import Chart

MARKS = {"right": "✓ right", "wrong": "✗ wrong", "junk": "– junk", "query": "query", "plain": ""}


class Component(Protocol):
    """What a section holds; `macro` names the macro of page.html.j2 that shows it."""

    macro: ClassVar[str]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    macro: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells under a caption; the first row and the first column are headings.

    Args:
        folded: show only the caption until the reader opens the table.
        kind: "figures", or "texts", whose rows become blocks on a narrow page so that their last cell, a sentence, is seen.
    """

    macro: ClassVar[str] = "table"
    caption: str
    rows: Sequence[Sequence[str]]
    folded: bool = False
    kind: str = "figures"


@dataclass(frozen=True)
class Charts:
    """Charts side by side where the page is wide enough."""

    macro: ClassVar[str] = "charts"
    charts: Sequence[Chart]


@dataclass(frozen=True, eq=False)
class Tile:
    """A crop in a strip.

    Args:
        image: (H, W, 3) uint8 RGB, None if there is none to show.
        kind: right, wrong, junk, query, or plain: selects the frame and the mark.
        lines: short lines of text below.
        alt: what the picture shows, as text.
    """

    image: np.ndarray | None
    kind: str
    lines: Sequence[str]
    alt: str

    @property
    def mark(self) -> str:
        """The kind as text, empty for a plain crop."""
        return MARKS[self.kind]


@dataclass(frozen=True, eq=False)
class Strip:
    """A row of crops under a title."""

    macro: ClassVar[str] = "strip"
    title: str
    tiles: Sequence[Tile]


@dataclass(frozen=True, eq=False)
class Group:
    """Components side by side where the page is wide enough.

    Args:
        kind: "columns" = side by side, "strips" = columns of short strips, "stack" = below each other.
    """

    macro: ClassVar[str] = "group"
    parts: Sequence[Component]
    kind: str = "columns"


@dataclass(frozen=True, eq=False)
class Section:
    """A heading, one or two sentences on how to read the section, and its components.

    Args:
        name: of its anchor and of its PNG files.
        sheets: strips that become one PNG file, by the file's name.
    """

    name: str
    title: str
    reading: str
    parts: Sequence[Component] = ()
    sheets: Mapping[str, Sequence[Strip]] = field(default_factory=dict)

    @property
    def charts(self) -> list[Chart]:
        """All charts of the section."""
        return [chart for part in flat(self.parts) if isinstance(part, Charts) for chart in part.charts]


def flat(parts: Sequence[Component]) -> list[Component]:
    """Return the components; a group is replaced by those inside it."""
    return [inner for part in parts for inner in (flat(part.parts) if isinstance(part, Group) else [part])]
