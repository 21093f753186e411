"""Result of a search: the closest records, their distances, and the decision by the threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ...common.errors import UserError
from ...common.text import plain_values
from ...labels.match_probability import MatchProbability
from ..storage.metadata import GalleryInfo
from .sightings import span

SAME, DIFFERENT, UNKNOWN, MATCH = "same", "different", "unknown", "match"


class GalleryChangedError(RuntimeError):
    """Rows found by a search were removed before they were read."""

    def __str__(self) -> str:
        """Return the message."""
        return "the gallery was rewritten since this search; search again"


@dataclass(frozen=True)
class Verdict:
    """Decision whether two crops show one person.

    Args:
        answer: "same", "different", or "unknown" without a threshold.
        distance: distance between the two.
        threshold: largest distance of the same person; None = not calibrated.
        probability: of one person, if both answers were equally likely before; None = not calibrated.
    """

    answer: str
    distance: float
    threshold: float | None
    probability: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; without a probability its key is left out."""
        return {key: value for key, value in asdict(self).items() if key != "probability" or value is not None}


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The k records closest to one query, best first.

    Args:
        ids: (k,) int64 ids in the gallery.
        distances: (k,) float32 by the gallery's metric, also after re-ranking; ascending unless re-ranked.
        threshold: largest distance of the same person; None = not calibrated.
        scores: (k,) float32 ascending distances of the re-ranking; None = not re-ranked.
        look_up: reads the k records; called once, on first use.
        nearest: smallest distance among all re-ranked candidates, possibly of a row outside the top k; None = take it from the k.
        probabilities: (k,) that the record shows the query's person, by its distance; None = not calibrated.
    """

    ids: np.ndarray
    distances: np.ndarray
    threshold: float | None = None
    scores: np.ndarray | None = None
    look_up: Callable[[], list[dict[str, Any]]] = field(default=list, repr=False)
    nearest: float | None = None
    probabilities: np.ndarray | None = None

    def __len__(self) -> int:
        """Return k; below the requested number if fewer records pass the filters."""
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields for another process, with the records instead of the gallery that they are read from."""
        return {**self.__dict__, "rows": self.rows, "look_up": list}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The k records (path, pid, camera, …), read on first use.

        Raises:
            GalleryChangedError: some of them were removed.
        """
        try:
            rows = self.look_up()
        except (KeyError, IndexError) as error:  # the id is gone; or, after `compact`, the gallery has fewer rows
            raise GalleryChangedError from error
        if [row["id"] for row in rows] != self.ids.tolist():
            raise GalleryChangedError
        return rows

    @property
    def is_match(self) -> np.ndarray | None:
        """(k,) bool: within the threshold; None without a threshold."""
        return None if self.threshold is None else _within(self.distances, self.threshold)

    @property
    def verdict(self) -> str | None:
        """Return "match" if a record is within the threshold, "unknown" if none is, None without a threshold.

        After re-ranking the matching record may be outside the top k: see `is_cut`.
        """
        if self.is_match is None:
            return None
        return MATCH if self.is_match.any() or self.is_cut else UNKNOWN

    @property
    def is_cut(self) -> bool:
        """Whether records are within the threshold, but re-ranking moved all of them out of the top k."""
        if self.threshold is None or self.nearest is None or (self.is_match is not None and self.is_match.any()):
            return False
        return bool(_within(np.float32(self.nearest), self.threshold))

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON types."""
        columns: dict[str, Any] = {"id": self.ids.tolist(), "distance": self.distances.tolist()}
        columns["is_match"] = [None] * len(self) if self.is_match is None else self.is_match.tolist()
        if self.probabilities is not None:
            columns["probability"] = self.probabilities.tolist()
        if self.scores is not None:
            columns["score"] = self.scores.tolist()
        if any(row.get("end_time") is not None for row in self.rows):
            spans = [span(row) or (None, None) for row in self.rows]
            columns["from"], columns["to"] = (plain_values(list(times)) for times in zip(*spans, strict=True))
        columns["record"] = [
            plain_values({key: value for key, value in row.items() if key != "id"}) for row in self.rows
        ]
        found = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return {"verdict": self.verdict, "threshold": self.threshold, "results": found}


def limit_of(info: GalleryInfo) -> float | None:
    """Return the largest distance of the same person, None if the gallery has no threshold.

    Raises:
        ValueError: the threshold is damaged, or belongs to another metric than the gallery's.
    """
    found = info.limit
    if found is None:
        return None
    if not isinstance(found, dict):  # gallery.json may have been edited
        raise UserError(f"threshold: must be a dictionary of distance and metric, got {found!r}; calibrate again")
    distance, metric = (found.get(name) for name in ("distance", "metric"))
    if metric != info.metric:
        raise UserError(
            f"threshold: measured by the {metric} distance, but the gallery's metric is {info.metric}; "
            f"calibrate again with metric={info.metric!r}"
        )
    if isinstance(distance, bool) or not isinstance(distance, int | float) or not math.isfinite(distance):
        raise UserError(f"threshold: the distance must be a finite number, got {distance!r}; calibrate again")
    return float(distance)


def probability_of(info: GalleryInfo) -> MatchProbability | None:
    """Return the probability of one person by distance, None if the gallery's threshold has none; raise as `limit_of`."""
    if limit_of(info) is None or not info.limit.get("probability"):
        return None
    return MatchProbability.from_dict(info.limit["probability"])


def _within(distances: Any, limit: float) -> Any:
    """Return whether float32 distances are at most `limit`, which may lie between two float32 numbers."""
    return np.asarray(distances, np.float64) <= limit


def compare(a: np.ndarray, b: np.ndarray, info: GalleryInfo) -> Verdict:
    """Compare two embeddings, (D,) or (1, D) each, by the gallery's metric and threshold.

    Raises:
        ValueError: one is not a single embedding, holds NaN, or the sizes differ.
    """
    left, right = (_single(name, vector) for name, vector in (("a", a), ("b", b)))
    if left.shape != right.shape:
        raise UserError(f"same_person: a has {len(left)} values and b {len(right)}; both must come from one model")
    distance, limit = float(pair_distances(left[None], right[None], info.metric)[0]), limit_of(info)
    if limit is None:
        return Verdict(UNKNOWN, distance, None)
    curve = probability_of(info)
    return Verdict(SAME if distance <= limit else DIFFERENT, distance, limit, float(curve(distance)) if curve else None)


def pair_distances(left: np.ndarray, right: np.ndarray, metric: str) -> np.ndarray:
    """Return the float32 distances (P,) between `left` (P, D) and `right` (P, D), computed in float64: equal pairs get equal distances.

    1 - cos is computed as half the squared distance of the unit vectors, which is accurate for nearly equal vectors.
    """
    left, right = left.astype(np.float64), right.astype(np.float64)
    if metric == "euclidean":
        return np.sqrt(np.square(left - right).sum(1)).astype(np.float32)
    lengths = [np.linalg.norm(side, axis=1) for side in (left, right)]
    for side, length in zip((left, right), lengths, strict=True):
        side /= np.where(length > 0, length, 1)[:, None]
    halves = np.square(left - right).sum(1) / 2
    return np.where(np.minimum(*lengths) > 0, halves, 1).astype(np.float32)  # zero vectors have distance 1 to all


def _single(name: str, vector: np.ndarray) -> np.ndarray:
    array = np.asarray(vector, np.float32)
    if array.ndim == 2 and len(array) == 1:
        array = array[0]
    if array.ndim != 1 or not np.isfinite(array).all():
        raise UserError(f"same_person: {name} must be one embedding without NaN, got shape {array.shape}")
    return array
