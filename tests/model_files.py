"""Small models in files of other runtimes: the embedding of an image is the mean of each input channel, by eye."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

SIZE = (8, 4)  # height, width


def needs(*modules):
    """Skip a test, with the reason, where a module is not installed; nothing is imported."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def onnx_file(
    path: Path, batch="N", channels=3, dtype="FLOAT", last=False, copies=(), keep=False, cameras=0, metadata=None
) -> Path:
    """(N, channels, 8, 4) -> (N, channels); with `cameras`, a second input adds 100 * its number."""
    from onnx import TensorProto, helper, save

    def port(name, kind, shape):
        return helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape)

    shape = [batch, *SIZE, channels] if last else [batch, channels, *SIZE]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=int(keep)),
    ]
    inputs, names = [port("images", dtype, shape)], ["mean", *copies]
    nodes += [helper.make_node("Identity", ["mean"], [name]) for name in copies]
    if cameras:
        inputs.append(port("cameras", "INT64", [batch]))
        nodes.append(helper.make_node("Gather", ["table", "cameras"], ["offset"]))
        nodes.append(helper.make_node("Add", ["mean", "offset"], ["sum"]))
        names = ["sum"]
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2] if last else [2, 3])
    rows = max(cameras, 1)
    table = helper.make_tensor("table", TensorProto.FLOAT, [rows, 3], np.repeat(np.arange(rows) * 100.0, 3))
    outputs = [port(name, "FLOAT", [batch, channels, *([1, 1] if keep else [])]) for name in names]
    graph = helper.make_graph(nodes, "model", inputs, outputs, [axes, table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    save(model, str(path))
    return path


def openvino_file(path: Path, batch=-1, framework: str = "", **parameters: str) -> Path:
    """The same as .xml and .bin; `parameters` are those of a conversion."""
    import openvino

    try:
        from openvino import opset13 as ops
    except ImportError:  # before 2025
        from openvino.runtime import opset13 as ops

    images = ops.parameter([batch, 3, *SIZE], np.float32, name="images")
    model = openvino.Model([ops.reduce_mean(images, np.array([2, 3]), False)], [images], "model")
    for key, value in {"framework": framework, **parameters}.items():
        model.set_rt_info(value, ["conversion_parameters", key])
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path


class Means(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=[2, 3])


class OneRow(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=[0, 2, 3]).unsqueeze(0)


class Doubles(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.double().mean(dim=[2, 3])


class NoNumbers(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=[2, 3]) / 0.0 * 0.0


class OnlyThree(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.reshape(3, 3, -1).mean(2)


def script_file(path: Path, module: torch.nn.Module | None = None) -> Path:
    """A TorchScript archive."""
    torch.jit.script(module or Means()).save(str(path))
    return path


FILES = {
    "onnx": pytest.param(lambda folder: onnx_file(folder / "m.onnx"), marks=needs("onnx", "onnxruntime"), id="onnx"),
    "openvino": pytest.param(lambda folder: openvino_file(folder / "m.xml"), marks=needs("openvino"), id="openvino"),
    "torchscript": pytest.param(lambda folder: script_file(folder / "m.pt"), id="torchscript"),
}
