"""Tracks that are left out: objects in whose box nothing changes, and second boxes of people who have a track."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest

from vitreid.tracking.association.overlap import covered_shares
from vitreid.tracking.detections import Detections, VideoFrame
from vitreid.tracking.recording_tracks import TrackFinder, TrackOptions
from vitreid.tracking.recordings import Recording
from vitreid.tracking.tracklets.doubtful_tracks import TrackChecks, is_unchanged
from vitreid.tracking.tracklets.tracklet import TrackletBuilder

WINDOW = (100.0, 20.0, 140.0, 100.0)
CHECKS = TrackChecks(confidence=0.5)
ROOM = np.random.default_rng(0).integers(40, 216, (120, 200, 3), np.uint8)


def add(builder, seconds, boxes, scores, ids, pixels=ROOM):
    builder.add(VideoFrame(round(25 * seconds), seconds, pixels), Detections.of(boxes, scores), np.array(ids))


def watch(seconds, picture, checks=CHECKS, step=0.5):
    """The tracks left after a box on WINDOW, while `picture(seconds)` is the frame."""
    builder = TrackletBuilder(least_boxes=3, checks=checks)
    for now in np.arange(0, seconds, step).tolist():
        add(builder, now, [WINDOW], [0.6], [1], picture(now))
    return builder.finish()


def noisy(now):
    """The room as a camera sees it: each frame differs by a few grey levels."""
    return (ROOM + np.random.default_rng(round(1000 * now)).normal(0, 4, ROOM.shape)).clip(0, 255).astype(np.uint8)


def walker(now):
    """For 5 s somebody stands in front."""
    pixels = noisy(now)
    if 7 <= now < 12:
        pixels[30:110, 105:135] = np.random.default_rng(round(now)).integers(0, 256)
    return pixels


def breathes(now):
    """Someone whose arm, a twentieth of the box, is elsewhere each time."""
    pixels, row = noisy(now), 20 + 10 * (round(now / 0.5) % 7)
    pixels[row : row + 8, 100:120] = 255 if round(now) % 2 else 0
    return pixels


@pytest.mark.parametrize(
    ("seconds", "picture", "kept"),
    [(20, noisy, False), (30, walker, False), (12, noisy, True), (20, breathes, True)],
    ids=["object", "object behind a walker", "too short to tell", "somebody who keeps the place"],
)
def test_a_track_in_whose_box_nothing_changes_is_left_out(seconds, picture, kept):
    assert len(watch(seconds, picture)) == kept


def test_still_tracks_are_kept_on_request_and_named_otherwise(caplog):
    assert len(watch(20, noisy, TrackChecks(0.5, keep_still=True))) == len(watch(20, noisy, None)) == 1
    with caplog.at_level(logging.INFO):
        assert watch(20, noisy) == []
    assert "track 1, 20 s, is left out" in caplog.text and "--keep-still" in caplog.text


def test_a_box_that_moves_over_a_still_room_is_kept():
    """The picture where the box was is compared only while the box is there."""
    builder = TrackletBuilder(checks=CHECKS)
    for now in np.arange(0, 20, 0.5).tolist():
        add(builder, now, [[8 * now, 20, 8 * now + 40, 100]], [0.9], [1])
    assert len(builder.finish()) == 1


def test_noise_is_no_change_and_empty_pictures_are_not_compared():
    one, empty = np.full((32, 16), 100, np.uint8), np.zeros((0, 0), np.uint8)
    assert is_unchanged(one, one + 8) and not is_unchanged(one, one + 9)
    assert not is_unchanged(empty, empty) and not is_unchanged(one, empty)


def pair(builder, between, score, frames=20):
    """Two people with sure boxes, and a third box with a score per frame."""
    for number in range(frames):
        add(
            builder,
            number / 25,
            [(0, 0, 40, 100), (60, 0, 100, 100), between],
            [0.9, 0.8, score(number)],
            [1, 2, 3],
        )
    return [track.id for track in builder.finish()]


@pytest.mark.parametrize(
    ("between", "score", "kept"),
    [
        ((10, 0, 90, 100), lambda n: 0.3, [1, 2]),
        ((10, 0, 90, 100), lambda n: 0.6 if n < 5 else 0.2, [1, 2]),
        ((5, 40, 35, 100), lambda n: 0.9, [1, 2, 3]),
        ((110, 0, 150, 100), lambda n: 0.6 if n < 5 else 0.2, [1, 2, 3]),
    ],
    ids=["around two people", "sure at first", "a child before somebody", "alone, but dark"],
)
def test_a_box_around_two_people_is_no_track(between, score, kept):
    assert pair(TrackletBuilder(least_boxes=3, checks=CHECKS), between, score) == kept


def test_all_tracks_are_kept_without_checks():
    assert pair(TrackletBuilder(least_boxes=3), (10, 0, 90, 100), lambda n: 0.3) == [1, 2, 3]


def test_shares_covered_by_several_boxes_together():
    boxes = np.array([[0, 0, 80, 80], [0, 0, 40, 80], [40, 0, 80, 40], [200, 0, 210, 10]])
    np.testing.assert_allclose(covered_shares(boxes), [0.75, 1, 1, 0])
    assert covered_shares(boxes[:1]).tolist() == [0] and covered_shares(boxes[:0]).shape == (0,)


@pytest.mark.parametrize("at", [3, 15, 24])
def test_the_evidence_is_saved_with_the_tracks(at):
    """A still track that an interruption divides is left out as one that was not interrupted."""
    whole, first, second = (TrackletBuilder(checks=CHECKS) for _ in range(3))
    for number in range(40):
        if number == at:
            state = first.state()
            second.load_state({name: np.array(value) for name, value in state.items()})
        for builder in (whole, first if number < at else second):
            add(builder, number / 2, [WINDOW], [0.6], [1], noisy(number))
    one, other = whole.state(), second.state()
    assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    assert json.loads(bytes(one["tracks"]))["1"][0]["evidence"]["num_looks"] == 6
    assert whole.finish() == second.finish() == []


def test_only_tracks_of_our_tracker_are_judged():
    """Ground truth contains people who sit still."""
    finder, recording = TrackFinder(TrackOptions(boxes="x.csv")), Recording("img1", "lobby")
    stated = SimpleNamespace(last_frames=lambda: {7: 100})
    assert finder.follower(recording).builder.checks == TrackChecks(0.5)
    assert finder.follower(recording, stated).builder.checks is None
    single = TrackFinder(TrackOptions(boxes="x.csv", track=False))
    assert single.follower(recording).builder.checks is None
