"""The distance that means "the same person": calibrated on one data set, kept in the checkpoint, judged on others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...evaluation import Threshold, ThresholdReport, calibrate, judge
from .feature_file import FeatureSet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """A threshold and where it holds.

    Args:
        threshold: the distance and its rates.
        dataset: what it was calibrated on.
        embed: the test embedding whose distances were measured (`EmbedSettings` as plain types).
    """

    threshold: Threshold
    dataset: str
    embed: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain types, for a checkpoint."""
        return {**self.threshold.to_dict(), "dataset": self.dataset, "embed": self.embed}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Rebuild what `to_dict` wrote.

        Raises:
            ValueError: the values are no threshold's.
        """
        own = {key: value for key, value in values.items() if key not in ("dataset", "embed")}
        return cls(Threshold.from_dict(own), str(values.get("dataset", "unknown data")), dict(values.get("embed", {})))


def calibrate_on(features: FeatureSet, fmr: float) -> Calibration:
    """Return the threshold with a false-match rate of `fmr` on the features, which are compared as they are, not re-ranked.

    Raises:
        ValueError: there are too few pairs of different people to tell.
    """
    threshold = calibrate(*features.arrays, fmr=fmr, protocol=features.protocol)
    return Calibration(threshold, features.dataset, features.about.get("embed", {}))


def try_to_calibrate(features: FeatureSet, fmr: float) -> Calibration | None:
    """Return the threshold, or None with a warning: too few validation people must not end hours of training."""
    try:
        return calibrate_on(features, fmr)
    except ValueError as error:
        logger.warning("no threshold is stored (TEST.FMR %g on %s): %s", fmr, features.dataset, error)
        return None


def stored_calibration(features: FeatureSet) -> Calibration | None:
    """Return the threshold of the model that made the features, or None, with the reason in the log if it does not apply."""
    if not features.about.get("threshold"):
        return None
    try:
        calibration = Calibration.from_dict(features.about["threshold"])
    except ValueError as error:
        logger.warning("the checkpoint's threshold is left aside: %s", error)
        return None
    if calibration.embed != features.about.get("embed"):
        logger.warning(
            "the checkpoint's threshold is left aside: it is for the embeddings %s, these are %s",
            calibration.embed,
            features.about.get("embed"),
        )
        return None
    return calibration


def judge_on(features: FeatureSet, calibration: Calibration) -> ThresholdReport | None:
    """Return what the threshold does on the features, or None, with a warning, if they have no pairs to tell."""
    try:
        return judge(calibration.threshold, *features.arrays, protocol=features.protocol)
    except ValueError as error:
        logger.warning("the checkpoint's threshold is not judged on %s: %s", features.dataset, error)
        return None
