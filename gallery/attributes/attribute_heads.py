"""Linear heads that predict attributes from embeddings: one multinomial logistic regression for each attribute.

The regularisation is chosen, and the probabilities are calibrated, on people that a head was not fitted on. They say what to expect
of new people, which other images of the same people do not.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.inputs.archives import read_arrays
from .attribute_labels import MOST_ATTRIBUTES, check_name

logger = logging.getLogger(__name__)
FOLDS, LEAST_PEOPLE = 3, 6  # groups of people; people that a value of an attribute needs
STRENGTHS = (0.001, 0.01, 0.1)  # C of scikit-learn, for features of spread 1
TEMPERATURES = (0.05, 20.0)
MOST_HEADS, MOST_VALUES = MOST_ATTRIBUTES, 1000
LARGEST = 1e9  # of weights; those of rows of length 1 are far smaller
_FORMAT = 1


@dataclass(frozen=True)
class AttributeScores:
    """How well values were predicted.

    Args:
        rows: number of embeddings.
        accuracy: share that is right.
        balanced: mean over the values of the share that is right.
        commonest: share of the commonest value, which a guess without looking reaches.
    """

    rows: int
    accuracy: float
    balanced: float
    commonest: float


@dataclass(frozen=True, eq=False)
class AttributeHead:
    """A linear head of one attribute.

    Args:
        name: of the attribute.
        values: V texts.
        weights: (V, D) float32; bias: (V,) float32: of the logits.
        temperature: that the logits are divided by [Guo et al., ICML 2017].
        scores: on people that it was not fitted on.
    """

    name: str
    values: tuple[str, ...]
    weights: np.ndarray
    bias: np.ndarray
    temperature: float
    scores: AttributeScores

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        """Return (n, V) probabilities of the values for embeddings (n, D)."""
        return softmax((rows @ self.weights.T + self.bias) / self.temperature, axis=1)

    def predict(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the most probable values, (n,) texts, and their probabilities (n,), for embeddings (n, D)."""
        found = self.probabilities(rows)
        return np.array(self.values, object)[found.argmax(1)], found.max(1)


@dataclass(frozen=True, eq=False)
class AttributeHeads:
    """The heads for embeddings of one model.

    Args:
        model: fingerprint of the model, as in a gallery's description.
        projection: that of the gallery's projection, None = none.
        dimension: D.
        heads: one for each attribute.
    """

    model: str
    projection: str | None
    dimension: int
    heads: tuple[AttributeHead, ...]

    def save(self, path: str | Path) -> None:
        """Write a .npz file, atomically."""
        about = [
            {
                "name": head.name,
                "values": head.values,
                "temperature": head.temperature,
                "scores": asdict(head.scores),
            }
            for head in self.heads
        ]
        text = json.dumps(
            {
                "format": _FORMAT,
                "model": self.model,
                "projection": self.projection,
                "dimension": self.dimension,
                "heads": about,
            }
        )
        arrays = {f"weights {number}": head.weights for number, head in enumerate(self.heads)}
        arrays |= {f"bias {number}": head.bias for number, head in enumerate(self.heads)}
        arrays["about"] = np.frombuffer(text.encode(), np.uint8)

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]

        write_atomically(path, write)

    @classmethod
    def load(cls, path: str | Path) -> AttributeHeads:
        """Read the file.

        Raises:
            FileNotFoundError: there is no such file.
            UserError: it is damaged, or not of attributes; names it.
        """
        arrays = read_arrays(path)
        try:
            about = json.loads(arrays["about"].tobytes())
            if about["format"] != _FORMAT:
                raise ValueError(f"format {about['format']!r}")
            dimension, heads, projection = int(about["dimension"]), about["heads"], about["projection"]
            if not 1 <= len(heads) <= MOST_HEADS or not isinstance(projection, (str, type(None))):
                raise ValueError(f"{len(heads)} heads, projection {projection!r:.40}")
            found = tuple(_head_of(one, arrays, number, dimension) for number, one in enumerate(heads))
            for head in found:
                check_name(head.name, str(path))
            return cls(str(about["model"]), projection, dimension, found)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise UserError(
                f"{path} is damaged, or not written by vitreid attributes fit ({error!r:.100}); fit again"
            ) from error


