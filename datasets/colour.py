"""Changes of colour, each image by numbers of its own."""

from __future__ import annotations

import torch
from torch import Tensor

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as in torchvision


def jitter_colour(images: Tensor, factors: Tensor) -> Tensor:
    """Scale brightness, contrast and saturation of each image by its factors, in this order.

    The three are linear in a pixel's colour, so they are one 3 x 3 matrix and one constant per image.

    Args:
        images: (B, 3, H, W) uint8.
        factors: (B, 3) of brightness, contrast, saturation, on the CPU; 1 = no change.
    Returns:
        (B, 3, H, W) uint8.
    """
    brightness, contrast, saturation = factors.T[..., None, None]  # (B, 1, 1) each
    grey = torch.tensor(GREY).expand(3, 3)  # each row turns a colour into its luma
    matrix = contrast * brightness * (saturation * torch.eye(3) + (1 - saturation) * grey)  # (B, 3, 3)
    constant = (1 - contrast) * brightness  # (B, 1, 1), of the image's mean luma
    pixels = images.flatten(2).float()  # (B, 3, H * W)
    mean = grey.to(images.device) @ pixels.mean(2, keepdim=True)  # (B, 3, 1)
    changed = torch.baddbmm(constant.to(images.device) * mean, matrix.to(images.device), pixels)
    return changed.round_().clamp_(0, 255).to(torch.uint8).view_as(images)


def shift_hue(images: Tensor, shifts: Tensor) -> Tensor:
    """Turn the hue of each image; brightness and saturation (of HSV) stay.

    Args:
        images: (B, 3, H, W) uint8.
        shifts: (B,) as shares of the colour circle, -0.5 to 0.5, on the CPU.
    Returns:
        (B, 3, H, W) uint8.
    """
    red, green, blue = images.float().unbind(1)  # (B, H, W) each
    value, lowest = images.amax(1).float(), images.amin(1).float()
    chroma = value - lowest
    safe = chroma.clamp(min=1)  # grey has no hue, and gets none back
    hue = torch.where(value == red, (green - blue) / safe, (blue - red) / safe + 2)
    hue = torch.where((value == blue) & (value != red) & (value != green), (red - green) / safe + 4, hue)
    hue = hue + 6 * shifts.to(images.device)[:, None, None]  # in sixths of the circle
    sides = torch.tensor([5.0, 3.0, 1.0], device=images.device).view(3, 1, 1)
    place = (hue[:, None] + sides) % 6  # (B, 3, H, W)
    changed = value[:, None] - chroma[:, None] * torch.minimum(place, 4 - place).clamp(0, 1)
    return changed.round_().to(torch.uint8)


def make_grey(images: Tensor, boxes: Tensor) -> Tensor:
    """Replace the colours in a box of each image by their luma, rounded as Pillow does.

    Args:
        images: (B, 3, H, W) uint8; unchanged.
        boxes: (B, 4) int64 top, left, height, width, on the CPU; height 0 = no box.
    Returns:
        (B, 3, H, W) uint8.
    """
    chosen = boxes[:, 2].nonzero().flatten()
    top, left, height, width = boxes[chosen].to(images.device).T[..., None]  # (b, 1) each
    rows, columns = (torch.arange(size, device=images.device) for size in images.shape[-2:])
    in_rows, in_columns = (rows >= top) & (rows < top + height), (columns >= left) & (columns < left + width)
    chosen = chosen.to(images.device)
    picked = images.index_select(0, chosen)
    inside = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    return images.index_copy(0, chosen, torch.where(inside, luma(picked), picked))


def luma(images: Tensor) -> Tensor:
    """Return (B, 1, H, W) uint8 of (B, 3, H, W) uint8, in whole numbers: the same on every device."""
    red, green, blue = images.to(torch.int32).unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16).to(torch.uint8)[:, None]
