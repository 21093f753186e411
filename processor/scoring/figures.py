"""Embeddings of a test set -> all figures that the options ask for, as one report."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ...common.errors import UserError, choose
from ...common.text import plain_values
from ...evaluation import (
    CameraPairs,
    RetrievalData,
    RetrievalResult,
    ThresholdReport,
    bootstrap,
    camera_pairs,
    evaluate_open_set,
    verify,
)
from ...evaluation.postprocess.fusion import WAYS
from ...labels.setting import Setting
from .feature_file import FeatureSet
from .reranking import Rerank, rank, rank_further
from .thresholds import Calibration, calibrate_on, judge_on, stored_calibration

Interval = tuple[float, float]


@dataclass(frozen=True)
class ScoreOptions:
    """The figures to compute in addition to CMC, mAP and mINP.

    Args:
        cameras: mAP and Rank-1 of every pair of cameras.
        confidence: 95% intervals over resampled people.
        verification: ROC figures of single comparisons, and the open-set figures.
        calibrate: false match rate of a new threshold; None = no new threshold.
        fuse: how several files of features are ranked together, a key of `evaluation`'s WAYS; None = each on its own.
    Raises:
        ValueError: the rate is out of range.
    """

    cameras: bool = False
    confidence: bool = False
    verification: bool = False
    calibrate: float | None = None
    fuse: str | None = None

    def __post_init__(self) -> None:
        if self.fuse is not None:
            choose("--fuse", self.fuse, WAYS)
        if self.calibrate is not None and not 0 < self.calibrate <= 0.5:
            raise UserError(
                f"--calibrate: a false-match rate above 0 and up to 0.5, e.g. 0.001 for one in a thousand, got {self.calibrate}"
            )


@dataclass(frozen=True)
class ScoreReport:
    """The figures of one test set; None where the options do not ask for them. Fractions 0-1.

    Args:
        dataset, protocol: name of the test set, and its protocol.
        embed: the test embedding (`EmbedSettings` as plain types).
        retrieval: CMC, mAP, mINP, re-ranked if asked for. All other figures use the distances without re-ranking, and the whole
            gallery where it is drawn.
        camera_names: name of each camid.
        confidence: (low, high) of each figure of `retrieval`.
        cameras: figures of every pair of cameras.
        open_set: DIR@FAR by name.
        calibration: the checkpoint's threshold, or the new one; None if there is neither.
        judged: the rates of the checkpoint's threshold on this test set.
        postprocess: what was done to the embeddings before all comparisons, "" = nothing.
        setting: what `retrieval` is about: queries, gallery, junk.
        further: CMC, mAP, mINP of the data set's other settings, by name.
    """

    dataset: str
    protocol: str
    embed: dict[str, Any]
    num_gallery: int
    retrieval: RetrievalResult
    camera_names: tuple[str, ...]
    confidence: dict[str, Interval] | None = None
    cameras: CameraPairs | None = None
    verification: dict[str, float] | None = None
    open_set: dict[str, float] | None = None
    calibration: Calibration | None = None
    judged: ThresholdReport | None = None
    postprocess: str = ""
    setting: Setting = field(default_factory=Setting)
    further: dict[str, RetrievalResult] = field(default_factory=dict)

    def numbers(self) -> dict[str, Any]:
        """Return the figures in JSON types, NaN as None; figures that are None are left out."""
        found = {
            "confidence": self.confidence,
            "cameras": self.cameras and camera_rows(self.cameras, self.camera_names),
            "verification": self.verification,
            "open_set": self.open_set,
            "threshold": self.calibration and self.calibration.to_dict(),
            "threshold_here": self.judged and asdict(self.judged),
            "postprocess": self.postprocess or None,
            "setting": self.setting.name or None,
            "settings": {name: result.summary() for name, result in self.further.items()} or None,
        }
        return plain_values(
            {
                "dataset": self.dataset,
                **self.retrieval.summary(),
                "protocol": self.protocol,
                "num_queries": self.retrieval.num_queries,
                "num_valid_queries": self.retrieval.num_valid,
                "num_gallery": self.num_gallery,
                "embedding": self.embed,
                **{name: value for name, value in found.items() if value is not None},
            }
        )


def score(features: FeatureSet, rerank: Rerank, asked: ScoreOptions) -> ScoreReport:
    """Return the figures of the features; raise ValueError if they do not suffice for one of them."""
    every = rerank.postprocess(features)
    setting = every.evaluations[0]
    retrieval, features = rank(every, rerank), every.under(setting)
    judgeable = None if asked.calibrate else stored_calibration(features.about)
    return ScoreReport(
        dataset=features.dataset,
        protocol=features.protocol,
        embed=features.about.get("embed", {}),
        num_gallery=len(features.gallery),
        retrieval=retrieval,
        camera_names=features.camera_names,
        confidence=bootstrap(retrieval, groups=features.q_pids) if asked.confidence else None,
        cameras=camera_pairs(features.data) if asked.cameras else None,
        verification=_verification(features.data) if asked.verification else None,
        open_set=_open_set(features.data) if asked.verification else None,
        calibration=calibrate_on(features, asked.calibrate) if asked.calibrate else judgeable,
        judged=judge_on(features, judgeable) if judgeable else None,
        postprocess=rerank.postprocess.name,
        setting=setting,
        further=rank_further(every, rerank),
    )


def _verification(data: RetrievalData) -> dict[str, float]:
    result = verify(data)
    counts = {"num_genuine": result.num_genuine, "num_impostor": result.num_impostor}
    return {**result.summary(), **counts, "impostor_share": result.impostor_share}


def _open_set(data: RetrievalData) -> dict[str, float]:
    result = evaluate_open_set(data)
    return {**result.summary(), "num_mated": result.num_mated, "num_non_mated": result.num_non_mated}


def camera_rows(pairs: CameraPairs, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return one row per pair of cameras with a valid query."""
    return [
        {
            "query": names[source],
            "gallery": names[target],
            "mAP": float(pairs.mAP[i, j]),
            "Rank-1": float(pairs.rank1[i, j]),
            "num_valid_queries": int(pairs.num_valid[i, j]),
        }
        for i, source in enumerate(pairs.query_cameras)
        for j, target in enumerate(pairs.gallery_cameras)
        if pairs.num_valid[i, j]
    ]
