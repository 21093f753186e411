"""Re-association: is a crop the nearest to the crop of the same person N frames later, among all people who are there then?

The protocol of Roboflow's package `reid` (`ReassociationProtocol`): queries come from frames divisible by `stride`; the candidates of
a query are all crops of the same camera exactly `gap` frames later; it counts if its person is among them and they are two or more.
"""

from __future__ import annotations

import numpy as np


def reassociation(
    vectors: np.ndarray, people: np.ndarray, frames: np.ndarray, cameras: np.ndarray, gap: int, stride: int
) -> dict[str, float]:
    """Return Rank-1 and mean reciprocal rank in [0, 1], and the number of queries.

    Args:
        vectors: (N, D) unit embeddings of crops.
        people, frames, cameras: (N,) numbers of each crop.
        gap, stride: in frames.
    """
    ranks = []
    for query in np.flatnonzero(frames % stride == 0):
        there = np.flatnonzero((cameras == cameras[query]) & (frames == frames[query] + gap))
        right = people[there] == people[query]
        if len(there) > 1 and right.any():
            likeness = vectors[there] @ vectors[query]
            ranks.append(1 + int((likeness > likeness[right].max()).sum()))
    found = np.array(ranks, float)
    if not len(found):
        return {"rank1": float("nan"), "mrr": float("nan"), "queries": 0}
    return {"rank1": float((found == 1).mean()), "mrr": float((1 / found).mean()), "queries": len(found)}
