"""Pictures of pixels: crops, heat maps over crops, sheets of crops; as bytes of JPEG and PNG files."""

from __future__ import annotations

import base64

import cv2
import matplotlib
import numpy as np

MOST_PIXELS = 160  # height of a crop on the page
JPEG_QUALITY = 82


def fitted(image: np.ndarray, height: int = MOST_PIXELS) -> np.ndarray:
    """Return the (H, W, 3) image with at most `height` rows, its proportions kept and at most square."""
    factor = min(height / image.shape[0], height / image.shape[1])
    if factor >= 1:
        return image
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def to_jpeg(image: np.ndarray) -> bytes:
    """Return (H, W, 3) uint8 RGB as a JPEG file."""
    return cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[
        1
    ].tobytes()


def to_png(image: np.ndarray) -> bytes:
    """Return (H, W, 3) uint8 RGB as a PNG file."""
    return cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()


def data_uri(content: bytes, kind: str) -> str:
    """Return the file as text that stands inside a page."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def heat(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the (H, W, 3) image under a heat map of the patches' weights (h, w), scaled to the largest of them.

    Patches without a weight (NaN) are darkened. The more weight, the more of the map's colour hides the image.
    """
    outside = np.isnan(weights)
    known = np.where(outside, 0, weights)
    low, high = known[~outside].min(), known.max()
    scaled = (known - low) / (high - low) if high > low else np.zeros_like(known)
    size = image.shape[1], image.shape[0]
    filter_ = cv2.INTER_NEAREST if outside.any() else cv2.INTER_CUBIC
    large = cv2.resize(scaled.astype(np.float32), size, interpolation=filter_).clip(0, 1)
    colour = matplotlib.colormaps["inferno"](large)[..., :3] * 255
    share = 0.25 + 0.5 * large[..., None]
    mixed = image * (1 - share) + colour * share
    if outside.any():
        hidden = cv2.resize(outside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
        mixed[hidden] = image[hidden] * 0.3
    return mixed.round().astype(np.uint8)
