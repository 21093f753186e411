"""The optional augmentations against their per-image definitions in Pillow, torchvision and OpenCV."""

import math

import cv2
import numpy as np
import pytest
import torch
import torchvision.transforms.functional as V
from PIL import Image
from vitreid.configs import load_config
from vitreid.datasets import Preprocess
from vitreid.datasets.augment import color_jitter
from vitreid.datasets.augment.augment import Augment
from vitreid.datasets.augment.color_jitter import draw_jitter, jitter_colour, luma, make_grey, turn_hue
from vitreid.datasets.augment.trivial_augment import (
    COLOUR,
    POLICY,
    ROTATION,
    SHEAR,
    TRANSLATION,
    apply_policy,
    draw_policy,
)
from vitreid.datasets.data_builders import _build_augment

RAW = Preprocess((24, 12), mean=(0, 0, 0), std=(1 / 255,) * 3)
OFF = {"flip": 0, "padding": 0, "erase": 0}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(number=8, height=24, width=12):
    return torch.randint(0, 256, (number, 3, height, width), dtype=torch.uint8, generator=seeded(9))


def smooth(number=6, height=48, width=24):
    """Coloured gradients: small differences of position make small differences of value."""
    coarse = torch.rand(number, 3, 5, 4, generator=seeded(4)) * 200 + 20
    return (
        torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255).round().to(torch.uint8)
    )


def farthest(one, other):
    return (one.float() - torch.as_tensor(other).float()).abs().max().item()


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
    alike = color_jitter._jitter_batch(images, *draws.unbind(1))
    assert farthest(color_jitter._jitter_each(images, *draws.unbind(1)), alike) <= 1  # a rounding at most
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


ALL = {"jitter": 0.3, "hue": 0.2, "gray": 0.3, "local_gray": 0.5, "auto": 0.7}


def test_everything_together_by_parts_is_the_whole_and_spares_its_input():
    augment, images = Augment(Preprocess((24, 12)), padding=3, **ALL), noise(24)
    before, draws = images.clone(), augment.draw(24, seeded(2))
    whole = augment.apply(images, draws)
    assert torch.equal(images, before)
    assert torch.equal(whole, augment(images, seeded(2)))
    for part in (slice(0, 8), slice(8, 24)):
        torch.testing.assert_close(
            augment.apply(images[part], {name: drawn[part] for name, drawn in draws.items()}),
            whole[part],
            rtol=0,
            atol=0,
        )


@pytest.mark.parametrize("name", ALL)
def test_every_option_does_something_alone(name):
    images = noise(30)
    assert not torch.equal(Augment(RAW, **OFF, **{name: 0.5})(images, seeded()), images.float())
    assert torch.equal(Augment(RAW, **OFF)(images, seeded()), images.float())


def test_new_options_leave_the_draws_of_the_others_alone():
    plain, more = Augment(RAW).draw(8, seeded()), Augment(RAW, **{**ALL, "jitter": 0}).draw(8, seeded())
    assert all(torch.equal(plain[name], more[name]) for name in plain)


def test_the_options_are_those_of_the_config():
    words = [
        "INPUT.HUE_JITTER",
        "0.1",
        "INPUT.GRAY_PROB",
        "0.2",
        "INPUT.LOCAL_GRAY_PROB",
        "0.3",
        "INPUT.AUTO_AUGMENT_PROB",
        "0.4",
    ]
    augment = _build_augment(load_config(None, words), RAW)
    assert (augment.hue, augment.gray, augment.local_gray, augment.auto) == (0.1, 0.2, 0.3, 0.4)
    default = _build_augment(load_config(None, []), RAW)
    assert (default.hue, default.gray, default.local_gray, default.auto) == (0, 0, 0, 0)
