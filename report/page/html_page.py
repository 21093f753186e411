"""Sections -> one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from .components import Section

STYLE = Path(__file__).with_name("style.css")


def page(title: str, sentences: Sequence[str], sections: Sequence[Section], missing: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        sentences: what the reader should know first.
        missing: what is left out, with the reason.
    """
    links = "".join(f'<li><a href="#{section.name}">{escape(section.title)}</a></li>' for section in sections)
    introduction = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    body = "\n".join(section.html() for section in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<header><h1>{escape(title)}</h1>{introduction}<nav aria-label="Sections"><ul>{links}</ul></nav></header>
<main>
{body}
{_left_out(missing)}</main>
</body>
</html>
"""


def _left_out(missing: Mapping[str, str]) -> str:
    if not missing:
        return ""
    items = "".join(f"<li><b>{escape(part)}</b>: {escape(reason)}</li>" for part, reason in missing.items())
    return f'<section id="left-out"><h2>Left out</h2><ul>{items}</ul></section>\n'
