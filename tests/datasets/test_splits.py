"""Splits by identity, the folder layout, and several data sets as one."""

import pytest

from vitreid.datasets import Record, ReidData
from vitreid.datasets.readers.folder import load_folder
from vitreid.datasets.readers.merge import join
from vitreid.datasets.readers.splits import hold_out, split_query_gallery


def shots(pid, *cameras):
    return [Record(f"{pid}_{camera}_{place}", pid, camera) for place, camera in enumerate(cameras)]


def data(train, name="mine", cameras=("a", "b", "c"), **options):
    return ReidData(name, train, [], [], cameras, **options)


CROWD = [record for pid in range(10) for record in shots(pid, 0, 0, 1, 1, 2)]


def has_match(query, gallery):
    return any(other.pid == query.pid and other.camid != query.camid for other in gallery)


def test_held_out_identities_leave_training_and_lose_no_image():
    held = hold_out(data(CROWD), 3, seed=0)
    train_pids, test_pids = ({r.pid for r in split} for split in (held.train, [*held.query, *held.gallery]))
    assert (len(train_pids), len(test_pids)) == (7, 3)
    assert not train_pids & test_pids
    assert sorted(r.path for r in (*held.train, *held.query, *held.gallery)) == sorted(r.path for r in CROWD)


def test_hold_out_is_a_function_of_its_seed():
    assert hold_out(data(CROWD), 3, seed=1) == hold_out(data(CROWD), 3, seed=1)
    assert hold_out(data(CROWD), 3, seed=1).train != hold_out(data(CROWD), 3, seed=2).train


def test_one_query_per_identity_and_camera():
    query, _ = split_query_gallery(shots(5, 0, 0, 0, 1, 1), seed=0, protocol="same-camera")
    assert [record.camid for record in query] == [0, 1]


@pytest.mark.parametrize("cameras", [(0, 0, 1), (0, 1), (0, 1, 2), (0, 0, 1, 1), (0, 0, 0, 1, 2, 2)])
def test_every_query_has_a_match_in_another_camera(cameras):
    for seed in range(5):
        query, gallery = split_query_gallery(shots(5, *cameras), seed, "same-camera")
        assert query
        assert all(has_match(record, gallery) for record in query)


def test_a_person_seen_by_one_camera_is_a_distractor():
    assert split_query_gallery(shots(5, 2, 2, 2), 0, "same-camera")[0] == []


def test_without_cameras_one_query_per_person_who_has_two_images():
    query, gallery = split_query_gallery([*shots(1, 0, 0, 0), *shots(2, 0)], 0, "none")
    assert [record.pid for record in query] == [1]
    assert [record.pid for record in gallery] == [1, 1, 2]


def test_holding_out_everybody_is_an_error():
    with pytest.raises(ValueError, match=r"DATASETS\.VAL_IDS.*\b10 .*\b10\b"):
        hold_out(data(CROWD), 10, seed=0)


def test_held_out_identities_without_a_query_are_an_error():
    with pytest.raises(ValueError, match=r"DATASETS\.VAL_IDS: none.*\b1 "):
        hold_out(data([*shots(0, 0, 0), *shots(1, 0)]), 1, seed=0)


def people(root, files):
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_folder_of_people_is_split_by_identity(tmp_path):
    names = [f"{who}/c{camera}_{k}.jpg" for who in ("ann", "bob", "cid", "dan") for camera in (1, 4) for k in range(2)]
    found = load_folder(people(tmp_path, names), test_share=0.5, seed=0)
    train, test = {r.pid for r in found.train}, {r.pid for r in found.gallery}
    assert (len(train), len(test)) == (2, 2)
    assert not train & test
    assert found.person_names == {0: "ann", 1: "bob", 2: "cid", 3: "dan"}
    assert (found.camera_names, found.protocol) == (("folder/c1", "folder/c4"), "same-camera")
    assert all(has_match(record, found.gallery) for record in found.query)


def test_a_file_without_camera_makes_the_camera_unknown_for_all(tmp_path):
    found = load_folder(people(tmp_path, ["ann/c1_1.jpg", "ann/x.jpg", "bob/cam2.jpg", "bob/c3.jpg"]))
    assert (found.camera_names, found.protocol) == (("folder/unknown",), "own-file")
    assert len(found.query) == len(found.gallery) == 1


def test_the_letter_c_inside_a_word_is_no_camera(tmp_path):
    assert (
        load_folder(people(tmp_path, ["ann/pic1.jpg", "ann/pic2.jpg", "bob/pic1.jpg", "bob/pic2.jpg"])).protocol
        == "own-file"
    )


def test_folder_needs_two_people(tmp_path):
    with pytest.raises(FileNotFoundError, match="2 folders, 1 with images"):
        load_folder(people(tmp_path, ["ann/1.jpg", "empty/notes.txt"]))


def test_the_same_pid_in_two_data_sets_is_two_people():
    parts = {"m": data(shots(3, 0), "m", ("m/c1",)), "d": data(shots(3, 0), "d", ("d/c1",), person_names={3: "Ann"})}
    both = join(parts, train=["m", "d"], test="m")
    assert both.name == "m+d"
    assert [(record.pid, record.camid) for record in both.train] == [(3, 0), (7, 1)]
    assert both.camera_names == ("m/c1", "d/c1")
    assert both.person_names == {7: "Ann"}


