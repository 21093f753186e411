"""Motion in front of a fixed camera, torchvision's detectors, and RF-DETR's package."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torchvision.ops import box_iou

from vitreid.common.errors import UserError
from vitreid.tracking.detections import VideoFrame
from vitreid.tracking.detectors import DetectorOptions, open_detector
from vitreid.tracking.detectors.motion import columns_of_bodies, joined, moving_boxes, with_dark_clothes

# --- motion ---------------------------------------------------------------------------------------------------------

ROOM = np.random.default_rng(0).integers(100, 160, (120, 200, 3), dtype=np.uint8)
WALKER = (24, 70)  # width and height of the person, pixels


def walk(number, shadow=False):
    """A frame of a walk from left to right, 8 pixels per frame; the room is empty for the first 20 frames."""
    frame = np.random.default_rng(number).normal(ROOM, 2).clip(0, 255).astype(np.uint8)
    if number >= 20:
        x, y = body(number)[:2]
        if shadow:
            frame[y + 60 : y + 70, x : x + 60] = (frame[y + 60 : y + 70, x : x + 60] * 0.7).astype(np.uint8)
        frame[y : y + WALKER[1], x : x + WALKER[0]] = (20, 30, 200)
    return frame


def body(number):
    x, y = 8 * (number - 20), 30
    return x, y, x + WALKER[0], y + WALKER[1]


def overlap(box, other):
    return float(box_iou(torch.tensor([list(map(float, box))]), torch.tensor([list(map(float, other))])))


@pytest.mark.parametrize("name", ["motion", "motion:mog2", "motion:knn"])
def test_a_walker_is_found_and_an_empty_room_is_not(name):
    frames = [VideoFrame(number, number / 25, walk(number)) for number in range(40)]
    for frame, found in open_detector(name).stream(frames):
        if 1 < frame.number < 20:
            assert len(found) == 0
        elif frame.number >= 22:
            assert found.labels == ("person",)
            assert overlap(found.boxes[0], body(frame.number)) > 0.8


def test_a_shadow_on_the_floor_is_no_part_of_the_walker():
    detector = open_detector("motion")
    for number in range(40):
        (found,) = detector.detect([walk(number, shadow=True)])
    assert overlap(found.boxes[0], body(39)) > 0.8


def test_large_frames_are_searched_smaller():
    detector = open_detector("motion")
    for number in range(30):
        (found,) = detector.detect([np.kron(walk(number), np.ones((5, 5, 1), np.uint8))])
    assert overlap(found.boxes[0] / 5, body(29)) > 0.75


def test_each_video_has_its_own_background():
    """A pillar that the first video does not have would otherwise be a person."""
    detector, other = open_detector("motion"), ROOM.copy()
    other[30:100, 50:74] = 20
    rooms = [[VideoFrame(number, 0, room) for number in range(10)] for room in (ROOM, other)]
    assert [len(found) for room in rooms for _, found in detector.stream(room)] == [0] * 20
    detector.restart()
    assert len(detector.detect([*[ROOM] * 10, other])[-1]) == 1


def test_motion_knows_one_class():
    with pytest.raises(UserError, match="cannot distinguish person and car; give one class"):
        open_detector("motion", DetectorOptions(classes=("person", "car")))
    frame = ROOM.copy()
    detector = open_detector("motion", DetectorOptions(classes=("car",)))
    detector.detect([ROOM] * 20)
    frame[40:80, 40:140] = 10  # wider than high: no person, but a car
    assert detector.detect([frame])[0].labels == ("car",)


def test_two_bodies_in_one_shape_are_two_boxes():
    mask = np.zeros((100, 100), np.uint8)
    mask[20:80, 20:40] = mask[25:85, 45:65] = mask[70:74, 40:45] = 1  # joined at the feet
    boxes, shares = moving_boxes(mask)
    assert boxes.tolist() == [[20, 20, 40, 80], [40, 25, 65, 85]]
    assert shares.min() > 0.8


def test_a_dark_shirt_between_head_and_legs_is_no_shadow():
    moving, shadow = np.zeros((100, 40), bool), np.zeros((100, 40), bool)
    moving[10:20, 15:25] = moving[50:90, 12:28] = True
    shadow[20:50, 12:28] = shadow[85:95, 28:40] = True
    boxes, _ = moving_boxes(joined(with_dark_clothes(moving, shadow)))
    assert boxes.tolist() == [[12, 10, 28, 90]]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_bodies_cover_all_columns_once(heights):
    found = columns_of_bodies(np.array(heights))
    assert [column for start, stop in found for column in range(start, stop)] == list(range(len(heights)))


# --- torchvision ----------------------------------------------------------------------------------------------------

SMALL = "ssdlite320_mobilenet_v3_large"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of torchvision's smallest detector."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(SMALL, weights=None, weights_backbone=None, num_classes=91)
    path = tmp_path_factory.mktemp("weights") / "ssd.pth"
    torch.save(model.state_dict(), path)
    return path


@pytest.mark.parametrize("name", [SMALL, f"torchvision:{SMALL}"])
def test_a_torchvision_detector_returns_its_own_boxes(weights, name):
    frames = [np.random.default_rng(number).integers(0, 256, (60, 80, 3), dtype=np.uint8) for number in range(2)]
    categories = torchvision.models.get_model_weights(SMALL).DEFAULT.meta["categories"]
    model = torchvision.models.get_model(SMALL, weights=None, weights_backbone=None, num_classes=91).eval()
    model.load_state_dict(torch.load(weights, weights_only=True))
    images = [torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1) / 255 for frame in frames]
    with torch.inference_mode():
        results = model(images)
    number = next(int(one) for one in results[0]["labels"] if categories[one] != "N/A")  # of any class that is found
    detector = open_detector(f"{name}@{weights}", DetectorOptions((categories[number],), 0.0))
    for expected, found in zip(results, detector.detect(frames)):
        sides = expected["boxes"][:, 2:] - expected["boxes"][:, :2]
        own = (expected["labels"] == number) & (sides >= 2).all(dim=1)
        assert len(found) == own.sum()
        assert found.scores == pytest.approx(expected["scores"][own].numpy(), abs=1e-5)
        assert found.boxes == pytest.approx(expected["boxes"][own].numpy(), abs=0.05)
    assert len(detector.detect(frames[:1])[0]) > 0
    assert torch.equal(detector._tensor(frames[0]), images[0])  # RGB


def test_weights_of_another_model_are_refused(weights, tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    (tmp_path / "b.pth").write_bytes(weights.read_bytes()[:1000])
    for name in ("a.safetensors", "b.pth"):
        with pytest.raises(UserError, match=f"{name}.*(not the weights of this detector|damaged)"):
            open_detector(SMALL, DetectorOptions(weights=tmp_path / name))
    with pytest.raises(FileNotFoundError, match=r"no weight file .*none.pth"):
        open_detector(SMALL, DetectorOptions(weights=tmp_path / "none.pth"))


# --- RF-DETR --------------------------------------------------------------------------------------------------------


class FakeRfDetr:
    """What `rfdetr.RFDETRNano` does, as seen from outside: RGB arrays in, supervision's detections out."""

    class_names = ("person", "bicycle", "car")

    def __init__(self, **values):
        self.values = values
        if values.get("pretrain_weights", "") == "":
            raise ConnectionError("no route to host")

    def predict(self, images, threshold, include_source_image):
        assert not include_source_image
        results = []
        for image in images:
            red = image[0, 0, 0] / 255
            found = SimpleNamespace(
                xyxy=np.array([[1, 2, 30, 40], [5, 5, 20, 20], [5, 5, 9, 9]], float),
                confidence=np.array([red, 0.9, 0.9]),
                data={"class_name": np.array(["person", "car", ""])},
            )
            results.append(found)
        return results if len(results) > 1 else results[0]


def test_rfdetr_gets_rgb_and_its_names_count(monkeypatch, tmp_path):
    package = ModuleType("rfdetr")
    package.RFDETRNano = FakeRfDetr
    monkeypatch.setitem(sys.modules, "rfdetr", package)
    (tmp_path / "nano.pth").write_bytes(b"")
    detector = open_detector("rfdetr:nano", DetectorOptions(device="cpu", weights=tmp_path / "nano.pth"))
    frames = [np.full((50, 60, 3), (0, 0, red), np.uint8) for red in (255, 204)]
    for frame, found, score in zip(frames, detector.detect(frames), (1.0, 0.8)):
        assert found.labels == ("person",)
        assert found.scores == pytest.approx([score])
        assert found.boxes.tolist() == [[1, 2, 30, 40]]
        assert np.array_equal(detector.detect([frame])[0].boxes, found.boxes)
    with pytest.raises(UserError, match=r"weights cannot be downloaded \(no route to host\); give a checkpoint"):
        open_detector("rfdetr")
    with pytest.raises(FileNotFoundError, match="no weight file"):
        open_detector("rfdetr", DetectorOptions(weights=tmp_path / "no.pth"))
