"""Random flip, zero padding, random crop and normalisation, in one pass over the pixels."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from ..loading.buffer_pool import BATCHES
from ..loading.preprocess import Preprocess


def cut_windows(images: Tensor, flipped: Tensor, corners: Tensor, padding: int, preprocess: Preprocess) -> Tensor:
    """Flip some images, pad all with black, crop a window of the original size, and normalise.

    Args:
        images: (B, 3, H, W) uint8; unchanged.
        flipped: (B,) bool, on the CPU.
        corners: (B, 2) int64 top and left of the window in the padded image, 0 to 2 * padding, on the CPU.
        padding: pixels per side.
    Returns:
        (B, 3, H, W) float32 on the images' device, the same numbers on each.
    """
    cut = cut_on_cpu if images.device.type == "cpu" else cut_on_device
    return cut(images, flipped, corners - padding, preprocess)


def normalise(images: Tensor, preprocess: Preprocess) -> Tensor:
    """Return (B, 3, H, W) uint8 as normalised float32 on the same device, without further threads."""
    if images.device.type != "cpu":
        return preprocess.normalise(images)
    none = torch.zeros(len(images), 2, dtype=torch.int64)
    return cut_on_cpu(images, none[:, 0].bool(), none, preprocess)


def cut_on_cpu(images: Tensor, flipped: Tensor, shifts: Tensor, preprocess: Preprocess) -> Tensor:
    """Process image by image: one image fits the CPU's cache."""
    crops = torch.from_numpy(BATCHES.empty(images.shape, np.float32))
    scale, shift = (values.numpy().reshape(3, 1) for values in preprocess.scale_and_shift())
    pixels = images.contiguous().numpy()
    window = np.empty_like(pixels[0])
    for image, crop, mirrored, (down, right) in zip(pixels, crops.numpy(), flipped.tolist(), shifts.tolist()):
        if mirrored:
            image = cv2.flip(image.reshape(-1, image.shape[-1]), 1).reshape(image.shape)
        if down or right:
            image = _shifted(image, down, right, window)
        flat = crop.reshape(3, -1)
        flat[:] = image.reshape(3, -1)
        flat *= scale
        flat -= shift
    return crops


def _shifted(image: np.ndarray, down: int, right: int, window: np.ndarray) -> np.ndarray:
    """Fill `window` with the image moved up by `down` and left by `right` pixels, black outside."""
    height, width = image.shape[1:]
    top, bottom = _overlap(down, height)
    left, end = _overlap(right, width)
    window.fill(0)
    window[:, top:bottom, left:end] = image[:, top + down : bottom + down, left + right : end + right]
    return window


def _overlap(shift: int, size: int) -> tuple[int, int]:
    """Return the start and end of the rows (or columns) of the window that lie inside the image."""
    first = min(size, max(0, -shift))
    return first, max(first, min(size, size - shift))


def cut_on_device(images: Tensor, flipped: Tensor, shifts: Tensor, preprocess: Preprocess) -> Tensor:
    """Gather all images with one index, for GPUs."""
    number, height, width = len(images), images.shape[-2], images.shape[-1]
    on_gpu = images.device.type == "cuda"  # on other devices the copy could read memory that is already freed
    flipped, shifts = (values.to(images.device, non_blocking=on_gpu) for values in (flipped, shifts))
    rows = shifts[:, :1] + torch.arange(height, device=images.device)  # (B, H)
    columns = shifts[:, 1:] + torch.arange(width, device=images.device)  # (B, W)
    inside = _within(rows, height)[:, None, :, None] & _within(columns, width)[:, None, None, :]
    columns = torch.where(flipped[:, None], width - 1 - columns, columns)
    picked = images[
        torch.arange(number, device=images.device)[:, None, None, None],
        torch.arange(3, device=images.device)[:, None, None],
        rows.clamp(0, height - 1)[:, None, :, None],
        columns.clamp(0, width - 1)[:, None, None, :],
    ]
    return preprocess.normalise(picked * inside)


def _within(places: Tensor, size: int) -> Tensor:
    return (places >= 0) & (places < size)
