"""Known people: enrolled with some good crops each; a new crop or track shows one of them, somebody new, or is a question."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from ...common.errors import UserError
from ..maintenance.tracklets import diverse
from ..storage.camera_statistics import CameraNorm
from ..storage.gallery import Gallery
from .decisions.decided_people import confirmed_rows, enrolled_rows
from .near_rows import AUTO, camera_norm_of, compared_rows, unit_rows, usable_positions
from .person_columns import FIT, is_none, read_people

KNOWN, NEW, ASK = "known", "new", "ask"
QUALITIES = ("quality", "size", "sharpness", "inside", "visible")  # columns of the records, 0 to 1
COHORT = 5  # next best people, whose scores a score is compared with
FEWEST = 20  # scores of either kind that a decision is calibrated on


@dataclass(frozen=True)
class EnrolmentOptions:
    """Who becomes known, and by which crops.

    Args:
        least: good crops that a person needs.
        templates: most crops kept of a person: those that differ most.
        quality: least values of the columns QUALITIES; rows without the column pass.
        least_fit: least silhouette of a row in its person.
        confirmed: only rows that somebody has confirmed, or decided about.
        expire_after: seconds before `now`; older rows do not count. None = no limit.
        now: seconds since 1970; None = the time of the newest row.
        cohort: scores are compared with those of so many next best people, if there are as many; 0 = not.
    Raises:
        UserError: a number is out of range, or a quality unknown.
    """

    least: int = 3
    templates: int = 8
    quality: tuple[tuple[str, float], ...] = (("quality", 0.1),)
    least_fit: float = -1.0
    confirmed: bool = False
    expire_after: float | None = None
    now: float | None = None
    cohort: int = COHORT

    def __post_init__(self) -> None:
        for name in ("least", "templates"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name}: 1 or more crops, got {getattr(self, name)}")
        if self.expire_after is not None and not self.expire_after > 0:
            raise UserError(f"--expire-after: seconds above 0, got {self.expire_after}")
        for name, value in self.quality:
            if name not in QUALITIES or not 0 <= value <= 1:
                raise UserError(f"quality: {name}={value}; give one of {', '.join(QUALITIES)} and a number from 0 to 1")


@dataclass(frozen=True)
class Identification:
    """What a crop or track shows.

    Args:
        verdict: "known", "new" or "ask".
        person: the most similar known person; None if nobody is known.
        probability: that it is this person, if known and new people are equally frequent; NaN = not calibrated.
        score: of this person.
        next_person: the second.
        reason: why it asks; "" otherwise.
    """

    verdict: str
    person: str | None
    probability: float
    score: float
    next_person: str | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class EnrolmentScores:
    """Scores of the enrolled people's other rows, (n,) each, ascending.

    Args:
        own: of the right person, where it is the best; -inf where another is.
        others: of the best other person, as if the right one were unknown.
    """

    own: np.ndarray
    others: np.ndarray

    def known_above(self, far: float) -> float:
        """Return the score that a share `far` of the rows of unknown people exceeds."""
        return float(np.quantile(self.others, 1 - far, method="higher")) if len(self.others) >= FEWEST else np.inf

    def new_below(self, miss: float) -> float:
        """Return the score that a share `miss` of the rows of known people stays below."""
        return float(np.quantile(self.own, miss, method="lower")) if len(self.own) >= FEWEST else -np.inf

    def probability(self, score: float) -> float:
        """Return the probability of the person for a score, from a logistic curve; NaN with too few scores."""
        own = self.own[np.isfinite(self.own)]
        if min(len(own), len(self.others)) < FEWEST:
            return float("nan")
        values = np.concatenate([own, self.others])
        middle, spread = values.mean(), max(values.std(), 1e-6)
        labels = np.repeat([1, 0], [len(own), len(self.others)])
        curve = LogisticRegression(C=100, class_weight="balanced").fit(((values - middle) / spread)[:, None], labels)
        return float(curve.predict_proba([[(score - middle) / spread]])[0, 1])


@dataclass(frozen=True, eq=False)
class KnownPeople:
    """Templates of known people, and the scores that decisions rest on.

    Args:
        names: (P,) people.
        templates: (T, D) unit-length rows as they are compared.
        means: (P, D) unit-length mean of each person's rows.
        owners: (T,) position of each template's person in `names`.
        ids: (T,) rows of the gallery that the templates are.
        calibration: from the enrolled people's other rows.
        cohort: as for EnrolmentOptions.
        norm: of the cameras of queries, None = none.
    """

    names: tuple[str, ...]
    templates: np.ndarray
    means: np.ndarray
    owners: np.ndarray
    ids: np.ndarray
    calibration: EnrolmentScores
    cohort: int = COHORT
    norm: CameraNorm | None = None

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Return the score (P,) of each person for the crops (n, D) of one track, averaged over the crops.

        A crop's score is the mean of its cosines with the most similar template and with the person's mean.
        """
        rows = unit_rows(rows)
        best = np.full((len(self.names), len(rows)), -np.inf, np.float32)
        np.maximum.at(best, self.owners, self.templates @ rows.T)
        return (best.mean(1) + self.means @ rows.mean(0)) / 2

    def identify(
        self,
        rows: np.ndarray,
        cameras: Sequence[str | None] | None = None,
        *,
        far: float = 0.01,
        miss: float = 0.05,
        ask: float = 0.1,
        usable: bool = True,
    ) -> Identification:
        """Return what the crops (n, D) of one person show.

        Args:
            rows: embeddings of the gallery's model: one crop, or those of a track.
            cameras: (n,) which a gallery normalised by camera needs.
            far: share of new people that may be called known.
            miss: share of known people that may be called new, if they look as in the enrolled crops.
            ask: share of new people for whom it asks at least: later crops of known people score lower than enrolled ones.
            usable: False if no crop passes the quality gate; then it asks.
        Raises:
            UserError: the rows have another width, or a camera is missing.
        """
        rows = np.atleast_2d(np.asarray(rows, np.float32))
        if self.templates.size and rows.shape[1] != self.templates.shape[1]:
            raise UserError(
                f"identify: rows of {rows.shape[1]} values, the known people have {self.templates.shape[1]}"
            )
        if self.norm is not None:
            rows = self.norm.queries(rows, list(cameras or [None] * len(rows)))
        if not self.names:
            return Identification(NEW, None, 0.0, -np.inf, None)
        scores = self.scores(rows)
        order = np.argsort(-scores, kind="stable")[:2]
        score = best_margin(scores, self.cohort)
        best, second = self.names[order[0]], self.names[order[1]] if len(order) > 1 else None
        verdict, reason = self._verdict(score, far, miss, ask, usable)
        return Identification(verdict, best, self.calibration.probability(score), score, second, reason)

    def _verdict(self, score: float, far: float, miss: float, ask: float, usable: bool) -> tuple[str, str]:
        if not usable:
            return ASK, "no crop is good enough"
        upper, lower = self.calibration.known_above(far), self.calibration.new_below(miss)
        if not np.isfinite(upper) or not np.isfinite(lower):
            return ASK, f"too few enrolled crops to decide: {FEWEST} and more besides the templates are needed"
        if score > upper:
            return KNOWN, ""
        if score < min(lower, self.calibration.known_above(max(ask, far))):
            return NEW, ""
        return ASK, "between a known person and a new one"


