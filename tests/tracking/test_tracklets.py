"""Tracklets: which crops are kept, what a track knows of itself, and that a saved builder continues as if nothing had happened."""

import numpy as np
import pytest

from vitreid.tracking.detections import Detections, VideoFrame
from vitreid.tracking.tracklets.best_crops import MOST_PIXELS, BestCrops, TrackCrop, kept_pixels
from vitreid.tracking.tracklets.crop_quality import FULL_SIDE, CropQuality, box_qualities, sharpness
from vitreid.tracking.tracklets.following import Follower, SingleIds, StatedIds
from vitreid.tracking.tracklets.tracklet import TrackletBuilder


def frame(number, seed=None, size=(100, 200)):
    pixels = np.random.default_rng(number if seed is None else seed).integers(0, 256, (*size, 3), np.uint8)
    return VideoFrame(number, number / 25, pixels)


def crop_of(value, number=0):
    return TrackCrop(number, number / 25, (0, 0, 1, 1), CropQuality(value, 1, 1, 1, 1), np.zeros((1, 1, 3), np.uint8))


def best_of(values, num_crops):
    best = BestCrops(num_crops)
    for number, value in enumerate(values):
        best.offer(1.0, lambda least, value=value, number=number: crop_of(value, number))
    return [crop.frame for crop in best.ranked()]


# --- quality --------------------------------------------------------------------------------------------------------


def test_size_counts_up_to_that_of_a_market_crop():
    qualities = box_qualities(np.zeros((1000, 1000, 3)), Detections.of([[100, 100, 132, 164], [200, 200, 500, 800]]))
    assert qualities[0].size == pytest.approx(np.sqrt(32 * 64) / FULL_SIDE) and qualities[1].size == 1


@pytest.mark.parametrize(
    ("box", "inside"),
    [((10, 10, 50, 90), 1.0), ((0, 10, 50, 90), 0.5), ((-40, 10, 40, 90), 0.25), ((150, 10, 199, 90), 0.5)],
)
def test_a_box_cut_by_the_border_is_worth_less(box, inside):
    assert box_qualities(frame(0).pixels, Detections.of([box]))[0].inside == pytest.approx(inside)


def test_only_the_box_behind_is_hidden():
    """In front is the one whose feet are lower in the picture."""
    front, behind = box_qualities(frame(0).pixels, Detections.of([[20, 20, 60, 90], [40, 10, 80, 80]]))
    assert front.visible == 1 and behind.visible == pytest.approx(1 - 20 * 60 / (40 * 70))


def test_a_blurred_crop_is_less_sharp():
    noise = frame(0, size=(128, 64)).pixels
    flat = np.full((128, 64, 3), 120, np.uint8)
    assert sharpness(noise) > 0.9 > 0.1 > sharpness(flat) == 0


def test_the_value_is_the_product():
    assert CropQuality(0.5, 0.5, 1, 0.5, 1).value == 0.125


# --- the best crops -------------------------------------------------------------------------------------------------


def test_a_short_track_keeps_all_crops_best_first():
    assert best_of([0.1, 0.9, 0.5], 8) == [1, 2, 0]


def test_a_long_track_keeps_the_best_of_each_part():
    """16 crops in 4 slots of 4: one of each, though the four best are neighbours."""
    values = [0.9, 0.8, 0.7, 0.6, 0.1, 0.2, 0.1, 0.1, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.4]
    assert best_of(values, 4) == [0, 15, 8, 5]


@pytest.mark.parametrize("length", [1, 7, 8, 9, 100, 1000])
def test_between_half_and_all_slots_are_filled(length):
    kept = best_of([0.5] * length, 8)
    assert min(length, 4) <= len(kept) <= min(length, 8)


def test_crops_that_cannot_be_the_best_are_not_even_cut():
    best, made = BestCrops(2), []
    for bound in (0.9, 0.8, 0.7, 0.6):
        best.offer(bound, lambda least, bound=bound: made.append(bound) or crop_of(bound))
    assert made == [0.9, 0.8, 0.7], "0.6 shares its slot with 0.7"


def test_the_crop_is_the_box_and_only_large_ones_are_shrunk():
    pixels = frame(0).pixels
    assert np.array_equal(kept_pixels(pixels), pixels[..., ::-1])
    large = kept_pixels(np.zeros((2000, 1000, 3), np.uint8))
    assert large.shape[0] * large.shape[1] <= MOST_PIXELS and large.shape[0] == pytest.approx(2 * large.shape[1], abs=2)


