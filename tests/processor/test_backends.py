"""The backend of an embedder: the fastest that agrees, and errors in words; nothing is written next to the file."""

import pickle
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_files import needs, onnx_file
from torch import nn

from vitreid import Embedder
from vitreid.common.errors import MissingPackageError
from vitreid.configs import load_config
from vitreid.datasets import ReidData
from vitreid.deploy import ExportRequest, export_model
from vitreid.model import ModelSpec, ReidModel, save_deploy
from vitreid.processor.embedding import backends
from vitreid.processor.embedding.foreign.open_foreign import open_foreign
from vitreid.processor.embedding.weight_files import Weights
from vitreid.processor.runs.checkpoint import describe_model

onnx_runs = needs("onnx", "onnxruntime", "onnxscript")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 40, 20, 3), dtype=np.uint8)


def save_weights(path, seed=0, **options):
    torch.manual_seed(seed)
    model = ReidModel(ModelSpec("vit_tiny_patch16_224", (32, 16), embed_dim=16, depth=1, num_heads=2, **options))
    if model.backbone.sie is not None:
        nn.init.normal_(model.backbone.sie.table, std=0.1)
    words = ["INPUT.SIZE_TEST", "(32,16)", "INPUT.SIZE_TRAIN", "(32,16)"]
    save_deploy(path, model, describe_model(load_config(None, words), ReidData("none", [], [], [], ()), {}, {}))
    return path


@pytest.fixture
def weights(tmp_path):
    return save_weights(tmp_path / "best.safetensors", sie_camera=True, cameras=("a", "b"))


class Twin(nn.Module):
    """The model in another runtime that takes `delay` seconds and is off by `error`."""

    network, views, cameras, precisions, devices = None, (), ("a", "b"), ("fp32",), ("cpu",)
    mirrors_inside = False

    def __init__(self, model, delay, error):
        super().__init__()
        self.twin, self.delay, self.error = model, delay, error

    def embed(self, *args, **options):
        time.sleep(self.delay)
        found = self.twin.embed(*args, **options)
        return found + self.error * torch.roll(found, 1, 1)

    def width(self, global_only):
        return 16

    def fingerprint(self, *args):
        return self.twin.fingerprint(*args)


@pytest.fixture
def runtimes(monkeypatch):
    """Replace the other runtimes by twins: name -> (delay, error), or the exception of one that is not there."""

    def replace(**behaviour):
        def opened(path, options, read, own, name):
            if isinstance(found := behaviour[name], Exception):
                raise found
            return Weights(Twin(own.model, *found), own.about)

        monkeypatch.setattr(backends, "_opened", opened)
        monkeypatch.setattr(backends, "SECONDS", 0.0)

    return replace


def test_auto_takes_the_fastest(weights, runtimes):
    runtimes(torch=(0.05, 0.0), onnx=(0.0, 0.0), openvino=(0.02, 0.0))
    embed = Embedder(weights, device="cpu", backend="auto")
    assert embed.backend == "onnx" and embed.chosen.startswith("onnx, the fastest of torch")
    assert embed(IMAGES).shape == (5, 16)


def test_a_fast_one_that_differs_is_left_out(weights, runtimes):
    runtimes(torch=(0.03, 0.0), onnx=(0.0, 0.5), openvino=(0.0, float("nan")))
    embed = Embedder(weights, device="cpu", backend="auto")
    assert embed.backend == "torch"
    assert "onnx left out (cosine" in embed.chosen and "openvino left out (cosine nan" in embed.chosen


def test_what_is_not_installed_is_named_and_left_out(weights, runtimes):
    runtimes(torch=(0.0, 0.0), onnx=(0.02, 0.0), openvino=MissingPackageError("openvino needs openvino"))
    embed = Embedder(weights, device="cpu", backend="auto")
    assert embed.backend == "torch" and "openvino left out (openvino needs openvino)" in embed.chosen


