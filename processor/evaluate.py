"""Query and gallery images -> CMC, mAP, mINP."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..evaluation import RetrievalResult, evaluate_distances, evaluate_retrieval, k_reciprocal
from .extract import EmbedSettings, extract


@dataclass(frozen=True)
class Rerank:
    """k-reciprocal re-ranking (Zhong et al., CVPR 2017): k1, k2 neighbours; share `lam` of the original distance."""

    k1: int = 20
    k2: int = 6
    lam: float = 0.3


class Evaluator:
    """Evaluates a model on one test set; can be called again and again while training.

    Args:
        query, gallery: loaders in the order of the records.
        query_records, gallery_records: records with `pid` and `camid`.
        protocol: which gallery items are junk for a query.
        settings: what the test embedding is.
        rerank: re-rank by shared neighbours, or None.
    """

    def __init__(
        self,
        query: Iterable[Any],
        gallery: Iterable[Any],
        query_records: Sequence[Any],
        gallery_records: Sequence[Any],
        *,
        protocol: str,
        settings: EmbedSettings,
        device: torch.device,
        precision: torch.dtype,
        rerank: Rerank | None = None,
    ) -> None:
        self.query, self.gallery = query, gallery
        self.labels = (*_labels(query_records), *_labels(gallery_records))
        self.protocol = protocol
        self.settings = settings
        self.device, self.precision = device, precision
        self.rerank = rerank

    def __call__(self, model: nn.Module) -> RetrievalResult:
        """Return the retrieval result of `model`, which keeps its training mode."""
        embeddings = [
            extract(model, loader, self.settings, self.device, self.precision, title)
            for loader, title in ((self.query, "query"), (self.gallery, "gallery"))
        ]
        return self.score(*embeddings)

    def score(self, query: Tensor, gallery: Tensor) -> RetrievalResult:
        """Return the retrieval result of embeddings (Q, D) and (G, D)."""
        q_pids, q_camids, g_pids, g_camids = self.labels
        if self.rerank is None:
            return evaluate_retrieval(query, gallery, q_pids, g_pids, q_camids, g_camids, protocol=self.protocol)
        distances = k_reciprocal(query, gallery, self.rerank.k1, self.rerank.k2, self.rerank.lam)
        return evaluate_distances(distances, q_pids, g_pids, q_camids, g_camids, protocol=self.protocol)


def _labels(records: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([record.pid for record in records]), np.array([record.camid for record in records])


def result_table(name: str, result: RetrievalResult) -> str:
    """Return the result for people: one row under its headings, in percent."""
    numbers = result.summary()
    columns = ["mAP", "mINP", "Rank-1", "Rank-5", "Rank-10", "Rank-20"]
    width = max(len("data set"), len(name))
    head = f"{'data set':<{width}}  " + "  ".join(f"{column:>7}" for column in columns)
    row = f"{name:<{width}}  " + "  ".join(f"{100 * numbers[column]:6.2f}%" for column in columns)
    skipped = result.num_queries - result.num_valid
    note = (
        f"\n{skipped} of {result.num_queries} queries have no match in the gallery and are left out" if skipped else ""
    )
    return f"{head}\n{row}{note}"
