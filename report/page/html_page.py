"""Sections -> one HTML file that needs no network and no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .components import Section
from .images import data_uri

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    keep_trailing_newline=True,
)
_TEMPLATES.filters["data_uri"] = data_uri


def page(title: str, sentences: Sequence[str], sections: Sequence[Section], missing: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        sentences: what the reader should know first.
        missing: what is left out, with the reason.
    """
    template = _TEMPLATES.get_template("page.html.j2")
    return template.render(title=title, sentences=sentences, sections=sections, missing=missing)
