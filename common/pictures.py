"""Pictures as (H, W, 3) uint8 RGB arrays: fit into a box, label, join into a sheet, overlay a heat map, encode as a file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from .errors import UserError
from .inputs.image_header import refusal

Color = tuple[int, int, int]  # RGB
# Frames mean the same in sheets, reports and the gallery's page. Green: the person; by their labels, else within the threshold.
# Red: another person, by the labels. Grey: not decided, such as a distance beyond the threshold, or junk. Blue: the query.
GREEN, RED, GREY, BLUE = (46, 158, 79), (204, 59, 48), (154, 154, 154), (47, 111, 208)
INK, WHITE, EMPTY = (32, 36, 43), 255, 228
FRAME, LINE, GAP = 4, 15, 6  # pixels: width of a frame, height of a line of text, space between pictures
BLUR_SIDE = 16  # pixels that a blurred image keeps along its longer side
FONT_SIZE = 11
ORIENTATION = 0x0112  # tag of EXIF; 1 = upright
JPEG_QUALITY = 82


def fit(image: np.ndarray, box: tuple[int, int], enlarge: bool = True) -> np.ndarray:
    """Return the image as large as it fits into `box`, aspect ratio kept.

    Args:
        box: (height, width) in pixels.
        enlarge: scale small images up; otherwise return them unchanged.
    """
    factor = min(box[0] / image.shape[0], box[1] / image.shape[1])
    if factor == 1 or (factor > 1 and not enlarge):
        return image
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    filter_ = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=filter_)


def pad(image: np.ndarray, box: tuple[int, int], fill: int = WHITE) -> np.ndarray:
    """Return the image in the upper left corner of `box` (height, width), the rest filled with one grey level."""
    missing = [(0, side - own) for side, own in zip(box, image.shape)]
    return np.pad(image, (*missing, (0, 0)), constant_values=fill)


def text_picture(lines: Sequence[str], width: int | None = None, size: int = FONT_SIZE) -> np.ndarray:
    """Return lines of text on white, (num_lines * (size + 4), width, 3).

    Args:
        width: a longer line loses characters in the middle, because names differ at their ends; None = as wide as needed.
        size: of the font, pixels.
    """
    font, height = _font(size), size + LINE - FONT_SIZE
    if width is not None:
        lines = [_shortened(line, font, width - 4) for line in lines]
    needed = max((int(font.getlength(line)) + 4 for line in lines), default=0)
    canvas = Image.new("RGB", (width or needed, height * len(lines)), "white")
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        draw.text((2, number * height), line, INK, font)
    return np.asarray(canvas)


def _shortened(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Return the line with "…" in place of as many characters of its middle as do not fit."""
    kept = len(line)
    shown = line
    while kept > 1 and font.getlength(shown) > width:
        kept -= 1
        shown = f"{line[: kept // 2]}…{line[len(line) - (kept + 1) // 2 :]}"
    return shown


