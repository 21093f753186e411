"""The inputs that an exported model can take, and their conversion to the input of the trained network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from ..datasets import Preprocess

INPUTS = {
    "normalised": "float32 RGB, (pixel / 255 - mean) / std with the checkpoint's own mean and std",
    "pixels": "uint8 RGB, 0-255; normalised inside",
    "imagenet": "float32 RGB, (pixel / 255 - mean) / std with ImageNet's mean and std; converted inside",
    "unit": "float32 RGB, 0-1; normalised inside",
    "bytes": "float32 RGB, 0-255; normalised inside",
}
WHOLE = ("pixels", "bytes")  # the caller gives pixels from 0 to 255


def as_input(planes: np.ndarray, kind: str, preprocess: Preprocess) -> np.ndarray:
    """Return (B, 3, H, W) uint8 RGB planes as an input of this kind, a key of `INPUTS`."""
    if kind in WHOLE:
        return planes if kind == "pixels" else planes.astype(np.float32)
    return outer_preprocess(kind, preprocess).normalise(torch.from_numpy(planes)).numpy()


def outer_preprocess(kind: str, preprocess: Preprocess) -> Preprocess:
    """Return the normalisation done by the caller of the model: the checkpoint's, ImageNet's, or only that to 0-1."""
    usual = {"imagenet": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD), "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))}
    mean, std = usual.get(kind, (preprocess.mean, preprocess.std))
    return replace(preprocess, mean=mean, std=std)


def conversion(kind: str, preprocess: Preprocess) -> tuple[Tensor, Tensor] | None:
    """Return scale and shift, each (3, 1, 1) float32, from the input to normalised pixels; None = no conversion needed."""
    mean, std = (np.asarray(values, np.float64) for values in (preprocess.mean, preprocess.std))
    if kind in WHOLE:
        scale, shift = 1 / (255 * std), -mean / std
    else:
        outer = outer_preprocess(kind, preprocess)
        scale = np.asarray(outer.std) / std
        shift = (np.asarray(outer.mean) - mean) / std
    if np.array_equal(scale, np.ones(3)) and not shift.any():
        return None
    as_planes = (torch.from_numpy(values.astype(np.float32)).view(3, 1, 1) for values in (scale, shift))
    return next(as_planes), next(as_planes)


def describe(kind: str, preprocess: Preprocess, cameras: tuple[str, ...] | None) -> dict[str, Any]:
    """Return the description of the inputs, in plain types.

    Args:
        cameras: names of the cameras that the second input numbers, None without that input.
    """
    outer = outer_preprocess(kind, preprocess)
    facts: dict[str, Any] = {
        "images": INPUTS[kind],
        "layout": "N x 3 x H x W, RGB",
        "size": list(preprocess.size),
        "interpolation": preprocess.interpolation,
        "dtype": "uint8" if kind == "pixels" else "float32",
    }
    if kind not in WHOLE:
        facts |= {"mean": list(outer.mean), "std": list(outer.std)}
    if cameras is not None:
        last = len(cameras) - 1
        facts["cameras"] = f"int64, 0 to {last}: position in the list of cameras; any other number = unknown"
    return facts
