"""Small and older data sets, occluded people, images for training only: labels, splits, mistakes explained."""

import shutil

import pytest
from published_trees import cuhk03_tree, draw_tree, pids, touch

from vitreid.configs import load_config
from vitreid.datasets import ReadOptions, build_data, read_dataset
from vitreid.datasets.published.catalog import PUBLISHED
from vitreid.labels.setting import Setting


def read(tmp_path, name, split=0):
    draw_tree(tmp_path, name)
    return read_dataset(name, tmp_path, ReadOptions(split_seed=split))


@pytest.mark.parametrize("kind", ["labeled", "detected"])
def test_the_new_protocol_of_cuhk03_is_read_from_its_mat_file(tmp_path, kind, caplog):
    cuhk03_tree(tmp_path / "CUHK03", kinds=(kind,))
    data = read_dataset(f"cuhk03-np-{kind}", tmp_path)
    assert data.name == f"cuhk03-np-{kind}" and data.camera_names == (f"cuhk03-np-{kind}/c1", f"cuhk03-np-{kind}/c2")
    assert len(data.train) == 32 and sorted(set(pids(data.query))) == list(range(8, 14))
    assert [len(part) for part in (data.query, data.gallery)] == [12, 12] and "published are" in caplog.text
    assert data.train[0].path.endswith(f"images_{kind}/1_000_1_01.png")


def test_a_cuhk03_without_folders_and_mat_file_names_both(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"bounding_box_train.*or cuhk03_new_protocol_config_labeled\.mat and the folder"
    ):
        read_dataset("cuhk03-np-labeled", tmp_path)


def test_a_damaged_mat_file_is_named(tmp_path):
    cuhk03_tree(tmp_path / "cuhk03", kinds=("labeled",))
    (tmp_path / "cuhk03" / "images_labeled" / "1_000_1_01.png").unlink()
    with pytest.raises(
        ValueError, match=r"config_labeled\.mat: .*an image is missing in images_labeled .*1_000_1_01\.png"
    ):
        read_dataset("cuhk03-np-labeled", tmp_path)
    (tmp_path / "cuhk03" / "cuhk03_new_protocol_config_labeled.mat").write_bytes(b"no MATLAB")
    with pytest.raises(ValueError, match=r"config_labeled\.mat: cannot read filelist"):
        read_dataset("cuhk03-np-labeled", tmp_path)


