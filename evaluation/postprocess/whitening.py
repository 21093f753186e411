"""Whiten embeddings: directions in which all embeddings vary much count less, so that those that distinguish people count more."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...common.errors import UserError
from ..input_checks import Features, as_features, check_finite, squared_norms

BLOCK = 2**16  # rows that are float64 at once
ROUNDING = 1e-12  # of the mean: what float64 sums of equal rows can differ by
LEAST_SPREAD = 1e-3  # of the largest one: smaller ones are noise of rounding, which whitening would raise


@torch.no_grad()
def whiten(features: Features, power: float = 0.5) -> Tensor:
    """Return embeddings along their principal axes, each divided by its standard deviation to the power `power`, at unit length.

    Power 1 is PCA whitening (Jégou & Chum, ECCV 2012); smaller ones attenuate it (Mukundan et al., GCPR 2017, arXiv:1707.07825).

    Args:
        features: (N, D) embeddings on a CPU or a CUDA device; the principal axes are computed from them.
        power: 0 to 1; 0 only removes the mean.
    Returns:
        (N, D) float32 on the features' device.
    Raises:
        ValueError: `power` is out of range, or the features hold NaN.
    """
    if not 0 <= power <= 1:
        raise UserError(f"power: takes a number from 0 to 1, got {power}")
    features = as_features("features", features)
    check_finite("features", squared_norms(features))
    mean = sum(block.double().sum(0) for block in features.split(BLOCK)) / len(features)
    products = (_product(block.double() - mean) for block in features.split(BLOCK))
    variances, axes = torch.linalg.eigh(sum(products) / len(features))
    spreads = variances.clamp(min=0).sqrt()
    found = torch.zeros_like(features, dtype=torch.float32)
    if spreads.max() > ROUNDING * mean.abs().max():  # else all embeddings are equal
        scales = spreads.clamp(min=LEAST_SPREAD * spreads.max()) ** power
        for block, whitened in zip(features.split(BLOCK), found.split(BLOCK), strict=True):
            whitened.copy_(normalize((block.double() - mean) @ axes / scales))
    return found


def _product(rows: Tensor) -> Tensor:
    return rows.T @ rows
