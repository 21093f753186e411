"""Images of nobody in the gallery."""

import json

import pytest

from vitreid.configs import load_config
from vitreid.datasets import Record, ReidData, build_data, build_test_sets
from vitreid.datasets.readers.distractors import add_distractors, load_distractors
from vitreid.tools import test as test_tool


@pytest.fixture
def folder(tmp_path):
    """Three images, one of them in a sub-folder, and a file that is none."""
    (tmp_path / "nobody" / "more").mkdir(parents=True)
    for name in ("b.jpg", "a.PNG", "more/c.jpeg", "readme.txt"):
        (tmp_path / "nobody" / name).touch()
    return tmp_path / "nobody"


def market(people, *words):
    common = ["DATASETS.NAMES", "market1501", "DATASETS.ROOT_DIR", str(people / "synthetic")]
    return load_config(None, [*common, *map(str, words)])


def test_distractors_end_the_gallery_under_a_pid_and_a_camera_of_their_own(folder):
    data = ReidData("x", [Record("t", 9, 0)], [Record("q", 1, 0)], [Record("g", 1, 1)], ("c1", "c2"))
    found = add_distractors(data, load_distractors(folder))
    assert [record.path.rsplit("/", 1)[1] for record in found.gallery[1:]] == ["a.PNG", "b.jpg", "c.jpeg"]
    assert {record.pid for record in found.gallery[1:]} == {10}
    assert {found.camera_names[record.camid] for record in found.gallery[1:]} == {"distractors"}
    assert found.train_cameras == ("c1",), "no model learns a row for them"
    assert (found.query, found.gallery[0]) == (data.query, data.gallery[0])


def test_distractors_join_every_test_gallery_and_are_counted(people, folder, caplog):
    cfg = market(people, "DATASETS.DISTRACTORS", folder, "DATASETS.TEST", "('market1501', 'dukemtmc')")
    plain = market(people, "DATASETS.TEST", "('market1501', 'dukemtmc')")
    sizes = [[len(data.gallery) for data in build_test_sets(which)] for which in (cfg, plain)]
    assert sizes[0] == [size + 3 for size in sizes[1]]
    assert "3 distractors in the gallery" in caplog.text


def test_distractors_do_not_join_validation_people(people, folder):
    with_them = build_data(market(people, "DATASETS.DISTRACTORS", folder, "DATASETS.VAL_IDS", 3))
    assert with_them == build_data(market(people, "DATASETS.VAL_IDS", 3))


def test_unreadable_distractors_can_be_skipped(people, folder):
    cfg = market(people, "DATASETS.DISTRACTORS", folder, "DATASETS.CORRUPT", "skip")
    assert len(build_test_sets(cfg)[0].gallery) == len(build_test_sets(market(people))[0].gallery)


def test_a_missing_or_empty_folder_is_an_error(people, tmp_path):
    (tmp_path / "empty").mkdir()
    for name, message in (("nowhere", "no folder"), ("empty", "no image")):
        with pytest.raises(FileNotFoundError, match=rf"DATASETS\.DISTRACTORS.*{message}.*{name}"):
            build_test_sets(market(people, "DATASETS.DISTRACTORS", tmp_path / name))


def test_more_of_nobody_never_helps(checkpoint, people, tmp_path):
    """A model with side information, and a camera it has no row for."""
    found = []
    for words in ([], ["DATASETS.DISTRACTORS", str(people / "synthetic" / "bounding_box_train")]):
        assert test_tool.main(["--weights", str(checkpoint), *words, "--traceback"]) == 0
        found.append(json.loads((tmp_path / "metrics.json").read_text()))
    assert found[1]["num_gallery"] == found[0]["num_gallery"] + 48
    assert found[1]["mAP"] <= found[0]["mAP"]
