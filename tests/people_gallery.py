"""A gallery of some people for the tests of the page People: drawn crops, and a model that reads their number from a pixel."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np
from identity_crops import MODEL, crops
from PIL import Image, ImageDraw

from vitreid.gallery import Gallery, GalleryInfo
from vitreid.gallery.identities.person_columns import new_name, read_people, write_people

NUM_PEOPLE, IMAGES = 8, 20
FIRST = 28  # of the people of `crops`: these do not resemble each other


class NumberedCrops:
    """Returns the embedding of the crop whose number an image has in its first pixel."""

    fingerprint = MODEL

    def __init__(self):
        self.rows = crops(NUM_PEOPLE, IMAGES, first=FIRST)[0]

    def __call__(self, images, cameras):
        return self.rows[[int(image[0, 0, 0]) for image in images]]


def crop(number):
    """A figure in a coat, 96 x 48; the number is in the first pixel."""
    person, shift = number // IMAGES, number % IMAGES
    image = Image.new("RGB", (48, 96), (188 - 2 * shift, 190, 184 + 2 * shift))
    draw = ImageDraw.Draw(image)
    left = 10 + shift % 3
    coat, legs = (
        tuple(round(255 * part) for part in colorsys.hsv_to_rgb(person / NUM_PEOPLE * turns % 1, 0.7, value))
        for turns, value in ((1, 0.75), (7, 0.4))
    )
    draw.rectangle((left + 4, 56, left + 22, 90), fill=legs)
    draw.rounded_rectangle((left, 26, left + 26, 62), 6, fill=coat)
    draw.ellipse((left + 6, 6, left + 20, 24), fill="#e0b090")
    image.putpixel((0, 0), (number, 0, 0))
    return image


def make_people(root):
    """Make the gallery, 160 rows; the people of its column `person` are the true ones, but the last two are one."""
    rows, records = crops(NUM_PEOPLE, IMAGES, first=FIRST)
    (root / "crops").mkdir(parents=True)
    for number, record in enumerate(records):
        record["path"] = str(root / "crops" / f"{number}.png")
        crop(number).save(record["path"])
    gallery = Gallery.create(root / "G", GalleryInfo(MODEL, rows.shape[1], metric="cosine"))
    gallery.add(rows, records, MODEL)
    before, numbers = read_people(gallery), np.arange(len(rows)) // IMAGES
    names = np.array([new_name(before.keys[IMAGES * min(number, NUM_PEOPLE - 2)], set()) for number in numbers], object)
    write_people(gallery, before, replace(before, names=names))
    return gallery.path


def people_of(gallery):
    return np.array(gallery.select(["person"])["person"].to_pylist(), object)
