"""Colour jitter and grey against their definitions per image in Pillow and torchvision."""

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as V
from helpers import farthest, noise, seeded, smooth
from PIL import Image

from vitreid.datasets import Preprocess
from vitreid.datasets.augment.augment import Augment
from vitreid.datasets.augment.color_jitter import (
    draw_jitter,
    jitter_batch,
    jitter_colour,
    jitter_each,
    luma,
    make_grey,
    turn_hue,
)


def test_luma_is_pillows():
    for image, grey in zip(noise(), luma(noise()), strict=True):
        expected = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))
        np.testing.assert_array_equal(grey[0].numpy(), expected)


def test_grey_boxes_change_nothing_else():
    images = noise(3)
    before = images.clone()
    changed = make_grey(images, torch.tensor([[2, 3, 10, 5], [0, 0, 0, 0], [0, 0, 24, 12]]))
    assert torch.equal(images, before)
    inside = torch.zeros(24, 12, dtype=torch.bool)
    inside[2:12, 3:8] = True
    assert torch.equal(changed[0, :, ~inside], images[0, :, ~inside])
    assert torch.equal(changed[0, :, inside], luma(images[:1])[0, :, inside].expand(3, -1))
    assert torch.equal(changed[1], images[1])
    assert torch.equal(changed[2], luma(images[2:])[0].expand(3, -1, -1))


@pytest.mark.parametrize("shift", [-0.5, -0.2, 0.0, 0.07, 0.4])
def test_hue_is_turned_as_torchvision_does(shift):
    images = noise(16)
    changed = turn_hue(images.float(), torch.full((16, 1, 1, 1), shift))
    assert farthest(changed.round(), V.adjust_hue(images, shift)) <= 1


def test_hue_leaves_grey_alone():
    grey = noise()[:, :1].expand(-1, 3, -1, -1)
    assert torch.equal(turn_hue(grey.float(), torch.full((8, 1, 1, 1), 0.3)), grey.float())


ADJUST = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation, V.adjust_hue)


@pytest.mark.parametrize(("strength", "hue"), [(0.9, 0.4), (0.3, 0.0), (0.0, 0.5)])
def test_jitter_is_torchvisions_in_the_order_drawn(strength, hue):
    """Strong enough to reach black and white at each of the four steps."""
    images = torch.cat([noise(40), smooth(40)[..., :24, :12]])
    draws = draw_jitter(80, strength, hue, seeded())
    for image, (amounts, order), changed in zip(images, draws.tolist(), jitter_colour(images, draws), strict=True):
        expected = image / 255
        for turn in range(4):
            kind = int(order[turn])
            expected = ADJUST[kind](expected, amounts[kind])
        assert farthest(changed, 255 * expected) < 0.6  # its weights of grey have one digit more


def test_the_ways_of_processors_and_gpus_to_jitter_agree():
    images, draws = noise(40), draw_jitter(40, 0.5, 0.2, seeded())
    batched = jitter_batch(images, *draws.unbind(1))
    assert farthest(jitter_each(images, *draws.unbind(1)), batched) <= 1  # a rounding at most
    assert torch.equal(images, noise(40))


def test_each_image_draws_its_own_jitter():
    amounts, order = draw_jitter(4000, 0.3, 0.1, seeded()).unbind(1)
    low, high = torch.tensor([0.7, 0.7, 0.7, -0.1]), torch.tensor([1.3, 1.3, 1.3, 0.1])
    assert ((amounts >= low) & (amounts <= high)).all()
    torch.testing.assert_close(amounts.mean(0), (low + high) / 2, atol=0.01, rtol=0)
    _, counts = order.unique(dim=0, return_counts=True)
    assert len(counts) == 24 and counts.min() > 110  # each order as often as another


def test_jitter_keeps_grey():
    grey = noise(20)[:, :1].expand(-1, 3, -1, -1)
    changed = jitter_colour(grey, draw_jitter(20, 0.3, 0.5, seeded()))
    assert (changed == changed[:, :1]).all() and not torch.equal(changed, grey)


@pytest.mark.parametrize(("name", "places"), [("gray", 1.0), ("local_gray", 0.21)])
def test_share_of_grey_images_and_of_their_pixels(name, places):
    """2 to 40 % of the area, 21 % on average; the probability is that of an image."""
    images = noise(400, 64, 32)
    draws = Augment(Preprocess((64, 32)), **{name: 0.3}).draw(400, seeded())
    changed = make_grey(images, draws[name])
    grey = (changed == luma(images)).all(1).flatten(1).float().mean(1)  # share of grey pixels per image
    chosen = grey > 0.01
    assert chosen.float().mean() == pytest.approx(0.3, abs=0.05)
    assert grey[chosen].mean() == pytest.approx(places, abs=0.05)
    assert name == "gray" or grey[chosen].max() < 0.42


def test_grey_boxes_have_the_shapes_of_the_authors_code():
    """Gong et al. draw the aspect ratio evenly from 0.3 to 1 / 0.3, whatever the area, and try 100 times."""
    boxes = Augment(Preprocess((2048, 2048)), local_gray=1.0).draw(4000, seeded())["local_gray"].double()
    height, width = boxes[:, 2], boxes[:, 3]
    assert (height > 0).all()
    assert (height / width > 1).double().mean() == pytest.approx((1 / 0.3 - 1) / (1 / 0.3 - 0.3), abs=0.03)
