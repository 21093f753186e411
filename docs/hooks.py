"""MkDocs hook: the page of options gets its table from `configs/defaults.py`."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from vitreid.configs import OPTIONS
from vitreid.configs.options import Option

MARK = "<!-- options -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the mark by the table."""
    return markdown.replace(MARK, option_tables()) if MARK in markdown else markdown


def option_tables() -> str:
    """Return a headline and a table per section, as Markdown."""
    sections = groupby(OPTIONS.items(), key=lambda item: item[0].partition(".")[0])
    return "\n\n".join(_table(section, dict(options)) for section, options in sections)


def _table(section: str, options: dict[str, Option]) -> str:
    rows = [
        f"| `{key}` | {_code(option.default)} | {_cell(option.help)}{_limits(option)} |"
        for key, option in options.items()
    ]
    return "\n".join([f"## {section}", "", "| key | default | meaning |", "|---|---|---|", *rows])


def _limits(option: Option) -> str:
    """Return the accepted values; names can be added to the dict of an open option."""
    if option.choices:
        return f". {'Built in:' if option.is_open else 'One of'} {', '.join(map(_code, option.choices))}"
    limits = (("at least", option.at_least), ("at most", option.at_most))
    bounds = [f"{name} {bound:g}" for name, bound in limits if bound is not None]
    return f" ({', '.join(bounds)})" if bounds else ""


def _code(value: Any) -> str:
    return f"`{value!r}`" if isinstance(value, tuple) else f"`{value}`" if value != "" else "empty"


def _cell(text: str) -> str:
    """Escape the characters that have a meaning in Markdown tables."""
    return "".join(f"\\{letter}" if letter in "|*_<[]" else letter for letter in text)
