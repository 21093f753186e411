"""Retrieval figures per pair of cameras: the query's and the gallery's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .retrieval import evaluate_retrieval
from .retrieval_data import RetrievalData, takes_arrays
from .retrieval_result import check_any_valid


@dataclass(frozen=True, eq=False)
class CameraPairs:
    """Row i, column j: the queries of camera i against the gallery of camera j alone. Fractions 0-1.

    Args:
        query_cameras: (I,) camids of the rows, ascending.
        gallery_cameras: (J,) camids of the columns, ascending.
        mAP: (I, J) mean average precision; NaN where no query is valid.
        rank1: (I, J) share of queries with a relevant item at rank 1; NaN where no query is valid.
        num_valid: (I, J) number of valid queries: they have a relevant item in camera j.
    """

    query_cameras: np.ndarray
    gallery_cameras: np.ndarray
    mAP: np.ndarray
    rank1: np.ndarray
    num_valid: np.ndarray


@takes_arrays
def camera_pairs(data: RetrievalData) -> CameraPairs:
    """Evaluate the queries of each camera against the gallery of each camera; all pairs together cost one evaluation.

    Under the protocol "same-camera" no query is valid in the pair of a camera with itself.

    Args:
        data: the test set, or the fields of its `RetrievalData` one by one.
    Raises:
        ValueError: `RetrievalData` refuses the input, or no query has a match in any camera.
    """
    query_cameras, gallery_cameras = np.unique(data.q_camids), np.unique(data.g_camids)
    shape = len(query_cameras), len(gallery_cameras)
    empty = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, np.int64)
    table = CameraPairs(query_cameras, gallery_cameras, *empty)
    for j, to in enumerate(table.gallery_cameras):
        part = data.select(gallery=np.flatnonzero(data.g_camids == to))
        is_valid = part.matches.is_valid()
        for i, camera in enumerate(table.query_cameras):
            rows = np.flatnonzero(is_valid & (data.q_camids == camera))
            if len(rows):
                result = evaluate_retrieval(part.select(queries=rows))
                table.mAP[i, j], table.rank1[i, j], table.num_valid[i, j] = result.mAP, result.rank(1), len(rows)
    check_any_valid(table.num_valid.sum(), len(data.query))
    return table
