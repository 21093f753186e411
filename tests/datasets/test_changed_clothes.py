"""Data sets with clothes, modalities and aerial views: labels, settings, the mistakes of real copies, layouts explained."""

import logging
import shutil

import pytest
from published_trees import draw_tree, pids, touch

from vitreid.configs import load_config
from vitreid.datasets import build_data, read_dataset
from vitreid.datasets.checks.label_findings import BatchPlan, check_labels
from vitreid.datasets.published.catalog import PUBLISHED
from vitreid.datasets.records import Record, ReidData
from vitreid.labels.setting import Setting

PLAN = BatchPlan(2, 2)


def read(tmp_path, name):
    draw_tree(tmp_path, name)
    return read_dataset(name, tmp_path)


def test_prcc_has_the_same_clothes_before_two_cameras(tmp_path):
    data = read(tmp_path, "prcc")
    assert data.camera_names == ("prcc/A", "prcc/B", "prcc/C")
    assert {record.camid for record in data.gallery} == {0} and {record.camid for record in data.query} == {1, 2}
    of_first = [record for record in data.train if record.pid == 1]
    clothes = {camera: {r.clothes for r in of_first if r.camid == camera} for camera in range(3)}
    assert clothes[0] == clothes[1] != clothes[2]
    assert data.unmatched_queries() == []  # each query has a match in one of the two settings


def test_ltcc_numbers_clothes_by_person(tmp_path):
    data = read(tmp_path, "ltcc")
    assert data.camera_names == ("ltcc/c1", "ltcc/c12")
    assert len({(r.pid, r.clothes) for r in data.gallery}) == len({r.clothes for r in data.gallery}) == 12
    assert [setting.name for setting in data.settings] == ["changed clothes", "same clothes", "general"]
    assert data.protocol == "same-clothes"


def test_settings_of_vc_clothes_are_pairs_of_cameras(tmp_path):
    general, same, changed = read(tmp_path, "vc-clothes").settings
    assert general.query_cameras == () and same.query_cameras == same.gallery_cameras == (
        "vc-clothes/c2",
        "vc-clothes/c3",
    )
    assert changed.gallery_cameras == ("vc-clothes/c3", "vc-clothes/c4")


def test_deepchange_compares_tracklets(tmp_path):
    data = read(tmp_path, "deepchange")
    assert data.protocol == "same-tracklet" and data.camera_names[-1] == "deepchange/c17"
    assert {record.tracklet >= 0 and record.clothes >= 0 for record in data.query} == {True}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("P1_C2_S3_4.jpg\n", r"test-set-query-bbox\.txt:1: cannot read 'P1_C2_S3_4\.jpg'; expected"),
        ("\nperson.jpg,3\n", r"test-set-query-bbox\.txt:2: cannot read 'person\.jpg,3'"),
        ("\n", r"test-set-query-bbox\.txt: the list is empty"),
    ],
)
def test_a_wrong_list_of_deepchange_is_named(tmp_path, lines, message):
    draw_tree(tmp_path, "deepchange")
    (tmp_path / "DeepChangeDataset" / "test-set-query-bbox.txt").write_text(lines)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_dataset("deepchange", tmp_path)


def test_sysu_searches_visible_people_with_infrared_queries(tmp_path):
    data = read(tmp_path, "sysu-mm01")
    assert data.view_names == ("sysu-mm01/infrared", "sysu-mm01/visible")
    assert {data.camera_names[r.camid][-2:] for r in data.query} == {"c3", "c6"} and {r.viewid for r in data.query} == {
        0
    }
    assert {data.camera_names[r.camid][-2:] for r in data.gallery} == {"c1", "c2", "c4", "c5"}
    assert sorted({r.pid for r in data.train}) == list(range(1, 9))  # those of the training and the validation list
    assert [(one.name, one.images, one.repeats, len(one.gallery_cameras)) for one in data.settings] == [
        ("all search, single shot", 1, 10, 4),
        ("all search, multi shot", 10, 10, 4),
        ("indoor search, single shot", 1, 10, 2),
        ("indoor search, multi shot", 10, 10, 2),
    ]
    places = [data.label(record, "place") for record in (*data.query, *data.gallery)]
    assert len(set(places)) == 5  # cameras 2 and 3 stand in one room