def best_margin(scores: np.ndarray, cohort: int = COHORT) -> float:
    """Return the best of the scores (P,) less the mean of the next `cohort` ones; as it is if `cohort` is 0.

    A crop that resembles everybody gets high scores from all; the next best people show how high (cohort normalisation, as
    in speaker verification: Matějka et al., Interspeech 2017, without the spread, which few people give badly).
    """
    ordered = -np.sort(-scores)
    others = ordered[1 : cohort + 1]
    return float(ordered[0] - others.mean()) if len(others) else float(ordered[0])


def enrol(gallery: Gallery, options: EnrolmentOptions = EnrolmentOptions(), camera_norm: str = AUTO) -> KnownPeople:
    """Return the people of a gallery (column `person`) that have enough good crops, and those who were enrolled from images.

    Args:
        camera_norm: as for `camera_norm_of`.
    """
    positions = usable_positions(gallery)
    live = np.searchsorted(np.flatnonzero(gallery.is_live), positions)
    people = read_people(gallery)
    good = _good(gallery, positions, options) & ~is_none(people.names[live])
    if options.confirmed:
        good &= confirmed_rows(gallery, people)[live]
    at_once = set(people.names[live][good & enrolled_rows(gallery)[live]].tolist())
    positions, names = positions[good], people.names[live][good].astype(str)
    norm = camera_norm_of(gallery, camera_norm)
    rows = unit_rows(compared_rows(gallery, positions, norm))
    return enrolled(rows, names, gallery.ids[positions], options, norm, at_once)


