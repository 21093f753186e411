"""The tracker: who keeps an id, who gets a new one, and what is asked of the embedder."""

import pickle

import numpy as np
import pytest

from vitreid.common.errors import UserError
from vitreid.tracking.association.overlap import box_iou
from vitreid.tracking.detections import Detections, VideoFrame
from vitreid.tracking.tracker import Tracker, TrackerOptions

NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
FPS = 12
LOOKS = np.eye(8, dtype=np.float32)  # one embedding per person, all at cosine distance 1


class Recording:
    """Frames of people as boxes; `None` = not detected. The embedder knows who stands in a box."""

    def __init__(self, options=None, fps=FPS, embeds=True):
        self.tracker, self.fps, self.embeds = Tracker(options), fps, embeds
        self.frame, self.asked = 0, []

    def show(self, *people, scores=None, seconds=None, pixels=NO_PIXELS, labels=None):
        """Show (person, box) pairs in the next frame; return the ids."""
        boxes = [box for _, box in people]
        found = Detections.of(np.array(boxes).reshape(-1, 4), scores, labels)
        moment = self.frame / self.fps if seconds is None else seconds

        def embed(rows):
            self.asked += [(self.frame, int(row)) for row in rows]
            return LOOKS[[people[row][0] for row in rows]]

        ids = self.tracker.update(VideoFrame(self.frame, moment, pixels), found, embed if self.embeds else None)
        self.frame += 1
        return ids.tolist()

    def wait(self, frames):
        """Show empty frames."""
        for _ in range(frames):
            assert self.show() == []


def walker(x, y=100.0):
    """A box of 40 x 100 pixels."""
    return x, y, x + 40, y + 100


def introduce(recording, frames=2 * FPS):
    """Show three people far apart, so that the tracker knows how different people look; return their ids."""
    for _ in range(frames):
        ids = recording.show((0, walker(0)), (1, walker(300)), (2, walker(600)))
    return ids


@pytest.mark.parametrize("fps", [2, 5, 12, 60])
def test_a_walker_keeps_the_id_at_any_frame_rate(fps):
    """70 pixels per second: at 2 frames per second a box does not touch the one before it."""
    recording = Recording(fps=fps, embeds=False)
    ids = [recording.show((0, walker(70 * frame / fps))) for frame in range(8 * fps)]
    assert ids == [[1]] * len(ids)


def test_people_who_cross_keep_their_ids():
    recording, seen = Recording(), []
    for frame in range(72):
        one, other = walker(5.0 * frame), walker(360 - 5.0 * frame, 110.0)
        both = ((0, one), (1, other))
        hidden = abs(one[0] - other[0]) < 30  # the nearer person alone is detected
        seen.append(recording.show(*(both[1:] if hidden else both)))
    assert seen[0] == [1, 2] and seen[-1] == [1, 2]
    assert all(ids in ([1, 2], [2]) for ids in seen)


def test_people_who_meet_and_turn_back_keep_their_ids():
    """Motion alone predicts that they pass each other."""
    ids = {}
    for embeds in (True, False):
        recording = Recording(embeds=embeds)
        for frame in range(72):
            x = 5.0 * min(frame, 71 - frame)
            both = ((0, walker(x)), (1, walker(340 - x)))
            ids[embeds] = recording.show(*(() if 29 < frame < 40 else both))
    assert ids == {True: [1, 2], False: [2, 1]}


def test_a_box_of_low_confidence_continues_a_track_and_starts_none():
    recording = Recording(embeds=False)
    assert recording.show((0, walker(0)), scores=[0.9]) == [1]
    assert recording.show((0, walker(2)), (1, walker(300)), scores=[0.2, 0.2]) == [1, -1]
    assert recording.show((0, walker(4)), scores=[0.05]) == [-1]


def test_boxes_of_low_confidence_alone_continue_a_track_for_two_seconds():
    recording = Recording(embeds=False)
    recording.show((0, walker(0)), scores=[0.9])
    ids = [recording.show((0, walker(0)), scores=[0.3])[0] for _ in range(4 * FPS)]
    assert ids == [1] * (2 * FPS) + [-1] * (2 * FPS)


def test_a_second_box_of_somebody_starts_no_track():
    recording = Recording()
    introduce(recording)
    head = (605, 100, 635, 140)
    shifted = walker(610, 115)  # overlaps by less than half and shows the same person
    ids = recording.show((0, walker(0)), (1, walker(300)), (2, walker(600)), (2, head), (2, shifted))
    assert ids == [1, 2, 3, -1, -1]