# --- builder --------------------------------------------------------------------------------------------------------

BOX, OTHER = (20.0, 20.0, 52.0, 84.0), (120.0, 10.0, 160.0, 90.0)


def follow(builder, numbers, box=BOX, id=7, score=0.5):
    for number in numbers:
        builder.add(frame(number), Detections.of([box], [score]), np.array([id]))


def test_a_tracklet_knows_its_first_and_last_box():
    builder = TrackletBuilder()
    follow(builder, [10, 11, 14], score=0.25)
    (tracklet,) = builder.finish()
    assert (tracklet.id, tracklet.label, tracklet.num_boxes, tracklet.confidence) == (7, "person", 3, 0.25)
    assert (tracklet.first_frame, tracklet.last_frame, tracklet.start, tracklet.end) == (10, 14, 0.4, 0.56)
    best = tracklet.crops[0]
    assert best.box == BOX and np.array_equal(best.pixels, frame(best.frame).pixels[20:84, 20:52, ::-1])


def test_boxes_without_a_track_and_short_tracks_are_dropped():
    builder = TrackletBuilder(least_boxes=2)
    follow(builder, [0, 1], id=-1)
    follow(builder, [2], id=3)
    follow(builder, [2, 3], id=4)
    assert [tracklet.id for tracklet in builder.finish()] == [4] and builder.dropped == [3]


def test_a_box_outside_the_frame_counts_but_has_no_crop():
    builder = TrackletBuilder()
    follow(builder, [0, 1], box=(300.0, 10.0, 340.0, 90.0))
    (tracklet,) = builder.finish()
    assert tracklet.num_boxes == 2 and tracklet.crops == ()


def test_a_renamed_track_joins_the_earlier_one():
    builder = TrackletBuilder()
    follow(builder, [0, 1], id=1)
    follow(builder, [10, 11, 12], box=OTHER, id=2)
    builder.rename(2, 1)
    follow(builder, [13], box=OTHER, id=1)
    (tracklet,) = builder.finish()
    assert (tracklet.id, tracklet.num_boxes, tracklet.first_frame, tracklet.last_frame) == (1, 6, 0, 13)
    assert {crop.box for crop in tracklet.crops} == {BOX, OTHER}
    builder.rename(99, 1)
    assert builder.finish() == []


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a.pixels, b.pixels) and (a.frame, a.box, a.quality) == (b.frame, b.box, b.quality)
        for left, right in zip(one, other)
        for a, b in zip(left.crops, right.crops, strict=True)
    )


@pytest.mark.parametrize("at", [1, 5, 9, 20])
def test_a_saved_builder_continues_as_if_nothing_had_happened(at):
    whole, first, second = (TrackletBuilder(num_crops=4) for _ in range(3))
    for builder, numbers in ((whole, range(30)), (first, range(at))):
        follow(builder, numbers)
    second.load_state(first.state())
    follow(second, range(at, 30))
    one, other = whole.finish(), second.finish()
    assert same(one, other)
    assert vars(one[0]) | {"crops": ()} == vars(other[0]) | {"crops": ()}


# --- following ------------------------------------------------------------------------------------------------------


def test_stated_tracks_end_with_their_last_box():
    follower, ended = Follower(StatedIds({5: 2, 6: 3}), TrackletBuilder()), []
    for number in range(5):
        rows = [id for id, last in ((5, 2), (6, 3)) if number <= last]
        detections = Detections.of([[20 * id, 10, 20 * id + 15, 60] for id in rows], tracks=np.array(rows))
        ended.append([tracklet.id for tracklet in follower.add(frame(number), detections)[1]])
    assert ended == [[], [], [5], [6], []]


def test_without_tracking_each_box_is_a_track():
    follower = Follower(SingleIds(), TrackletBuilder())
    found = [follower.add(frame(number), Detections.of([BOX, OTHER]))[1] for number in range(2)]
    assert [[tracklet.id for tracklet in part] for part in found] == [[1, 2], [3, 4]]
    other = Follower(SingleIds(), TrackletBuilder())
    other.load_state(follower.state())
    assert other.add(frame(2), Detections.of([BOX]))[1][0].id == 5