def test_a_list_of_sysu_with_words_is_refused(tmp_path):
    draw_tree(tmp_path, "sysu-mm01")
    (tmp_path / "SYSU-MM01" / "exp" / "test_id.txt").write_text("6,ann,8")
    with pytest.raises(ValueError, match=r"test_id\.txt: cannot read 'ann'; expected numbers with commas"):
        read_dataset("sysu-mm01", tmp_path)
    shutil.rmtree(tmp_path / "SYSU-MM01" / "cam5")
    (tmp_path / "SYSU-MM01" / "exp" / "test_id.txt").write_text("21,22")
    with pytest.raises(FileNotFoundError, match=r"the folder cam5 is missing\. Expected: the folders cam1 to cam6"):
        read_dataset("sysu-mm01", tmp_path)


def test_regdb_tests_both_directions_on_people_of_its_own_numbers(tmp_path):
    data = read(tmp_path, "regdb")
    assert data.query == data.gallery and not set(pids(data.train)) & set(pids(data.query))
    assert data.camera_names == data.view_names == ("regdb/infrared", "regdb/visible")
    assert [one.name for one in data.settings] == ["visible to infrared", "infrared to visible"]
    assert read_dataset("regdb-7", tmp_path).name == "regdb-7"


@pytest.mark.parametrize("line", ["Visible/1/a.bmp", "Visible/1/a.bmp x", "7"])
def test_a_wrong_line_of_regdb_is_named(tmp_path, line):
    draw_tree(tmp_path, "regdb")
    (tmp_path / "RegDB" / "idx" / "test_thermal_1.txt").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"test_thermal_1\.txt:1: cannot read .* expected 'Visible/12/a\.bmp 0'"):
        read_dataset("regdb", tmp_path)


@pytest.mark.parametrize(("name", "cameras"), [("ag-reid", ("c0", "c3")), ("cargo", ("c1", "c5", "c6", "c13"))])
def test_cameras_in_the_air_and_on_the_ground_are_views(tmp_path, name, cameras):
    data = read(tmp_path, name)
    assert data.camera_names == tuple(f"{name}/{camera}" for camera in cameras)
    assert data.view_names == (f"{name}/aerial", f"{name}/ground")
    half = len(cameras) // 2
    assert all((record.camid >= half) == record.viewid for record in (*data.train, *data.query, *data.gallery))
    assert {"aerial to ground", "ground to aerial"} <= {one.name for one in data.settings}
    assert data.unmatched_queries() == []


NEW = ("prcc", "ltcc", "vc-clothes", "deepchange", "sysu-mm01", "regdb", "ag-reid", "cargo")


@pytest.mark.parametrize("name", NEW)
def test_an_empty_folder_is_explained(tmp_path, name):
    with pytest.raises(FileNotFoundError) as error:
        read_dataset(name, tmp_path)
    published = PUBLISHED[name]
    assert all(text in str(error.value) for text in (name, published.expected, published.source, "Found: "))


@pytest.mark.parametrize("name", NEW)
def test_published_counts_are_demanded(tmp_path, name, caplog):
    caplog.set_level(logging.WARNING)
    data = read(tmp_path, name)
    assert f"{name}: found" in caplog.text and "results do not compare with others'" in caplog.text
    finding = next(one for one in check_labels(data, PLAN) if one.name == "counts")
    assert f"this is not {name} as published" in finding.what


