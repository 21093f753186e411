"""The figures of one clustering of the training images: without labels, and against them where they are known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from ...common.csv_file import write_csv
from ...common.text import percent
from ...datasets.records import UNLABELLED
from ...evaluation.clustering.average_linkage import in_order
from ...evaluation.clustering.cluster_figures import compare_with_labels, pairs_among, row_fit
from .clusterings import Clusters

NAN = float("nan")


@dataclass(frozen=True)
class RoundFigures:
    """One round. Fractions 0-1; NaN = not known.

    Args:
        round: its number, from 1.
        epoch: epochs trained before it.
        clusters, outliers: numbers of clusters, and of images in none.
        one_camera: clusters with images of a single camera.
        mean_size: images per cluster.
        change: 1 - pairwise F against the clusters of the round before.
        score: mean silhouette of all images, 0 for outliers: by it the round to keep is chosen, without labels.
        seconds: of embedding and clustering.
        precision, recall, f1: of the pairs of images in one cluster, against the labels.
        nmi: normalised mutual information with the labels.
    """

    round: int
    epoch: int
    clusters: int
    outliers: int
    one_camera: int
    mean_size: float
    change: float
    score: float
    seconds: float
    precision: float
    recall: float
    f1: float
    nmi: float

    @property
    def line(self) -> str:
        """The round for the log."""
        parts = [
            f"round {self.round} after epoch {self.epoch}: {self.clusters} clusters of {self.mean_size:.1f} images",
            f"{self.outliers} outliers",
            f"{self.one_camera} clusters of one camera",
            f"change {percent(self.change)}",
            f"score {self.score:.3f}",
            f"{self.seconds:.1f} s",
        ]
        if not math.isnan(self.f1):
            parts.append(f"against the labels pairwise F {percent(self.f1)}, NMI {self.nmi:.3f}")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def measure_round(
    clusters: Clusters,
    before: np.ndarray | None,
    cameras: np.ndarray,
    pids: np.ndarray,
    *,
    number: int,
    epoch: int,
    seconds: float,
) -> RoundFigures:
    """Return the figures of a round.

    Args:
        clusters: of N images.
        before: (N,) clusters of the round before, if there was one.
        cameras, pids: (N,) of the images; pids that are UNLABELLED are not compared.
    """
    groups = clusters.groups
    inside = groups >= 0
    count, known = int(groups.max(initial=-1)) + 1, pids != UNLABELLED
    pairs = np.unique(np.stack([groups[inside], cameras[inside]]), axis=1)
    precision = recall = f1 = nmi = NAN
    if known.any():
        found = compare_with_labels(pids[known], singled(groups)[known])
        precision, recall, f1 = found.precision, found.recall, found.f1
        nmi = float(normalized_mutual_info_score(pids[known], singled(groups)[known]))
    return RoundFigures(
        round=number,
        epoch=epoch,
        clusters=count,
        outliers=int((~inside).sum()),
        one_camera=int((np.bincount(pairs[0], minlength=count) == 1).sum()),
        mean_size=int(inside.sum()) / count if count else NAN,
        change=NAN if before is None else 1 - compare_with_labels(singled(before), singled(groups)).f1,
        score=float(silhouettes(clusters).mean()),
        seconds=seconds,
        precision=precision,
        recall=recall,
        f1=f1,
        nmi=nmi,
    )


def singled(groups: np.ndarray) -> np.ndarray:
    """Return groups (N,) in which each outlier is a group alone.

    >>> singled(np.array([0, -1, 0, -1])).tolist()
    [0, 1, 0, 2]
    """
    return in_order(np.where(groups < 0, groups.max(initial=-1) + 1 + np.arange(len(groups)), groups))


def silhouettes(clusters: Clusters) -> np.ndarray:
    """Return the silhouette (N,) of each image among the clusters; outliers have 0, so that leaving out more images is no gain."""
    groups = clusters.groups
    kept, found = np.flatnonzero(groups >= 0), np.zeros(len(groups))
    if len(kept):
        found[kept] = row_fit(pairs_among(clusters.pairs, kept, len(groups)), groups[kept]).silhouette
    return found


def best_round(rounds: Sequence[RoundFigures], by: str = "score") -> RoundFigures | None:
    """Return the first round with the largest figure after some training; None if it is never known."""
    known = [one for one in rounds if one.epoch > 0 and not math.isnan(getattr(one, by))]
    return max(known, key=lambda one: getattr(one, by), default=None)


def round_of(row: Mapping[str, float]) -> RoundFigures:
    """Return the round of a line of rounds.csv; what the line does not have is NaN."""
    return RoundFigures(**{field.name: row.get(field.name, NAN) for field in fields(RoundFigures)})  # type: ignore[arg-type]


def write_rounds(path: Path, rounds: Sequence[RoundFigures]) -> None:
    """Write a line per round, atomically; empty = not known."""
    columns = [field.name for field in fields(RoundFigures)]
    write_csv(path, columns, [{name: _cell(value) for name, value in one.to_dict().items()} for one in rounds])


def _cell(value: float) -> Any:
    return value if isinstance(value, int) else "" if math.isnan(value) else f"{value:.6g}"
