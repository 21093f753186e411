"""The built-in film: the same from the same seed, boxes around what was drawn, and people who do what people do."""

import csv
import json
from itertools import pairwise

import cv2
import numpy as np
import pytest

from vitreid.common.errors import UserError
from vitreid.datasets.synthetic.camera import make_cameras
from vitreid.datasets.synthetic.film import FilmPlan, film_walks, make_film
from vitreid.datasets.synthetic.film_truth import COUNTED, read_paths, read_truth
from vitreid.datasets.synthetic.identity import make_people
from vitreid.datasets.synthetic.scene import Scene
from vitreid.datasets.synthetic.walks import SPEEDS, StandingPlace, View

SMALL = FilmPlan(num_people=3, num_cameras=2, seconds=6, fps=5, size=(96, 160))
VIEW = View(270, 480)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film") / "small"
    make_film(folder, SMALL)
    return folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_seed_draws_the_same_bytes_and_another_others(film, tmp_path):
    make_film(tmp_path / "again", SMALL)
    make_film(tmp_path / "other", FilmPlan(**{**vars(SMALL), "seed": 1}))
    assert contents(tmp_path / "again") == contents(film)
    assert (tmp_path / "other" / "a.mp4").read_bytes() != (film / "a.mp4").read_bytes()


def test_each_video_has_all_its_frames(film):
    for camera in SMALL.cameras:
        capture, count = cv2.VideoCapture(str(film / f"{camera}.mp4")), 0
        assert capture.get(cv2.CAP_PROP_FPS) == SMALL.fps
        while capture.grab():
            count += 1
        assert count == SMALL.num_frames == 30
        assert "seqLength=30\nimWidth=160\nimHeight=96\n" in (film / camera / "seqinfo.ini").read_text()


def test_truth_detections_and_the_table_of_all_videos_agree(film):
    """MOTChallenge counts frames and pixels from 1, the CSV file from 0."""
    with open(film / "boxes.csv", newline="") as file:
        table = list(csv.DictReader(file))
    for camera in SMALL.cameras:
        truth = np.loadtxt(film / camera / "gt" / "gt.txt", delimiter=",", ndmin=2)
        found = np.loadtxt(film / camera / "det" / "det.txt", delimiter=",", ndmin=2)
        if not truth.size:
            continue  # nobody walks through this camera
        counted = truth[truth[:, 6] == 1]
        assert truth[:, 0].min() >= 1 and set(truth[:, 6]) <= {0, 1}
        assert ((truth[:, 8] >= COUNTED) == (truth[:, 6] == 1)).all()
        assert found[:, 0].tolist() == counted[:, 0].tolist() and set(found[:, 1]) == {-1}
        rows = [row for row in table if row["video"] == f"{camera}.mp4"]
        assert [int(row["frame"]) + 1 for row in rows] == found[:, 0].tolist()
        assert [float(row["x"]) for row in rows] == (found[:, 2] - 1).tolist()
        boxes = read_truth(film, camera)
        assert [(one.frame + 1, one.person) for one in boxes] == list(zip(*counted[:, :2].T.astype(int).tolist()))


def test_paths_say_who_was_seen_where_from_when_to_when(film):
    visits = read_paths(film)
    for camera in SMALL.cameras:
        for one in read_truth(film, camera):
            seconds = one.frame / SMALL.fps
            mine = [v for v in visits if (v.person, v.camera) == (one.person, camera)]
            assert any(visit.start - 1e-3 <= seconds <= visit.end + 1e-3 for visit in mine)
    assert visits == sorted(visits, key=lambda visit: (visit.person, visit.start))


def draw(*places, people=4):
    """Draw places (person, x, depth) in a scene; return the picture and the people seen."""
    scene = Scene(make_cameras(2, 0)[0], VIEW, 0, 0)
    standing = [(person, StandingPlace(x, depth, 0.0, 0.0, 0.0)) for person, x, depth in places]
    return (*scene.draw(make_people(people, 5), standing, 0), scene)


def test_the_box_is_what_was_drawn():
    empty, nobody, _ = draw()
    picture, (one,), _ = draw((2, 420.0, 0.6))
    assert nobody == [] and one.person == 2 and one.visible == 1
    changed = np.abs(picture.astype(int) - empty).max(2) > 24
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    drawn = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert np.abs(np.array(one.box) - drawn).max() <= 3
    assert one.seen == one.box


def test_the_nearer_person_hides_the_farther_one():
    _, (far, near), _ = draw((0, 420.0, 0.3), (1, 425.0, 0.5))
    assert near.visible == 1 and 0 < far.visible < 0.5


