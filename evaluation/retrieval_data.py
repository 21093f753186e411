"""The input of every evaluation: query and gallery embeddings with their labels, checked once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..common.errors import UserError
from ..labels.protocol import Protocol
from .input_checks import check_finite, pair_of_features, squared_norms
from .matches import Extra, Matches, as_extra, as_files, as_label_arrays

METRICS = ("cosine", "euclidean")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class RetrievalData:
    """Query and gallery of one test set. Tensors, NumPy arrays and label lists are accepted and converted.

    Args:
        query, gallery: (Q, D) and (G, D) embeddings; the gallery's device does the work. float32, or float64 if given so.
        q_pids, g_pids: (Q,) and (G,) identities, integers or names; names are kept as numbers in their order.
        q_camids, g_camids: (Q,) and (G,) cameras, likewise.
        protocol: which gallery items are junk for a query, a `Protocol` or a name in PROTOCOLS: "same-camera" ignores items of
            the query's pid that are from its camera or equal to its file; "own-file" only the latter; "none" ignores nothing.
        q_files, g_files: (Q,) and (G,) contents of the image files, integers or names: equal labels are equal files. None = not
            known, so no item is junk for its file.
        extra: further labels that the protocol compares, integers or names: {"clothes": ((Q,), (G,))}.
        metric: "euclidean", |a - b|, or "cosine", 1 - cos; the same ranking for embeddings of unit length.
        gallery_norms: (G,) squared lengths of the gallery's rows; computed here.
        matches: relevant and junk gallery items of each query; found here.
    Raises:
        ValueError: an array is empty, has NaN or a wrong length, or protocol or metric is unknown; the message names the
            array and the row.
    """

    query: Tensor
    gallery: Tensor
    q_pids: np.ndarray
    g_pids: np.ndarray
    q_camids: np.ndarray
    g_camids: np.ndarray
    protocol: str | Protocol = field(default="same-camera", kw_only=True)
    metric: str = field(default="euclidean", kw_only=True)
    q_files: np.ndarray | None = field(default=None, kw_only=True, repr=False)
    g_files: np.ndarray | None = field(default=None, kw_only=True, repr=False)
    extra: Extra = field(default_factory=dict, kw_only=True, repr=False)
    gallery_norms: Tensor = field(init=False, repr=False)
    matches: Matches = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UserError(f"metric: unknown value {self.metric!r}; choose from {', '.join(METRICS)}")
        query, gallery = pair_of_features(self.query, self.gallery)
        labels = as_label_arrays(self.q_pids, self.g_pids, self.q_camids, self.g_camids, len(query), len(gallery))
        norms = squared_norms(gallery)
        check_finite("query", squared_norms(query))
        check_finite("gallery", norms)
        files = as_files(self.q_files, self.g_files, len(query), len(gallery))
        extra = as_extra(self.extra, len(query), len(gallery))
        values = (query, gallery, *labels, self.protocol, self.metric, *(files or (None, None)), extra, norms)
        for name, value in zip(FIELDS, (*values, Matches(*labels, self.protocol, files, extra)), strict=True):
            object.__setattr__(self, name, value)  # the class is frozen

    @property
    def labels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(q_pids, g_pids, q_camids, g_camids), the order in which evaluations of most projects take them."""
        return self.q_pids, self.g_pids, self.q_camids, self.g_camids

    def select(
        self, queries: np.ndarray | slice = slice(None), gallery: np.ndarray | slice = slice(None)
    ) -> RetrievalData:
        """Return the data of some queries and some gallery items, given as row numbers."""
        rows, columns = (torch.from_numpy(i) if isinstance(i, np.ndarray) else i for i in (queries, gallery))
        return replace(
            self,
            query=self.query[rows],
            gallery=self.gallery[columns],
            q_pids=self.q_pids[queries],
            g_pids=self.g_pids[gallery],
            q_camids=self.q_camids[queries],
            g_camids=self.g_camids[gallery],
            q_files=None if self.q_files is None else self.q_files[queries],
            g_files=None if self.g_files is None else self.g_files[gallery],
            extra={name: (np.asarray(q)[queries], np.asarray(g)[gallery]) for name, (q, g) in self.extra.items()},
        )


FIELDS = [item.name for item in fields(RetrievalData)]


def takes_arrays(evaluate: Callable[..., R]) -> Callable[..., R]:
    """Let a function of `data` also be called with the fields of a RetrievalData in its place.

    `evaluate(data, k1=20)` and `evaluate(query, gallery, q_pids, g_pids, q_camids, g_camids, metric="cosine", k1=20)` both work.
    """
    before = list(inspect.signature(evaluate).parameters).index("data")

    @wraps(evaluate)
    def call(*args: Any, **options: Any) -> R:
        arrays = args[before:]
        if "data" in options or (arrays and isinstance(arrays[0], RetrievalData)):
            return evaluate(*args, **options)
        named = {name: options.pop(name) for name in FIELDS if name in options}
        return evaluate(*args[:before], data=RetrievalData(*arrays, **named), **options)

    return call
