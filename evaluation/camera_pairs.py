"""From which camera to which is retrieval good? One evaluation per pair of cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .input_checks import Features, Labels, check_finite, pair_of_features, squared_norms
from .matches import Matches, as_label_arrays
from .retrieval import evaluate_retrieval
from .retrieval_result import check_any_valid


@dataclass(frozen=True, eq=False)
class CameraPairs:
    """Row i, column j: the queries of camera i against the gallery of camera j alone. Fractions 0-1.

    Args:
        query_cameras: (I,) camids of the rows, ascending.
        gallery_cameras: (J,) camids of the columns, ascending.
        mAP: (I, J) mean average precision; NaN where no query is valid.
        rank1: (I, J) share of queries whose first item is relevant; NaN where no query is valid.
        num_valid: (I, J) number of valid queries, those with a relevant item in camera j.
    """

    query_cameras: np.ndarray
    gallery_cameras: np.ndarray
    mAP: np.ndarray
    rank1: np.ndarray
    num_valid: np.ndarray


def camera_pairs(
    query: Features,
    gallery: Features,
    q_pids: Labels,
    g_pids: Labels,
    q_camids: Labels,
    g_camids: Labels,
    *,
    metric: str = "euclidean",
    protocol: str = "same-camera",
) -> CameraPairs:
    """Evaluate the queries of each camera against the gallery of each camera; all together cost one evaluation.

    Under the protocol "same-camera" no query is valid in the pair of a camera with itself.

    Args:
        query, gallery: (Q, D) and (G, D) embeddings; on a GPU the gallery's device does the work.
        q_pids, g_pids: (Q,) and (G,) identities.
        q_camids, g_camids: (Q,) and (G,) cameras.
        metric: "euclidean" or "cosine"; the same ranking for embeddings of unit length.
        protocol: "same-camera" ignores gallery items of the query's pid and camera; "none" ignores nothing.
    Raises:
        ValueError: an array is empty, has NaN or a wrong length, no query has a match in any camera, or an argument is unknown.
    """
    query, gallery = pair_of_features(query, gallery)
    check_finite("query", squared_norms(query))
    check_finite("gallery", squared_norms(gallery))
    q_pids, g_pids, q_camids, g_camids = as_label_arrays(q_pids, g_pids, q_camids, g_camids, len(query), len(gallery))
    table = _empty_table(np.unique(q_camids), np.unique(g_camids))
    for j, to in enumerate(table.gallery_cameras):
        columns = np.flatnonzero(g_camids == to)
        items, item_pids, item_camids = gallery[torch.from_numpy(columns)], g_pids[columns], g_camids[columns]
        is_valid = Matches(q_pids, item_pids, q_camids, item_camids, protocol).is_valid()
        for i, camera in enumerate(table.query_cameras):
            rows = np.flatnonzero(is_valid & (q_camids == camera))
            if len(rows):
                crops, labels = query[torch.from_numpy(rows)], (q_pids[rows], item_pids, q_camids[rows], item_camids)
                result = evaluate_retrieval(crops, items, *labels, metric=metric, protocol=protocol)
                table.mAP[i, j], table.rank1[i, j], table.num_valid[i, j] = result.mAP, result.rank(1), len(rows)
    check_any_valid(table.num_valid.sum(), len(query))
    return table


def _empty_table(query_cameras: np.ndarray, gallery_cameras: np.ndarray) -> CameraPairs:
    shape = len(query_cameras), len(gallery_cameras)
    return CameraPairs(
        query_cameras, gallery_cameras, np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, np.int64)
    )
