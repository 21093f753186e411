"""The distance that means "the same person": calibrated on one data set, kept in the checkpoint, judged on others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...common.errors import UserError
from ...evaluation import Threshold, ThresholdReport, calibrate, judge
from .feature_file import FeatureSet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """A threshold, the data it was calibrated on, and the embedding it holds for.

    Args:
        embed: the test embedding (`EmbedSettings` as plain types); empty = not known.
        postprocess: what was done to the embeddings (`Postprocess.name`).
    """

    threshold: Threshold
    dataset: str
    embed: dict[str, Any]
    postprocess: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain types, for a checkpoint."""
        return {**self.threshold.to_dict(), "dataset": self.dataset, "embed": self.embed}

    def stored_in(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entries of a checkpoint's metadata that hold this threshold, next to those for other embeddings.

        `threshold` is for embeddings as they are; `thresholds` has those for processed ones, by `postprocess`.
        """
        if not self.postprocess:
            return {"threshold": self.to_dict()}
        return {"thresholds": {**(about.get("thresholds") or {}), self.postprocess: self.to_dict()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Rebuild what `to_dict` wrote; raise as `Threshold.from_dict`."""
        own = {key: value for key, value in values.items() if key not in ("dataset", "embed")}
        return cls(Threshold.from_dict(own), str(values.get("dataset", "unknown data")), dict(values.get("embed", {})))


def calibrate_on(features: FeatureSet, fmr: float) -> Calibration:
    """Return the threshold with a false match rate of `fmr` on the features; re-ranking does not apply."""
    about = features.about
    found = calibrate(features.data, fmr=fmr)
    return Calibration(found, features.dataset, about.get("embed", {}), about.get("postprocess", ""))


def try_to_calibrate(features: FeatureSet, fmr: float) -> Calibration | None:
    """Return the threshold; None, with a warning, for too few validation people, which must not end a training."""
    try:
        return calibrate_on(features, fmr)
    except UserError as error:
        logger.warning("no threshold is stored (TEST.FMR %g on %s): %s", fmr, features.dataset, error)
        return None


def stored_calibration(about: Mapping[str, Any]) -> Calibration | None:
    """Return the stored threshold; None if there is none, or, with a warning, if it is for another embedding.

    A threshold without an entry `embed` is taken to be for the embedding at hand.

    Args:
        about: the metadata of a checkpoint or of a `FeatureSet`: `threshold` and `thresholds`, and `embed` and `postprocess`, the
            embedding at hand.
    """
    name = about.get("postprocess", "")
    values = (about.get("thresholds") or {}).get(name) if name else about.get("threshold")
    if not values:
        return None
    try:
        calibration = replace(Calibration.from_dict(values), postprocess=name)
    except UserError as error:
        logger.warning("the checkpoint's threshold is left aside: %s", error)
        return None
    if calibration.embed and calibration.embed != about.get("embed"):
        logger.warning(
            "the checkpoint's threshold is left aside: it is for the embeddings %s, these are %s",
            *(calibration.embed, about.get("embed")),
        )
        return None
    return calibration


def processed_thresholds(about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the thresholds for processed embeddings by what was done to them, as `Threshold.to_dict`; wrong ones are left aside."""
    found = {name: stored_calibration({**about, "postprocess": name}) for name in about.get("thresholds") or {}}
    return {name: calibration.threshold.to_dict() for name, calibration in found.items() if calibration}


def judge_on(features: FeatureSet, calibration: Calibration) -> ThresholdReport | None:
    """Return the rates of the threshold on the features; None, with a warning, if they have no pairs of one kind."""
    try:
        return judge(calibration.threshold, features.data)
    except UserError as error:
        logger.warning("the checkpoint's threshold is not judged on %s: %s", features.dataset, error)
        return None
