"""Appearance of tracks: a few embeddings each, kept diverse, and the distances to them."""

from __future__ import annotations

import numpy as np


def appearance_distances(queries: np.ndarray, vectors: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return cosine distances (N, T) in [0, 2] to each track: the mean over the nearer half of its embeddings.

    One embedding of somebody else, remembered by mistake, does not make two tracks look the same, as the nearest alone would; the
    farther half may show another side of the person. A track without embeddings is at distance inf.

    Args:
        queries: (N, D) unit embeddings.
        vectors: (T, k, D) unit embeddings of the tracks, counts: (T,) how many of the k are filled.
    """
    if not len(queries) or not len(vectors):
        return np.full((len(queries), len(vectors)), np.inf)
    found = 1 - np.einsum("nd,tkd->ntk", queries, vectors).astype(np.float64)  # (N, T, k)
    found[:, np.arange(vectors.shape[1])[None] >= counts[:, None]] = np.inf
    nearer = np.cumsum(np.sort(found, axis=2), axis=2)
    half = np.maximum((counts + 1) // 2, 1)
    return nearer[:, np.arange(len(vectors)), half - 1] / half[None]


def remember(vectors: np.ndarray, count: int, vector: np.ndarray) -> int:
    """Put an embedding among those of one track, in place; when it is full, the older one of the closest pair is dropped.

    Args:
        vectors: (k, D), oldest first; count: how many are filled.
        vector: (D,) unit embedding.
    Returns:
        The new count.
    """
    if count < len(vectors):
        vectors[count] = vector
        return count + 1
    everything = np.concatenate([vectors, vector[None]])  # (k + 1, D)
    likeness = np.tril(everything @ everything.T, -1) + np.triu(np.full((count + 1, count + 1), -2.0))
    older = int(np.argmax(likeness)) % (count + 1)  # column of the largest entry below the diagonal
    vectors[:] = np.delete(everything, older, axis=0)
    return count
