"""The tracking benchmark: noise at the stated rates, scores of trackeval, re-association, and what appearance adds."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from vitreid.benchmarks import tracking
from vitreid.benchmarks.video.noisy_boxes import NoiseRates, noisy_boxes
from vitreid.benchmarks.video.reassociation import reassociation
from vitreid.benchmarks.workers.film_tracking import colour_histograms
from vitreid.datasets.synthetic.film import FilmPlan
from vitreid.datasets.synthetic.film_truth import FilmBox

PLAN = FilmPlan(1, 1, 50, 20)
STANDING = [FilmBox(frame, 1, (100.0, 60, 140, 160), 1.0, (100.0, 60, 140, 160)) for frame in range(1000)]
CLEAN = NoiseRates(missed=0, blind=0, doubled=0, shifted=0, false=0)


def found(truth=STANDING, **rates):
    return noisy_boxes(truth, PLAN, replace(CLEAN, **rates), np.random.default_rng(0))


def test_without_noise_the_boxes_are_the_true_ones():
    assert all((one.boxes == [[100, 60, 140, 160]]).all() and len(one) == 1 for one in found())


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"missed": 0.2}, 0.8),
        ({"doubled": 0.1}, 1.1),
        ({"false": 0.3}, 1.3),
        ({"blind": 0.5, "blind_seconds": (0.5, 0.5)}, 0.8),
    ],
    ids=["missed", "doubled", "false", "blind"],
)
def test_the_rates_of_missed_doubled_and_false_boxes_are_the_stated_ones(rates, expected):
    """Blind: a stretch of half a second starts in half of the seconds, later ones overlap it: 1 / (1 + 0.5 * 0.5)."""
    assert np.mean([len(one) for one in found(**rates)]) == pytest.approx(expected, abs=0.05)


def test_shifts_have_the_stated_spread():
    boxes = np.concatenate([one.boxes for one in found(shifted=0.03)])
    assert ((boxes[:, 0] + boxes[:, 2]) / 2).std() == pytest.approx(3, rel=0.1)  # of a height of 100 pixels
    assert (boxes[:, 3] - boxes[:, 1]).std() == pytest.approx(3, rel=0.1)


def test_hidden_people_are_missed_more_often():
    half = [one._replace(visible=0.5) for one in STANDING]
    assert np.mean([len(one) for one in found(half)]) == pytest.approx(0.5, abs=0.05)


def test_reassociation_ranks_the_people_of_one_frame():
    """Two people in frames 0 and 10; the second one looks like the first at the later time."""
    vectors = np.array([[1, 0], [0, 1], [0.8, 0.6], [0.9, np.sqrt(0.19)], [1, 0]])
    people, frames, cameras = np.array([1, 2, 1, 2, 1]), np.array([0, 0, 10, 10, 10]), np.array([0, 0, 0, 0, 1])
    result = reassociation(vectors, people, frames, cameras, gap=10, stride=10)
    assert result == {"rank1": 0.0, "mrr": 0.5, "queries": 2}  # each finds the other one first; camera 1 does not count
    assert reassociation(vectors, people, frames, cameras, gap=7, stride=10)["queries"] == 0


def test_colour_histograms_tell_clothes_apart():
    red, blue = (np.full((90, 40, 3), colour, np.uint8) for colour in ((200, 30, 30), (30, 30, 200)))
    vectors = colour_histograms([red, blue, red[::2]])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)
    assert vectors[0] @ vectors[2] == pytest.approx(1) and vectors[0] @ vectors[1] < 0.1


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    pytest.importorskip("trackeval", reason="pip install --no-deps trackeval")
    folder = tmp_path_factory.mktemp("films")
    args = tracking.get_parser().parse_args(["--folder", str(folder), "--json", str(folder / "report.json")])
    return tracking.run(args, tracking.TrackingPlan(1, 6, 1, 20.0, (144, 256)))


def test_appearance_adds_ten_points_of_idf1(report):
    """By colour histograms: no trained model is needed to see that appearance counts."""
    motion, full = (report["trackers"][name]["person"] for name in (tracking.MOTION, tracking.FULL))
    assert full["IDF1"] >= motion["IDF1"] + 0.1 and full["HOTA"] > motion["HOTA"]


def test_motion_alone_embeds_nothing_and_appearance_not_everything(report):
    shares = {name: found["embeddings per box"] for name, found in report["trackers"].items()}
    assert shares[tracking.MOTION] == 0 and 0 < shares[tracking.FULL] < 0.8


def test_truth_as_tracks_scores_one():
    trackeval = pytest.importorskip("trackeval")
    assert trackeval
    from vitreid.benchmarks.video.tracking_scores import Sequence, tracking_scores

    ids, boxes = [np.array([4, 9])] * 5, [np.array([[0, 0, 10, 20], [30, 0, 40, 20.0]])] * 5
    swapped = [np.array([4, 9])] * 3 + [np.array([9, 4])] * 2
    perfect = tracking_scores({"a": Sequence(ids, boxes, ids, boxes)})
    assert perfect["HOTA"] == perfect["IDF1"] == perfect["MOTA"] == 1 and perfect["switches"] == 0
    broken = tracking_scores({"a": Sequence(ids, boxes, swapped, boxes)})
    assert broken["IDF1"] == pytest.approx(0.6) and broken["switches"] == 2 and broken["DetA"] == 1


def test_a_wrong_library_is_refused(capsys, tmp_path):
    assert tracking.main(["--library", str(tmp_path / "python"), "--quick"]) == 2
    assert "--library: no file" in capsys.readouterr().err
    assert sys.executable
