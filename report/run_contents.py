"""What a report shows of a run, as plain values; `collect` fills them from a run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..evaluation import RetrievalResult, Threshold
from ..labels.setting import Setting
from ..processor.scoring.feature_file import FeatureSet

ReadImage = Callable[[str], "np.ndarray | None"]  # image file -> (H, W, 3) uint8 RGB, None if it cannot be read


@dataclass(frozen=True, eq=False)
class EvaluatedSet:
    """The embeddings of a test set and their evaluation.

    Args:
        features: embeddings, labels, file names and camera names, those of the data set's first setting.
        result: the evaluation, re-ranked as the run is configured.
        ranking: name of the re-ranking; "none" = by distance alone.
        threshold: the model's own for these embeddings, or None.
        setting: what `result` is about: queries, gallery, junk.
        further: the results of the data set's other settings, by name.
    """

    features: FeatureSet
    result: RetrievalResult
    ranking: str = "none"
    threshold: Threshold | None = None
    read: ReadImage | None = None
    setting: Setting = field(default_factory=Setting)
    further: Mapping[str, RetrievalResult] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class CropAttention:
    """One crop and the model's attention in it.

    Args:
        image: (H, W, 3) uint8 RGB as the model sees it.
        title: person and camera, e.g. "pid 7, c2" or "Ann, entrance".
        maps: name of a measure -> (h, w) weight of each patch.
        parts: one (h, w) array of patch weights for each jigsaw part, NaN where a patch is not in the part.
    """

    image: np.ndarray
    title: str
    maps: Mapping[str, np.ndarray]
    parts: Sequence[np.ndarray] = ()


@dataclass(frozen=True, eq=False)
class SieEffect:
    """The learned side information (SIE) of the cameras and its effect on the embeddings.

    Args:
        cameras: names of the C rows of its table.
        rows: (C, C) cosine between the learned rows, their mean subtracted.
        before, after: (C, C) mean similarity of images of different people from camera to camera, with the row of an unknown
            camera and with the camera's own row.
        summary: kind of pair -> both mean similarities.
        num_images: number of images that were embedded twice.
    """

    cameras: Sequence[str]
    rows: np.ndarray
    before: np.ndarray | None = None
    after: np.ndarray | None = None
    summary: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    num_images: int = 0


@dataclass(frozen=True, eq=False)
class ModelPictures:
    """What can be shown of the model itself.

    Args:
        crops: crops with the model's attention.
        positions: (h, w, h, w) cosine between the position embeddings of two patches, or None.
        side: the effect of the side information, or None.
    """

    crops: Sequence[CropAttention] = ()
    positions: np.ndarray | None = None
    side: SieEffect | None = None


@dataclass(frozen=True, eq=False)
class ClusteredImages:
    """The last clusters of a training without labels.

    Args:
        name: the data set.
        paths: (N,) files of the images.
        clusters: (N,) name of the cluster of each image; "" = outlier.
        fit: (N,) silhouette of each image, NaN = outlier.
        cameras: (N,) name of its camera.
        people: (N,) its person, "" = unknown.
    """

    name: str
    paths: Sequence[str]
    clusters: np.ndarray
    fit: np.ndarray
    cameras: Sequence[str]
    people: np.ndarray
    read: ReadImage | None = None


@dataclass(frozen=True, eq=False)
class TrainingRounds:
    """The rounds of a training without labels.

    Args:
        rows: one row of numbers per round, as in rounds.csv; what is not known is left out.
        images: the clusters of the last round, None if they cannot be shown.
    """

    rows: Sequence[Mapping[str, float]]
    images: ClusteredImages | None = None


@dataclass(frozen=True)
class OptionValue:
    """An option of the run: its value, the default, and what it means."""

    key: str
    value: Any
    default: Any
    help: str = ""

    @property
    def is_changed(self) -> bool:
        """Whether the run differs from the default."""
        return bool(self.value != self.default)


@dataclass(frozen=True, eq=False)
class RunContents:
    """Everything that a report shows of one run. What is None or empty is left out; `missing` gives the reason.

    Args:
        epochs: one row of numbers per epoch, as in metrics.jsonl.
        rounds: those of a training without labels.
        environment: versions, device etc., by name.
        missing: part -> one sentence with the reason.
        sentences: what the reader should know first.
    """

    name: str
    epochs: Sequence[Mapping[str, float]] = ()
    options: Sequence[OptionValue] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    test: EvaluatedSet | None = None
    model_pictures: ModelPictures | None = None
    rounds: TrainingRounds | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    sentences: Sequence[str] = ()