def enrolled(
    rows: np.ndarray,
    people: np.ndarray,
    ids: np.ndarray | None = None,
    options: EnrolmentOptions = EnrolmentOptions(),
    norm: CameraNorm | None = None,
    at_once: Collection[str] = (),
) -> KnownPeople:
    """Return the people of good, unit-length rows (N, D) with their names (N,).

    Args:
        at_once: people who are known with any number of crops.
    """
    ids = np.arange(len(rows)) if ids is None else ids
    names, owner, counts = np.unique(people, return_inverse=True, return_counts=True)
    kept = np.flatnonzero((counts >= options.least) | np.isin(names, list(at_once)))
    chosen: list[np.ndarray] = []
    for person in kept:
        own = np.flatnonzero(owner == person)
        middle = own[np.argsort(-(rows[own] @ rows[own].mean(0)), kind="stable")]  # the most typical first
        chosen.append(middle[diverse(rows[middle], options.templates)])
    places = np.concatenate([np.empty(0, np.int64), *chosen]).astype(np.int64)
    owners = np.repeat(np.arange(len(kept)), [len(some) for some in chosen]).astype(np.int64)
    cohort = options.cohort if len(kept) > options.cohort + 1 else 0  # with and without the right person
    sums = np.stack([rows[owner == person].sum(0) for person in kept]) if len(kept) else rows[:0]
    nothing = EnrolmentScores(np.empty(0), np.empty(0))
    made = KnownPeople(
        tuple(names[kept].tolist()), rows[places], unit_rows(sums), owners, ids[places], nothing, cohort, norm
    )
    rest = np.setdiff1d(np.flatnonzero(np.isin(owner, kept)), places)
    return replace(made, calibration=_calibration(made, sums, rows[rest], np.searchsorted(kept, owner[rest])))


def _calibration(known: KnownPeople, sums: np.ndarray, rows: np.ndarray, owners: np.ndarray) -> EnrolmentScores:
    """Return the scores of rows (n, D) of known people that are no templates, with and without the right person.

    Args:
        sums: (P, D) of the rows of each person; a row does not count for its own mean.
        owners: (n,) person of each row.
    """
    if len(known.names) < 2:
        return known.calibration
    own, others = [], []
    for row, owner in zip(rows, owners.tolist(), strict=True):
        scores = known.scores(row[None])
        others.append(best_margin(np.delete(scores, owner), known.cohort))
        scores[owner] += (unit_rows((sums[owner] - row)[None])[0] - known.means[owner]) @ row / 2
        own.append(best_margin(scores, known.cohort) if scores.argmax() == owner else -np.inf)
    return EnrolmentScores(np.sort(own), np.sort(others))


def _good(gallery: Gallery, positions: np.ndarray, options: EnrolmentOptions) -> np.ndarray:
    """Return (n,) bool: the rows that pass the quality gate and are not too old."""
    limits: dict[str, float] = {**dict(options.quality), FIT: options.least_fit}
    names = [name for name in (*limits, "time") if name in gallery.columns]
    table = gallery.select(names).take(positions) if names else None
    values: dict[str, Any] = {
        name: table[name].cast("double").to_numpy(zero_copy_only=False) for name in names if table is not None
    }
    good = np.ones(len(positions), bool)
    for name in (name for name in names if name != "time"):
        good &= ~(values[name] < limits[name])  # unknown passes
    if options.expire_after is not None and "time" in values and len(positions):
        now = np.nanmax(values["time"]) if options.now is None else options.now
        good &= ~(values["time"] < now - options.expire_after)
    return good
