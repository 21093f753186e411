"""Charts with one look: inline SVG that takes the page's colours, and PNG files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#010203"  # stands for the page's text colour, dark or light
PAPER_INK = "#20242b"  # on the white of a PNG file
COLOURS = ("#3b82c4", "#d9762b", "#2e9e6b", "#b8559a", "#8a7a2f", "#6d6ad0")  # each readable on white and on black
DASHES = ("-", "--", "-.", ":")  # lines differ in more than colour
SIZE = (4.4, 3.1)  # inches: text stays readable where the chart shrinks to a phone's width
PNG_DPI = 150
STYLE: Any = {  # matplotlib's settings
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.7,
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
INKED: Any = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")


@dataclass(frozen=True, eq=False)
class Chart:
    """A chart that can be drawn as SVG and as PNG.

    Args:
        name: of the PNG file, and unique on a page.
        caption: below the chart.
        alt: what the chart shows as text, with its main figures.
        size: inches.
    """

    name: str
    caption: str
    alt: str
    draw: Callable[[Axes], object]
    size: tuple[float, float] = SIZE

    def svg(self) -> str:
        """Return an <svg> element in the page's colours; its ids begin with the chart's name."""
        with matplotlib.rc_context({**STYLE, **dict.fromkeys(INKED, INK), "svg.hashsalt": self.name}):
            buffer = io.StringIO()
            metadata: Any = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            self._figure().savefig(buffer, format="svg", metadata=metadata)
        return inline_svg(buffer.getvalue(), self.name, self.alt)

    def png(self) -> bytes:
        """Return the chart as a PNG file on white."""
        with matplotlib.rc_context({**STYLE, **dict.fromkeys(INKED, PAPER_INK)}):
            buffer = io.BytesIO()
            self._figure().savefig(buffer, format="png", dpi=PNG_DPI, facecolor="white")
        return buffer.getvalue()

    def _figure(self) -> Figure:
        figure = Figure(self.size, layout="constrained")  # no pyplot: no window system, no global state
        self.draw(figure.add_subplot())
        return figure


def add_legend(axes: Axes, artists: Mapping[str, Artist], **options: Any) -> None:
    """Draw a legend of the artists by label. matplotlib alone would leave out labels that begin with an underscore."""
    legend = axes.legend(list(artists.values()), [str(number) for number in range(len(artists))], **options)
    for text, label in zip(legend.get_texts(), artists, strict=True):
        text.set_text(label)


def inline_svg(text: str, name: str, alt: str) -> str:
    """Return matplotlib's SVG file as an element of a page: `name` before its ids, text in the page's colour and font."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = text.replace(INK, "currentColor")
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", text)
    text = re.sub(r">\s+<", "><", text)
    text = re.sub(r"\s*\n\s*", " ", text)  # one line per chart: a page that can be compared line by line
    box, rest = re.search(r'<svg\b[^>]*?viewBox="([^"]*)"[^>]*>(.*)', text, re.DOTALL).groups()  # type: ignore[union-attr]
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(alt)}">{rest}'  # no width: the page decides


def line_style(number: int) -> dict[str, Any]:
    """Return colour and dashes of line `number` of a chart, from 0."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}
