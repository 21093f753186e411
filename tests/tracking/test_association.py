"""The parts of the tracker: filters, overlap, assignment, appearance, camera."""

import cv2
import numpy as np
import pytest

from vitreid.tracking.association.appearance import appearance_distances, remember
from vitreid.tracking.association.appearance_limit import AppearanceLimit
from vitreid.tracking.association.assignment import assign
from vitreid.tracking.association.kalman import ACCELERATION, JITTER, SPEED, Motion, correct, predict, start
from vitreid.tracking.association.overlap import box_iou, hidden_shares, nested_shares
from vitreid.tracking.frames.camera_motion import CameraMotion
from vitreid.tracking.frames.scene_cuts import SceneCuts

BOXES = np.array([[10.0, 20.0, 50.0, 120.0], [0.0, 0.0, 30.0, 90.0]])


def test_the_filters_of_all_boxes_equal_one_matrix_filter_each():
    """The textbook form: state (position, velocity), one 2 x 2 covariance per number of a box."""
    motion, steps = start(BOXES), [0.1, 0.25, 0.04]
    measured = [BOXES + shift for shift in (3.0, 7.0, -2.0)]
    for seconds, boxes in zip(steps, measured):
        motion = correct(predict(motion, seconds), boxes)
    for box in range(2):
        for number, found in enumerate(filter_by_matrices(box, steps, measured)):
            np.testing.assert_allclose(motion.mean[box, :, number], found[0], rtol=1e-9)
            np.testing.assert_allclose(motion.cov[box, :, number], found[1][[0, 0, 1], [0, 1, 1]], rtol=1e-9)


def filter_by_matrices(box, steps, measured):
    """Return (mean, covariance) of the four numbers of one box."""

    def numbers(boxes):
        x0, y0, x1, y1 = boxes[box]
        return np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0])

    states = [(np.array([value, 0.0]), None) for value in numbers(BOXES)]
    size = numbers(BOXES)[2:].mean()
    covs = [np.diag([(JITTER * size) ** 2, (SPEED * size) ** 2])] * 4
    means = [mean for mean, _ in states]
    for dt, boxes in zip(steps, measured):
        size = np.mean([means[2][0], means[3][0]])
        move = np.array([[1, dt], [0, 1]])
        noise = (ACCELERATION * size) ** 2 * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        means = [move @ mean for mean in means]
        covs = [move @ cov @ move.T + noise for cov in covs]
        jitter = (JITTER * np.mean([means[2][0], means[3][0]])) ** 2
        gains = [cov[:, 0] / (cov[0, 0] + jitter) for cov in covs]
        means = [mean + gain * (value - mean[0]) for mean, gain, value in zip(means, gains, numbers(boxes))]
        covs = [cov - np.outer(gain, cov[0]) for cov, gain in zip(covs, gains)]
    return list(zip(means, covs))


def test_two_half_steps_predict_what_one_step_does():
    motion = Motion(np.random.default_rng(0).uniform(50, 90, (3, 2, 4)), start(np.repeat(BOXES[:1], 3, 0)).cov)
    motion.mean[:, 1, 2:] = 0  # the noise depends on the size, so it must not change on the way
    once, twice = predict(motion, 0.5), predict(predict(motion, 0.25), 0.25)
    np.testing.assert_allclose(once.mean, twice.mean)
    np.testing.assert_allclose(once.cov, twice.cov)


def test_overlap_of_boxes():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [2, 2, 4, 4]])
    np.testing.assert_allclose(box_iou(boxes[:1], boxes), [[1, 50 / 150, 4 / 100]])
    np.testing.assert_allclose(nested_shares(boxes[:1], boxes), [[1, 0.5, 1]])


def test_the_nearer_of_two_people_hides_the_other():
    """The box that ends lower is nearer to the camera; at one level, either may hide the other."""
    near, far, level = (0, 10, 40, 120), (20, 0, 60, 100), (20, 10, 60, 120)
    np.testing.assert_allclose(hidden_shares(np.array([near, far]), np.array([near, far])), [0, 20 * 90 / 4000])
    np.testing.assert_allclose(hidden_shares(np.array([near, level]), np.array([near, level])), [0.5, 0.5])


def test_assignment_has_the_least_total_cost_and_no_forbidden_pair():
    cost = np.array([[1.0, 2.0, np.inf], [1.5, 5.0, np.inf], [np.inf, np.inf, np.inf]])
    rows, columns = assign(cost)
    assert list(zip(rows.tolist(), columns.tolist())) == [(0, 1), (1, 0)]  # 3.5; the cheapest pair first would cost 6
    assert [len(part) for part in assign(np.full((2, 3), np.inf))] == [0, 0]


