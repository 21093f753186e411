"""Published data sets: file names, folders, copies with mistakes, and the error for a wrong folder."""

import logging

import pytest
from published_trees import market, pids, touch

from vitreid.datasets.published.market1501 import load_dukemtmc, load_market1501
from vitreid.datasets.published.msmt17 import load_msmt17
from vitreid.datasets.published.published_dataset import PublishedDataset, check_counts
from vitreid.datasets.records import TIME


def msmt(folder, images=("train", "test")):
    lists = {"train": "0000/0000_000_01_0303morning_0008_0.jpg 0", "val": "0001/0001_000_03_a.jpg 1"}
    tests = {"query": "0000/0000_000_15_a.jpg 0", "gallery": "0000/0000_001_01_a.jpg 0"}
    folder.mkdir(parents=True)
    for name, line in {**lists, **tests}.items():
        (folder / f"list_{name}.txt").write_text(line + "\n\n")
    for name in images:
        (folder / name).mkdir()
    return folder


def test_junk_is_left_out_and_distractors_stay_in_the_gallery(tmp_path):
    root = market(tmp_path / "market1501", test=("-1_c1s1_1.jpg", "0000_c1s1_1.jpg", "0001_c2s1_1.jpg"))
    assert pids(load_market1501(tmp_path).gallery) == [0, 1]
    assert pids(load_market1501(root).query) == [1]


def test_folders_above_do_not_reach_the_labels(tmp_path):
    market(tmp_path / "exp_1_c3" / "market1501", train=("0007_c2s1_1.jpg",))
    record = load_market1501(tmp_path / "exp_1_c3").train[0]
    assert record.pid == 7


def test_cameras_have_any_number_of_digits_and_keep_their_order(tmp_path):
    names = ("0001_c10s1_1.jpg", "0001_c2s1_1.jpg", "0001_c115_1.jpg")
    data = load_market1501(market(tmp_path, train=names, query=names[:1], test=names[:1]))
    assert data.camera_names == ("market1501/c2", "market1501/c10", "market1501/c115")
    assert [record.camid for record in data.train] == [1, 2, 0]  # files sorted by name


@pytest.mark.parametrize("ending", ["jpg", "JPG", "jpeg", "Png", "bmp", "WEBP"])
def test_every_usual_extension_is_read(tmp_path, ending):
    assert len(load_market1501(market(tmp_path, train=(f"0001_c1s1_1.{ending}", "Thumbs.db"))).train) == 1


@pytest.mark.parametrize("folder", ["market1501", "Market-1501-v15.09.15", "Market-1501", "Market_1501"])
def test_the_root_may_hold_the_data_set_under_its_usual_names(tmp_path, folder):
    market(tmp_path / folder)
    assert len(load_market1501(tmp_path).train) == 1


@pytest.mark.parametrize("folder", ["dukemtmc", "DukeMTMC-reID", "dukemtmcreid"])
def test_duke_is_found_and_parsed(tmp_path, folder):
    market(tmp_path / folder, train=("0005_c8_f0046182.jpg",))
    data = load_dukemtmc(tmp_path)
    assert pids(data.train) == [5]
    assert data.camera_names == ("dukemtmc/c1", "dukemtmc/c2", "dukemtmc/c8")


def test_frames_in_the_names_are_times_of_each_camera(tmp_path):
    """The second sequence of a camera starts where the last image of the first was taken, also if that is a test image."""
    train = (
        "0001_c1s1_000050_01.jpg",
        "0001_c1s2_000025_01.jpg",
        "0002_c2s1_000075_01.jpg",
        "0003_c1_a.jpg",
        "0003_c1s1_7.jpg",
    )
    data = load_market1501(market(tmp_path / "market", train=train, test=("0001_c1s1_000100_01.jpg",)))
    moments = {record.path.rpartition("/")[2]: record.moment for record in data.train}
    assert moments.pop("0003_c1_a.jpg") is moments.pop("0003_c1s1_7.jpg") is None  # names that say something else
    assert {(one.clock, one.end - one.start) for one in moments.values()} == {(TIME, 0)}
    assert [one.start for one in moments.values()] == [2, 4 + 1, 3]
    duke = load_dukemtmc(market(tmp_path / "duke", train=("0005_c8_f0000120.jpg",)))
    assert duke.train[0].moment.start == 2


