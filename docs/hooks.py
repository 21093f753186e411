"""What MkDocs runs while it builds the pages: the table of options comes from `configs/defaults.py`."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from vitreid.configs import OPTIONS
from vitreid.configs.options import Option

MARK = "<!-- options -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table in place of the mark."""
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
    """Return what is accepted, in words."""
    if option.choices:
        return f". One of {', '.join(_code(choice) for choice in option.choices)}"
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("at least", option.at_least), ("at most", option.at_most))
        if bound is not None
    ]
    return f" ({', '.join(bounds)})" if bounds else ""


def _code(value: Any) -> str:
    return f"`{value!r}`" if isinstance(value, tuple) else f"`{value}`" if value != "" else "empty"


def _cell(text: str) -> str:
    """Escape what a table or Markdown would take for its own."""
    return "".join(f"\\{letter}" if letter in "|*_<[]" else letter for letter in text)
