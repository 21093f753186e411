"""Augmentation: each image draws its own numbers; the batched operations do what the per-image ones would."""

from functools import partial

import helpers
import pytest
import torch
from helpers import seeded

from vitreid.configs import load_config
from vitreid.datasets import Preprocess
from vitreid.datasets.augment.augment import Augment
from vitreid.datasets.augment.crop import cut_on_cpu, cut_on_device, cut_windows
from vitreid.datasets.augment.random_erasing import draw_boxes, draw_erasures, erase
from vitreid.datasets.data_builders import build_augment


def augmented(images, seed=0, **options):
    """Return the images after the operations named alone, on the scale of 0-255."""
    raw = Preprocess(tuple(images.shape[-2:]), mean=(0, 0, 0), std=(1 / 255,) * 3)
    return Augment(raw, **{"flip": 0, "padding": 0, "erase": 0, **options})(images, seeded(seed))


def erased(images, mode):
    erase(images, draw_erasures(len(images), tuple(images.shape[-2:]), 1.0, seeded()), mode)


noise = partial(helpers.noise, low=1)  # black is left to what was erased


def test_normalise_maps_black_and_white_as_the_paper():
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 2)
    black, white = Preprocess((4, 2)).normalise(images)
    torch.testing.assert_close(black, torch.full((3, 4, 2), -1.0))
    torch.testing.assert_close(white, torch.full((3, 4, 2), 1.0))


def test_normalise_leaves_its_input_alone():
    pixels = noise().float()
    before = pixels.clone()
    Preprocess((24, 12)).normalise(pixels)
    assert torch.equal(pixels, before)


def test_normalise_is_per_channel():
    preprocess = Preprocess((2, 2), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    images = noise(2, 2, 2)
    expected = (images / 255 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.25, 1.0]).view(
        3, 1, 1
    )
    torch.testing.assert_close(preprocess.normalise(images), expected)


@pytest.mark.parametrize(("probability", "expected"), [(0.0, 0), (1.0, 200)])
def test_a_flip_of_probability_0_or_1_is_certain(probability, expected):
    images = noise(200)
    flipped = augmented(images, flip=probability)
    assert sum(torch.equal(a, b.flip(-1).float()) for a, b in zip(flipped, images, strict=True)) == expected


