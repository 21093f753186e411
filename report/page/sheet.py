"""Rows of crops as one picture, for a PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .components import MARKS, Strip, Tile

CROP = (160, 100)  # height and width of the place of a crop, pixels
FRAME, LINE, GAP, TITLE = 4, 15, 6, 24  # pixels
FRAMES = {"right": "#2e9e4f", "wrong": "#cc3b30", "junk": "#9a9a9a", "query": "#2f6fd0", "plain": "#d0d0d0"}
INK, EMPTY = "#20242b", "#e4e4e4"


def sheet(strips: Sequence[Strip]) -> np.ndarray:
    """Return the strips below each other, each under its title, (H, W, 3) uint8 RGB on white."""
    bands = [_band(strip) for strip in strips]
    width = max(band.width for band in bands)
    canvas = Image.new("RGB", (width, sum(band.height for band in bands)), "white")
    top = 0
    for band in bands:
        canvas.paste(band, (0, top))
        top += band.height
    return np.asarray(canvas)


def _band(strip: Strip) -> Image.Image:
    tiles = [_tile(tile) for tile in strip.tiles]
    font = _font(13)
    width = max(sum(tile.width for tile in tiles), int(font.getlength(strip.title)) + 2 * GAP)
    band = Image.new("RGB", (width, TITLE + max(tile.height for tile in tiles)), "white")
    ImageDraw.Draw(band).text((GAP, 5), strip.title, INK, font)
    left = 0
    for tile in tiles:
        band.paste(tile, (left, TITLE))
        left += tile.width
    return band


def _tile(tile: Tile) -> Image.Image:
    """Return a framed crop above its mark and lines of text."""
    lines = [line for line in (MARKS[tile.kind], *tile.lines) if line]
    font = _font(11)
    inner = max(CROP[1], *(int(font.getlength(line)) + 2 for line in lines)) if lines else CROP[1]
    height = CROP[0] + 2 * FRAME
    canvas = Image.new("RGB", (inner + 2 * FRAME + GAP, height + LINE * len(lines) + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    crop = _crop(tile.image)
    left, top = (inner - crop.width) // 2 + FRAME, (CROP[0] - crop.height) // 2 + FRAME
    draw.rectangle(
        (left - FRAME, top - FRAME, left + crop.width + FRAME - 1, top + crop.height + FRAME - 1), FRAMES[tile.kind]
    )
    canvas.paste(crop, (left, top))
    for number, line in enumerate(lines):
        draw.text((left - FRAME, height + number * LINE), line, INK, font)
    return canvas


def _crop(pixels: np.ndarray | None) -> Image.Image:
    if pixels is None:
        blank = Image.new("RGB", (CROP[1] * 3 // 4, CROP[0]), EMPTY)
        ImageDraw.Draw(blank).text((6, CROP[0] // 2 - 8), "no picture", INK, _font(11))
        return blank
    image = Image.fromarray(pixels)
    factor = min(CROP[0] / image.height, CROP[1] / image.width)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.BOX)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font that comes with matplotlib: it has the marks, and is on every machine."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
