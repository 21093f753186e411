"""Multi-crop views: windows of the drawn sizes, the pixels that torchvision would cut, the same numbers from the same seed."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import farthest, noise, seeded, smooth
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from vitreid.datasets import MultiCrop, Preprocess
from vitreid.datasets.augment.blur import draw_sigmas, gaussian_blur, solarize
from vitreid.datasets.augment.multi_crop import ViewColours, cut_and_resize, draw_windows

PLAIN = ViewColours(jitter=0, hue=0, gray=0, blur=False, solarize=0)
RAW = {"mean": (0, 0, 0), "std": (1 / 255,) * 3}  # normalised values are those of the pixels


def windows(*rows: tuple[float, float, float, float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


@pytest.mark.parametrize("scale", [(0.4, 1.0), (0.05, 0.4), (0.3, 0.3)])
def test_windows_have_the_drawn_area_and_lie_inside_the_image(scale):
    top, left, height, width = draw_windows(2000, scale, seeded()).unbind(1)
    assert (
        (top >= 0).all() and (left >= 0).all() and (top + height <= 1 + 1e-6).all() and (left + width <= 1 + 1e-6).all()
    )
    area = height * width
    assert (area >= scale[0] - 1e-5).all() and (area <= scale[1] + 1e-5).all()
    assert ((width / height).log().abs() <= math.log(4 / 3) + 1e-5).all()
    assert area.std() > 0.2 * (scale[1] - scale[0]), "areas are spread over the range"


def test_the_whole_image_is_itself_and_its_mirror_image():
    images = noise(2)
    flipped = torch.tensor([False, True])
    views = cut_and_resize(images.float(), windows((0, 0, 1, 1), (0, 0, 1, 1)), flipped, (24, 12))
    assert torch.equal(views[0], images[0]) and torch.equal(views[1], images[1].flip(-1))


def test_a_window_has_the_pixels_that_torchvision_cuts():
    """At whole pixels; torchvision reads no pixel outside the window, so the border of the view may differ."""
    images = smooth(1, 48, 24)
    view = cut_and_resize(images.float(), windows((12 / 48, 6 / 24, 24 / 48, 12 / 24)), torch.tensor([False]), (48, 24))
    theirs = tv.resized_crop(
        images, 12, 6, 24, 12, [48, 24], interpolation=v2.InterpolationMode.BILINEAR, antialias=False
    )
    assert farthest(view[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2]) <= 1


def test_views_have_their_sizes_and_order():
    """The first B rows are the first large crop of each image; with the whole image as window all large crops are it."""
    images = noise(3)
    crops = MultiCrop(
        Preprocess((24, 12), **RAW), (16, 8), 4, global_scale=(1, 1), local_scale=(0.1, 0.4), flip=0, colours=PLAIN
    )
    large, small = crops(images, seeded())
    assert large.shape == (6, 3, 24, 12) and small.shape == (12, 3, 16, 8)
    whole = (draw_windows(3, (1, 1), seeded())[:, 2:] == 1).all(1)  # 4/3 of the aspect does not fit
    for row in whole.nonzero().flatten():
        assert farthest(large[row], images[row]) == 0


def test_one_seed_draws_the_same_views_and_each_crop_is_another():
    images, crops = smooth(4), MultiCrop(Preprocess((48, 24)), (24, 12), 2)
    first, again = crops(images, seeded(1)), crops(images, seeded(1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    large, small = first
    assert not torch.equal(large[:4], large[4:]) and not torch.equal(small[:4], small[4:])
    assert images.dtype == torch.uint8 and torch.equal(images, smooth(4)), "the images stay"


def test_no_small_crops_are_an_empty_batch():
    large, small = MultiCrop(Preprocess((24, 12)), (16, 8), 0)(noise(2), seeded())
    assert len(large) == 4 and small.shape == (0, 3, 16, 8)


def test_blur_is_torchvisions_with_each_images_deviation():
    images, sigmas = smooth(3), torch.tensor([0.0, 0.8, 1.5])
    blurred = gaussian_blur(images, sigmas)
    assert torch.equal(blurred[0], images[0])
    for row in (1, 2):
        theirs = tv.gaussian_blur(images[row], [11, 11], [float(sigmas[row])])  # it mirrors the border, this repeats it
        assert farthest(blurred[row, :, 6:-6, 6:-6], theirs[:, 6:-6, 6:-6]) <= 1


def test_blur_is_drawn_with_its_probability_and_scaled_to_the_height():
    sigmas = draw_sigmas(4000, 128, 0.25, seeded())
    assert 0.2 < (sigmas > 0).float().mean() < 0.3
    assert sigmas[sigmas > 0].min() >= 0.05 and sigmas.max() <= 1.0


def test_solarize_is_torchvisions():
    images = noise(2)
    inverted = solarize(images, torch.tensor([True, False]))
    assert torch.equal(inverted[0], tv.solarize(images[0], 128)) and torch.equal(inverted[1], images[1])
