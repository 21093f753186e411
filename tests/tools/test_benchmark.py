"""`vitreid benchmark`: its table and its file, and what it cannot measure."""

import json

import pytest
import torch
from model_files import needs

from vitreid.configs import load_config
from vitreid.datasets import ReidData
from vitreid.deploy import throughput
from vitreid.deploy.throughput import measure_throughput, open_forms
from vitreid.model import ModelSpec, ReidModel, save_deploy
from vitreid.processor.runs.checkpoint import describe_model
from vitreid.tools.edge import benchmark


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("speed") / "best.safetensors"
    words = ["INPUT.SIZE_TEST", "(32,16)", "INPUT.SIZE_TRAIN", "(32,16)"]
    model = ReidModel(ModelSpec("vit_tiny_patch16_224", (32, 16), embed_dim=16, depth=1, num_heads=2))
    save_deploy(path, model, describe_model(load_config(None, words), ReidData("none", [], [], [], ()), {}, {}))
    return str(path)


def test_the_table_and_the_file_have_a_row_per_form_and_batch(weights, tmp_path, capsys):
    path = tmp_path / "speed.json"
    assert benchmark.main([weights, "--batch", "1", "3", "--seconds", "0", "--json", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "32 x 16 pixels -> 16 numbers" in lines[0] and len(lines) == 4
    rows = json.loads(path.read_text())["rows"]
    assert [(row["batch"], row["form"]) for row in rows] == [(1, "torch"), (3, "torch")]
    for row in rows:
        assert row["least"] <= row["median"] <= row["p95"] and row["rounds"] == throughput.FEWEST_ROUNDS
        assert row["images_per_second"] == pytest.approx(row["batch"] / row["median"])
    assert benchmark.main([weights, "--json", str(path)]) == 2  # the file is there already


@needs("onnx", "onnxruntime", "onnxscript")
@pytest.mark.slow
def test_a_checkpoint_is_exported_for_onnx(weights):
    forms = open_forms(weights, ["torch", "onnx"], batch=2)
    assert forms["onnx"].model.file.runtime == "onnxruntime"
    found = measure_throughput(forms, [2], seconds=0.0)
    assert {one.form for one in found} == {"torch", "onnx"}


def test_a_finished_file_is_no_torch_model():
    with pytest.raises(ValueError, match=r"--forms: m\.onnx cannot be run by torch; choose from onnx, openvino"):
        open_forms("m.onnx", ["torch"])


def test_a_missing_runtime_is_named(weights, monkeypatch):
    monkeypatch.setattr(throughput, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"--forms: openvino needs onnx.*vitreid\[openvino\]"):
        open_forms(weights, ["openvino"])
