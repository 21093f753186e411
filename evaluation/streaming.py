"""Retrieval accuracy collected batch by batch, for training loops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..common.errors import UserError
from ..labels.protocol import CAMERA, FILE, Protocol, find_protocol
from .input_checks import Features, Labels, as_features, as_labels, check_finite
from .retrieval import evaluate_retrieval
from .retrieval_data import RetrievalData
from .retrieval_result import RetrievalResult


class _Batch(NamedTuple):
    embeddings: Tensor  # (B, D) on the CPU
    pids: np.ndarray  # (B,)
    camids: np.ndarray  # (B,)
    extra: dict[str, np.ndarray]  # (B,) each

    def select(self, chosen: np.ndarray) -> _Batch:
        extra = {name: values[chosen] for name, values in self.extra.items()}
        return _Batch(self.embeddings[torch.from_numpy(chosen)], self.pids[chosen], self.camids[chosen], extra)


class RetrievalMetric:
    """CMC, mAP and mINP of embeddings that arrive in batches, used like a metric of torchmetrics.

    With several processes, each updates its own metric, and one process merges the others' (a metric can be pickled) in the
    order of the ranks. Leave out images that a sampler repeats to fill the last batch, or they count twice.

    Args:
        metric: "euclidean" or "cosine".
        protocol: the rule for junk, a `Protocol` or a name in PROTOCOLS.
        max_rank: length of the CMC curve.
    Raises:
        ValueError: an argument is unknown or out of range.

    >>> metric = RetrievalMetric()
    >>> metric.update(torch.eye(2), pids=[1, 2], camids=[0, 0], is_query=True)
    >>> metric.update(torch.eye(2), pids=[1, 2], camids=[1, 1], is_query=False)
    >>> metric.compute().mAP
    1.0
    """

    def __init__(self, metric: str = "euclidean", protocol: str | Protocol = "same-camera", max_rank: int = 50) -> None:
        self.metric, self.protocol, self.max_rank = metric, protocol, max_rank
        self.reset()
        rule, zero = find_protocol(protocol), np.zeros(1, np.int64)
        self.extra = tuple(name for name in dict.fromkeys(rule.labels) if name not in (CAMERA, FILE))
        one = _Batch(torch.ones(1, 1), zero, zero, dict.fromkeys(self.extra, zero))
        other = {name: zero + (name not in rule.other) for name in self.extra}
        self._evaluate(
            one, one._replace(camids=zero + 1, extra=other)
        )  # reports a wrong option now, not after an epoch

    def reset(self) -> None:
        """Drop all batches."""
        self._query: list[_Batch] = []
        self._gallery: list[_Batch] = []

    def update(
        self,
        embeddings: Features,
        pids: Labels,
        camids: Labels,
        is_query: Tensor | np.ndarray | bool,
        extra: Mapping[str, Labels] | None = None,
    ) -> None:
        """Add a batch; it is copied to the CPU.

        Args:
            embeddings: (B, D) embeddings.
            pids, camids: (B,) identities and cameras, integers or names.
            is_query: (B,) booleans, or one for the whole batch; the others belong to the gallery.
            extra: (B,) further labels that the protocol compares, by name: {"clothes": (B,)}.
        Raises:
            ValueError: an array is empty, has NaN or a wrong length, D differs from the batches before, or a label is missing.
        """
        embeddings = as_features("embeddings", embeddings)
        check_finite("embeddings", embeddings)
        self._check_width(embeddings.shape[1])
        count = len(embeddings)
        people, cameras = (as_labels(*pair, count, "embeddings") for pair in (("pids", pids), ("camids", camids)))
        batch = _Batch(embeddings.cpu(), people, cameras, self._as_extra(extra or {}, count))
        asked = _as_flags(is_query, count)
        for part, chosen in ((self._query, asked), (self._gallery, ~asked)):
            if chosen.any():
                part.append(batch.select(chosen))  # selecting copies

    def merge(self, other: RetrievalMetric) -> None:
        """Append the batches of `other`, which is not changed.

        Raises:
            ValueError: its options or its number of features D differ.
        """
        for name in ("metric", "protocol", "max_rank"):
            if getattr(self, name) != getattr(other, name):
                raise UserError(
                    f"other: {name} is {getattr(other, name)!r}, here {getattr(self, name)!r}; make them equal"
                )
        for batch in (other._query + other._gallery)[:1]:
            self._check_width(batch.embeddings.shape[1])
        self._query += other._query
        self._gallery += other._gallery

    def compute(self) -> RetrievalResult:
        """Return the result of all batches so far and keep them.

        Queries and gallery are in the order of the updates.

        Raises:
            ValueError: there are no queries or no gallery, or no query has a match.
        """
        return self._evaluate(_joined("query", self._query), _joined("gallery", self._gallery))

    def _evaluate(self, query: _Batch, gallery: _Batch) -> RetrievalResult:
        arrays = (query.embeddings, gallery.embeddings, query.pids, gallery.pids, query.camids, gallery.camids)
        extra = {name: (query.extra[name], gallery.extra[name]) for name in self.extra}
        data = RetrievalData(*arrays, metric=self.metric, protocol=self.protocol, extra=extra)
        return evaluate_retrieval(data, max_rank=self.max_rank)

    def _as_extra(self, extra: Mapping[str, Labels], count: int) -> dict[str, np.ndarray]:
        if missing := [name for name in self.extra if name not in extra]:
            raise UserError(
                f"extra: the protocol compares {' and '.join(missing)}; give one label per row of embeddings"
            )
        return {name: as_labels(name, extra[name], count, "embeddings") for name in self.extra}

    def _check_width(self, width: int) -> None:
        for batch in (self._query + self._gallery)[:1]:
            if batch.embeddings.shape[1] != width:
                raise UserError(
                    f"embeddings: {width} features per row, but {batch.embeddings.shape[1]} in the batches before; "
                    "all must come from one model, or call reset() first"
                )


def _as_flags(is_query: Tensor | np.ndarray | bool, count: int) -> np.ndarray:
    """Return `is_query` as booleans (count,); raise ValueError, with its type and shape, if it is neither one nor `count` of them."""
    flags = np.asarray(is_query.cpu() if isinstance(is_query, Tensor) else is_query)
    if flags.dtype != bool or flags.shape not in ((), (count,)):
        raise UserError(
            f"is_query: expected True, False or {count} booleans, one per row of embeddings, "
            f"got {flags.dtype} of shape {flags.shape}"
        )
    return np.broadcast_to(flags, (count,)).copy()


def _joined(name: str, batches: list[_Batch]) -> _Batch:
    if not batches:
        raise UserError(f"{name}: nothing accumulated; call update(..., is_query={name == 'query'}) before compute()")
    embeddings, pids, camids, extra = zip(*batches, strict=True)
    labels = {name: np.concatenate([batch[name] for batch in extra]) for name in extra[0]}
    return _Batch(torch.cat(embeddings), np.concatenate(pids), np.concatenate(camids), labels)
