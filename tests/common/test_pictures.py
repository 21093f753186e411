"""Pictures: fitted, labelled, joined, under a heat map."""

import cv2
import numpy as np
import pytest
from PIL import Image

from vitreid.common.pictures import (
    FRAME,
    GREEN,
    blurred,
    cut_box,
    decode,
    encode,
    fit,
    from_pil,
    grid,
    heat_map,
    labelled,
    pad,
    text_picture,
)

IMAGE = np.full((64, 32, 3), 90, np.uint8)


@pytest.mark.parametrize(
    ("box", "shape"), [((128, 32), (64, 32)), ((32, 32), (32, 16)), ((128, 640), (128, 64)), ((1, 1), (1, 1))]
)
def test_an_image_fits_into_its_box_and_keeps_its_shape(box, shape):
    assert fit(IMAGE, box).shape[:2] == shape


def test_a_small_image_is_enlarged_only_where_wanted():
    assert fit(IMAGE, (640, 640), enlarge=False) is IMAGE
    assert fit(np.zeros((384, 128, 3), np.uint8), (160, 160), enlarge=False).shape == (160, 53, 3)


def test_a_labelled_image_has_its_frame_around_the_image_itself():
    """A 64 x 32 image in a box of 64 x 64: the frame is 72 x 40."""
    picture = labelled(IMAGE, ["a line"], (64, 64), GREEN)
    framed = (picture == GREEN).all(-1)
    assert framed[0].nonzero()[0].tolist() == list(range(32 + 2 * FRAME))
    assert framed[:, 0].nonzero()[0].tolist() == list(range(64 + 2 * FRAME))
    np.testing.assert_array_equal(picture[FRAME : FRAME + 64, FRAME : FRAME + 32], IMAGE)


def test_a_missing_image_leaves_its_place():
    assert labelled(None, [], (64, 64), GREEN).shape == labelled(IMAGE, [], (64, 64), GREEN).shape


def test_a_long_line_keeps_its_beginning_and_its_end():
    """The first characters say who or where, the last ones which; "…" says that some are missing."""
    np.testing.assert_array_equal(text_picture(["visitor-to-the-hall-028"], 70), text_picture(["visit…ll-028"], 70))
    assert text_picture(["entrance_of_the_hall_1"]).shape[1] > 40


def test_a_grid_is_as_wide_as_its_widest_row():
    small = pad(IMAGE[:10, :10], (10, 10))
    picture = grid([[small, IMAGE], [small]])
    assert picture.shape == (74, 42, 3)
    assert (picture[10:64, :10] == 255).all() and (picture[64:, 10:] == 255).all()


def test_heat_is_where_the_weight_is():
    hot = heat_map(IMAGE, np.array([[0.0, 0.0], [0.0, 1.0]])).astype(int).sum(-1)
    assert hot[48:, 16:].mean() > hot[:16, :16].mean() + 100


def test_patches_without_a_weight_are_dark():
    shown = heat_map(IMAGE, np.array([[0.2, 0.5], [np.nan, np.nan]]))
    assert shown[40:].max() == round(90 * 0.3)
    assert shown[:32].max() > 90


def test_equal_weights_are_no_error():
    assert heat_map(IMAGE, np.ones((2, 2))).shape == IMAGE.shape


def test_heat_has_the_colors_of_inferno():
    """The largest weight is yellow, the smallest black, at three and at one quarter of the colour."""
    top, bottom = heat_map(np.zeros((2, 2, 3), np.uint8), np.array([[1.0], [0.0]]))[:, 0]
    np.testing.assert_allclose(top, np.array([252, 255, 164]) * 0.75, atol=1)
    assert bottom.max() <= 2


def test_a_file_is_rgb():
    content = encode(np.full((2, 2, 3), (200, 100, 0), np.uint8))
    assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[0, 0].tolist() == [0, 100, 200]
    with pytest.raises(Exception, match="(?i)write|extension"):
        encode(IMAGE, ".txt")


def test_a_box_over_the_border_is_cut_at_the_border_and_one_outside_is_empty():
    frame = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    np.testing.assert_array_equal(cut_box(frame, -1.4, 2.0, 3.4, 9.0), frame[2:, :2])
    assert not cut_box(frame, 7, 0, 2, 2).size and not cut_box(frame, -5, 0, 2, 2).size


def test_an_encoded_picture_is_decoded_and_damaged_content_is_none():
    np.testing.assert_array_equal(decode(encode(IMAGE)), IMAGE)
    assert decode(b"") is None and decode(b"no image") is None


def test_16_bits_of_grey_become_their_upper_8():
    grey = Image.fromarray(np.array([[0, 255, 256, 65535]], np.uint16))
    np.testing.assert_array_equal(from_pil(grey)[0, :, 0], [0, 0, 1, 255])


def test_a_blurred_image_depends_on_16_pixels_along_its_longer_side():
    """Patterns that differ only within the areas of the small pixels become the same picture."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (16, 8, 3), dtype=np.uint8)
    large = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    fine = large.astype(int) + np.where(np.indices(large.shape[:2]).sum(0)[..., None] % 2, 20, -20)
    safe = np.clip(large, 20, 235)
    assert blurred(large).shape == large.shape and blurred(large).dtype == np.uint8
    noisy = (safe.astype(int) + (fine - large)).astype(np.uint8)
    assert np.abs(blurred(noisy).astype(int) - blurred(safe).astype(int)).max() <= 1
    assert blurred(np.zeros((3, 2, 3), np.uint8)).shape == (3, 2, 3)
