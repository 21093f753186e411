"""Attributes of the rows of a gallery: heads fitted on labelled rows, tested on others, and predicted into columns."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ...common.errors import UserError
from ..identities.near_rows import BLOCK, compared_rows, unit_rows, usable_positions
from ..storage.gallery import Gallery
from .attribute_heads import AttributeHead, AttributeHeads, AttributeScores, fit_head, score
from .attribute_labels import PROBABILITY, AttributeLabels

logger = logging.getLogger(__name__)


def fit_attributes(
    gallery: Gallery, labels: AttributeLabels, names: Sequence[str] = (), balanced: bool = False
) -> AttributeHeads:
    """Fit a head for each attribute on the rows of labelled people; an attribute with too few people is left out and logged.

    Args:
        names: attributes; none = all.
        balanced: as for `fit_head`.
    Raises:
        UserError: an attribute is unknown, no row shows a labelled person, or no attribute has enough people.
    """
    if unknown := sorted(set(names) - set(labels.names)):
        raise UserError(f"attribute {unknown[0]!r} is not in {labels.source}; it has {', '.join(labels.names)}")
    positions, pids = _labelled(gallery, labels)
    rows = rows_at(gallery, positions)
    people = np.array([labels.person(pid) for pid in pids], object)
    heads = []
    for name in names or labels.names:
        values = labels.of(pids, name)
        there = np.array([value is not None for value in values], bool)
        try:
            heads.append(fit_head(name, rows[there], values[there], people[there], balanced))
        except UserError as error:
            logger.warning("left out: %s", error)
    if not heads:
        raise UserError(f"{labels.source}: no attribute has enough people in {gallery.path}; label more people")
    return AttributeHeads(gallery.info.model, gallery.info.projection, gallery.info.dimension, tuple(heads))


def score_attributes(gallery: Gallery, heads: AttributeHeads, labels: AttributeLabels) -> dict[str, AttributeScores]:
    """Compare predictions with labels; attributes that no row is labelled with are left out.

    Raises:
        UserError: the heads are of another model, or no row shows a labelled person.
    """
    check_model(gallery, heads)
    positions, pids = _labelled(gallery, labels)
    rows = rows_at(gallery, positions)
    scores = {}
    for head in heads.heads:
        values = labels.of(pids, head.name)
        there = np.array([value is not None for value in values], bool)
        if there.any():
            scores[head.name] = score(head.predict(rows[there])[0], values[there])
    if not scores:
        raise UserError(
            f"{labels.source} has {', '.join(labels.names)}, the heads {', '.join(head.name for head in heads.heads)}; no row is "
            "labelled with an attribute of the heads"
        )
    return scores


def predict_attributes(gallery: Gallery, heads: AttributeHeads, again: bool = False) -> int:
    """Write the value of each attribute, and its probability, into columns; return the number of rows that got one.

    Args:
        again: also where there is a value; else it stays.
    Raises:
        UserError: the heads are of another model, or a column of that name was not written here.
    """
    check_model(gallery, heads)
    with gallery.writing():
        for head in heads.heads:
            _check_columns(gallery, head.name)
        positions = usable_positions(gallery)
        written = np.zeros(gallery.state.count, bool)
        together: dict[bytes, list[AttributeHead]] = defaultdict(list)  # those that fill in the same rows: one write
        for head in heads.heads:
            chosen = np.ones(len(positions), bool) if again else _is_empty(gallery, head.name)[positions]
            together[chosen.tobytes()].append(head)
        for key, some in together.items():
            chosen = positions[np.frombuffer(key, bool)]
            gallery.set_values(gallery.ids[chosen], _predicted(gallery, some, chosen))
            written[chosen] = True
    return int(written.sum())


def _predicted(gallery: Gallery, heads: Sequence[AttributeHead], positions: np.ndarray) -> dict[str, pa.Array]:
    """Return the columns of attributes for the rows at some positions, computed block by block."""
    codes = np.empty((len(heads), len(positions)), np.int16)
    probabilities = np.empty((len(heads), len(positions)))
    for start in range(0, len(positions), BLOCK):
        part = slice(start, start + BLOCK)
        rows = rows_at(gallery, positions[part])
        for number, head in enumerate(heads):
            found = head.probabilities(rows)
            codes[number, part], probabilities[number, part] = found.argmax(1), found.max(1)
    columns: dict[str, pa.Array] = {}
    for head, code, probability in zip(heads, codes, probabilities, strict=True):
        texts = pa.DictionaryArray.from_arrays(pa.array(code), pa.array(head.values, pa.string()))
        columns |= {head.name: texts.cast(pa.string()), head.name + PROBABILITY: pa.array(probability)}
    return columns


def check_model(gallery: Gallery, heads: AttributeHeads) -> None:
    """Raise UserError unless the heads are of the gallery's model, projection and width."""
    if heads.model == gallery.info.model and heads.projection != gallery.info.projection:
        raise UserError(f"{gallery.path} has another projection than the gallery of the heads; fit heads on this one")
    if (heads.model, heads.dimension) != (gallery.info.model, gallery.info.dimension):
        raise UserError(
            f"{gallery.path} holds embeddings of {gallery.info.model}, {gallery.info.dimension} numbers each; the heads are of "
            f"{heads.model}, {heads.dimension}; fit heads on a gallery of this model"
        )


def rows_at(gallery: Gallery, positions: np.ndarray) -> np.ndarray:
    """Return the embeddings (n, D) at some positions, of length 1."""
    return unit_rows(compared_rows(gallery, positions, None))


def _labelled(gallery: Gallery, labels: AttributeLabels) -> tuple[np.ndarray, list[str | None]]:
    """Return the positions (n,) of the rows that show labelled people, and their pids."""
    positions = usable_positions(gallery)
    pids = gallery.select(["pid"])["pid"].take(pa.array(positions)).to_pylist()
    kept = np.flatnonzero([bool(labels.people.get(labels.person(pid) or "")) for pid in pids])
    if not len(kept):
        shown = ", ".join(sorted({str(pid) for pid in pids})[:3])
        raise UserError(
            f"{gallery.path}: no row shows a person of {labels.source}; its rows have the pids {shown or 'of nobody'}, the "
            f"labels {', '.join(list(labels.people)[:3])}"
        )
    return positions[kept], [pids[place] for place in kept]


def _check_columns(gallery: Gallery, name: str) -> None:
    """Raise UserError if exactly one of an attribute's two columns is there: it was not written here."""
    there = [column for column in (name, name + PROBABILITY) if column in gallery.columns]
    if len(there) == 1:
        raise UserError(
            f"{gallery.path}: the records have another column {there[0]!r}, which the predictions would replace; rename the "
            "attribute in the labels, and fit again"
        )


def _is_empty(gallery: Gallery, name: str) -> np.ndarray:
    """Return (N,) bool: the rows without a value of an attribute."""
    if name not in gallery.columns:
        return np.ones(gallery.state.count, bool)
    return gallery.select([name])[name].is_null().to_numpy()