def test_records_are_sorted_whatever_the_file_system_says(tmp_path):
    names = [f"{pid:04d}_c1s1_1.jpg" for pid in (9, 3, 7, 1)]
    assert pids(load_market1501(market(tmp_path, train=names)).train) == [1, 3, 7, 9]


def test_foreign_file_names_are_counted(tmp_path, caplog):
    load_market1501(market(tmp_path, train=("0001_c1s1_1.jpg", "holiday.jpg")))
    assert "1 files left out that are not named PID_cCAMERA…, first holiday.jpg" in caplog.text


def test_foreign_file_names_are_left_out_of_the_data_set(tmp_path):
    data = load_market1501(market(tmp_path, train=("0001_c1s1_1.jpg", "holiday.jpg")))
    assert data.left_out == (str(tmp_path / "bounding_box_train" / "holiday.jpg"),)


def test_capitals_of_the_camera_do_not_matter(tmp_path):
    """DukeMTMC-VideoReID's names."""
    data = load_dukemtmc(market(tmp_path, train=("0017_C1_F0001_X00001.jpg",)))
    assert pids(data.train) == [17] and "dukemtmc/c1" in data.camera_names


def test_wrong_folder_says_what_is_expected_found_and_where_to_get_it(tmp_path):
    touch(tmp_path, "photos/a.jpg", "notes.txt")
    with pytest.raises(FileNotFoundError) as error:
        load_market1501(tmp_path)
    for part in ("DATASETS.ROOT_DIR", "bounding_box_train", "notes.txt, photos/", "zheng-lab"):
        assert part in str(error.value)


def test_a_half_unpacked_data_set_is_described_from_the_inside(tmp_path):
    (tmp_path / "Market-1501" / "query").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"Found: .*Market-1501: query/"):
        load_market1501(tmp_path)


def test_missing_root_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        load_market1501(tmp_path / "nowhere")


def test_folder_without_one_image_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"bounding_box_train.*\b0 image files"):
        load_market1501(market(tmp_path, train=("readme.txt",)))


def test_other_counts_than_published_are_a_warning(tmp_path, caplog):
    load_market1501(market(tmp_path))
    assert "found 1 / 1 / 1 train / query / gallery images, published are 12936 / 3368 / 15913" in caplog.text


def test_published_counts_are_silent(tmp_path, caplog):
    data = load_market1501(market(tmp_path))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        check_counts(data, PublishedDataset("mine", ("mine",), "", "", (1, 1, 1), people=(1, 1)))
        check_counts(data, PublishedDataset("mine", ("mine",), "", ""))
    assert caplog.text == ""


@pytest.mark.parametrize("images", [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_both_versions_of_msmt17(tmp_path, images):
    folder = msmt(tmp_path / "MSMT17_V1", images)
    data = load_msmt17(tmp_path)
    assert pids(data.train) == [0, 1]  # list_train and list_val together
    assert data.camera_names == ("msmt17/c1", "msmt17/c3", "msmt17/c15")
    assert data.train[0].path == str(folder / images[0] / "0000/0000_000_01_0303morning_0008_0.jpg")
    assert data.gallery[0].path == str(folder / images[1] / "0000/0000_001_01_a.jpg")


def test_test_identities_of_msmt17_are_other_people_than_the_training_ones(tmp_path):
    data = load_msmt17(msmt(tmp_path / "MSMT17"))
    assert pids(data.query) == pids(data.gallery) == [2]


def test_bad_line_of_a_list_is_named(tmp_path):
    folder = msmt(tmp_path / "MSMT17")
    (folder / "list_val.txt").write_text("0001/0001_000_03_a.jpg 1\nnonsense\n")
    with pytest.raises(ValueError, match=r"list_val\.txt:2.*'nonsense'"):
        load_msmt17(tmp_path)


def test_a_list_that_is_not_utf8_is_named(tmp_path):
    folder = msmt(tmp_path / "MSMT17")
    (folder / "list_val.txt").write_bytes("0001/Köln_000_03_a.jpg 1\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"list_val\.txt: not a list in UTF-8"):
        load_msmt17(tmp_path)


def test_lists_of_windows_are_read(tmp_path):
    folder = msmt(tmp_path / "MSMT17")
    for file in folder.glob("list_*.txt"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert pids(load_msmt17(tmp_path).train) == [0, 1]


def test_msmt17_without_images_is_an_error(tmp_path):
    msmt(tmp_path / "MSMT17", images=("train",))
    with pytest.raises(FileNotFoundError, match=r"msmt17.*Found: train"):
        load_msmt17(tmp_path)