def _head_of(about: dict, arrays: dict[str, np.ndarray], number: int, dimension: int) -> AttributeHead:
    values = tuple(about["values"])
    if not 2 <= len(values) <= MOST_VALUES or not all(isinstance(value, str) for value in (about["name"], *values)):
        raise ValueError(f"values {values!r:.100}")
    weights, bias = arrays[f"weights {number}"], arrays[f"bias {number}"]
    if weights.shape != (len(values), dimension) or bias.shape != (len(values),):
        raise ValueError(f"weights {weights.shape} for {len(values)} values of {dimension} numbers")
    if weights.dtype.kind + bias.dtype.kind != "ff" or not (np.abs(weights).max() < LARGEST > np.abs(bias).max()):
        raise ValueError("weights that are no numbers of a head")
    temperature = float(about["temperature"])
    if not TEMPERATURES[0] <= temperature <= TEMPERATURES[1]:
        raise ValueError(f"temperature {temperature}")
    if len(set(values)) < len(values):
        raise ValueError("a value stands there twice")
    rows, *shares = (about["scores"][one.name] for one in fields(AttributeScores))
    return AttributeHead(
        about["name"], values, weights, bias, temperature, AttributeScores(int(rows), *map(float, shares))
    )


def fit_head(
    name: str, rows: np.ndarray, values: Sequence[str], people: Sequence[str], balanced: bool = False
) -> AttributeHead:
    """Fit the head of one attribute; values that fewer than LEAST_PEOPLE people have are left out and logged.

    Args:
        rows: (n, D) embeddings, of one length.
        values: (n,) of the attribute; people: (n,) whom the rows show.
        balanced: all values weigh the same, however rare: rare ones are found more often, and more rows get a wrong one.
    Raises:
        UserError: fewer than two values are left, or more than MOST_VALUES.
    """
    all_values, all_people = np.asarray(values, str), np.asarray(people, str)
    kept = _common_enough(name, all_values, all_people)
    rows = rows[kept]
    names, labels = np.unique(all_values[kept], return_inverse=True)
    owners = np.unique(all_people[kept], return_inverse=True)[1]
    if not 2 <= len(names) <= MOST_VALUES:
        raise UserError(
            f"{name}: {len(names)} values of {LEAST_PEOPLE} people or more; a head takes 2 to {MOST_VALUES}, so label more people, or "
            "fewer values"
        )
    middle, spread = rows.mean(0), np.maximum(rows.std(0), 1e-6)
    features = (rows - middle) / spread
    logits = {strength: _held_out(features, labels, owners, strength, balanced) for strength in STRENGTHS}
    fits = {strength: _temperature(found, labels) for strength, found in logits.items()}
    strength = min(fits, key=lambda one: fits[one][1])
    model = _regression(strength, balanced).fit(features, labels)
    weights, bias = _all_values(model, len(names))
    weights = weights / spread
    return AttributeHead(
        name,
        tuple(names.tolist()),
        weights.astype(np.float32),
        (bias - weights @ middle).astype(np.float32),
        fits[strength][0],
        score(names[logits[strength].argmax(1)], names[labels]),
    )


def _common_enough(name: str, values: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Return (n,) bool: the rows whose value LEAST_PEOPLE people or more have."""
    kept = np.ones(len(values), bool)
    for value in np.unique(values).tolist():
        count = len(np.unique(people[values == value]))
        if count < LEAST_PEOPLE:
            logger.warning("%s %s: %d people, a head needs %d; left out", name, value, count, LEAST_PEOPLE)
            kept &= values != value
    return kept


def _regression(strength: float, balanced: bool) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=300, tol=1e-3, class_weight="balanced" if balanced else None)


def _all_values(model: LogisticRegression, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (V, D) and bias (V,) of a regression; values that it has not seen are never predicted."""
    weights, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn keeps the second one only
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    whole, offsets = np.zeros((count, weights.shape[1])), np.full(count, -1e3)
    whole[model.classes_], offsets[model.classes_] = weights, bias
    return whole, offsets


def _held_out(
    features: np.ndarray, labels: np.ndarray, owners: np.ndarray, strength: float, balanced: bool
) -> np.ndarray:
    """Return the logits (n, V) of each row, by a head that has not seen its person."""
    logits = np.empty((len(features), int(labels.max()) + 1))
    for seen, unseen in StratifiedGroupKFold(FOLDS).split(features, labels, owners):
        model = _regression(strength, balanced).fit(features[seen], labels[seen])
        weights, bias = _all_values(model, logits.shape[1])
        logits[unseen] = features[unseen] @ weights.T + bias
    return logits


def _temperature(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return the temperature with the least negative log-likelihood per row, and that."""

    def loss(logarithm: float) -> float:
        found = log_softmax(logits / np.exp(logarithm), axis=1)
        return float(-np.maximum(found[np.arange(len(labels)), labels], -50).mean())

    best = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.clip(np.exp(best.x), *TEMPERATURES)), float(best.fun)


def score(found: np.ndarray, values: np.ndarray) -> AttributeScores:
    """Compare predicted values (n,) with the true ones (n,)."""
    found, values = np.asarray(found, str), np.asarray(values, str)
    counts = np.unique(values, return_counts=True)[1]
    recalls = [float((found[values == value] == value).mean()) for value in np.unique(values)]
    return AttributeScores(
        len(values), float((found == values).mean()), float(np.mean(recalls)), float(counts.max() / counts.sum())
    )
