"""Training images of unknown people: the data set `crops`, and manifests without pids."""

import numpy as np
import pytest
from PIL import Image

from vitreid.configs import load_config
from vitreid.datasets import Record, ReidData, build_data, read_dataset
from vitreid.datasets.readers.merge import join
from vitreid.datasets.records import TIME, Moment

NEEDED = ["MODEL.PRETRAIN_CHOICE", "none"]


def write_images(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 4, 3), number, np.uint8)).save(path)


def build(*words):
    return build_data(load_config(None, [*NEEDED, *map(str, words)]))


def test_crops_are_all_images_of_unknown_people(tmp_path):
    write_images(tmp_path, "cam2/b.jpg", "cam10/a.jpg", "cam2/deeper/c.png")
    data = read_dataset("crops", tmp_path)
    assert [record.pid for record in data.train] == [-1] * 3
    assert data.camera_names == ("crops/c2", "crops/c10")
    assert [data.camera_names[record.camid] for record in data.train] == ["crops/c10", "crops/c2", "crops/c2"]
    assert data.query == data.gallery == []


def test_crops_without_cameras_are_said_to_be_so(tmp_path, caplog):
    write_images(tmp_path, "crops/a.jpg", "crops/b.jpg")
    data = read_dataset("crops", tmp_path)
    assert len(data.train) == 2 and data.camera_names == ("crops/unknown",)
    assert "DATASETS.CAMERA_PATTERN" in caplog.text


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"DATASETS\.ROOT_DIR.*found none"):
        read_dataset("crops", tmp_path)


def test_crops_need_a_clustering(tmp_path):
    write_images(tmp_path, "a.jpg", "b.jpg")
    words = ["DATASETS.NAMES", "crops", "DATASETS.ROOT_DIR", tmp_path]
    with pytest.raises(ValueError, match=r"crops has 2 training images of unknown people.*UNSUPERVISED\.CLUSTERING"):
        build(*words)
    assert len(build(*words, "UNSUPERVISED.CLUSTERING", "dbscan").train) == 2


@pytest.mark.parametrize("columns", ["path,pid,camid,split", "path,camid,split"])
def test_a_manifest_may_lack_pids_of_training_images(tmp_path, columns):
    write_images(tmp_path, "a.jpg", "b.jpg")
    pid = "," if "pid" in columns else ""
    (tmp_path / "crops.csv").write_text(f"{columns}\na.jpg,{pid}c1,train\nb.jpg,{pid}c2,train\n")
    words = ["DATASETS.NAMES", "manifest", "DATASETS.MANIFEST", tmp_path / "crops.csv"]
    with pytest.raises(ValueError, match="pid"):
        build(*words)
    data = build(*words, "UNSUPERVISED.CLUSTERING", "dbscan")
    assert [(record.pid, record.camid) for record in data.train] == [(-1, 0), (-1, 1)]


def test_tracks_are_no_people_where_people_are_unknown(tmp_path):
    write_images(tmp_path, "a.jpg", "b.jpg", "q.jpg")
    lines = ["path,pid,camid,split,tracklet", "a.jpg,,c1,train,7", "b.jpg,Ann,c1,train,8"]
    (tmp_path / "crops.csv").write_text("\n".join(lines))
    words = ["DATASETS.NAMES", "manifest", "DATASETS.MANIFEST", tmp_path / "crops.csv"]
    labelled, unlabelled = build(*words), build(*words, "UNSUPERVISED.CLUSTERING", "dbscan")
    assert sorted(labelled.person_names.values()) == ["Ann", "track c1 7"]
    assert [record.pid for record in unlabelled.train] == [-1, 0] and unlabelled.person_names == {0: "Ann"}
    assert unlabelled.train[0].tracklet >= 0