def test_half_precision_stays_in_torch(weights):
    embed = Embedder(weights, device="cpu", precision="bf16", backend="auto")
    assert embed.backend == "torch" and "bf16" in embed.chosen


def test_without_a_backend_nothing_is_measured(weights, monkeypatch):
    monkeypatch.setattr(backends, "_fastest", None)
    embed = Embedder(weights, device="cpu")
    assert (embed.backend, embed.chosen) == ("torch", "")


@pytest.mark.parametrize(("backend", "message"), [("tensorrt", "backend.*'tensorrt'.*auto, torch, onnx, openvino")])
def test_an_unknown_backend_lists_the_known(weights, backend, message):
    with pytest.raises(ValueError, match=message):
        Embedder(weights, backend=backend)


@needs("onnx", "onnxruntime")
def test_a_finished_file_is_no_torch_model(tmp_path):
    path = onnx_file(tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"m\.onnx cannot be run by torch; choose from onnx, openvino"):
        Embedder(path, options={"input": "rgb255"}, backend="torch")


def test_a_model_with_viewpoints_is_not_exported_for_it(tmp_path):
    path = save_weights(tmp_path / "v.safetensors", sie_view=True, views=("front", "back"))
    with pytest.raises(ValueError, match=r"cannot be run by onnx since viewpoints.*torch, or auto"):
        Embedder(path, device="cpu", backend="onnx")


def test_a_missing_package_is_named_with_its_extra(weights, monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(ImportError, match=r'onnx needs onnxruntime: pip install "vitreid\[onnx\]"'):
        Embedder(weights, device="cpu", backend="onnx")


@onnx_runs
@pytest.mark.slow
def test_onnx_gives_torchs_embeddings_and_leaves_no_file(weights):
    """Cameras, known and unknown, come through; a pickled embedder keeps the backend."""
    embed = Embedder(weights, device="cpu", backend="onnx")
    cameras = ["a", "b", None, "new", "a"]
    expected = Embedder(weights, device="cpu", precision="fp32")
    assert np.allclose(embed(IMAGES, cameras), expected(IMAGES, cameras), atol=1e-5)
    assert embed.fingerprint == expected.fingerprint and embed.backend == "onnx"
    assert [path.name for path in weights.parent.iterdir()] == ["best.safetensors"]
    again = pickle.loads(pickle.dumps(embed))
    assert again.backend == "onnx" and np.allclose(again(IMAGES, cameras), expected(IMAGES, cameras), atol=1e-5)


@onnx_runs
@pytest.mark.slow
def test_a_file_exported_next_to_the_weights_is_used_while_it_is_of_them(weights, monkeypatch):
    target = weights.with_suffix(".onnx")
    export_model(ExportRequest(str(weights), str(target), input="pixels", camera_input=True, num_crops=16, rounds=0))
    monkeypatch.setattr(backends, "_exported", None)  # not called
    assert Embedder(weights, device="cpu", backend="onnx").model.file.path == target
    save_weights(weights, seed=1, sie_camera=True, cameras=("a", "b"))
    with pytest.raises(TypeError):
        Embedder(weights, device="cpu", backend="onnx")


@onnx_runs
@pytest.mark.slow
@pytest.mark.parametrize("less", ["half", "int8"])
def test_a_file_of_less_precision_next_to_the_weights_is_not_used(weights, monkeypatch, less):
    """It has the fingerprint of the checkpoint, and other embeddings."""
    request = ExportRequest(str(weights), str(weights.with_suffix(".onnx")), input="pixels", camera_input=True)
    export_model(replace(request, num_crops=16, rounds=0))
    about = open_foreign(weights.with_suffix(".onnx"))
    about.model.file.notes[less] = True
    monkeypatch.setattr(backends, "open_foreign", lambda path: about)
    monkeypatch.setattr(backends, "_exported", None)  # called
    with pytest.raises(TypeError):
        Embedder(weights, device="cpu", backend="onnx")
