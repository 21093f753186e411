"""Remove what the embeddings of a camera have in common: its mean and spread, estimated from the gallery without labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...common.errors import choose
from ...labels.camera_norm import CAMERA_NORMS, FULL, OFF, check_counts
from ..input_checks import Features, Labels, as_label_pair, check_finite, pair_of_features, squared_norms


@torch.no_grad()
def normalise_cameras(
    query: Features, gallery: Features, q_camids: Labels, g_camids: Labels, mode: str = FULL
) -> tuple[Tensor, Tensor]:
    """Return queries and gallery as (x - mean) / spread of the gallery images of their camera, scaled to unit length.

    Camera-specific feature normalisation (ICLR 2025, arXiv:2502.10195). The spread is the standard deviation of each
    feature; a feature that is constant in a camera becomes 0.

    Args:
        query, gallery: (Q, D) and (G, D) embeddings.
        q_camids, g_camids: (Q,) and (G,) cameras, integers or names.
        mode: "full", "mean" = without the division, or "none" = return both unchanged.
    Returns:
        (Q, D) and (G, D) on the gallery's device.
    Raises:
        ValueError: a camera of a query or of the gallery has too few gallery images; an array has NaN or a wrong shape.
    """
    choose("camera normalisation", mode, CAMERA_NORMS)
    query, gallery = pair_of_features(query, gallery)
    if mode == OFF:
        return query, gallery
    for name, features in (("query", query), ("gallery", gallery)):
        check_finite(name, squared_norms(features))
    sides = as_label_pair("camids", q_camids, g_camids, len(query), len(gallery))
    cameras, places = np.unique(np.concatenate(sides), return_index=True)
    names = [str([*q_camids, *g_camids][place]) for place in places]
    check_counts(zip(names, [int((sides[1] == one).sum()) for one in cameras], strict=True), "camera normalisation")
    found = torch.empty_like(query), torch.empty_like(gallery)
    for camera in cameras:
        rows = [torch.from_numpy(np.flatnonzero(side == camera)).to(gallery.device) for side in sides]
        mean, spread = camera_statistics(gallery[rows[1]], mode)
        for features, normalised, own in zip((query, gallery), found, rows, strict=True):
            normalised[own] = normalize((features[own] - mean) / spread)
    return found


def camera_statistics(features: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    """Return mean and spread, (D,) each, of the embeddings (N, D) of a camera; the spread is 1 where it is 0 or not asked for."""
    mean = features.mean(0)
    spread = features.std(0, correction=0) if mode == FULL else torch.ones_like(mean)
    return mean, spread.where(spread > 0, torch.ones_like(spread))
