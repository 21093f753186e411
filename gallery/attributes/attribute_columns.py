"""Attributes of the rows of a gallery: heads fitted on labelled rows, tested on others, and predicted into columns."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ...common.errors import UserError
from ..identities.near_rows import BLOCK, unit_rows, usable_positions
from ..storage.gallery import Gallery
from .attribute_heads import AttributeHeads, AttributeScores, fit_head, score
from .attribute_labels import AttributeLabels

logger = logging.getLogger(__name__)
PROBABILITY = "_probability"  # suffix of the column with the probability of the value


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
    heads = []
    for name in names or labels.names:
        values = labels.of(pids, name)
        there = np.array([value is not None for value in values], bool)
        try:
            heads.append(fit_head(name, rows[there], values[there], np.asarray(pids, object)[there], balanced))
        except UserError as error:
            logger.warning("left out: %s", error)
    if not heads:
        raise UserError(f"{labels.source}: no attribute has enough people in {gallery.path}; label more people")
    return AttributeHeads(gallery.info.model, gallery.info.dimension, tuple(heads))


def test_attributes(gallery: Gallery, heads: AttributeHeads, labels: AttributeLabels) -> dict[str, AttributeScores]:
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
    return scores


test_attributes.__test__ = False  # type: ignore[attr-defined]  # no test of pytest


def predict_attributes(gallery: Gallery, heads: AttributeHeads, again: bool = False) -> int:
    """Write the value of each attribute, and its probability, into columns; return the number of rows written.

    Args:
        again: also rows that have values.
    Raises:
        UserError: the heads are of another model, or a column of that name was not written here.
    """
    check_model(gallery, heads)
    with gallery.writing():
        for head in heads.heads:
            _check_columns(gallery, head.name)
        positions = usable_positions(gallery)
        if not again:
            positions = positions[_is_empty(gallery, [head.name for head in heads.heads])[positions]]
        values: dict[str, pa.Array] = {}
        rows = rows_at(gallery, positions)
        for head in heads.heads:
            texts, probabilities = head.predict(rows)
            values[head.name] = pa.array(texts.tolist(), pa.string())
            values[head.name + PROBABILITY] = pa.array(probabilities.astype(np.float64), pa.float64())
        if len(positions):
            gallery.set_values(gallery.ids[positions], values)
    return len(positions)


def check_model(gallery: Gallery, heads: AttributeHeads) -> None:
    """Raise UserError unless the heads are of the gallery's model and width."""
    if (heads.model, heads.dimension) != (gallery.info.model, gallery.info.dimension):
        raise UserError(
            f"{gallery.path} holds embeddings of {gallery.info.model}, {gallery.info.dimension} numbers each; the heads are of "
            f"{heads.model}, {heads.dimension}; fit heads on a gallery of this model"
        )


def rows_at(gallery: Gallery, positions: np.ndarray) -> np.ndarray:
    """Return the embeddings (n, D) at some positions, of length 1."""
    rows = np.empty((len(positions), gallery.info.dimension), np.float32)
    for start in range(0, len(positions), BLOCK):
        rows[start : start + BLOCK] = unit_rows(gallery.vectors(positions[start : start + BLOCK]))
    return rows


def _labelled(gallery: Gallery, labels: AttributeLabels) -> tuple[np.ndarray, list[str | None]]:
    """Return the positions (n,) of the rows that show labelled people, and their pids."""
    positions = usable_positions(gallery)
    pids = gallery.select(["pid"])["pid"].take(pa.array(positions)).to_pylist()
    known = [
        any(value is not None for value in values) for values in zip(*(labels.of(pids, one) for one in labels.names))
    ]
    kept = np.flatnonzero(known)
    if not len(kept):
        shown = ", ".join(sorted({str(pid) for pid in pids})[:3])
        raise UserError(
            f"{gallery.path}: no row shows a person of {labels.source}; its rows have the pids {shown or 'of nobody'}, the "
            f"labels {', '.join(list(labels.people)[:3])}"
        )
    return positions[kept], [pids[place] for place in kept]


def _check_columns(gallery: Gallery, name: str) -> None:
    if name in gallery.columns and name + PROBABILITY not in gallery.columns:
        raise UserError(
            f"{gallery.path}: the records have another column {name!r}, which the predictions would replace; rename the "
            "attribute in the labels, and fit again"
        )


def _is_empty(gallery: Gallery, names: Sequence[str]) -> np.ndarray:
    """Return (N,) bool: the rows without a value of an attribute."""
    if any(name not in gallery.columns for name in names):
        return np.ones(gallery.state.count, bool)
    table = gallery.select(list(names))
    return np.any([table[name].is_null().to_numpy() for name in names], axis=0)