def test_query_and_gallery_are_those_of_the_test_set():
    target = ReidData("t", shots(0, 0), shots(1, 1), shots(1, 0), ("t/c1", "t/c2"), protocol="none")
    joined = join({"m": data(shots(8, 0), "m"), "t": target}, train=["m"], test="t")
    assert {record.pid for record in joined.train} == {8}
    assert [(r.pid, joined.camera_names[r.camid]) for r in joined.query] == [(10, "t/c2")]
    assert joined.protocol == "none"
    assert joined.train_cameras == ("a",)


def test_views_are_brought_together_by_name():
    left = ReidData("l", [Record("x", 0, 0, 1)], [], [], ("l",), ("front", "back"))
    right = ReidData("r", [Record("y", 0, 0, 0), Record("z", 0, 0, -1)], [], [], ("r",), ("back",))
    both = join({"l": left, "r": right}, train=["l", "r"], test="l")
    assert both.view_names == ("front", "back")
    assert [record.viewid for record in both.train] == [1, 1, -1]


# --- the folder layout as people have it ------------------------------------------------------------------------------


def count(data):
    return sum(len(split) for split in (data.train, data.query, data.gallery))


def test_hidden_folders_are_nobody(tmp_path):
    names = ["ann/c1_1.jpg", "ann/c2_1.jpg", "bob/c1_1.jpg", "bob/c2_1.jpg"]
    hidden = ["ann/.ipynb_checkpoints/c1_1-checkpoint.jpg", ".ipynb_checkpoints/c1_9.jpg", "__MACOSX/ann/._c1_1.jpg"]
    found = load_folder(people(tmp_path, [*names, *hidden]))
    assert found.person_names == {0: "ann", 1: "bob"}
    assert count(found) == 4 and found.left_out == ()


def test_images_in_a_persons_sub_folders_are_the_persons(tmp_path):
    names = [f"{who}/{part}c{camera}_1.jpg" for who in ("ann", "bob") for camera in (1, 2) for part in ("", "night/")]
    found = load_folder(people(tmp_path, names))
    assert count(found) == 8 and len(found.person_names) == 2


def test_sub_folders_may_be_cameras(tmp_path):
    found = load_folder(
        people(tmp_path, [f"{who}/cam{c}/{n}.jpg" for who in ("ann", "bob") for c in (2, 10) for n in "12"])
    )
    assert (found.camera_names, found.protocol) == (("folder/c2", "folder/c10"), "same-camera")


def test_pictures_that_are_not_read_are_listed(tmp_path):
    names = ["ann/c1_1.jfif", "ann/c2_1.jpg", "bob/c1_1.jpg", "bob/c2_1.jpg"]
    found = load_folder(people(tmp_path, [*names, "bob/night/c3_1.heic", "loose.png", "ann/notes.txt"]))
    assert count(found) == 4
    assert found.left_out == (str(tmp_path / "loose.png"), str(tmp_path / "bob/night/c3_1.heic"))


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("cam_a", "cam_b"), "cam_a, cam_b look like cameras.*one folder per person"),
        (("camera1", "camera2", "Camera3"), "look like cameras"),
        (("c1", "c2"), "look like cameras.*person_c1"),
        (("bounding_box_test", "bounding_box_train", "query"), "Market-1501's layout.*DATASETS.NAMES market1501"),
        (("train", "test"), "test, train are splits"),
    ],
)
def test_cameras_and_splits_do_not_become_people(tmp_path, folders, message):
    with pytest.raises(ValueError, match=message):
        load_folder(people(tmp_path, [f"{folder}/{n}.jpg" for folder in folders for n in "12"]))


@pytest.mark.parametrize("folders", [("camilla", "carl"), ("cam", "ann"), ("c001", "c002"), ("query", "ann")])
def test_people_with_such_names_stay_people(tmp_path, folders):
    found = load_folder(people(tmp_path, [f"{folder}/{n}.jpg" for folder in folders for n in "12"]))
    assert set(found.person_names.values()) == set(folders)


def test_a_pattern_finds_the_camera_in_the_path(tmp_path):
    names = [f"{who}/2026_{door}_{n}.jpg" for who in ("ann", "bob") for door in ("hall", "gate") for n in "12"]
    found = load_folder(people(tmp_path, names), camera_pattern=r"_([a-z]+)_\d\.jpg")
    assert (found.camera_names, found.protocol) == (("folder/gate", "folder/hall"), "same-camera")
    assert {record.camid for record in found.query} == {0, 1}


def test_a_pattern_that_does_not_fit_all_files_is_an_error(tmp_path):
    names = ["ann/gate_1.jpg", "ann/1.jpg", "bob/gate_1.jpg", "bob/hall_1.jpg"]
    with pytest.raises(ValueError, match=r"CAMERA_PATTERN: .* 1 of 4 file names, the first: ann/1\.jpg"):
        load_folder(people(tmp_path, names), camera_pattern="/([a-z]+)_")


def test_held_out_people_without_cameras_need_two_images():
    with pytest.raises(ValueError, match="each needs two images"):
        hold_out(data([*shots(0, 0), *shots(1, 0)], protocol="own-file"), 1, seed=0)