def test_somebody_else_close_by_does_start_a_track():
    recording = Recording()
    introduce(recording)
    ids = recording.show((0, walker(0)), (1, walker(300)), (2, walker(600)), (3, walker(610, 115)))
    assert ids == [1, 2, 3, 4]


@pytest.mark.parametrize(("embeds", "expected"), [(True, [2]), (False, [4])])
def test_a_person_who_comes_back_is_found_again_by_appearance_only(embeds, expected):
    recording = Recording(embeds=embeds)
    introduce(recording)
    recording.wait(10 * FPS)
    assert recording.show((1, walker(100))) == expected


def test_a_stranger_who_comes_instead_gets_a_new_id():
    recording = Recording()
    introduce(recording)
    recording.wait(10 * FPS)
    assert recording.show((5, walker(300))) == [4]


def test_who_comes_back_too_late_gets_a_new_id():
    recording = Recording(TrackerOptions(lost_seconds=5))
    introduce(recording)
    recording.wait(5 * FPS + 1)
    assert recording.show((1, walker(300))) == [4]


def test_nobody_is_found_again_farther_away_than_one_can_walk():
    recording = Recording(TrackerOptions(young_seconds=0))
    introduce(recording)
    for _ in range(FPS // 4):
        recording.show((0, walker(0)), (1, walker(300)))
    assert recording.show((0, walker(0)), (1, walker(300)), (2, walker(5000))) == [1, 2, 4]


def test_a_first_crop_that_shows_too_little_is_put_right_within_a_second():
    """A person who comes back is cut off by the border at first, so that the crop looks like nobody."""
    recording = Recording()
    introduce(recording)
    recording.wait(5 * FPS)
    ids = [recording.show((7 if frame < 4 else 1, walker(10.0 * frame)))[0] for frame in range(FPS)]
    assert ids[0] == 4 and ids[-1] == 2


def test_ids_are_never_used_twice():
    recording, ids = Recording(embeds=False), []
    for place in range(5):
        ids += recording.show((0, walker(1000 * place)))
        recording.wait(3 * FPS)
    assert ids == [1, 2, 3, 4, 5]


def noise(seed):
    return np.random.default_rng(seed).integers(0, 255, (54, 96, 3), np.uint8)


@pytest.mark.parametrize(("embeds", "expected"), [(True, [3, 1]), (False, [4, 5])])
def test_a_cut_ends_all_motion_and_appearance_finds_again(embeds, expected):
    recording = Recording(embeds=embeds)
    room, street = (np.repeat(np.repeat(view, 9, 0), 8, 1) for view in (noise(0) // 4, 255 - noise(1) // 4))
    for _ in range(2 * FPS):
        recording.show((0, walker(0)), (1, walker(300)), (2, walker(600)), pixels=room)
    assert recording.show((2, walker(5)), (0, walker(400)), pixels=street) == expected


@pytest.mark.parametrize("seconds", [20.0, 0.5], ids=["a gap", "time runs back"])
def test_after_a_gap_and_when_time_runs_back_only_appearance_counts(seconds):
    recording = Recording()
    introduce(recording)
    assert recording.show((2, walker(0)), (1, walker(600)), seconds=seconds) == [3, 2]


def test_a_camera_that_pans_is_followed():
    """30 pixels from frame to frame are too many for the prediction of somebody who stood still."""
    picture = np.repeat(np.repeat(noise(0), 8, 0), 16, 1)  # 432 x 1536
    found = {}
    for follows in (True, False):
        recording = Recording(TrackerOptions(camera_motion=follows), embeds=False)
        for frame in range(12):
            shift = 0 if frame < 6 else 30 * (frame - 5)
            view = np.ascontiguousarray(picture[:, shift : shift + 768])
            ids = recording.show((0, walker(500 - shift)), pixels=view)
        found[follows] = ids
    assert found == {True: [1], False: [2]}


def test_classes_are_tracked_apart():
    recording = Recording(embeds=False)
    assert recording.show((0, walker(0)), labels=("person",)) == [1]
    assert recording.show((0, walker(0)), labels=("bicycle",)) == [2]
    assert recording.show((0, walker(0)), (0, walker(1)), labels=("bicycle", "person")) == [2, 1]


def test_where_nothing_is_uncertain_people_are_embedded_twice_a_second_and_then_once():
    """Four of eight embeddings are there after 1.5 s; of 360 boxes, 36 are embedded, each once."""
    recording = Recording()
    introduce(recording, 10 * FPS)
    first, later = [0, 6, 12, 18], list(range(30, 120, 12))
    assert recording.asked == [(frame, row) for frame in first + later for row in range(3)]


def test_people_who_cross_are_both_embedded_in_each_frame_in_which_they_could_be_exchanged():
    recording, close = Recording(), []
    introduce(recording)
    for step in range(8 * FPS):
        one, other = walker(3.0 * step), walker(300 - 3.0 * step, 101.0)
        if box_iou(np.array([one]), np.array([other]))[0, 0] > 0.7:
            close.append(recording.frame)
        assert recording.show((0, one), (1, other), (2, walker(600))) == [1, 2, 3]
    assert len(close) >= 3
    assert {(frame, row) for frame in close for row in (0, 1)} <= set(recording.asked)
    alone = [frame for frame, row in recording.asked if row == 2]
    assert len(alone) == 4 + 8  # the one who keeps apart, in ten seconds


def test_somebody_lost_close_by_does_not_make_the_others_be_embedded():
    """The lost track gets no new embeddings, and the box next to it is not its own."""
    recording = Recording()
    introduce(recording)
    for _ in range(FPS // 2):
        recording.show((0, walker(0)), (1, walker(300)), (2, walker(360)))
    recording.asked.clear()
    for _ in range(FPS):
        assert recording.show((0, walker(0)), (1, walker(300))) == [1, 2]
    assert len(recording.asked) == 2


def test_boxes_of_low_confidence_are_not_embedded():
    recording = Recording()
    introduce(recording)
    recording.asked.clear()
    for _ in range(FPS):
        ids = recording.show((0, walker(0)), (1, walker(10)), (2, walker(600)), scores=[0.3, 0.2, 0.3])
        assert ids == [1, -1, 3] and recording.asked == []


def scene(seed, frames=120):
    """Random walkers who are missed now and then, as (person, box) pairs per frame."""
    rng = np.random.default_rng(seed)
    starts, speeds = rng.uniform(0, 600, 6), rng.uniform(-8, 8, 6)
    for frame in range(frames):
        there = [person for person in range(6) if rng.random() < 0.8]
        yield [(person, walker(starts[person] + speeds[person] * frame, 100 + 9.0 * person)) for person in there]


@pytest.mark.parametrize("seed", range(5))
def test_no_id_occurs_twice_in_a_frame(seed):
    recording = Recording()
    for people in scene(seed):
        ids = [number for number in recording.show(*people) if number > 0]
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("copied", ["arrays", "pickle"])
def test_a_tracker_continued_from_its_state_does_the_same(copied, tmp_path):
    whole, parted = Recording(), Recording()
    for number, people in enumerate(scene(3)):
        assert whole.show(*people) == parted.show(*people)
        if number % 7 == 0 and copied == "pickle":
            parted.tracker = pickle.loads(pickle.dumps(parted.tracker))
        elif number % 7 == 0:
            np.savez(tmp_path / "state.npz", **parted.tracker.state())
            parted.tracker = Tracker()
            with np.load(tmp_path / "state.npz", allow_pickle=False) as stored:
                parted.tracker.load_state(stored)
    ours, theirs = whole.tracker.state(), parted.tracker.state()
    assert {name: array.tobytes() for name, array in ours.items()} == {
        name: array.tobytes() for name, array in theirs.items()
    }
    assert whole.asked == parted.asked


def test_an_embedder_that_returns_another_number_of_rows_is_refused():
    tracker = Tracker()
    found = Detections.of(np.array([walker(0), walker(300)]))
    with pytest.raises(UserError, match=r"embed: returned \(1, 8\) for 2 crops"):
        tracker.update(VideoFrame(0, 0.0, NO_PIXELS), found, lambda rows: LOOKS[:1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"high_score": 0.1, "low_score": 0.2}, "low_score 0.2 and high_score 0.1"),
        ({"appearance_distance": 3.0}, r"appearance_distance: 3; give a number in \[0, 2\]"),
        ({"lost_seconds": -1.0}, "lost_seconds: -1 seconds; give 0 or more"),
        ({"num_vectors": 0}, "num_vectors: 0; give 1 or more"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        TrackerOptions(**options)