def test_a_pillar_hides_who_passes_behind_it_and_not_who_passes_in_front():
    _, _, scene = draw()
    x, depth = scene._pillar
    _, behind, _ = draw((0, x, depth - 0.2))
    _, before, _ = draw((0, x, min(1.0, depth + 0.1)))
    assert not behind or behind[0].visible < 0.3
    assert before[0].visible == 1


def test_half_a_person_at_the_border_is_half_visible():
    _, (one,), _ = draw((0, 480.0, 0.9))
    assert 0.35 < one.visible < 0.65
    assert one.box[2] > 480 and one.seen[2] == 480


@pytest.mark.parametrize("seed", range(4))
def test_people_walk_from_outside_to_outside_at_human_speed(seed):
    walks = film_walks(FilmPlan(seed=seed))
    assert {walk.person for walk in walks} == set(range(8))
    for walk in walks:
        assert not 0 <= walk.xs[0] <= VIEW.width and not 0 <= walk.xs[-1] <= VIEW.width
        moving = np.diff(walk.distances) > 0
        speed = np.diff(walk.distances)[moving] / np.diff(walk.times)[moving]
        assert (speed > 0.6 * SPEEDS[0]).all() and (speed < SPEEDS[1] + 1e-9).all()  # a pause slows a line down
        assert walk.at(walk.times[0] - 0.01) is None and walk.at(walk.times[-1] + 0.01) is None


def test_nobody_is_in_two_places_at_once():
    for seed in range(4):
        for person in range(8):
            times = sorted(
                (walk.times[0], walk.times[-1]) for walk in film_walks(FilmPlan(seed=seed)) if walk.person == person
            )
            assert all(first[1] < second[0] for first, second in pairwise(times))


def test_people_come_back_and_change_cameras():
    """Of the default film: somebody comes back into the same camera, everybody is seen more than once."""
    visits = {}
    for walk in sorted(film_walks(FilmPlan()), key=lambda walk: walk.times[0]):
        visits.setdefault(walk.person, []).append(walk.camera)
    assert any(first == second for path in visits.values() for first, second in pairwise(path))
    assert all(len(path) > 1 for path in visits.values()) and any(len(set(path)) > 1 for path in visits.values())


def test_somebody_who_walks_turns_sideways_and_swings_the_legs():
    walk = film_walks(FilmPlan(seed=2))[0]
    middle = walk.at(float(walk.times[0] + walk.times[1]) / 2)
    towards_right = walk.xs[1] > walk.xs[0]
    assert np.sin(middle.yaw) * (1 if towards_right else -1) > 0.3
    assert middle.pace == 1


def test_the_people_of_a_film_are_in_no_synthetic_data_set():
    strangers = make_people(8, 1_000_000)
    assert not {one for seed in range(3) for one in make_people(128, seed)} & set(strangers)


def test_a_finished_film_is_not_drawn_again_and_another_plan_replaces_it(tmp_path):
    tiny = FilmPlan(2, 2, 1, 4, (64, 96))
    make_film(tmp_path / "film", tiny)
    before = (tmp_path / "film" / "a.mp4").stat().st_mtime_ns
    make_film(tmp_path / "film", tiny)
    assert (tmp_path / "film" / "a.mp4").stat().st_mtime_ns == before
    make_film(tmp_path / "film", FilmPlan(2, 1, 1, 4, (64, 96)))
    assert not (tmp_path / "film" / "b.mp4").exists() and not (tmp_path / "film" / "b").exists()
    assert json.loads((tmp_path / "film" / "film.json").read_text())["num_cameras"] == 1


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "holiday.mp4").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"a/holiday\.mp4 is not of a film drawn by vitreid"):
        make_film(tmp_path, FilmPlan(2, 1, 1, 4, (64, 96)))
    assert (tmp_path / "a" / "holiday.mp4").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_cameras": 27}, "num_cameras: 27; give a number from 1 to 26"),
        ({"seconds": 0.5}, "seconds: 0.5; give a length from 1 to 3600"),
        ({"size": (63, 96)}, r"size: \(63, 96\)"),
        ({"suffix": ".gif"}, "suffix: unknown value '.gif'; choose from .avi, .mp4"),
    ],
)
def test_a_plan_out_of_range_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        FilmPlan(**values)


def test_a_film_for_browsers_has_its_frames(tmp_path):
    """VP8 in WebM, which browsers play; MPEG-4 they do not."""
    plan = FilmPlan(num_people=1, num_cameras=1, seconds=1, fps=5, size=(96, 160), suffix=".webm")
    make_film(tmp_path / "film", plan)
    assert (tmp_path / "film" / "a.webm").read_bytes()[:4] == b"\x1aE\xdf\xa3"
    capture, count = cv2.VideoCapture(str(tmp_path / "film" / "a.webm")), 0
    while capture.read()[0]:
        count += 1
    assert count == plan.num_frames