def wrapped(text: str, width: int, most_lines: int = 2, size: int = FONT_SIZE) -> list[str]:
    """Return the text as lines of at most `width` pixels, broken between words; the last line holds all the rest.

    >>> wrapped("corridor 3rd floor", 64)
    ['corridor', '3rd floor']
    """
    font, lines = _font(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or len(lines) == most_lines or font.getlength(longer) <= width - 4:
            lines[-1] = longer
        else:
            lines.append(word)
    return [_shortened(line, font, width - 4) for line in lines]


def labelled(image: np.ndarray | None, lines: Sequence[str], box: tuple[int, int], frame: Color) -> np.ndarray:
    """Return the image in a frame above lines of text, with a gap to the right and below; None = an empty box."""
    shown = _blank(box) if image is None else fit(image, box)
    framed = cv2.copyMakeBorder(shown, FRAME, FRAME, FRAME, FRAME, cv2.BORDER_CONSTANT, value=frame)
    width = box[1] + 2 * FRAME
    text = text_picture([part for line in lines if line for part in wrapped(line, width)], width)
    width += GAP
    return np.vstack([pad(framed, (box[0] + 2 * FRAME, width)), pad(text, (text.shape[0] + GAP, width))])


def _blank(box: tuple[int, int]) -> np.ndarray:
    text, half = np.minimum(text_picture(["no picture"], box[1]), EMPTY), box[0] // 2
    return np.vstack([np.full((half, box[1], 3), EMPTY, np.uint8), pad(text, (box[0] - half, box[1]), EMPTY)])


def grid(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Return one picture of rows of pictures, each row as high as its highest picture, on white."""
    bands = []
    for row in rows:
        height = max(image.shape[0] for image in row)
        bands.append(np.hstack([pad(image, (height, image.shape[1])) for image in row]))
    width = max(band.shape[1] for band in bands)
    return np.vstack([pad(band, (band.shape[0], width)) for band in bands])


def blurred(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) uint8 of the same size of which only BLUR_SIDE pixels along the longer side are left.

    The rest is gone, not hidden: colours of clothes stay visible, a face does not.
    """
    height, width = image.shape[:2]
    scale = BLUR_SIDE / max(height, width, BLUR_SIDE)
    small = cv2.resize(
        image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def heat_map(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the image under a heat map (inferno) of patch weights (h, w), scaled from their minimum to their maximum.

    The larger a weight, the more its colour covers the image. Patches without a weight (NaN) are darkened.
    """
    outside = np.isnan(weights)
    known = np.where(outside, 0, weights)
    low, high = known[~outside].min(), known.max()
    scaled = (known - low) / (high - low) if high > low else np.zeros_like(known)
    size = image.shape[1], image.shape[0]
    filter_ = cv2.INTER_NEAREST if outside.any() else cv2.INTER_CUBIC
    large = cv2.resize(scaled.astype(np.float32), size, interpolation=filter_).clip(0, 1)
    levels = np.minimum(large * 256, 255).astype(np.uint8)
    colors = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]  # BGR -> RGB
    share = 0.25 + 0.5 * large[..., None]
    mixed = image * (1 - share) + colors * share
    if outside.any():
        hidden = cv2.resize(outside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
        mixed[hidden] = image[hidden] * 0.3
    return mixed.round().astype(np.uint8)


def encode(image: np.ndarray, suffix: str = ".png") -> bytes:
    """Return the content of an image file.

    Raises:
        cv2.error, ValueError: OpenCV writes no file of this suffix.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix in (".jpg", ".jpeg") else []
    done, content = cv2.imencode(suffix, np.ascontiguousarray(image[..., ::-1]), options)
    if not done:
        raise ValueError(f"OpenCV cannot write {suffix}")
    return content.tobytes()


def check_picture_name(option: str, path: str | Path) -> str:
    """Return the suffix of a picture that is to be written; PNG for a name without one.

    Args:
        option: what chose the name, for the message.
    Raises:
        UserError: OpenCV writes no file of this kind.
    """
    suffix = Path(path).suffix or ".png"
    try:
        encode(np.zeros((1, 1, 3), np.uint8), suffix.lower())
    except (cv2.error, ValueError):
        raise UserError(
            f"{option}: cannot write a picture called {str(path)!r}; choose a name that ends in .png, .jpg or .webp"
        ) from None
    return suffix.lower()


def decode(content: bytes) -> np.ndarray | None:
    """Return the content of an image file as pixels; None if OpenCV cannot read it, or if it is too large to be decoded."""
    if not content or refusal(content):
        return None
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def from_pil(image: Image.Image) -> np.ndarray:
    """Return a PIL image as OpenCV reads its file: upright, the upper 8 of 16 bits, transparency ignored."""
    with suppress(Exception):  # damaged EXIF data around a sound image: take the image as it is stored
        if image.getexif().get(ORIENTATION, 1) != 1:  # else the library would copy the image
            image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey, which `convert` would clip
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def cut_box(frame: np.ndarray, x: float, y: float, width: float, height: float) -> np.ndarray:
    """Return the part of the frame inside a box, (h, w, 3), without a copy; empty if the box lies outside.

    Args:
        x, y, width, height: upper left corner and size of the box, pixels; it may extend over the frame's border.
    """
    left, top, right, bottom = (max(0, round(edge)) for edge in (x, y, x + width, y + height))
    return frame[top:bottom, left:right]


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans from matplotlib's files: it is on every machine and has the marks of the report.

    The file is found without importing matplotlib, which takes 0.1 s.
    """
    (folder,) = find_spec("matplotlib").submodule_search_locations  # type: ignore[union-attr, misc]
    return ImageFont.truetype(str(Path(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")), size)  # Pillow < 10.1
