"""HOTA, IDF1 and MOTA of tracks, by trackeval (Luiten et al., IJCV 2021, arXiv:2009.07736)."""

from __future__ import annotations

import contextlib
import io
from typing import Any, NamedTuple

import numpy as np

from vitreid.common.errors import MissingPackageError
from vitreid.tracking.association.overlap import box_iou


class Sequence(NamedTuple):
    """Truth and tracks of one camera; a list entry per frame.

    Args:
        truth_ids, track_ids: (N,) numbers of people, (M,) of tracks.
        truth_boxes, track_boxes: (N, 4) and (M, 4) x0, y0, x1, y1.
    """

    truth_ids: list[np.ndarray]
    truth_boxes: list[np.ndarray]
    track_ids: list[np.ndarray]
    track_boxes: list[np.ndarray]


def tracking_scores(sequences: dict[str, Sequence]) -> dict[str, float]:
    """Return HOTA, DetA, AssA, IDF1, MOTA in [0, 1], and the numbers of switches and fragments, over all sequences.

    Raises:
        MissingPackageError: trackeval is not installed.
    """
    data = {name: _trackeval_data(sequence) for name, sequence in sequences.items()}
    with contextlib.redirect_stdout(io.StringIO()):
        found = {metric.get_name(): _evaluate(metric, data) for metric in _metrics()}
    hota, clear = found["HOTA"], found["CLEAR"]
    return {
        **{name: float(np.mean(hota[name])) for name in ("HOTA", "DetA", "AssA")},
        "IDF1": float(found["Identity"]["IDF1"]),
        "MOTA": float(clear["MOTA"]),
        "switches": int(clear["IDSW"]),
        "fragments": int(clear["Frag"]),
    }


def _metrics() -> list[Any]:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints which of its extras are missing
            from trackeval.metrics import CLEAR, HOTA, Identity
    except ImportError as error:
        raise MissingPackageError(
            f"trackeval is not installed ({error}); pip install --no-deps trackeval (its opencv-python is not needed)"
        ) from error
    return [HOTA(), CLEAR({"PRINT_CONFIG": False}), Identity({"PRINT_CONFIG": False})]


def _evaluate(metric: Any, data: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return metric.combine_sequences({name: metric.eval_sequence(one) for name, one in data.items()})


def _trackeval_data(sequence: Sequence) -> dict[str, Any]:
    """Return what trackeval's `eval_sequence` takes; ids are numbered from 0 without gaps."""
    truth, tracks = _renumbered(sequence.truth_ids), _renumbered(sequence.track_ids)
    return {
        "gt_ids": truth,
        "tracker_ids": tracks,
        "similarity_scores": [box_iou(a, b) for a, b in zip(sequence.truth_boxes, sequence.track_boxes)],
        "num_timesteps": len(truth),
        **{f"num_{name}_dets": sum(map(len, ids)) for name, ids in (("gt", truth), ("tracker", tracks))},
        **{
            f"num_{name}_ids": len(np.unique(np.concatenate(ids))) for name, ids in (("gt", truth), ("tracker", tracks))
        },
    }


def _renumbered(ids: list[np.ndarray]) -> list[np.ndarray]:
    known = np.unique(np.concatenate(ids))
    return [np.searchsorted(known, some) for some in ids]
