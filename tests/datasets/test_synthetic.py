"""Synthetic people: seeded, complete, hard; and a folder that is never half written."""

import json
import threading
from collections import Counter

import cv2
import numpy as np
import pytest

from vitreid.datasets import read_image
from vitreid.datasets.synthetic import dataset
from vitreid.datasets.synthetic.body import Pose, draw_person
from vitreid.datasets.synthetic.camera import make_cameras, photograph
from vitreid.datasets.synthetic.dataset import STAMP, SyntheticPlan, generate, load_synthetic
from vitreid.datasets.synthetic.drawing import Sketch
from vitreid.datasets.synthetic.identity import BAGS, BOTTOMS, HAIRCUTS, PATTERNS, TOPS, make_people

SMALL = SyntheticPlan(
    num_train_ids=2, num_test_ids=2, num_distractors=1, num_cameras=2, images_per_camera=2, size=(32, 16)
)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def figure(person, yaw):
    sketch = Sketch(np.full((128, 64, 3), 100, np.uint8), 32, 4, 120)
    draw_person(sketch, person, Pose(yaw, 1.0, 0.3, 0.3, 0.2))
    return sketch


def test_everybody_is_seen_by_every_camera_and_queried_once_in_each(tmp_path):
    data = load_synthetic(tmp_path, SMALL)
    assert (len(data.train), len(data.query), len(data.gallery)) == (8, 4, 4 + 2)
    assert Counter((r.pid, r.camid) for r in data.train) == {(pid, camid): 2 for pid in (1, 2) for camid in (0, 1)}
    assert sorted((r.pid, r.camid) for r in data.query) == [(3, 0), (3, 1), (4, 0), (4, 1)]
    assert sorted(r.pid for r in data.gallery) == [0, 0, 3, 3, 4, 4]
    assert data.camera_names == ("synthetic/c1", "synthetic/c2")
    assert {read_image(r.path).shape for r in data.train} == {(32, 16, 3)}


def test_the_same_seed_draws_the_same_files_and_another_others(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        generate(tmp_path / name, SyntheticPlan(**{**vars(SMALL), "seed": seed}))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_a_finished_folder_is_not_drawn_again(tmp_path, monkeypatch):
    generate(tmp_path / "a", SMALL)
    drawn = []
    monkeypatch.setattr(dataset, "_draw_all", lambda *args: drawn.append(args))
    generate(tmp_path / "a", SMALL)
    assert not drawn


def test_another_plan_replaces_the_folder(tmp_path):
    generate(tmp_path / "a", SMALL)
    generate(tmp_path / "a", SyntheticPlan(**{**vars(SMALL), "num_train_ids": 1}))
    assert len(list((tmp_path / "a" / "bounding_box_train").iterdir())) == 4
    assert json.loads((tmp_path / "a" / STAMP).read_text())["num_train_ids"] == 1


def test_an_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    def fail(path, *_):
        if path.name.endswith("001_00.jpg"):
            raise OSError("disk full")
        path.write_bytes(b"")

    monkeypatch.setattr(dataset, "_write", fail)
    with pytest.raises(OSError, match="disk full"):
        generate(tmp_path / "a", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_somebody_elses_folder_is_never_replaced(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=rf"{tmp_path}/a.*synthetic"):
        generate(tmp_path / "a", SMALL)
    assert (tmp_path / "a" / "thesis.txt").read_text() == "mine"


def test_of_two_at_once_the_second_waits_and_finds_the_people(tmp_path, monkeypatch):
    draw, drawn, second = dataset._draw_all, [], threading.Thread(target=generate, args=(tmp_path / "a", SMALL))

    def draw_while_another_starts(folder, plan):
        drawn.append(folder)
        second.start()
        return draw(folder, plan)

    monkeypatch.setattr(dataset, "_draw_all", draw_while_another_starts)
    generate(tmp_path / "a", SMALL)
    second.join()
    assert len(drawn) == 1 and [path.name for path in tmp_path.iterdir()] == ["a"]
    assert len(list((tmp_path / "a" / "bounding_box_train").iterdir())) == 8


def test_people_differ():
    people = make_people(200, seed=0)
    assert len(set(people)) == 200
    worn = [{getattr(person, what) for person in people} for what in ("top", "bottom", "pattern", "haircut", "bag")]
    assert worn == [set(TOPS), set(BOTTOMS), set(PATTERNS), set(HAIRCUTS), set(BAGS)]


def test_more_people_keep_the_first_ones():
    assert make_people(20, seed=3)[:10] == make_people(10, seed=3)


def test_a_person_looks_different_from_the_back():
    person = make_people(1, seed=0)[0]
    front, back = figure(person, 0.0).image, figure(person, np.pi).image
    assert (front != back).any()


def test_a_person_is_narrower_from_the_side():
    person = make_people(1, seed=0)[0]
    widths = [(figure(person, yaw).mask[30:45] > 0).sum() for yaw in (0.0, np.pi / 2)]
    assert widths[1] < 0.85 * widths[0]


def test_the_mask_is_where_the_figure_is():
    sketch = figure(make_people(1, seed=0)[0], 0.4)
    changed = (sketch.image != 100).any(2)
    assert (changed & (sketch.mask == 0)).sum() == 0
    assert 0.1 < (sketch.mask > 0).mean() < 0.5


def test_cameras_see_from_different_sides_and_in_different_light():
    cameras = make_cameras(4, seed=0)
    assert [round(camera.yaw / np.pi, 2) for camera in cameras] == [0, 0.5, 1, 1.5]
    people = make_people(12, seed=0)
    rng = np.random.default_rng(0)
    means = [
        np.mean([photograph(camera, person, [], (64, 32), rng) for person in people], (0, 1, 2)) for camera in cameras
    ]
    assert max(np.abs(a - b).max() for a in means for b in means) > 25


def test_mean_colour_does_not_give_the_identity_away(tmp_path):
    """A network that only sees colours, as an untrained one does, must not solve the task."""
    people, cameras = make_people(24, seed=0), make_cameras(4, seed=0)
    shots = [(pid, camid) for pid in range(24) for camid in range(4)]
    images = [photograph(cameras[c], people[p], people, (64, 32), np.random.default_rng([p, c])) for p, c in shots]
    features = np.stack([cv2.resize(image, (2, 6), interpolation=cv2.INTER_AREA).ravel() for image in images]).astype(
        float
    )
    distances = np.linalg.norm(features[:, None] - features[None], axis=-1)
    same_camera = np.equal.outer([c for _, c in shots], [c for _, c in shots])
    nearest = np.where(same_camera, np.inf, distances).argmin(1)
    assert np.mean([shots[place][0] == shots[other][0] for place, other in enumerate(nearest)]) < 0.25
