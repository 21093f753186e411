"""People's own data as a CSV file."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from films import noise_frames, write_video

from vitreid.common.errors import UserError
from vitreid.datasets import read_image
from vitreid.datasets.readers import box_crops
from vitreid.datasets.readers.manifest import load_manifest
from vitreid.tracking.frames import open_frames

LINES = [
    "path,pid,camid,split",
    "a.jpg,Ann,lobby,train",
    "sub/b.jpg,Bob,gate,query",
    "a.jpg,Bob,lobby,gallery",
]


@pytest.fixture
def write(tmp_path):
    """Write a manifest next to two images; return its path."""
    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", "sub/b.jpg"):
        (tmp_path / name).touch()

    def write(lines, encoding="utf-8"):
        file = tmp_path / "people.csv"
        file.write_text("\n".join(lines), encoding=encoding)
        return file

    return write


def test_names_may_be_any_text(write):
    data = load_manifest(write(LINES))
    assert data.camera_names == ("gate", "lobby")
    assert data.person_names == {0: "Ann", 1: "Bob"}
    assert [(record.pid, record.camid) for record in (*data.train, *data.query, *data.gallery)] == [
        (0, 1),
        (1, 0),
        (1, 1),
    ]
    assert data.protocol == "same-camera"


def test_relative_paths_start_at_the_csv(write, tmp_path, monkeypatch):
    file = write(LINES)
    monkeypatch.chdir("/")
    assert load_manifest(file).query[0].path == str(tmp_path / "sub" / "b.jpg")


def test_absolute_paths_stay(write, tmp_path):
    (tmp_path / "sub" / "c.png").touch()
    data = load_manifest(write([LINES[0], f"{tmp_path}/sub/c.png,Ann,lobby,train"]))
    assert data.train[0].path == str(tmp_path / "sub" / "c.png")


def test_views_are_optional_and_may_be_unknown(write):
    data = load_manifest(
        write([LINES[0] + ",viewid", "a.jpg,1,1,train,front", "a.jpg,1,1,train,", "a.jpg,1,1,train,back"])
    )
    assert data.view_names == ("back", "front")
    assert [record.viewid for record in data.train] == [1, -1, 0]


def test_with_one_camera_only_a_querys_own_file_is_junk(write):
    lines = [line.replace("gate", "lobby") for line in LINES]
    assert load_manifest(write(lines)).protocol == "own-file"


def test_a_spreadsheets_byte_order_mark_is_no_part_of_the_column(write):
    assert len(load_manifest(write(LINES, encoding="utf-8-sig")).train) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg,Ann,lobby,test", r"people\.csv:3.*'test'.*train, query, gallery"),
        ("a.jpg,,lobby,train", r"people\.csv:3.*pid .*empty"),
        ("a.jpg,Ann", r"people\.csv:3.*camid, split .*empty"),
        ("a.jpg,Ann,lobby,train,more", r"people\.csv:3.*more values"),
        ("no.jpg,Ann,lobby,train", r"people\.csv:3.*no\.jpg.*CSV file's folder"),
    ],
)
def test_a_bad_line_is_named(write, line, message):
    with pytest.raises(ValueError, match=message):
        load_manifest(write([*LINES[:2], line]))


def test_several_bad_lines_are_counted_and_the_first_are_named(write):
    wrong = [f"no{number}.jpg,Ann,lobby,train" for number in range(6)] + ["a.jpg,,lobby,train"]
    with pytest.raises(ValueError) as caught:
        load_manifest(write([*LINES, *wrong]))
    first, *named, more = str(caught.value).split("\n  ")
    assert first == "7 of 10 lines are wrong; correct or remove them:" and more == "and 2 more"
    assert len(named) == 5 and all(f"people.csv:{5 + n}: no image " in line for n, line in enumerate(named))


def test_a_few_bad_lines_are_all_named(write):
    with pytest.raises(ValueError, match=r"2 of 5 .*\n.*csv:5.*no\.jpg.*\n.*csv:6.*'x'[^\n]*$"):
        load_manifest(write([*LINES, "no.jpg,Ann,lobby,train", "a.jpg,Ann,lobby,x"]))


def test_missing_column_is_named(write):
    with pytest.raises(ValueError, match=r"people\.csv:1.*camid, split.*path, pid"):
        load_manifest(write(["path,pid", "a.jpg,1"]))


def test_query_without_gallery_is_an_error(write):
    with pytest.raises(ValueError, match=r"people\.csv.*split gallery"):
        load_manifest(write(LINES[:3]))


def test_empty_and_missing_files_are_errors(write, tmp_path):
    with pytest.raises(ValueError, match=r"people\.csv.*below the column names"):
        load_manifest(write(LINES[:1]))
    with pytest.raises(ValueError, match=r"people\.csv.*found nothing"):
        load_manifest(write([]))
    with pytest.raises(FileNotFoundError, match=r"DATASETS\.MANIFEST.*nowhere\.csv"):
        load_manifest(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("path,pid,camid,split\ncaf\xe9.jpg,1,c1,train\n".encode("latin-1"), "utf-8"),
        (b'path,pid,camid,split\n"' + b"a" * 200_000, "field"),
    ],
)
def test_a_file_that_is_no_csv_in_utf8_is_named(tmp_path, content, word):
    (tmp_path / "people.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"people\.csv.*UTF-8.*{word}"):
        load_manifest(tmp_path / "people.csv")


def test_a_person_in_training_and_in_the_test_set_is_told(write, caplog):
    load_manifest(write(LINES))
    assert not caplog.records
    load_manifest(write([*LINES, "a.jpg,Bob,gate,train"]))
    assert "people in training and in the test set: 1 (Bob)" in caplog.text


# --- files of other programs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "Path,PID,CamID,Split,ViewID",
        "path,pid,camera,split,view",
        "image,person_id,cam,subset,viewpoint",
        " path , pid,Camera ID,split,view-id",
    ],
)
def test_columns_may_have_the_fields_other_names(write, header):
    data = load_manifest(write([header, "a.jpg,Ann,lobby,train,front", "sub/b.jpg,Ann,gate,train,back"]))
    assert (data.camera_names, data.view_names) == (("gate", "lobby"), ("back", "front"))
    assert data.person_names == {0: "Ann"}


def test_two_columns_of_one_meaning_are_an_error(write):
    with pytest.raises(ValueError, match=r"people\.csv:1: the columns camid and camera both mean camera"):
        load_manifest(write(["path,pid,camid,camera,split", "a.jpg,1,a,b,train"]))


def test_images_of_pid_minus_one_are_junk_not_a_person(write, caplog):
    data = load_manifest(write([*LINES, "a.jpg,-1,lobby,gallery"]))
    assert data.person_names == {0: "Ann", 1: "Bob"} and len(data.gallery) == 1
    assert "1 images of pid -1 are junk" in caplog.text
    with pytest.raises(ValueError, match="all 1 images have the pid -1"):
        load_manifest(write([LINES[0], "a.jpg,-1,lobby,gallery"]))


def test_pandas_writes_whole_numbers_with_a_decimal(write):
    lines = [LINES[0] + ",viewid", "a.jpg,1.0,2.0,train,1.0", "a.jpg,10.0,3,train,"]
    data = load_manifest(write(lines))
    assert set(data.person_names.values()) == {"1", "10"}
    assert (data.camera_names, data.view_names) == (("2", "3"), ("1",))


def test_decimals_that_mean_something_stay(write):
    assert load_manifest(write([LINES[0], "a.jpg,1.0,1.0,train", "a.jpg,1.5,1.1,train"])).camera_names == ("1.0", "1.1")


def test_a_missing_value_is_no_person(write):
    with pytest.raises(ValueError, match=r"csv:2: pid is empty"):
        load_manifest(write([LINES[0], "a.jpg,nan,lobby,train"]))


@pytest.mark.parametrize("path", ["sub\\b.jpg", "C:\\people\\b.jpg", "D:/people/b.jpg"])
def test_windows_paths_are_named(write, path):
    with pytest.raises(ValueError, match="Windows path: write /"):
        load_manifest(write([LINES[0], f"{path},Ann,lobby,train"]))


def test_cameras_may_stand_in_the_paths(write):
    lines = ["path,pid,split", "a.jpg,Ann,train", "sub/b.jpg,Ann,train"]
    assert load_manifest(write(lines), camera_pattern=r"([ab])\.jpg").camera_names == ("a", "b")
    with pytest.raises(ValueError, match=r"csv:3: DATASETS.CAMERA_PATTERN .* is not found in sub/b\.jpg"):
        load_manifest(write(lines), camera_pattern=r"(a)\.jpg")
    with pytest.raises(ValueError, match="missing column camid.*DATASETS.CAMERA_PATTERN"):
        load_manifest(write(lines))


# --- boxes ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hall(tmp_path):
    """hall.avi of six frames of noise, and one of them as hall.png."""
    frames = noise_frames()
    write_video(tmp_path / "hall.avi", frames)
    cv2.imwrite(str(tmp_path / "hall.png"), frames[0])
    return tmp_path


def boxed(folder, *lines, columns="path,frame,x,y,width,height,camid,tracklet,pid,split"):
    (folder / "m.csv").write_text("\n".join([columns, *lines]))
    return folder / "m.csv"


def test_boxes_in_videos_and_pictures_are_cut_once(hall, monkeypatch):
    lines = [
        "hall.avi,4,10,5,20,30,door,,anna,train",
        "hall.png,,10,5,20,30,gate,,bert,train",
        "hall.avi,1,60,5,20,30,door,,bert,train",
    ]
    data = load_manifest(boxed(hall, *lines))
    video = open_frames(hall / "hall.avi")
    frames = [frame.pixels[..., ::-1] for frame in video.frames()]
    crops = [read_image(record.path) for record in data.train]
    assert np.array_equal(crops[0], frames[4][5:35, 10:30]) and np.array_equal(crops[2], frames[1][5:35, 60:80])
    assert np.array_equal(crops[1], read_image(hall / "hall.png")[5:35, 10:30])
    assert all(Path(record.path).is_relative_to(hall / "m.csv.crops") for record in data.train)
    monkeypatch.setattr(box_crops, "VideoReader", lambda: SimpleNamespace(close=lambda: None))
    assert load_manifest(hall / "m.csv") == data, "the second time nothing is cut"


def test_a_changed_video_is_cut_again(hall):
    path = boxed(hall, "hall.avi,4,10,5,20,30,door,,anna,train")
    before = load_manifest(path).train[0].path
    write_video(hall / "hall.avi", noise_frames(seed=1, number=7))
    after = load_manifest(path).train[0].path
    assert after != before and not np.array_equal(read_image(after), read_image(before))


def test_a_track_without_a_pid_is_a_person(hall):
    lines = ["hall.png,,1,1,9,9,door,1,,train", "hall.png,,2,1,9,9,door,1,,train", "hall.png,,3,1,9,9,gate,1,,train"]
    data = load_manifest(boxed(hall, *lines))
    assert sorted(data.person_names.values()) == ["track door 1", "track gate 1"], "numbers start anew in each camera"
    assert [record.tracklet for record in data.train] == [0, 0, 1] and len({record.pid for record in data.train}) == 2
    with pytest.raises(UserError, match=r"m\.csv:2.*pid is empty"):
        load_manifest(boxed(hall, "hall.png,,1,1,9,9,door,,,train"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("hall.avi,,1,1,9,9,door,1,,train", r"m\.csv:2.*frame is empty.*count from 0"),
        ("hall.avi,-1,1,1,9,9,door,1,,train", r"m\.csv:2.*frame -1.*count from 0"),
        ("hall.avi,two,1,1,9,9,door,1,,train", r"m\.csv:2: frame.*'two'"),
        ("hall.avi,2,1,1,0,9,door,1,,train", r"m\.csv:2.*no area"),
        ("hall.avi,6,1,1,9,9,door,1,,train", r"hall\.avi: has no frame 6.*it has 6 frames"),
        ("hall.png,,200,1,9,9,door,1,,train", r"hall\.png: the box.*outside.*96 x 64"),
    ],
)
def test_wrong_boxes_are_named(hall, line, message):
    with pytest.raises(UserError, match=message):
        load_manifest(boxed(hall, line))


def test_a_picture_with_the_frame_it_was_cut_from_is_the_crop(hall):
    data = load_manifest(boxed(hall, "hall.png,17,10,5,20,30,door,,anna,train"))
    assert data.train[0].path == str(hall / "hall.png") and not (hall / "m.csv.crops").exists()


CLOTHES = ["path,pid,camid,split,clothes", "a.jpg,Ann,lobby,query,coat", "sub/b.jpg,Ann,gate,gallery,shirt"]


def test_clothes_give_figures_for_the_same_and_for_changed_clothes(write):
    data = load_manifest(write(CLOTHES))
    assert [record.clothes for record in (*data.query, *data.gallery)] == [0, 1]
    assert [setting.name for setting in data.settings] == ["general", "same clothes", "changed clothes"]
    assert data.protocol == "same-camera"


def test_clothes_of_some_test_images_are_not_compared(write, caplog):
    data = load_manifest(write([*CLOTHES, "a.jpg,Bob,lobby,gallery,"]))
    assert data.settings == () and data.gallery[1].clothes == -1
    assert "clothes are not compared: 1 of 3 test images have none" in caplog.text


def test_clothes_without_cameras_are_not_compared(write):
    assert load_manifest(write([CLOTHES[0], *(line.replace("gate", "lobby") for line in CLOTHES[1:])])).settings == ()