def test_the_first_protocol_of_cuhk03_draws_one_image_for_each_query(tmp_path):
    data = read(tmp_path, "cuhk03-labeled", split=19)
    assert data.settings == (Setting("", "same-camera", draw="per-query", repeats=10),)
    assert data.query == data.gallery and not set(pids(data.train)) & set(pids(data.query))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", r"splits_classic_labeled\.json is not readable JSON"),
        ("[]", r"splits_classic_labeled\.json: no split 0; DATASETS\.SPLIT_SEED takes 0 to 19"),
        ('[{"train": [["a.png", 0]], "query": []}]', r"expected lists of a path, a person and a camera"),
        ('[{"train": [["a.png", 0, 0]], "query": []}]', r"the image 'a\.png' is missing; extract all images again"),
    ],
)
def test_a_wrong_list_of_splits_is_named(tmp_path, content, message):
    draw_tree(tmp_path, "cuhk03-labeled")
    (tmp_path / "cuhk03" / "splits_classic_labeled.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_dataset("cuhk03-labeled", tmp_path)


def test_viper_draws_half_of_the_people_and_searches_both_ways(tmp_path):
    data = read(tmp_path, "viper")
    assert len(set(pids(data.train))) == len(set(pids(data.query))) == 8 and data.query == data.gallery
    assert [(one.query_cameras, one.gallery_cameras) for one in data.settings] == [
        (("viper/a",), ("viper/b",)),
        (("viper/b",), ("viper/a",)),
    ]
    other = read_dataset("viper", tmp_path, ReadOptions(split_seed=1))
    assert set(pids(other.train)) != set(pids(data.train)) and data.unmatched_queries() == []


def test_prid_has_people_of_one_camera_in_its_gallery(tmp_path):
    data = read(tmp_path, "prid")
    assert {record.camid for record in data.query} == {0} and {record.camid for record in data.gallery} == {1}
    assert {201, 202} <= set(pids(data.gallery)) and not {201, 202} & set(pids(data.query) + pids(data.train))
    assert len(data.query) == 8 and len(data.gallery) == 10


def test_grid_reads_its_splits_and_keeps_strangers_apart(tmp_path):
    data = read(tmp_path, "grid")
    assert sorted(set(pids(data.train))) == list(range(1, 9)) and sorted(pids(data.query)) == list(range(9, 17))
    assert len(set(pids(data.gallery))) == len(data.gallery) == 10  # the two strangers are two people
    assert sorted(set(pids(read_dataset("grid", tmp_path, ReadOptions(split_seed=1)).train))) == [
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        16,
    ]
    with pytest.raises(ValueError, match=r"features_and_partitions\.mat: cannot read split 10 of 0 to 9"):
        read_dataset("grid", tmp_path, ReadOptions(split_seed=10))


@pytest.mark.parametrize("name", ["occluded-reid", "partial-reid"])
def test_occluded_queries_look_for_whole_people(tmp_path, name):
    data = read(tmp_path, name)
    assert data.train == [] and data.camera_names == (f"{name}/occluded", f"{name}/whole")
    assert {r.camid for r in data.query} == {0} and {r.camid for r in data.gallery} == {1}
    assert data.unmatched_queries() == [] and len(data.query) == len(data.gallery) == 12


def test_p_dukemtmc_trains_on_occluded_and_whole_people(tmp_path):
    data = read(tmp_path, "p-dukemtmc")
    assert (len(data.train), len(data.query), len(data.gallery)) == (64, 12, 12)
    assert data.camera_names == ("p-dukemtmc/c1", "p-dukemtmc/c8")


def test_images_for_training_have_no_test(tmp_path):
    for name, images, people in (("cuhk-sysu", 32, 8), ("msmt17-merged", 60, 15)):
        data = read(tmp_path, name)
        assert (data.query, data.gallery, len(data.train), len(set(pids(data.train)))) == ([], [], images, people)


def test_people_of_lpw_differ_between_scenes(tmp_path):
    data = read(tmp_path, "lpw")
    assert len(data.camera_names) == 11 and len(set(pids(data.train))) == 12 and len(set(pids(data.query))) == 6
    assert {data.camera_names[record.camid] for record in data.query} == {"lpw/scen1view2"}
    assert {data.camera_names[record.camid] for record in data.gallery} == {"lpw/scen1view1", "lpw/scen1view3"}


def test_distractors_join_the_gallery_of_market1501(tmp_path):
    data = read(tmp_path, "market1501-500k")
    assert len(data.gallery) == len(read_dataset("market1501", tmp_path).gallery) + 2
    shutil.rmtree(tmp_path / "Market-1501-v15.09.15" / "distractors_500k")
    with pytest.raises(
        FileNotFoundError, match=r"the distractors of market1501-500k are missing\. Expected: .*distractors_500k"
    ):
        read_dataset("market1501-500k", tmp_path)
    touch(tmp_path / "images", "any name.jpg")  # torchreid's folder
    assert len(read_dataset("market1501-500k", tmp_path).gallery) == len(data.gallery) - 1


CLASSIC = (
    "viper",
    "prid",
    "grid",
    "occluded-reid",
    "partial-reid",
    "p-dukemtmc",
    "cuhk-sysu",
    "lpw",
    "cuhk03-detected",
    "msmt17-merged",
    "luperson",
    "luperson-nl",
)


@pytest.mark.parametrize("name", CLASSIC)
def test_an_empty_folder_is_explained(tmp_path, name):
    with pytest.raises(FileNotFoundError) as error:
        read_dataset(name, tmp_path)
    assert PUBLISHED[name].expected.removeprefix("as msmt17: ") in str(error.value) and "Found: " in str(error.value)


@pytest.mark.parametrize(
    "name", ["viper", "prid", "grid", "occluded-reid", "cuhk-sysu", "lpw", "cuhk03-labeled", "msmt17-merged"]
)
def test_published_counts_are_demanded(tmp_path, name, caplog):
    read(tmp_path, name)
    assert f"{name}: found" in caplog.text and "results do not compare with others'" in caplog.text


def test_luperson_has_unknown_people_and_a_camera_for_each_video(tmp_path):
    data = read(tmp_path, "luperson")
    assert set(pids(data.train)) == {-1} and (len(data.train), data.query, data.gallery) == (30, [], [])
    videos = ("30_00_0001", "30_00_0002", "Japan+Tokyo+v1", "Japan+Tokyo+v2", "Peru+Lima+v3")
    assert data.camera_names == tuple(f"luperson/{video}" for video in videos)
    by_video = {data.camera_names[record.camid]: record.path for record in data.train}
    assert "/Peru/Lima/v3/" in by_video["luperson/Peru+Lima+v3"] and "30_00_0002_" in by_video["luperson/30_00_0002"]


def test_images_of_luperson_may_lie_in_one_folder(tmp_path):
    """The first script of its authors writes no folder per video, and a shared copy has one folder."""
    touch(tmp_path / "LUPerson", "Japan/Tokyo/00000120_0003.jpg", "30_00_0292_00000238.jpg", "readme.png", "1.jpg")
    data = read_dataset("luperson", tmp_path)
    assert data.camera_names == ("luperson/30_00_0292", "luperson/Japan+Tokyo")
    assert [path.rpartition("/")[2] for path in data.left_out] == ["1.jpg", "readme.png"]


def test_a_number_of_luperson_nl_is_one_person_in_all_videos(tmp_path):
    data = read(tmp_path, "luperson-nl")
    assert sorted(set(pids(data.train))) == [*range(9), 10, 11] and len(data.train) == 22
    assert data.camera_names[-1] == "luperson-nl/Peru+Lima+v3" and "luperson-nl/c00004" in data.camera_names


def test_other_pictures_are_not_taken_for_luperson(tmp_path):
    draw_tree(tmp_path, "market1501")
    for name in ("luperson", "luperson-nl"):
        with pytest.raises(
            FileNotFoundError, match=rf"no image of {name} among \d+ images in .*Source: .*DengpanFu/LUPerson"
        ):
            read_dataset(name, tmp_path)


def test_luperson_needs_a_clustering(tmp_path):
    draw_tree(tmp_path, "luperson")
    words = ["MODEL.PRETRAIN_CHOICE", "none", "DATASETS.NAMES", "luperson", "DATASETS.ROOT_DIR", str(tmp_path)]
    with pytest.raises(
        ValueError, match=r"luperson has 30 training images of unknown people.*UNSUPERVISED\.CLUSTERING"
    ):
        build_data(load_config(None, words))
    assert len(build_data(load_config(None, [*words, "UNSUPERVISED.CLUSTERING", "dbscan"])).train) == 30
