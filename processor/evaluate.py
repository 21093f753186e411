"""Query and gallery images -> embeddings with their labels -> CMC, mAP, mINP."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..datasets import Record, ReidData
from ..evaluation import RetrievalResult
from .extract import EmbedSettings, extract
from .features import FeatureSet
from .ranking import Rerank, rank


class Evaluator:
    """Evaluates a model on one test set; can be called again and again while training.

    Args:
        query, gallery: loaders in the order of the records of `data`.
        data: the records, with their protocol and camera names.
        settings: what the test embedding is.
        rerank: what follows the plain ranking.
        about: what to note in the features, in JSON types.
    """

    def __init__(
        self,
        query: Iterable[Any],
        gallery: Iterable[Any],
        data: ReidData,
        *,
        settings: EmbedSettings,
        device: torch.device,
        precision: torch.dtype,
        rerank: Rerank | None = None,
        about: dict[str, Any] | None = None,
    ) -> None:
        self.query, self.gallery = query, gallery
        self.data = data
        self.settings = settings
        self.device, self.precision = device, precision
        self.rerank = rerank or Rerank()
        self.about = {**(about or {}), "embed": settings.to_dict()}

    def __call__(self, model: nn.Module) -> RetrievalResult:
        """Return the retrieval result of `model`, which keeps its training mode."""
        return self.rank(self.extract(model))

    def extract(self, model: nn.Module) -> FeatureSet:
        """Return the embeddings of `model` with their labels."""
        query, gallery = (
            extract(model, loader, self.settings, self.device, self.precision, title)
            for loader, title in ((self.query, "query"), (self.gallery, "gallery"))
        )
        data = self.data
        return FeatureSet(
            dataset=data.evaluated,
            protocol=data.protocol,
            query=query,
            gallery=gallery,
            q_pids=_numbers(data.query, "pid"),
            g_pids=_numbers(data.gallery, "pid"),
            q_camids=_numbers(data.query, "camid"),
            g_camids=_numbers(data.gallery, "camid"),
            q_names=[record.path for record in data.query],
            g_names=[record.path for record in data.gallery],
            camera_names=data.camera_names,
            about=self.about,
        )

    def rank(self, features: FeatureSet) -> RetrievalResult:
        """Return the retrieval result of what `extract` returned."""
        return rank(features, self.rerank)


def _numbers(records: Sequence[Record], what: str) -> np.ndarray:
    return np.array([getattr(record, what) for record in records], np.int64)
