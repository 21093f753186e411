"""Data sets of video: tracklets as items, splits, junk, and mistakes explained."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from published_trees import draw_tree, pids
from scipy.io import loadmat, savemat

from vitreid.configs import load_config
from vitreid.datasets import ReadOptions, build_test_sets, read_dataset
from vitreid.datasets.checks.duplicates import near_copies
from vitreid.datasets.checks.entries import Listing
from vitreid.datasets.checks.read_files import scan_files
from vitreid.datasets.published.catalog import PUBLISHED
from vitreid.datasets.records import Record
from vitreid.deploy.labelled_crops import read_labelled
from vitreid.gallery.export.sources import DatasetSource
from vitreid.tools import check_data

VIDEO = ("mars", "dukemtmc-video", "ilids-vid", "prid-video")


def read(tmp_path, name, split=0):
    draw_tree(tmp_path, name)
    return read_dataset(name, tmp_path, ReadOptions(split_seed=split))


@pytest.mark.parametrize("name", VIDEO)
def test_an_item_is_a_tracklet_of_one_person_and_camera(tmp_path, name):
    data = read(tmp_path, name)
    for record in (*data.train, *data.query, *data.gallery):
        assert record.path == record.frames[0] == record.files[0] and len(record.frames) >= 3
        assert list(record.frames) == sorted(set(record.frames)) and record.tracklet >= 0
        assert len({path.rpartition("/")[0] for path in record.frames}) == 1
    numbers = [record.tracklet for record in (*data.train, *data.query, *data.gallery)]
    assert len(set(numbers)) == len(numbers)
    assert not set(pids(data.train)) & set(pids(data.query))
    assert PUBLISHED[name].items == "tracklets"


def test_mars_leaves_junk_out_and_keeps_distractors(tmp_path):
    data = read(tmp_path, "mars")
    assert [len(part) for part in (data.train, data.query, data.gallery)] == [32, 11, 15]
    assert set(pids(data.gallery)) == {0, *range(21, 27)} and 0 not in pids(data.query)
    assert not {record.frames for record in data.query} & {record.frames for record in data.gallery}
    assert data.camera_names == ("mars/c1", "mars/c2")
    assert data.train[1].frames[0].endswith("bbox_train/0001/0001C1T0002F001.jpg") and len(data.train[1].frames) == 3


def test_the_queries_of_mars_join_the_gallery_of_its_authors_setting(tmp_path):
    data = read(tmp_path, "mars")
    for record in (*data.gallery, *data.query):  # without these, person 21 has matches among the queries only
        if record.pid == 21 and record not in data.query:
            data.gallery.remove(record)
    assert data.unmatched_queries() == []
    alone = [one for one in data.query if one.pid == 21]
    assert type(data)(**{**vars(data), "settings": data.settings[:1]}).unmatched_queries() == alone


def test_mars_without_training_part_is_for_the_test(tmp_path):
    draw_tree(tmp_path, "mars")
    shutil.rmtree(tmp_path / "MARS" / "bbox_train")
    data = read_dataset("mars", tmp_path / "MARS")
    assert data.train == [] and len(data.query) == 11


@pytest.mark.parametrize("name", VIDEO)
def test_a_wrong_layout_and_wrong_counts_are_explained(tmp_path, name, caplog):
    with pytest.raises(FileNotFoundError) as error:
        read_dataset(name, tmp_path)
    assert PUBLISHED[name].expected in str(error.value) and "Found: " in str(error.value)
    read(tmp_path, name)
    assert f"{name}: found" in caplog.text and "train / query / gallery tracklets, published are" in caplog.text


def test_mars_without_info_says_what_is_expected(tmp_path):
    draw_tree(tmp_path, "mars")
    shutil.rmtree(tmp_path / "MARS" / "info")
    with pytest.raises(
        FileNotFoundError,
        match=r"the folder info with tracks_train_info\.mat.*Found: in .*MARS: bbox_test/, bbox_train/",
    ):
        read_dataset("mars", tmp_path)


def test_a_missing_frame_of_mars_is_named(tmp_path):
    draw_tree(tmp_path, "mars")
    (tmp_path / "MARS" / "bbox_train" / "0003" / "0003C1T0001F002.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"0003C1T0001F002\.jpg: 1 of the 4 frames of its tracklet are missing"):
        read_dataset("mars", tmp_path)


def change(file, change_it):
    """Change the only table of a file of MATLAB."""
    ((name, table),) = [(name, table) for name, table in loadmat(file).items() if not name.startswith("__")]
    savemat(file, {name: change_it(table)})


def with_cell(row, column, value):
    def change_it(table):
        table = table.astype(np.int64)
        table[row, column] = value
        return table

    return change_it


@pytest.mark.parametrize(
    ("file", "change_it", "message"),
    [
        ("tracks_train_info", with_cell(1, 1, 9999), r"tracks_train_info\.mat: row 2: frames 5 to 9999 are not among"),
        (
            "tracks_train_info",
            with_cell(2, 3, 1),
            r"row 3 is of person 1 in camera 1, its frame '0001C2T0003F001\.jpg'",
        ),
        ("tracks_test_info", lambda table: table[:, :3], r"tracks_test_info\.mat: 4 columns expected, .*; found 3"),
        ("tracks_test_info", lambda table: table + 0.5, r"tracks_test_info\.mat: cannot read a table of whole numbers"),
        (
            "query_IDX",
            with_cell(0, 0, 0),
            r"query_IDX\.mat: rows 1 to 28 of info/tracks_test_info\.mat expected, found 0 to",
        ),
        ("query_IDX", with_cell(0, 0, 29), r"query_IDX\.mat: rows 1 to 28 .*found 8 to 29"),
    ],
)
def test_a_table_of_mars_that_does_not_fit_is_named(tmp_path, file, change_it, message):
    draw_tree(tmp_path, "mars")
    change(tmp_path / "MARS" / "info" / f"{file}.mat", change_it)
    with pytest.raises(ValueError, match=message):
        read_dataset("mars", tmp_path)


def test_names_that_are_shifted_against_the_table_are_noticed(tmp_path):
    draw_tree(tmp_path, "mars")
    names = tmp_path / "MARS" / "info" / "train_name.txt"
    names.write_text("0009C1T0001F001.jpg\n" + names.read_text())
    with pytest.raises(ValueError, match=r"row 1 is of person 1 in camera 1, its frame '0009C1T0001F001\.jpg'"):
        read_dataset("mars", tmp_path)


@pytest.mark.parametrize("file", ["tracks_train_info.mat", "query_IDX.mat", "test_name.txt"])
def test_a_damaged_file_of_mars_is_named(tmp_path, file):
    draw_tree(tmp_path, "mars")
    (tmp_path / "MARS" / "info" / file).write_bytes(b"\xffno MATLAB, no UTF-8\xff\n")
    with pytest.raises(ValueError, match=file.replace(".", r"\.")):
        read_dataset("mars", tmp_path)


def test_both_ways_to_name_frames_of_duke_are_read(tmp_path):
    data = read(tmp_path, "dukemtmc-video")
    assert data.camera_names == ("dukemtmc-video/c1", "dukemtmc-video/c2")
    assert [len(part) for part in (data.train, data.query, data.gallery)] == [16, 6, 12]
    names = {record.path.rpartition("/")[2][:7] for record in data.train[:4]}
    assert names == {"0001C1F", "0001C2F", "0002_C1", "0002_C2"}


def test_a_tracklet_of_two_cameras_is_refused(tmp_path):
    draw_tree(tmp_path, "dukemtmc-video")
    folder = tmp_path / "DukeMTMC-VideoReID" / "train" / "0002" / "0001"
    (folder / "0002_C1_F0003_X1.jpg").rename(folder / "0002_C7_F0003_X1.jpg")
    with pytest.raises(
        ValueError, match=r"0002_C7_F0003_X1\.jpg: camera 7, and .*is of camera 1; a tracklet is of one"
    ):
        read_dataset("dukemtmc-video", tmp_path)


@pytest.mark.parametrize(("name", "first"), [("ilids-vid", range(2, 18, 2)), ("prid-video", range(9, 17))])
def test_the_split_file_chooses_the_people(tmp_path, name, first):
    """iLIDS-VID: the first half of a row is for the test, its numbers are places among the sorted people."""
    data = read(tmp_path, name)
    everyone = set(pids(data.train)) | set(first)
    assert set(pids(data.query)) == set(pids(data.gallery)) == set(first) and len(everyone) == 16
    assert [len(part) for part in (data.train, data.query, data.gallery)] == [16, 8, 8]
    assert {data.camera_names[record.camid][-1] for record in data.query} <= {"1", "a"}
    assert {data.camera_names[record.camid][-1] for record in data.gallery} <= {"2", "b"}
    other = read_dataset(name, tmp_path, ReadOptions(split_seed=1))
    assert set(pids(other.query)) != set(first) and len(other.query) == 8


@pytest.mark.parametrize("name", ["ilids-vid", "prid-video"])
def test_a_split_that_does_not_exist_is_explained(tmp_path, name):
    draw_tree(tmp_path, name)
    with pytest.raises(ValueError, match=r"split 12.*DATASETS\.SPLIT_SEED"):
        read_dataset(name, tmp_path, ReadOptions(split_seed=12))


def test_the_splits_of_ilids_vid_must_be_of_its_people(tmp_path):
    draw_tree(tmp_path, "ilids-vid")
    for camera in (1, 2):
        shutil.rmtree(tmp_path / "iLIDS-VID" / "i-LIDS-VID" / "sequences" / f"cam{camera}" / "person006")
    with pytest.raises(
        ValueError, match=r"splits_ilidsvid\.mat: split 0 has 16 people, 1 to 16, and the cameras have 15"
    ):
        read_dataset("ilids-vid", tmp_path)


def test_prid_asks_for_its_splits(tmp_path):
    draw_tree(tmp_path, "prid-video")
    folder = tmp_path / "prid2011" / "prid_2011"
    splits = (folder / "splits_prid2011.json").rename(folder.parent / "splits_prid2011.json")  # as torchreid has it
    assert len(read_dataset("prid-video", tmp_path).query) == 8
    shutil.rmtree(folder / "multi_shot" / "cam_b" / "person_0004")
    with pytest.raises(ValueError, match=r"camera b has no tracklet of person 4 and 0 others"):
        read_dataset("prid-video", tmp_path)
    splits.write_text(json.dumps([{"train": [4], "test": []}]))
    with pytest.raises(ValueError, match=r"splits_prid2011\.json: expected lists of people such as person_0001"):
        read_dataset("prid-video", tmp_path)
    splits.unlink()
    with pytest.raises(FileNotFoundError, match=r"splits_prid2011\.json is missing"):
        read_dataset("prid-video", tmp_path)


def test_an_image_is_its_only_file():
    assert Record("a.jpg", 1, 0).files == ("a.jpg",)


def words(tmp_path, *more):
    return ["DATASETS.NAMES", "mars", "DATASETS.ROOT_DIR", str(tmp_path), "SOLVER.IMS_PER_BATCH", "16", *more]


def test_a_check_reads_every_frame_and_counts_tracklets(tmp_path, capsys):
    draw_tree(tmp_path, "mars")
    (tmp_path / "MARS" / "bbox_test" / "0022" / "0022C1T0001F002.jpg").write_bytes(b"no picture")
    assert (
        check_data.main([*words(tmp_path), "--json", str(tmp_path / "check.json"), "--fix", str(tmp_path / "m.csv")])
        == 1
    )
    printed = capsys.readouterr().out
    assert "mars: 58 tracklets, 203 images in 203 files" in printed
    assert "train tracklets: 32, published 8298" in printed and "1 of 203 image files cannot be read" in printed
    assert json.loads((tmp_path / "check.json").read_text())[0]["tracklets"] == {
        "train": 32,
        "query": 11,
        "gallery": 15,
    }
    lines = (tmp_path / "m.csv").read_text().splitlines()
    assert len(lines) == 1 + 202 and "tracklet" in lines[0].split(",")


def test_frames_of_one_tracklet_are_no_near_copies_of_each_other(tmp_path):
    draw_tree(tmp_path, "mars")
    frames = sorted((tmp_path / "MARS" / "bbox_train" / "0001").glob("0001C1T0001*.jpg"))
    other = sorted((tmp_path / "MARS" / "bbox_train" / "0002").glob("*.jpg"))[0]
    shape = np.kron(np.random.default_rng(0).integers(0, 200, (16, 8, 3)), np.ones((8, 8, 1), int))
    for number, path in enumerate([*frames, other]):
        Image.fromarray((shape + 2 * number).astype(np.uint8)).save(path, quality=95)  # nearly equal
    listing = Listing(read_dataset("mars", tmp_path))
    pairs = near_copies(listing, scan_files(listing.files, 1))
    names = [{Path(entry.record.path) for entry in group.entries} for group in pairs]
    assert len(frames) > 1 and names and all(other in pair for pair in names)


def test_unreadable_frames_leave_their_tracklet(tmp_path, caplog):
    draw_tree(tmp_path, "mars")
    folder = tmp_path / "MARS" / "bbox_test" / "0022"
    whole = build_test_sets(load_config(None, words(tmp_path)))[0]
    for name in ("0022C1T0001F001.jpg", "0022C1T0002F001.jpg", "0022C1T0002F002.jpg", "0022C1T0002F003.jpg"):
        (folder / name).write_bytes(b"no picture")
    data = build_test_sets(load_config(None, words(tmp_path, "DATASETS.CORRUPT", "skip")))[0]
    assert (len(data.query), len(data.gallery)) == (len(whole.query) - 1, len(whole.gallery))
    (short,) = [one for one in data.gallery if one.path.endswith("0022C1T0001F002.jpg")]
    assert len(short.frames) == 3 and "4 unreadable images left out" in caplog.text


def test_an_export_has_a_row_per_frame(tmp_path):
    data = read(tmp_path, "mars")
    rows = list(DatasetSource("mars", "gallery", str(tmp_path)).rows())
    assert len(rows) == sum(len(record.frames) for record in data.gallery)
    assert len({row.tracklet for row in rows}) == len(data.gallery)


def test_a_part_of_the_training_part_of_mars_is_missed(tmp_path):
    draw_tree(tmp_path, "mars")
    next(tmp_path.rglob("train_name.txt")).unlink()
    with pytest.raises(FileNotFoundError, match=r"info/train_name\.txt of the training part is missing"):
        read_dataset("mars", tmp_path, ReadOptions())


@pytest.mark.parametrize(
    "split",
    [{"train": [], "test": []}, {"train": ["person_0001"], "test": ["person_0001"]}, {"train": ["person_0001"]}],
)
def test_a_split_of_prid_without_two_halves_is_refused(tmp_path, split):
    draw_tree(tmp_path, "prid-video")
    next(tmp_path.rglob("splits_prid2011.json")).write_text(json.dumps([split]))
    with pytest.raises(ValueError, match="splits_prid2011.json"):
        read_dataset("prid-video", tmp_path, ReadOptions())


def test_tracklets_are_no_labelled_crops_of_an_export(tmp_path):
    draw_tree(tmp_path, "mars")
    with pytest.raises(ValueError, match="mars has tracklets.*name a data set of images"):
        read_labelled("mars", str(tmp_path))


def test_attention_needs_clips_to_learn_from():
    with pytest.raises(ValueError, match=r"MODEL\.CLIP_POOL.*DATALOADER\.CLIP_FRAMES 1"):
        load_config(None, ["MODEL.CLIP_POOL", "attention"])
    load_config(None, ["MODEL.CLIP_POOL", "attention", "DATALOADER.CLIP_FRAMES", "2"])
