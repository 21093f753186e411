"""The nearest rows of a memory map, exactly: blocked float32 products find candidates, float64 distances decide.

A float32 product errs by about 1e-6, which would reorder near-duplicates and give a crop a distance of 1e-3 to itself. So
each block's products only rule out rows that cannot be among the k nearest; the few that are left are measured exactly.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .results import pair_distances

BLOCK_ELEMENTS = 2**22  # products, and converted values, held at once: 16 MiB of float32 each
BLOCK_BYTES = 2**26  # rows of the memory map looked at at once
GROUP = 1024  # queries that share a pass over the gallery
LARGEST = 1e15  # of a query's values: the sum of their squares is finite in float32
KEEP_BYTES = 3 * 2**27  # 384 MiB: of a larger gallery no page stays in this process once it was read
SPARSE = 8  # if at most one row in SPARSE passes the filters, only those rows are read
CROWDED = 8  # candidates per wanted neighbour above which a block is looked at more closely
PAIR_ELEMENTS = 2**20  # values of the pairs measured at once, 8 MiB of float64


class Hits(NamedTuple):
    """The neighbours of one query: positions (k,) int64 in the gallery, and distances (k,) float32.

    They are nearest first; where they were re-ranked, `nearest` is the least distance of all that were looked at.
    """

    positions: np.ndarray
    distances: np.ndarray
    nearest: float | None = None


class Block(NamedTuple):
    """Some rows of the gallery: their positions (B,), the float32 rows (B, D), squared lengths (B,), and which count (B,)."""

    positions: np.ndarray
    rows: Tensor
    norms: Tensor
    is_kept: np.ndarray | None


class ExactIndex:
    """Finds nearest rows without an index; safe to search from several threads.

    Args:
        embeddings: (N, D) float32, float16 or int8, memory-mapped or not; must not change.
        metric: "euclidean" or "cosine".
        scale: (D,) what int8 values are multiplied by.
    """

    def __init__(self, embeddings: np.ndarray, metric: str = "euclidean", scale: Any = None) -> None:
        self.embeddings, self.metric = embeddings, metric
        self._scale = None if scale is None else torch.as_tensor(scale, dtype=torch.float32)
        self._rows = torch.from_numpy(np.asarray(_Writable(embeddings)))
        self._norms = torch.full((len(embeddings),), torch.nan)  # filled by the first search
        self._pages = _Pages(embeddings)

    @torch.no_grad()
    def search(self, queries: np.ndarray, topk: int, mask: np.ndarray | None = None) -> list[Hits]:
        """Return the `topk` nearest rows of each query, fewer if fewer pass; equal distances are in gallery order.

        Args:
            queries: (Q, D) float32, no value beyond LARGEST.
            mask: (N,) bool, the rows that may be found; None = all.
        """
        return [
            hit
            for group in np.split(queries, range(GROUP, len(queries), GROUP))
            for hit in self._nearest(group, topk, mask)
        ]

    def _nearest(self, queries: np.ndarray, topk: int, mask: np.ndarray | None) -> list[Hits]:
        kept = _Kept(queries, topk, self.metric)
        for block in self._blocks(len(queries), mask):
            kept.take(block)
        return kept.hits()

    def decoded(self, positions: np.ndarray) -> np.ndarray:
        """Return the rows at some positions as float32 (n, D)."""
        return self._floats(torch.from_numpy(self.embeddings[positions])).numpy()

    def _blocks(self, num_queries: int, mask: np.ndarray | None) -> Iterator[Block]:
        """Yield the rows that may be found, in gallery order, in blocks that fit the memory."""
        count, width = self.embeddings.shape
        step = max(256, min(BLOCK_ELEMENTS // num_queries, BLOCK_BYTES // (width * self.embeddings.itemsize)))
        if self._rows.dtype != torch.float32:
            step = max(256, min(step, BLOCK_ELEMENTS // width))
        if mask is not None and SPARSE * np.count_nonzero(mask) <= count:
            yield from self._gathered(np.flatnonzero(mask), step)
            return
        buffer = torch.empty(0 if self._rows.dtype == torch.float32 else min(step, count), width)
        for start in range(0, count, step):
            stop = min(start + step, count)
            is_kept = None if mask is None else mask[start:stop]
            if is_kept is None or is_kept.any():
                rows = self._floats(self._rows[start:stop], buffer[: stop - start])
                yield Block(np.arange(start, stop), rows, self._lengths(start, stop, rows), is_kept)
                self._pages.drop(start, stop)

    def _gathered(self, positions: np.ndarray, step: int) -> Iterator[Block]:
        for some in np.split(positions, range(step, len(positions), step)):
            if len(some):
                rows = torch.from_numpy(self.decoded(some))
                yield Block(some, rows, rows.square().sum(1), None)
                self._pages.drop(int(some[0]), int(some[-1]) + 1)

    def _floats(self, rows: Tensor, buffer: Tensor | None = None) -> Tensor:
        """Return stored rows (B, D) as float32, in `buffer` if they have to be converted."""
        if rows.dtype == torch.float32:
            return rows
        floats = rows.float() if buffer is None else buffer.copy_(rows)
        return floats if self._scale is None else floats.mul_(self._scale)

    def _lengths(self, start: int, stop: int, rows: Tensor) -> Tensor:
        norms = self._norms[start:stop]
        if norms.isnan().any():
            norms.copy_(torch.linalg.vector_norm(rows, dim=1).square_())
        return norms


class _Kept:
    """The nearest rows so far of each query (Q, D)."""

    def __init__(self, queries: np.ndarray, topk: int, metric: str) -> None:
        self.metric, self.topk = metric, topk
        self.queries = queries
        self.products = torch.from_numpy(
            np.array(queries / _lengths_of(queries) if metric == "cosine" else queries, np.float32)
        )
        self.norms = self.products.square().sum(1)
        self.limits = torch.full((len(queries),), torch.inf)  # distance of the last of k neighbours
        self.owners, self.positions = np.empty(0, np.int64), np.empty(0, np.int64)
        self.distances = np.empty(0, np.float32)

    def take(self, block: Block) -> None:
        """Look at some more rows."""
        scores = self._scores(block)
        if block.is_kept is not None:
            scores.masked_fill_(torch.from_numpy(~block.is_kept), -torch.inf)
        owners, columns = (index.numpy() for index in self._candidates(scores, block).unbind(1))
        if len(owners):
            self._merge(owners, block.positions[columns], self._measure(owners, columns, block))

    def _scores(self, block: Block) -> Tensor:
        """Return (Q, B), the larger the nearer: q . g - |g|^2 / 2, or the cosine."""
        if len(self.products) == 1:
            scores = torch.mv(block.rows, self.products[0])[None]
        else:
            scores = torch.mm(self.products, block.rows.T)
        if self.metric == "cosine":
            return scores.mul_(block.norms.clamp(min=1e-30).rsqrt())
        return scores.sub_(block.norms, alpha=0.5)

    def _candidates(self, scores: Tensor, block: Block) -> Tensor:
        """Return (P, 2) the (query, column) of all scores that can be among the k best."""
        margin = self._margin(block)
        floors = self._floors() - margin
        found = scores > floors[:, None]
        if int(found.sum()) > CROWDED * self.topk * len(scores):
            best = scores.topk(min(self.topk, scores.shape[1])).values[:, -1] - margin
            found = scores > torch.maximum(floors, best)[:, None]
        return found.nonzero()

    def _floors(self) -> Tensor:
        """Return (Q,) the score of a row at the limit."""
        return 1 - self.limits if self.metric == "cosine" else (self.norms - self.limits.square()) / 2

    def _margin(self, block: Block) -> Tensor:
        """Return (Q,) by how much a float32 score may be wrong."""
        width = block.rows.shape[1]
        longest = torch.ones(()) if self.metric == "cosine" else block.norms.max().sqrt()
        lengths = self.norms.sqrt()
        return 2**-22 * (4 + width**0.5) * (longest + lengths).square()

    def _measure(self, owners: np.ndarray, columns: np.ndarray, block: Block) -> np.ndarray:
        step = max(1, PAIR_ELEMENTS // block.rows.shape[1])
        rows, parts = block.rows.numpy(), []
        for start in range(0, len(owners), step):
            some = slice(start, start + step)
            parts.append(pair_distances(self.queries[owners[some]], rows[columns[some]], self.metric))
        return np.concatenate(parts)

    def _merge(self, owners: np.ndarray, positions: np.ndarray, distances: np.ndarray) -> None:
        owners = np.concatenate([self.owners, owners])
        positions, distances = np.concatenate([self.positions, positions]), np.concatenate([self.distances, distances])
        order = np.lexsort((positions, distances, owners))
        starts = np.searchsorted(owners[order], np.arange(len(self.products)))
        order = order[np.arange(len(order)) - starts[owners[order]] < self.topk]
        self.owners, self.positions, self.distances = owners[order], positions[order], distances[order]
        last = np.searchsorted(self.owners, np.arange(len(self.products))) + self.topk - 1
        is_full = np.bincount(self.owners, minlength=len(self.products)) == self.topk
        self.limits[torch.from_numpy(is_full)] = torch.from_numpy(self.distances[last[is_full]])

    def hits(self) -> list[Hits]:
        """Return the neighbours of each query."""
        ends = np.searchsorted(self.owners, np.arange(1, len(self.products)))
        return [
            Hits(*pair) for pair in zip(np.split(self.positions, ends), np.split(self.distances, ends), strict=True)
        ]


class _Writable:
    """The same memory without its read-only mark, which torch warns of; nobody writes to it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array  # keeps the memory alive
        about = dict(array.__array_interface__)
        self.__array_interface__ = about | {"data": (about["data"][0], False)}


class _Pages:
    """The memory-mapped pages under an array (N, D): those that were read are given back if the array is large."""

    def __init__(self, array: np.ndarray) -> None:
        root: Any = array
        while isinstance(root, np.ndarray) and not isinstance(root, mmap.mmap):
            root = root.base
        self.file: mmap.mmap | None = None
        if isinstance(root, mmap.mmap) and array.nbytes > KEEP_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self.file, self.row = root, array.strides[0]
            first = np.frombuffer(root, np.uint8, 1).__array_interface__["data"][0]
            self.start = array.__array_interface__["data"][0] - first

    def drop(self, start: int, stop: int) -> None:
        """Let the system take back the pages of some rows; reading them again brings them back."""
        if self.file is not None:
            first = (self.start + start * self.row) // mmap.PAGESIZE * mmap.PAGESIZE
            self.file.madvise(mmap.MADV_DONTNEED, first, self.start + stop * self.row - first)


def _lengths_of(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.where(lengths > 0, lengths, 1)
