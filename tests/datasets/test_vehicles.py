"""VeRi-776 and VehicleID: views, lists, drawn galleries."""

import logging

import pytest
from published_trees import market, pids, touch

from vitreid.configs import load_config
from vitreid.datasets import build_data, read_dataset
from vitreid.datasets.published.vehicleid import load_vehicleid
from vitreid.datasets.published.veri776 import load_veri
from vitreid.labels.setting import Setting

SUBSETS = ("image_train", "image_query", "image_test")
KEY_POINTS = " ".join(["-1"] * 40)


def veri(folder, views=True):
    names = (["0001_c001_00016450_0.jpg", "0001_c002_1_0.jpg"], ["0002_c020_1_0.jpg"], ["0002_c003_1_0.jpg"])
    for subset, images in zip(SUBSETS, names, strict=True):
        touch(folder / subset, *images)
    if views:
        train = f"VeRi/image_train/{names[0][0]} {KEY_POINTS} 3\n"
        test = f"VeRi/image_query/{names[1][0]} {KEY_POINTS} 0\r\nVeRi/image_test/{names[2][0]} {KEY_POINTS} 7\r\n"
        (folder / "keypoint_train.txt").write_text(train)
        (folder / "keypoint_test.txt").write_text(test, newline="")
    return folder


def vehicleid(folder, test="0000003 11\n0000004 11\n0000005 12\n0000006 12\n"):
    touch(folder / "image", *(f"{number:07d}.jpg" for number in range(1, 7)))
    lists = folder / "train_test_split"
    lists.mkdir()
    (lists / "train_list.txt").write_text("0000001 1\r\n0000002 1\r\n", newline="")
    for size in (800, 1600, 2400):
        (lists / f"test_list_{size}.txt").write_text(test)
    return folder


def test_veri_has_vehicles_cameras_and_views(tmp_path):
    data = load_veri(veri(tmp_path / "VeRi").parent)
    assert pids(data.train) == [1, 1] and pids(data.query) == pids(data.gallery) == [2]
    assert data.camera_names == ("veri/c1", "veri/c2", "veri/c3", "veri/c20")
    assert [record.viewid for record in (*data.train, *data.query, *data.gallery)] == [3, -1, 0, 7]
    assert data.view_names[7] == "veri/view7" and len(data.view_names) == 8
    assert data.protocol == "same-camera"


def test_images_without_a_view_stay_or_are_left_out_as_by_the_original(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    veri(tmp_path / "VeRi")
    assert len(read_dataset("veri", tmp_path).train) == 2
    assert len(read_dataset("veri-views", tmp_path).train) == 1
    assert "1 images without a view, 1 left out" in caplog.text


def test_views_may_lie_beside_the_data_set(tmp_path):
    folder = veri(tmp_path / "VeRi")
    for name in ("keypoint_train.txt", "keypoint_test.txt"):
        (folder / name).rename(tmp_path / name)
    assert load_veri(tmp_path).train[0].viewid == 3


def test_veri_without_views_has_none(tmp_path):
    veri(tmp_path / "VeRi", views=False)
    assert load_veri(tmp_path).view_names == ()
    with pytest.raises(FileNotFoundError, match=r"veri-views needs keypoint_train\.txt and keypoint_test\.txt"):
        load_veri(tmp_path, only_with_view=True)


@pytest.mark.parametrize("line", ["a.jpg", "a.jpg 1 8", "a.jpg 1 x"])
def test_a_wrong_line_of_views_is_named(tmp_path, line):
    (veri(tmp_path / "VeRi") / "keypoint_test.txt").write_text(f"\n{line}\n")
    with pytest.raises(ValueError, match=r"keypoint_test\.txt:2: cannot read 'a\.jpg.*view from 0 to 7"):
        load_veri(tmp_path)


@pytest.mark.parametrize("folder", ["VeRi", "VeRi-776", "veri776"])
def test_veri_is_found_under_its_usual_names(tmp_path, folder):
    assert len(load_veri(veri(tmp_path / folder).parent).train) == 2


def test_vehicleid_has_lists_one_unknown_camera_and_ten_drawn_galleries(tmp_path):
    vehicleid(tmp_path / "VehicleID_V1.0")
    data = load_vehicleid(tmp_path)
    assert pids(data.train) == [1, 1] and pids(data.query) == [11, 11, 12, 12]
    assert data.query == data.gallery and data.settings == (Setting("", "own-file", draw="per-person", repeats=10),)
    assert data.camera_names == ("vehicleid/unknown",) and data.protocol == "own-file"
    assert data.train[0].path.endswith("image/0000001.jpg")


@pytest.mark.parametrize(("name", "size"), [("VehicleID", 800), ("vehicleid-1600", 1600), ("vehicleid-2400", 2400)])
def test_each_test_list_has_its_name(tmp_path, name, size, caplog):
    vehicleid(tmp_path / "VehicleID")
    data = read_dataset(name, tmp_path)
    assert f"13164 / {size}" in caplog.text
    assert data.evaluated == ("vehicleid" if size == 800 else name)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("0000003\n", r"test_list_800\.txt:1: cannot read '0000003'; expected '0000001 1'"),
        ("\n0000099 1\n", r"test_list_800\.txt:2: the folder image has no 0000099\.jpg"),
        ("\n", r"test_list_800\.txt: the list is empty"),
    ],
)
def test_a_wrong_list_is_named(tmp_path, test, message):
    vehicleid(tmp_path / "VehicleID", test)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_vehicleid(tmp_path)


def test_a_validation_split_of_vehicleid_has_its_own_gallery(tmp_path):
    folder = vehicleid(tmp_path / "VehicleID")
    (folder / "train_test_split" / "train_list.txt").write_text(
        "".join(f"{number:07d} {(number - 1) // 2}\n" for number in range(1, 7))
    )
    words = ["DATASETS.NAMES", "VehicleID", "DATASETS.ROOT_DIR", str(tmp_path), "DATASETS.VAL_IDS", "1"]
    assert build_data(load_config(None, words)).settings == ()


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("occ_duke", "Occluded_Duke"),
        ("occluded_duke", "Occluded-DukeMTMC-reID"),
        ("cuhk03-np-labeled", "cuhk03-np/labeled"),
        ("cuhk03-np-detected", "cuhk03-np/detected"),
    ],
)
def test_data_sets_in_the_layout_of_market1501(tmp_path, name, folder):
    market(tmp_path / folder, train=("0007_c2_1.png",))
    data = read_dataset(name, tmp_path)
    assert pids(data.train) == [7] and data.camera_names[0].endswith("/c1")


def test_mistakes_of_real_copies_do_not_matter(tmp_path):
    """Another case, a folder in a folder, and what macOS adds."""
    touch(tmp_path / "Market-1501" / "__MACOSX" / "query", "._0001_c1s1_1.jpg")
    inner = tmp_path / "Market-1501" / "Market-1501-v15.09.15"
    for subset in ("Bounding_Box_Train", "Query", "BOUNDING_BOX_TEST"):
        touch(inner / subset, "0001_c1s1_1.JPG", "._0001_c1s1_1.JPG", "Thumbs.db")
    data = read_dataset("market1501", tmp_path)
    assert [len(side) for side in (data.train, data.query, data.gallery)] == [1, 1, 1]
