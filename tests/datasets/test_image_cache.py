"""Files to pixels: decoding, resizing, corrupt files, and the two ways to hold them."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vitreid.datasets import CorruptImageError, Preprocess, Record, ReidData, read_image
from vitreid.datasets.loading import unreadable
from vitreid.datasets.loading.decode import PlaneReader, resize
from vitreid.datasets.loading.image_cache import CachedImages, StreamedImages, decode_all, open_images
from vitreid.datasets.loading.unreadable import drop_unreadable


def picture(seed=0, height=40, width=20):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, image):
    path.write_bytes(cv2.imencode(path.suffix, image[..., ::-1])[1].tobytes())
    return path


@pytest.fixture
def paths(tmp_path):
    return [str(save(tmp_path / f"{k}.png", picture(k))) for k in range(7)]


def test_colours_are_red_green_blue(tmp_path):
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert read_image(save(tmp_path / "red.png", red))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_lossless_files_come_back_exactly(tmp_path, ending):
    np.testing.assert_array_equal(read_image(save(tmp_path / f"a{ending}", picture())), picture())


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_truncated_file_is_named(tmp_path, ending, share):
    path = save(tmp_path / f"cut{ending}", picture())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CorruptImageError, match=rf"cut\{ending}.*delete the file$"):
        read_image(path)
    with pytest.raises(CorruptImageError, match=rf"cut\{ending}.*DATASETS\.CORRUPT skip"):  # of a data set
        PlaneReader(Preprocess((16, 8))).read(path, np.empty((3, 16, 8), np.uint8))


def test_a_jpeg_without_its_end_is_told_so(tmp_path):
    """Some versions of OpenCV would fill the rest with grey."""
    path = save(tmp_path / "cut.jpg", picture())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptImageError, match=r"cut\.jpg.*cut short"):
        read_image(path)


def test_a_jpeg_followed_by_other_bytes_is_whole(tmp_path):
    path = save(tmp_path / "a.jpg", picture())
    path.write_bytes(path.read_bytes() + b"appended by the camera")
    assert read_image(path).shape == (40, 20, 3)


def test_a_png_with_something_behind_its_end_is_whole(tmp_path):
    """As programs leave it that cut a picture and write it over the old one."""
    path = save(tmp_path / "a.png", picture())
    path.write_bytes(path.read_bytes() + bytes(range(200)))
    np.testing.assert_array_equal(read_image(path), picture())


def test_a_text_file_is_no_image(tmp_path):
    (tmp_path / "a.jpg").write_text("hello")
    with pytest.raises(CorruptImageError, match=r"a\.jpg.*OpenCV"):
        read_image(tmp_path / "a.jpg")


def test_too_little_memory_is_told_from_a_corrupt_file(tmp_path, monkeypatch):
    def fail(*_):
        error = cv2.error("Insufficient memory")
        error.code = cv2.Error.StsNoMem
        raise error

    path = save(tmp_path / "a.jpg", picture())
    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(MemoryError, match=r"a\.jpg.*memory"):
        read_image(path)
    with pytest.raises(MemoryError, match=r"a\.jpg.*memory.*DATALOADER\.NUM_WORKERS"):
        PlaneReader(Preprocess((16, 8))).read(path, np.empty((3, 16, 8), np.uint8))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        read_image(tmp_path / "gone.jpg")


def test_the_right_size_is_left_alone():
    image = picture()
    assert resize(image, (40, 20)) is image


def test_auto_shrinks_by_area_and_enlarges_by_bicubic():
    image = picture()
    np.testing.assert_array_equal(resize(image, (20, 10)), resize(image, (20, 10), "area"))
    np.testing.assert_array_equal(resize(image, (80, 40)), resize(image, (80, 40), "bicubic"))
    assert resize(image, (20, 40)).shape == (20, 40, 3)  # lower and wider


def test_planes_are_the_resized_image_whatever_was_read_before(tmp_path):
    reader, planes = PlaneReader(Preprocess((20, 10))), np.empty((3, 20, 10), np.uint8)
    for size in ((40, 20), (20, 10), (10, 5), (10, 30), (40, 20)):
        reader.read(save(tmp_path / "a.png", picture(size[0], *size)), planes)
        np.testing.assert_array_equal(planes.transpose(1, 2, 0), resize(picture(size[0], *size), (20, 10)))


def test_unknown_interpolation_names_the_choices():
    with pytest.raises(ValueError, match=r"interpolation.*'cubic'.*auto, bilinear, bicubic, area"):
        Preprocess((4, 2), interpolation="cubic")


def test_preprocess_survives_json():
    preprocess = Preprocess((256, 128), mean=(0.1, 0.2, 0.3), interpolation="area")
    assert preprocess.to_dict()["size"] == [256, 128]
    assert Preprocess.from_dict(preprocess.to_dict()) == preprocess


@pytest.mark.parametrize("cache", ["on", "off"])
def test_both_stores_read_the_pixels_asked_for(paths, cache):
    preprocess = Preprocess((20, 10))
    images = open_images(paths, preprocess, cache)
    for positions in ([3, 1], [1, 6, 0, 1], [5]):
        batch = images.read(np.array(positions))
        expected = np.stack([resize(picture(position), (20, 10)) for position in positions])
        np.testing.assert_array_equal(batch.numpy().transpose(0, 2, 3, 1), expected)
        assert batch.dtype == torch.uint8


def test_a_file_deleted_in_mid_run_is_named_with_a_way_out(paths):
    images = StreamedImages(paths, Preprocess((20, 10)))
    images.read(np.array([4]))
    os.unlink(paths[4])
    with pytest.raises(FileNotFoundError, match=r"4\.png.*is gone"):
        images.read(np.array([4]))


@pytest.mark.parametrize(
    ("cache", "share", "kind"),
    [
        ("on", 0.0, CachedImages),
        ("off", 1.0, StreamedImages),
        ("auto", 0.5, CachedImages),
        ("auto", 0.0, StreamedImages),
    ],
)
def test_the_cache_is_used_if_it_fits_and_said_so(paths, cache, share, kind, caplog):
    assert isinstance(open_images(paths, Preprocess((20, 10)), cache, share, num_workers=0), kind)
    assert f"7 images decoded {'into memory' if kind is CachedImages else 'as needed'}" in caplog.text


def test_a_corrupt_file_stops_both_stores_with_its_name(paths):
    with open(paths[4], "wb") as file:
        file.write(b"nothing")
    with pytest.raises(CorruptImageError, match=r"4\.png"):
        decode_all(paths, Preprocess((20, 10)))
    with pytest.raises(CorruptImageError, match=r"4\.png"):
        StreamedImages(paths, Preprocess((20, 10))).read(np.array([4]))


def test_skip_leaves_unreadable_images_out_of_every_list_and_counts_them(paths, caplog):
    open(paths[1], "wb").close()
    records = [Record(path, pid, 0) for pid, path in enumerate([*paths, "gone.png"])]
    data = drop_unreadable(ReidData("mine", records, records[:2], records[1:3], ("a",)))
    assert [record.pid for record in data.train] == [0, 2, 3, 4, 5, 6]
    assert [record.pid for record in (*data.query, *data.gallery)] == [0, 2]
    assert "2 unreadable images left out" in caplog.text
    assert "1.png" in caplog.text


def test_skip_with_nothing_to_skip_is_silent(paths, caplog):
    data = ReidData("mine", [Record(path, 0, 0) for path in paths], [], [], ("a",))
    assert drop_unreadable(data) is data
    assert caplog.text == ""


def test_processes_leave_out_what_one_of_them_found(paths):
    Path(paths[1]).write_bytes(b"nothing")
    records = [Record(path, 0, 0) for path in paths]
    data = ReidData("mine", records, [], [], ("a",))
    kept = drop_unreadable(data, once=lambda look: look() | {paths[5]})
    assert [record.path for record in kept.train] == [path for path in paths if path not in (paths[1], paths[5])]


def test_a_disk_that_fails_makes_no_image_unreadable(paths, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(unreadable, "read_image", fail)
    with pytest.raises(OSError, match="Input/output error"):
        drop_unreadable(ReidData("mine", [Record(paths[0], 0, 0)], [], [], ("a",)))