@pytest.mark.parametrize("name", NEW)
def test_copies_with_other_capitals_and_waste_are_read(tmp_path, name):
    """Unpacked twice into one folder, with what macOS adds, and with capitals lost on a memory stick."""
    draw_tree(tmp_path / "once", name)
    expected = read_dataset(name, tmp_path / "once")
    (folder,) = (tmp_path / "once").iterdir()
    other = tmp_path / "twice" / folder.name.lower() / folder.name
    other.parent.mkdir(parents=True)
    shutil.move(folder, other)
    touch(other.parent / "__MACOSX", "._0001.jpg")
    for path in sorted(other.rglob("*"), key=lambda path: -len(path.parts)):
        if path.is_dir() and name not in ("deepchange", "regdb"):  # their lists name the files
            path.rename(path.with_name(path.name.upper() if path.name != "A" else "a"))
    found = read_dataset(name, tmp_path / "twice")
    for part in ("train", "query", "gallery"):
        mine, theirs = ([vars(r) | {"path": ""} for r in getattr(data, part)] for data in (found, expected))
        assert sorted(map(str, mine)) == sorted(map(str, theirs))


def test_training_images_may_be_missing(tmp_path):
    for name, train in (("ltcc", "LTCC_ReID/train"), ("prcc", "prcc/rgb/train"), ("cargo", "CARGO/train")):
        draw_tree(tmp_path, name)
        shutil.rmtree(tmp_path / train)
        assert read_dataset(name, tmp_path).train == []


def test_validation_people_are_judged_in_general(tmp_path):
    draw_tree(tmp_path, "ltcc")
    words = ["DATASETS.NAMES", "ltcc", "DATASETS.ROOT_DIR", str(tmp_path), "DATASETS.VAL_IDS", "3"]
    data = build_data(load_config(None, words))
    assert data.protocol == "same-camera" and data.settings == () and data.query


def test_a_joined_data_set_keeps_the_settings_of_the_test(tmp_path):
    for name in ("ltcc", "sysu-mm01"):
        draw_tree(tmp_path, name)
    words = [
        "DATASETS.NAMES",
        "('ltcc', 'sysu-mm01')",
        "DATASETS.TEST",
        "('sysu-mm01',)",
        "DATASETS.ROOT_DIR",
        str(tmp_path),
    ]
    data = build_data(load_config(None, words))
    assert data.settings == PUBLISHED["sysu-mm01"].settings and data.unmatched_queries() == []
    assert len({data.label(record, "place") for record in (*data.query, *data.gallery)}) == 5


def test_a_test_image_without_a_compared_label_is_refused():
    with pytest.raises(ValueError, match=r"mine: b\.jpg has no clothes, which the protocols same-clothes compare"):
        people = [Record("a.jpg", 0, 0, clothes=1)], [Record("b.jpg", 0, 1)]
        ReidData("mine", [], *people, ("c1", "c2"), settings=(Setting("", "same-clothes"),))


@pytest.mark.parametrize("protocol", ["same-clothes", "other-clothes"])
def test_queries_without_a_match_are_those_of_no_setting(protocol):
    query = [Record("q0.jpg", 0, 0, clothes=0), Record("q1.jpg", 1, 0, clothes=1), Record("q2.jpg", 2, 0, clothes=2)]
    gallery = [Record("g0.jpg", 0, 1, clothes=0), Record("g1.jpg", 1, 1, clothes=9), Record("g2.jpg", 2, 0, clothes=9)]
    data = ReidData("mine", [], query, gallery, ("c1", "c2"), settings=(Setting("one", protocol),))
    lonely = {"same-clothes": ["q0.jpg", "q2.jpg"], "other-clothes": ["q1.jpg", "q2.jpg"]}[protocol]
    assert [record.path for record in data.unmatched_queries()] == lonely
    both = ReidData("mine", [], query, gallery, ("c1", "c2"), settings=(*data.settings, Setting("general")))
    assert [record.path for record in both.unmatched_queries()] == ["q2.jpg"]
