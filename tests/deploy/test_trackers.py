"""Our ONNX file as the re-ID model of trackers that nobody here wrote."""

import importlib
import importlib.util
import sys

import cv2
import numpy as np
import pytest
import torch
from helpers import ROOT

from vitreid.configs import load_config
from vitreid.datasets import ReidData
from vitreid.deploy import ExportRequest, export_model
from vitreid.model import ModelSpec, ReidModel, save_deploy
from vitreid.processor.embedding.embedder import Embedder
from vitreid.processor.runs.checkpoint import describe_model

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"
WORDS = ["INPUT.SIZE_TEST", "(32,16)", "INPUT.SIZE_TRAIN", "(32,16)", "MODEL.DEVICE", "cpu"]
BOXES = np.array([[10, 10, 60, 120], [100, 20, 160, 190], [50, 60, 90, 130]], np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint with cameras and JPM; mean and std are not ImageNet's."""
    torch.manual_seed(0)
    options = {
        "sie_camera": True,
        "cameras": ("a", "b"),
        "jpm": True,
        "num_parts": 2,
        "shift_num": 1,
        "shuffle_group": 1,
    }
    model = ReidModel(ModelSpec("vit_tiny_patch16_224", (32, 16), embed_dim=16, depth=1, num_heads=2, **options))
    path = tmp_path_factory.mktemp("tracker") / "best.safetensors"
    save_deploy(path, model, describe_model(load_config(None, WORDS), ReidData("none", [], [], [], ()), {}, {}))
    return path


@pytest.fixture(scope="module")
def model(weights):
    for module in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"not installed: {module}")
    request = ExportRequest(
        str(weights), str(weights.with_name("reid.onnx")), tracker="boxmot", input="imagenet", num_crops=16, rounds=0
    )
    return export_model(request).path


@pytest.fixture
def frame():
    return np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)  # BGR


def expected(weights, frame):
    """Our embeddings of the boxes, cut out and resized as the tracker does."""
    crops = [frame[y:bottom, x:right] for x, y, right, bottom in BOXES.astype(int)]
    resized = [cv2.resize(crop, (16, 32), interpolation=cv2.INTER_LINEAR) for crop in crops]
    return Embedder(weights, "cpu", "fp32")([cv2.cvtColor(crop, cv2.COLOR_BGR2RGB) for crop in resized])


def as_boxmot_does(path, frame, fixed_batch=None):
    """The calls of boxmot 25.0.0 (reid/core/crops.py, prepare_crop_batch; reid/backends/onnx_backend.py, load_model and forward).

    It asks the file for its only input's name, type and size, of which batch may be pinned by the dimension's name "batch",
    feeds float32 RGB planes normalised with ImageNet's mean and std, and takes the first output.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if fixed_batch:
        options.add_free_dimension_override_by_name("batch", fixed_batch)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    assert taken.type == "tensor(float)" and len(taken.shape) == 4 and taken.shape[1] == 3
    height, width = taken.shape[2:]
    planes = []
    for x, y, right, bottom in BOXES.round().astype(int):
        crop = cv2.resize(frame[y:bottom, x:right], (width, height), interpolation=cv2.INTER_LINEAR)
        planes.append(cv2.cvtColor(crop, cv2.COLOR_BGR2RGB).transpose(2, 0, 1))
    batch = torch.from_numpy(np.stack(planes)).float()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    batch.div_(255.0).sub_(mean).div_(std)
    features = session.run([session.get_outputs()[0].name], {taken.name: batch.numpy()})[0]
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.mark.parametrize("fixed_batch", [None, 3])
def test_calls_like_boxmots_give_our_embeddings(model, weights, frame, fixed_batch):
    assert np.allclose(as_boxmot_does(model, frame, fixed_batch), expected(weights, frame), atol=1e-5)


def test_boxmot_itself_gives_our_embeddings(model, weights, frame):
    pytest.importorskip("boxmot", reason="not installed: boxmot")
    from boxmot.reid.core.runtime import ReID

    assert np.allclose(ReID(model)(frame, boxes=BOXES), expected(weights, frame), atol=1e-5)


def example():
    spec = importlib.util.spec_from_file_location("track_with_boxmot", EXAMPLES / "track_with_boxmot.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_examples_film_shows_two_people_where_the_boxes_are():
    frames = list(example().film(3))
    assert len(frames) == 3 and frames[0][0].shape == (240, 480, 3)
    assert [boxes[:, 0].tolist() for _, boxes in frames] == [[0, 400], [200, 200], [400, 0]]
    first, last = frames[0], frames[-1]
    for row in range(2):
        cut = [frame[int(b[row, 1]) : int(b[row, 3]), int(b[row, 0]) : int(b[row, 2])] for frame, b in (first, last)]
        assert np.array_equal(*cut)


def test_the_example_follows_two_people(model, capsys):
    pytest.importorskip("boxmot", reason="not installed: boxmot")
    assert example().main(["--model", str(model), "--frames", "12"]) == 0
    assert capsys.readouterr().out.endswith("2 tracks for 2 people\n")


def test_the_example_needs_boxmot_only_to_follow(monkeypatch):
    monkeypatch.setitem(sys.modules, "boxmot", None)
    with pytest.raises(ImportError):
        example().follow("reid.onnx", 2)
