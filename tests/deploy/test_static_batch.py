"""Files of a fixed batch: padded calls, and which formats have them."""

import numpy as np
import pytest

from vitreid.deploy import TRACKERS, ExportRequest
from vitreid.deploy.formats import in_batches


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_the_last_image_fills_up_the_last_batch(count):
    sizes = []

    def run(images, rows):
        sizes.append((len(images), len(rows)))
        return images.sum(1, keepdims=True) + rows[:, None]

    images, rows = np.arange(2 * count, dtype=np.float32).reshape(count, 2), np.arange(count)
    assert np.array_equal(in_batches(run, 4)(images, rows), images.sum(1, keepdims=True) + rows[:, None])
    assert set(sizes) == {(4, 4)}


def test_torch_formats_have_any_batch():
    with pytest.raises(ValueError, match="--batch: for onnx and openvino, not for torchscript"):
        ExportRequest("best.safetensors", "m.torchscript", batch=4)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_each_tracker_has_its_own_input(tracker):
    assert ExportRequest("w.safetensors", "m.onnx", tracker=tracker, input=TRACKERS[tracker]).input == TRACKERS[tracker]
    with pytest.raises(ValueError, match=f"--for {tracker}: its images are"):
        ExportRequest("w.safetensors", "m.onnx", tracker=tracker, input="pixels")
