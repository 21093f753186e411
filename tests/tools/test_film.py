"""`vitreid film`: draws the film, and judges the paths that a gallery of its tracks gives."""

from itertools import combinations

import numpy as np
import pytest

from vitreid.datasets.synthetic.film import FilmPlan, make_film
from vitreid.datasets.synthetic.film_truth import FILM_START, read_paths, read_truth
from vitreid.gallery import Gallery, GalleryInfo
from vitreid.tools.video.film import main
from vitreid.tools.video.film_paths import find_paths, path_text

PLAN = FilmPlan(num_people=3, num_cameras=2, seconds=20, fps=5, size=(96, 160))
WORDS = ["--people", "3", "--cameras", "2", "--seconds", "8", "--fps", "5"]
THRESHOLD = {"distance": 0.5, "metric": "euclidean", "fmr": 0.001}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films") / "film"
    make_film(folder, PLAN)
    return folder


def rows_of(film):
    """One row per visit, as an export writes it, and the person it shows."""
    rows, people, start = [], [], FILM_START.timestamp()
    for visit in read_paths(film):
        boxes = [b for b in read_truth(film, visit.camera) if b.person == visit.person]
        boxes = [b for b in boxes if visit.start <= b.frame / PLAN.fps <= visit.end + 1e-3]
        best = max(boxes, key=lambda box: box.visible)
        x0, y0, x1, y1 = best.seen
        place = {"frame": best.frame, "x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
        times = {"time": start + visit.start, "end_time": start + visit.end}
        rows.append({"path": f"{len(rows)}.jpg", "camera": visit.camera, **times, **place})
        people.append(visit.person)
    return rows, people


def gallery_of(folder, rows, looks, threshold=THRESHOLD):
    """A gallery in which the rows of one number of `looks` look the same."""
    gallery = Gallery.create(folder, GalleryInfo("sha256:test", 8, threshold=threshold))
    gallery.add(np.eye(8, dtype=np.float32)[looks], rows, "sha256:test")
    return Gallery.open(folder)


def test_every_path_is_complete_if_each_person_looks_like_nobody_else(film, tmp_path):
    rows, people = rows_of(film)
    paths = find_paths(gallery_of(tmp_path / "gallery", rows, people), film)
    assert [path.person for path in paths] == sorted(set(people)) and all(path.is_complete for path in paths)
    assert sum(len(path.sightings) for path in paths) == len(rows)


def test_who_looks_like_somebody_else_is_named(film, tmp_path):
    rows, people = rows_of(film)
    looks = [1 if person == 2 else person for person in people]
    later = [
        {**row, **{key: row[key] + 1000 * (person == 2) for key in ("time", "end_time")}}
        for row, person in zip(rows, people)
    ]
    first, second = find_paths(gallery_of(tmp_path / "gallery", later, looks), film)[:2]
    assert not first.is_complete and first.others == [2] and second.others == [1]
    assert "also found: person 2" in path_text(first)


def test_of_two_rows_at_the_same_time_in_one_camera_the_nearer_counts(film, tmp_path):
    """Somebody else in the same picture is not the person, even if the two look the same."""
    rows, people = rows_of(film)
    overlapping = next(
        (one, other)
        for one, other in combinations(range(len(rows)), 2)
        if rows[one]["camera"] == rows[other]["camera"]
        and people[one] != people[other]
        and rows[one]["time"] < rows[other]["end_time"]
        and rows[other]["time"] < rows[one]["end_time"]
    )
    kept = [rows[place] for place in overlapping]
    paths = find_paths(gallery_of(tmp_path / "gallery", kept, [1, 1]), film)
    assert [path.others for path in paths if path.sightings] == [[], []]


def test_a_visit_that_was_not_found_is_named(film, tmp_path):
    rows, people = rows_of(film)
    several = next(person for person in people if people.count(person) > 1)
    last = max(place for place, person in enumerate(people) if person == several)
    gallery = gallery_of(
        tmp_path / "gallery", rows, [7 if place == last else person for place, person in enumerate(people)]
    )
    path = next(path for path in find_paths(gallery, film) if path.person == several)
    assert not path.is_complete and [one.camera for one in path.missed] == [rows[last]["camera"]]
    assert "missed: camera" in path_text(path)


def test_somebody_without_a_track_has_no_path(film, tmp_path):
    rows, people = rows_of(film)
    kept = [place for place, person in enumerate(people) if person != 1]
    gallery = gallery_of(tmp_path / "gallery", [rows[place] for place in kept], [people[place] for place in kept])
    assert path_text(find_paths(gallery, film)[0]).startswith("person 1: no track shows this person; missed: camera")


def test_the_command_draws_and_prints_the_paths(film, tmp_path, capsys):
    folder = tmp_path / "drawn"
    assert main(["--output", str(folder), *WORDS, "--seed", "3"]) == 0
    assert f"{folder}: a.mp4, b.mp4 with boxes.csv" in capsys.readouterr().out
    assert main(["--output", str(folder), "--people", "0"]) == 2
    assert "num_people: 0; give a number from 1 to 1000" in capsys.readouterr().err


def test_a_gallery_without_a_threshold_or_of_something_else_is_refused(film, tmp_path, capsys):
    rows, people = rows_of(film)
    from_film = gallery_of(tmp_path / "uncalibrated", rows, people, threshold=None)
    with pytest.raises(ValueError, match="no threshold; run `vitreid test --calibrate"):
        find_paths(from_film, film)
    other = gallery_of(tmp_path / "crops", [{"path": "x.jpg", "camera": "a"}], [1])
    with pytest.raises(ValueError, match="no rows of tracks"):
        find_paths(other, film)
    lobby = gallery_of(tmp_path / "lobby", [{**row, "camera": "lobby"} for row in rows], people)
    with pytest.raises(ValueError, match="camera 'lobby' is not in"):
        find_paths(lobby, film)
