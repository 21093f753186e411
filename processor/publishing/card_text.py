"""The model card of a published model: what its checkpoint says of itself, and what a person has to add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..runs.provenance import provenance_lines

FIGURES = ("mAP", "mINP", "Rank-1", "Rank-5", "Rank-10")
USE = """```python
import vitreid

embed = vitreid.from_pretrained("{name}")
vectors = embed(["one.jpg", "other.jpg"])  # (2, {width}) float32
```
"""
MISSING = """- What it is made for, by whom and where; what it must not be used for.
- Who is missing or rare in the training data; the legal basis of the data.
- Figures on another domain and by group; known failures.

The template `docs/model_card.md` of vitreid has all points, `docs/responsible.md` the reasons.
"""


def card_text(name: str, title: str, width: int, about: Mapping[str, Any], licence: str = "") -> str:
    """Return the card as Markdown with the header that the hub reads.

    Args:
        name: what `from_pretrained` takes: `hf-hub:owner/model`, or the folder.
        title: name of the model.
        width: D, the width of an embedding.
        about: metadata of the checkpoint.
        licence: of the weights, as the hub names it, e.g. `mit`; empty = not stated.
    """
    data = [one for one in (about.get("provenance") or {}).get("data", ()) if isinstance(one, Mapping)]
    parts = [
        _header(data, licence),
        f"# {title}\n\nA person re-identification model of vitreid: crops of people -> embeddings; near ones show the same person.\n",
        USE.format(name=name, width=width),
        "## Model\n",
        _bullets(_model_lines(about, width, licence)),
        "## Where it comes from\n",
        _bullets(provenance_lines(about.get("provenance") or {})),
        "## Figures\n",
        _bullets(_figure_lines(about)),
        "## Still to be stated\n",
        MISSING,
    ]
    return "\n".join(parts)


def _header(data: list[Mapping[str, Any]], licence: str) -> str:
    names = "".join(f"- {one.get('name', '')}\n" for one in data)
    return (
        "---\nlibrary_name: vitreid\npipeline_tag: image-feature-extraction\ntags:\n- person-re-identification\n"
        + (f"license: {licence}\n" if licence else "")
        + (f"datasets:\n{names}" if names else "")
        + "---\n"
    )


def _model_lines(about: Mapping[str, Any], width: int, licence: str) -> list[str]:
    preprocess = about.get("preprocess") or {}
    versions = about.get("versions") or {}
    height, across = preprocess.get("size", ("?", "?"))
    return [
        f"input: RGB, {height} x {across} pixels (height x width); mean {preprocess.get('mean')}, std {preprocess.get('std')}",
        f"embedding: {width} values",
        f"versions: {', '.join(f'{name} {version}' for name, version in versions.items()) or 'not stated'}",
        f"licence of the weights: {licence or 'not stated; the terms of the data below may bind them'}",
    ]


def _figure_lines(about: Mapping[str, Any]) -> list[str]:
    metrics = about.get("metrics") or {}
    found = [f"{name} {100 * metrics[name]:.1f} %" for name in FIGURES if isinstance(metrics.get(name), (int, float))]
    where = about.get("evaluated") or about.get("dataset") or "the test set"
    return [f"{where}: {', '.join(found)}" if found else "none: not evaluated when it was written"]


def _bullets(lines: list[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)
