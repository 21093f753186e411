"""The changes of TrivialAugment against their definitions per image in torchvision and OpenCV."""

import math

import cv2
import numpy as np
import pytest
import torch
import torchvision.transforms.functional as V
from helpers import farthest, noise, seeded, smooth

from vitreid.datasets.augment.trivial_augment import (
    COLOUR,
    POLICY,
    ROTATION,
    SHEAR,
    TRANSLATION,
    apply_policy,
    draw_policy,
)


def change(name, strength, images):
    row = list(POLICY).index(name)
    return apply_policy(images, torch.tensor([[row, strength]] * len(images)))


def warped(image, matrix):
    """One image by OpenCV, whose matrix sends new pixels to old ones in pixels from the corner."""
    centre = np.array([(image.shape[-1] - 1) / 2, (image.shape[-2] - 1) / 2])
    linear, shift = matrix[:, :2], matrix[:, 2]
    full = np.concatenate([linear, (centre + shift - linear @ centre)[:, None]], 1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    planes = image.permute(1, 2, 0).numpy()
    return cv2.warpAffine(planes, full, planes.shape[1::-1], flags=flags, borderValue=(0, 0, 0)).transpose(2, 0, 1)


@pytest.mark.parametrize("strength", [-1.0, 0.3, 0.9])
@pytest.mark.parametrize("name", ["rotate", "shear x", "shear y", "translate x", "translate y"])
def test_shapes_change_as_opencv_changes_them(name, strength):
    images, angle = smooth(), math.radians(ROTATION) * strength
    matrix = {
        "rotate": [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]],
        "shear x": [[1, SHEAR * strength, 0], [0, 1, 0]],
        "shear y": [[1, 0, 0], [SHEAR * strength, 1, 0]],
        "translate x": [[1, 0, TRANSLATION * 24 * strength], [0, 1, 0]],
        "translate y": [[1, 0, 0], [0, 1, TRANSLATION * 48 * strength]],
    }[name]
    for changed, image in zip(change(name, strength, images), images, strict=True):
        difference = (changed.float() - torch.from_numpy(warped(image, np.array(matrix))).float()).abs()
        assert difference.quantile(0.99) <= 4 and difference.mean() < 1  # OpenCV's places are 1/32 pixel apart


@pytest.mark.parametrize("strength", [-0.9, 0.0, 0.6])
@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("brightness", lambda image, s: V.adjust_brightness(image, 1 + COLOUR * s)),
        ("contrast", lambda image, s: V.adjust_contrast(image, 1 + COLOUR * s)),
        ("saturation", lambda image, s: V.adjust_saturation(image, 1 + COLOUR * s)),
        ("sharpness", lambda image, s: V.adjust_sharpness(image, 1 + s)),
        ("posterize", lambda image, s: V.posterize(image, 7 - min(3, int(4 * abs(s))))),
        ("solarize", lambda image, s: torch.where(image > 255 - 127 * abs(s), 255 - image, image)),
        ("autocontrast", lambda image, s: V.autocontrast(image)),
    ],
)
def test_colours_change_as_torchvision_changes_them(name, twin, strength):
    """1 level apart at most: torchvision cuts fractions off, we round."""
    for images in (noise(), smooth()):
        expected = torch.stack([twin(image, strength) for image in images])
        assert farthest(change(name, strength, images), expected) <= 1


def test_each_image_draws_its_own_change_and_strength():
    drawn = draw_policy(6000, 0.5, seeded())
    kinds, strengths = drawn.T
    assert (kinds == -1).float().mean() == pytest.approx(0.5, abs=0.03)
    for row in range(len(POLICY)):
        assert (kinds == row).float().mean() == pytest.approx(0.5 / len(POLICY), abs=0.012)
    assert strengths.min() < -0.99 and strengths.max() > 0.99 and strengths.mean().abs() < 0.03


def test_images_without_a_change_stay():
    images = noise(40)
    drawn = draw_policy(40, 0.5, seeded())
    changed = apply_policy(images, drawn)
    stays = drawn[:, 0] == -1
    assert torch.equal(changed[stays], images[stays])
    assert sum(not torch.equal(a, b) for a, b in zip(changed[~stays], images[~stays])) > 0.8 * (~stays).sum()