def test_half_of_the_images_are_flipped_and_none_is_changed_otherwise():
    images = noise(400)
    flipped = augmented(images, flip=0.5)
    same = [torch.equal(a, b.float()) for a, b in zip(flipped, images, strict=True)]
    mirrored = [torch.equal(a, b.flip(-1).float()) for a, b in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 150 < sum(mirrored) < 250


def test_crop_is_a_window_of_the_zero_padded_image():
    images, padding = noise(30), 3
    for image, crop in zip(images, augmented(images, padding=padding), strict=True):
        padded = torch.nn.functional.pad(image, [padding] * 4)
        windows = [padded[:, y : y + 24, x : x + 12] for y in range(7) for x in range(7)]
        assert sum(torch.equal(crop, window.float()) for window in windows) == 1


def test_all_crop_positions_occur():
    marked = torch.zeros(2000, 3, 5, 5, dtype=torch.uint8)
    marked[:, :, 2, 2] = 255
    crops = augmented(marked, padding=1)[:, 0]
    assert {tuple(place.tolist()) for place in (crops == 255).nonzero()[:, 1:]} == {
        (y, x) for y in (1, 2, 3) for x in (1, 2, 3)
    }


def test_padding_is_black_before_normalisation():
    white = torch.full((50, 3, 24, 12), 255, dtype=torch.uint8)
    images = Augment(Preprocess((24, 12)), flip=0, padding=4, erase=0)(white, seeded())
    assert set(images.unique().tolist()) == {-1.0, 1.0}


def test_boxes_have_the_area_and_aspect_of_the_paper():
    boxes = draw_boxes(2000, (256, 128), 1.0, seeded()).double()
    top, left, height, width = boxes.T
    area, aspect = height * width / (256 * 128), height / width
    assert (height > 0).all()
    assert (area > 0.018).all()
    assert (area < 0.35).all()
    assert (aspect > 0.29).all()
    assert (aspect < 3.5).all()
    assert (top + height <= 256).all()
    assert (left + width <= 128).all()
    assert area.mean() == pytest.approx(0.15, abs=0.03)


def test_erasing_has_the_probability_asked_for():
    boxes = draw_boxes(2000, (64, 32), 0.3, seeded())
    assert (boxes[:, 2] > 0).double().mean() == pytest.approx(0.3, abs=0.04)
    assert (draw_boxes(50, (64, 32), 0.0, seeded()) == 0).all()


def test_erasing_changes_one_box_and_nothing_else():
    images = torch.full((40, 3, 64, 32), 7.0)
    erased(images, "pixel")
    for image in images:
        rows, columns = (image[0] != 7).nonzero().T
        box = image[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (box != 7).all()
        assert (image != 7).sum() == box.numel()


@pytest.mark.parametrize(("mode", "values"), [("constant", 1), ("channel", 3)])
def test_erasing_modes_fill_evenly(mode, values):
    images = torch.full((1, 3, 64, 32), 7.0)
    erased(images, mode)
    assert len(images[images != 7].unique()) == values
    assert (mode == "constant") == bool((images == 0).any())


def test_pixel_noise_is_normal():
    images = torch.full((200, 3, 64, 32), 7.0)
    erased(images, "pixel")
    noise_ = images[images != 7]
    assert (noise_.mean().item(), noise_.std().item()) == pytest.approx((0, 1), abs=0.01)


def test_the_same_seed_gives_the_same_batch_and_another_another():
    augment = Augment(Preprocess((24, 12)), jitter=0.2, padding=3)
    images = noise(16)
    torch.testing.assert_close(augment(images, seeded(1)), augment(images, seeded(1)), rtol=0, atol=0)
    assert not torch.equal(augment(images, seeded(1)), augment(images, seeded(2)))


def test_the_pixels_in_memory_stay_as_they_are():
    images = noise()
    before = images.clone()
    Augment(Preprocess((24, 12)), jitter=0.2)(images, seeded())
    Augment(Preprocess((24, 12)), flip=0, padding=0)(images, seeded())
    assert torch.equal(images, before)


@pytest.mark.parametrize("padding", [0, 3, 20])
def test_the_ways_of_processors_and_gpus_to_cut_windows_agree_to_the_bit(padding):
    """20: further than the image is wide."""
    images, preprocess = noise(40), Preprocess((24, 12), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    flipped = torch.rand(40, generator=seeded()) < 0.5
    shifts = torch.randint(-padding, padding + 1, (40, 2), generator=seeded())
    one, other = (cut(images, flipped, shifts, preprocess) for cut in (cut_on_cpu, cut_on_device))
    assert torch.equal(one, other)
    assert torch.equal(cut_windows(images, flipped, shifts + padding, padding, preprocess), one)


@pytest.mark.parametrize("mode", ["pixel", "channel", "constant"])
def test_a_part_of_a_batch_needs_only_its_own_draws(mode):
    augment = Augment(Preprocess((24, 12)), padding=3, jitter=0.3, erase_mode=mode)
    images = noise(16)
    draws = augment.draw(16, seeded())
    whole = augment.apply(images, draws)
    for part in (slice(0, 4), slice(4, 16), slice(7, 8)):
        assert torch.equal(augment.apply(images[part], {name: d[part] for name, d in draws.items()}), whole[part])


# --- the optional augmentations ---------------------------------------------------------------------------------------

RAW = Preprocess((24, 12), mean=(0, 0, 0), std=(1 / 255,) * 3)
OFF = {"flip": 0, "padding": 0, "erase": 0}


ALL = {"jitter": 0.3, "hue": 0.2, "gray": 0.3, "local_gray": 0.5, "auto": 0.7}


def test_everything_together_by_parts_is_the_whole_and_leaves_its_input_alone():
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
    augment = build_augment(load_config(None, words), RAW)
    assert (augment.hue, augment.gray, augment.local_gray, augment.auto) == (0.1, 0.2, 0.3, 0.4)
    default = build_augment(load_config(None, []), RAW)
    assert (default.hue, default.gray, default.local_gray, default.auto) == (0, 0, 0, 0)
