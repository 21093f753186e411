"""What a page is built of: sections with charts, tables, pictures and rows of crops; each knows its own HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Protocol

import numpy as np

from .charts import Chart
from .images import data_uri, to_jpeg


class Part(Protocol):
    """Something that stands in a section."""

    def html(self) -> str:
        """Return the part as HTML."""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str

    def html(self) -> str:
        """Return the paragraph."""
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Table:
    """Rows under a caption; the first row and the first column are headings."""

    caption: str
    rows: Sequence[Sequence[str]]
    folded: bool = False

    def html(self) -> str:
        """Return the table in a box that scrolls sideways by itself, folded away if it is long and dull."""
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in self.rows[0])
        body = "".join(_row(row) for row in self.rows[1:])
        table = f"<table><caption>{escape(self.caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        box = scrolling(table, self.caption)
        return f"<details><summary>{escape(self.caption)}</summary>{box}</details>" if self.folded else box


def _row(cells: Sequence[str]) -> str:
    first, *others = (escape(cell) for cell in cells)
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'


def scrolling(content: str, label: str) -> str:
    """Return a box that scrolls sideways on a narrow screen and that the keyboard reaches."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{content}</div>'


@dataclass(frozen=True)
class Charts:
    """Charts side by side where the page is wide enough."""

    charts: Sequence[Chart]

    def html(self) -> str:
        """Return the charts as inline SVG with captions."""
        return f'<div class="charts">{"".join(_chart(chart) for chart in self.charts)}</div>'


def _chart(chart: Chart) -> str:
    return f'<figure class="chart">{chart.svg()}<figcaption>{escape(chart.caption)}</figcaption></figure>'


@dataclass(frozen=True, eq=False)
class Tile:
    """A crop in a row of crops.

    Args:
        image: (H, W, 3) uint8 RGB, None if there is none to show.
        kind: right, wrong, junk, query, or plain: decides frame and mark.
        lines: short lines of text below.
        alt: what the picture shows, in words.
    """

    image: np.ndarray | None
    kind: str
    lines: Sequence[str]
    alt: str

    def html(self) -> str:
        """Return the framed crop with its mark and text."""
        word = MARKS[self.kind]
        mark = f'<span class="mark">{word}</span>' if word else ""
        shown = (
            f'<img src="{data_uri(to_jpeg(self.image), "jpeg")}" alt="{escape(self.alt)}" '
            f'width="{self.image.shape[1]}" height="{self.image.shape[0]}">'
            if self.image is not None
            else f'<span class="blank" role="img" aria-label="{escape(self.alt)}">no picture</span>'
        )
        text = "".join(f"<span>{escape(line)}</span>" for line in self.lines)
        return f'<li class="tile {self.kind}">{shown}{mark}{text}</li>'


MARKS = {"right": "✓ right", "wrong": "✗ wrong", "junk": "– junk", "query": "query", "plain": ""}


@dataclass(frozen=True, eq=False)
class Strip:
    """A row of crops under a title."""

    title: str
    tiles: Sequence[Tile]

    def html(self) -> str:
        """Return the row in a box that scrolls sideways."""
        row = f'<ol class="strip">{"".join(tile.html() for tile in self.tiles)}</ol>'
        return f"<h3>{escape(self.title)}</h3>{scrolling(row, self.title)}"


@dataclass(frozen=True, eq=False)
class Group:
    """Parts that share a line where the page is wide enough: "beside" each other in halves, or short "strips" in columns."""

    parts: Sequence[Part]
    kind: str = "beside"

    def html(self) -> str:
        """Return the parts in a grid."""
        return f'<div class="{self.kind}">{"".join(f"<div>{part.html()}</div>" for part in self.parts)}</div>'


@dataclass(frozen=True, eq=False)
class Section:
    """A heading, what to read from it in one or two sentences, and its parts.

    Args:
        name: of its anchor and of its PNG files.
        sheets: rows of crops that become one PNG file, by the file's name.
    """

    name: str
    title: str
    reading: str
    parts: Sequence[Part] = ()
    sheets: Mapping[str, Sequence[Strip]] = field(default_factory=dict)

    def html(self) -> str:
        """Return the section."""
        inner = "".join(part.html() for part in self.parts)
        reading = f'<p class="reading">{escape(self.reading)}</p>'
        return f'<section id="{self.name}"><h2>{escape(self.title)}</h2>{reading}{inner}</section>'

    @property
    def charts(self) -> list[Chart]:
        """All charts of the section."""
        return [chart for part in flat(self.parts) if isinstance(part, Charts) for chart in part.charts]


def flat(parts: Sequence[Part]) -> list[Part]:
    """Return the parts with those of groups in their group's place."""
    return [inner for part in parts for inner in (flat(part.parts) if isinstance(part, Group) else [part])]