def unit(*angles):
    """Unit vectors at angles in degrees."""
    turn = np.radians(angles)
    return np.stack([np.cos(turn), np.sin(turn)], 1).astype(np.float32)


def test_the_distance_to_a_track_is_the_mean_over_the_nearer_half():
    vectors = np.stack([unit(0, 0, 90, 90), unit(0, 60, 0, 0), unit(0, 0, 0, 0)])
    found = appearance_distances(unit(0), vectors, np.array([4, 2, 0]))
    np.testing.assert_allclose(found, [[0, 0, np.inf]], atol=1e-6)
    other = appearance_distances(unit(60), vectors, np.array([4, 1, 0]))
    near = 1 - np.cos(np.radians(30))
    np.testing.assert_allclose(other, [[near, 0.5, np.inf]], atol=1e-6)


def test_one_wrong_embedding_does_not_make_two_tracks_look_the_same():
    track = unit(0, 0, 0, 90)
    assert appearance_distances(unit(90), track[None], np.array([4]))[0, 0] == pytest.approx(0.5)


def test_a_full_memory_drops_the_older_of_the_closest_pair():
    vectors = unit(0, 90, 91, 180)
    assert remember(vectors, 4, unit(270)[0]) == 4
    np.testing.assert_allclose(vectors, unit(0, 91, 180, 270), atol=1e-6)


def test_memory_fills_in_order():
    vectors = np.zeros((2, 2), np.float32)
    counts = [remember(vectors, count, unit(10.0 * count)[0]) for count in range(2)]
    assert counts == [1, 2]
    np.testing.assert_allclose(vectors, unit(0, 10))


def test_the_limit_follows_the_scale_of_the_embedding():
    found = {}
    for scale in (1.0, 0.1):
        limit = AppearanceLimit()
        limit.add(np.full(9, 0.1 * scale), np.zeros(9, np.int64), np.full(9, scale))
        found[scale] = limit.value
    assert found[0.1] == pytest.approx(0.1 * found[1.0]) and 0.1 < found[1.0] < 1


def test_the_limit_is_zero_while_nothing_is_known_and_can_be_fixed():
    assert AppearanceLimit().value == 0
    assert AppearanceLimit(0.3).value == 0.3


def test_before_two_people_were_seen_each_track_counts_once():
    """A chair that stands still for minutes must not decide how much a walker changes."""
    limit = AppearanceLimit()
    limit.add(np.array([0.01] * 90 + [0.2] * 3 + [0.3] * 3), np.array([1] * 90 + [2] * 3 + [3] * 3), np.zeros(0))
    assert limit.value == pytest.approx(0.2)


def room(seed, brightness=1.0):
    small = np.random.default_rng(seed).integers(0, 256, (9, 16, 3)).astype(np.uint8)
    return np.clip(cv2.resize(small, (640, 360)) * brightness, 0, 255).astype(np.uint8)


def test_only_another_view_is_a_cut():
    cuts, dark = SceneCuts(), room(1, 0.2)
    person = room(0)
    cv2.rectangle(person, (200, 60), (330, 350), (20, 20, 200), -1)
    views = [room(0), room(0), person, room(0, 0.7), dark, dark]
    assert [cuts.is_cut(view) for view in views] == [False, False, False, False, True, False]
    assert not cuts.is_cut(np.zeros((0, 0, 3), np.uint8))


def test_a_shift_of_the_picture_is_found_without_the_people():
    picture = cv2.resize(np.random.default_rng(0).integers(0, 255, (60, 120, 3), np.uint8), (960, 480))
    camera = CameraMotion()
    assert camera.follow(picture[:, 100:740], np.zeros((0, 4))).tolist() == np.eye(2, 3).tolist()
    moved = picture[:, 112:752].copy()
    moved[100:400, 300:420] = 127  # somebody who walks in
    found = camera.follow(moved, np.array([[300.0, 100, 420, 400]]))
    np.testing.assert_allclose(found, [[1, 0, -12], [0, 1, 0]], atol=0.3)


def test_a_picture_without_corners_gives_no_motion():
    camera, grey = CameraMotion(), np.full((90, 160, 3), 127, np.uint8)
    assert [camera.follow(grey, np.zeros((0, 4))).tolist() for _ in range(2)] == [np.eye(2, 3).tolist()] * 2
