"""The table of docs/options.md, from `configs/defaults.py`: `python docs/hooks.py` writes it; as a MkDocs hook it is made anew."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from vitreid.configs import OPTIONS
from vitreid.configs.options import Option

PAGE = Path(__file__).with_name("options.md")
MARK = "<!-- options: written by `python docs/hooks.py` -->\n"  # the table is behind it, up to the end of the page


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page with its table made anew; pages without the mark are unchanged."""
    text, mark, _table = markdown.partition(MARK)
    return f"{text}{mark}\n{option_tables()}\n" if mark else markdown


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


if __name__ == "__main__":
    PAGE.write_text(on_page_markdown(PAGE.read_text()))