def moments(tmp_path, columns, *lines):
    (tmp_path / "crops.csv").write_text("\n".join([f"path,camid,split,{columns}", *lines]))
    words = [
        "DATASETS.NAMES",
        "manifest",
        "DATASETS.MANIFEST",
        tmp_path / "crops.csv",
        "UNSUPERVISED.CLUSTERING",
        "dbscan",
    ]
    return [record.moment for record in build(*words).train]


def test_moments_are_times_or_frames_of_a_recording(tmp_path):
    write_images(tmp_path, "a.jpg", "b.jpg")
    times = moments(tmp_path, "time,end_time", "a.jpg,c1,train,1970-01-01T00:01:00,61.5", "b.jpg,c1,train,7,")
    assert times == [Moment(TIME, 60, 61.5), Moment(TIME, 7, 7)]
    frames = moments(tmp_path, "tracklet,frame,time", "a.jpg,c1,train,lobby/3,12,", "b.jpg,c1,train,3,12,")
    assert frames == [Moment("lobby", 12, 12), None]  # the second one names no recording
    assert moments(tmp_path, "video,frame", "a.jpg,c1,train,x.mp4,12.0", "b.jpg,c1,train,,1") == [
        Moment("x.mp4", 12, 12),
        None,
    ]


def test_boxes_of_one_picture_are_of_one_moment(tmp_path):
    write_images(tmp_path, "a.jpg")
    found = moments(tmp_path, "x,y,width,height", "a.jpg,c1,train,0,0,2,4", "a.jpg,c1,train,2,0,2,4")
    assert found[0] == found[1] == Moment(str(tmp_path / "a.jpg"), 0, 0)


@pytest.mark.parametrize(
    ("columns", "values", "named"),
    [
        ("time", "half past seven", "time.*half past seven"),
        ("time", "inf", "infinite"),
        ("time,end_time", "5,4", "end_time 4 is before"),
        ("video,frame", "a.mp4,first", "frame"),
    ],
)
def test_a_wrong_moment_is_named(tmp_path, columns, values, named):
    write_images(tmp_path, "a.jpg")
    with pytest.raises(ValueError, match=rf"crops\.csv:2.*{named}"):
        moments(tmp_path, columns, f"a.jpg,c1,train,{values}")


def test_times_are_not_read_where_people_are_known(tmp_path):
    write_images(tmp_path, "a.jpg")
    (tmp_path / "crops.csv").write_text("path,pid,camid,split,time\na.jpg,1,c1,train,half past seven\n")
    assert build("DATASETS.NAMES", "manifest", "DATASETS.MANIFEST", tmp_path / "crops.csv").train[0].moment is None


def test_queries_need_a_pid(tmp_path):
    write_images(tmp_path, "a.jpg", "q.jpg")
    (tmp_path / "crops.csv").write_text("path,pid,camid,split\na.jpg,,c1,train\nq.jpg,,c1,query\nq.jpg,1,c2,gallery\n")
    words = ["DATASETS.NAMES", "manifest", "DATASETS.MANIFEST", tmp_path / "crops.csv"]
    with pytest.raises(ValueError, match=r"crops\.csv:3: pid is empty"):
        build(*words, "UNSUPERVISED.CLUSTERING", "dbscan")


def test_unknown_people_stay_unknown_when_data_sets_are_joined():
    one = ReidData("one", [Record("a", 3, 0)], [], [], ("c",))
    other = ReidData("other", [Record("b", -1, 0), Record("c", 0, 0)], [], [], ("c",))
    joined = join({"one": one, "other": other}, ["one", "other"], "one")
    assert [record.pid for record in joined.train] == [3, -1, 4]


def test_tracklets_of_joined_data_sets_stay_different():
    one = ReidData("one", [Record("a", 3, 0, tracklet=4)], [], [], ("c",))
    other = ReidData("other", [Record("b", -1, 0, tracklet=0), Record("c", 0, 0)], [], [], ("c",))
    joined = join({"one": one, "other": other}, ["one", "other"], "one")
    assert [record.tracklet for record in joined.train] == [4, 5, -1]
