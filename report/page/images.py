"""Crops of the page and its PNG files."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from ...common.pictures import BLUE, GREEN, GREY, RED, encode, fit, grid, labelled, pad, text_picture
from .components import MARKS, Strip

HEIGHT = 160  # of a crop, pixels
BOX = (HEIGHT, 100)  # of a crop in a PNG file
TITLE = 22  # height of a strip's title in a PNG file
FRAMES = {"right": GREEN, "wrong": RED, "junk": GREY, "query": BLUE, "plain": (208, 208, 208)}


def fitted(image: np.ndarray) -> np.ndarray:
    """Return the (H, W, 3) crop at the size of the page: at most 160 x 160 pixels, aspect ratio kept."""
    return fit(image, (HEIGHT, HEIGHT), enlarge=False)


def data_uri(image: np.ndarray) -> str:
    """Return the (H, W, 3) uint8 RGB image as the address of a JPEG file inside the page."""
    return f"data:image/jpeg;base64,{base64.b64encode(encode(image, '.jpg')).decode('ascii')}"


def sheet(strips: Sequence[Strip]) -> np.ndarray:
    """Return the strips below each other, each under its title, (H, W, 3) uint8 RGB on white."""
    rows = []
    for strip in strips:
        title = text_picture([strip.title], size=13)
        rows.append([pad(title, (TITLE, title.shape[1]))])
        rows.append([labelled(t.image, [MARKS[t.kind], *t.lines], BOX, FRAMES[t.kind]) for t in strip.tiles])
    return grid(rows)
