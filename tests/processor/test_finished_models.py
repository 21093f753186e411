"""Models of other runtimes: what they expect, where it is read, every batch size, and what is wrong with a wrong one."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT
from model_files import (
    FILES,
    SIZE,
    Doubles,
    NoNumbers,
    OneRow,
    OnlyThree,
    needs,
    onnx_file,
    openvino_file,
    script_file,
)

from vitreid import Embedder
from vitreid.common.errors import MissingPackageError
from vitreid.processor.embedding.foreign.description import KINDS

TRUSTED = {"runtime": "torchscript"}  # such a file is a program, which runs only if the user says so
RAW = {"size": SIZE, "normalize": False}
IMAGES = np.random.default_rng(0).integers(0, 256, (11, *SIZE, 3), dtype=np.uint8)  # RGB at the model's size
ASSETS = ROOT.parent / "shared" / "assets" / "models"
onnx_runs = needs("onnx", "onnxruntime")


def write(path, **values):
    path.with_name(f"{path.name}.json").write_text(json.dumps(values))
    return path


def means(images, channels="rgb", scale=255.0, mean=(0, 0, 0), std=(1, 1, 1)):
    """The embedding by hand: the mean of each channel of what the file is fed."""
    order = images if channels == "rgb" else images[..., ::-1]
    return ((order / 255 * scale - np.array(mean)) / np.array(std)).mean((1, 2))


# --- what the file expects ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", FILES.values())
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_reaches_every_runtime(make, kind, tmp_path):
    path = make(tmp_path)
    embed = Embedder(path, "cpu", options={**RAW, "input": kind, **(TRUSTED if path.suffix == ".pt" else {})})
    assert embed.dim == 3 and embed(IMAGES).dtype == np.float32
    assert np.allclose(embed(IMAGES), means(IMAGES, **KINDS[kind]), atol=1e-4)


def test_a_json_file_next_to_the_model_describes_it(tmp_path, caplog):
    """Mean and std are in the order of the channels; the log says where each value was read."""
    values = {"size": list(SIZE), "channels": "bgr", "scale": 255, "mean": [104, 117, 123], "std": [1, 2, 4]}
    path = write(script_file(tmp_path / "m.pt"), **values, normalize=False)
    found = Embedder(path, "cpu", options=TRUSTED)(IMAGES)
    assert np.allclose(found, means(IMAGES, "bgr", 255, (104, 117, 123), (1, 2, 4)), atol=1e-4)
    assert f"BGR ({path}.json)" in caplog.text and "resized bilinear (usual)" in caplog.text


def test_options_override_the_json_file_and_it_the_defaults(tmp_path):
    path = write(script_file(tmp_path / "m.pt"), size=list(SIZE), input="bgr255", resize="area")
    assert Embedder(path, "cpu", options=TRUSTED).preprocess.interpolation == "area"
    embed = Embedder(path, "cpu", options={**TRUSTED, "resize": "bicubic", "size": "16x8"})
    assert embed.preprocess.interpolation == "bicubic" and embed.preprocess.size == (16, 8)
    elsewhere = tmp_path / "other.json"
    elsewhere.write_text(json.dumps({**RAW, "input": "rgb1"}))
    found = Embedder(path, "cpu", options={**TRUSTED, "json": str(elsewhere)})(IMAGES)
    assert np.allclose(found, means(IMAGES, scale=1), atol=1e-5)


@onnx_runs
def test_the_size_is_that_of_the_files_shape(tmp_path):
    path = onnx_file(tmp_path / "m.onnx")
    assert Embedder(path, "cpu", options={"input": "rgb1"}).preprocess.size == SIZE
    with pytest.raises(ValueError, match=r"size is \(16, 8\), .*m.onnx says \(8, 4\) \(its shape\)"):
        Embedder(path, "cpu", options={"input": "rgb1", "size": (16, 8)})


@onnx_runs
def test_uint8_and_channels_last_are_read_off_the_input(tmp_path):
    path = onnx_file(tmp_path / "m.onnx", dtype="UINT8", last=True)
    found = Embedder(path, "cpu", options={"channels": "bgr", "normalize": False})(IMAGES)
    assert np.allclose(found, means(IMAGES, "bgr"), atol=1e-4)
    with pytest.raises(ValueError, match=r"scale is 1.*says 255 \(its uint8 input\)"):
        Embedder(path, "cpu", options={"input": "imagenet"})


@needs("openvino")
@pytest.mark.parametrize(("reversed_", "channels"), [("True", "bgr"), ("False", "rgb")])
def test_the_parameters_of_openvinos_conversion_describe_the_input(reversed_, channels, tmp_path, caplog):
    words = {"mean_values": "images[123,116,103]", "reverse_input_channels": reversed_}
    path = openvino_file(tmp_path / "m.xml", framework="onnx", **words)
    found = Embedder(path, "cpu", options={"normalize": False})(IMAGES)
    assert np.allclose(found, means(IMAGES, channels), atol=1e-3)
    assert f"{channels.upper()} (its metadata)" in caplog.text
    other = Embedder(path, "cpu", options={"input": "rgb1", "normalize": False})  # a conclusion, which options override
    assert np.allclose(other(IMAGES), means(IMAGES, scale=1), atol=1e-5)


def test_crops_of_any_size_are_resized_as_opencv_does(tmp_path):
    import cv2

    crop = np.random.default_rng(1).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    embed = Embedder(script_file(tmp_path / "m.pt"), "cpu", options={**TRUSTED, **RAW, "input": "rgb255"})
    expected = means(cv2.resize(crop, SIZE[::-1], interpolation=cv2.INTER_LINEAR)[None])
    assert np.allclose(embed(crop), expected, atol=1e-3)


def test_embeddings_have_unit_length_and_are_averaged_with_the_mirror_image_on_request(tmp_path):
    class Left(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, :, :, 0].mean(dim=2)

    path = script_file(tmp_path / "m.pt", Left())
    unit = Embedder(path, "cpu", options={**TRUSTED, "input": "rgb255", "size": SIZE})(IMAGES)
    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    both = Embedder(path, "cpu", options={**TRUSTED, **RAW, "input": "rgb255", "flip": True})
    expected = (IMAGES[:, :, 0].mean(1) + IMAGES[:, :, -1].mean(1)) / 2
    assert both.flip and np.allclose(both(IMAGES), expected, atol=1e-3)


# --- batches and cameras -----------------------------------------------------------------------------------------------


@onnx_runs
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("count", [1, 8, 11])
def test_a_fixed_batch_takes_any_number_of_images(batch, count, tmp_path):
    embed = Embedder(
        onnx_file(tmp_path / "m.onnx", batch=batch), "cpu", options={"input": "rgb255", "normalize": False}
    )
    assert np.allclose(embed(IMAGES[:count]), means(IMAGES[:count]), atol=1e-4)


@needs("openvino")
def test_a_fixed_batch_in_openvino(tmp_path):
    path = openvino_file(tmp_path / "m.xml", batch=8)
    assert np.allclose(Embedder(path, "cpu", options={**RAW, "input": "rgb255"})(IMAGES), means(IMAGES), atol=1e-4)


def test_the_batch_of_a_file_that_does_not_say_it_can_be_given(tmp_path):
    path = script_file(tmp_path / "m.pt", OnlyThree())
    with pytest.raises(ValueError, match=r"does not run with 2 images of 8 x 4 pixels.*batch"):
        Embedder(path, "cpu", options={**TRUSTED, **RAW, "input": "rgb255"})
    embed = Embedder(path, "cpu", options={**TRUSTED, **RAW, "input": "rgb255", "batch": 3})
    assert embed(IMAGES).shape == (11, 3) and np.allclose(embed(IMAGES), means(IMAGES), atol=1e-4)


@onnx_runs
def test_cameras_are_numbered_by_name(tmp_path):
    path = onnx_file(tmp_path / "m.onnx", batch=1, cameras=3)
    values = {"input": "rgb255", "normalize": False, "cameras": ["a", "b", "c"]}
    embed = Embedder(path, "cpu", options={**values, "unknown_camera": 1})
    offsets = embed(IMAGES[:4], ["a", "c", None, "new"]) - means(IMAGES[:4])
    assert np.allclose(offsets, np.array([0, 200, 100, 100])[:, None], atol=1e-3)
    with pytest.raises(
        ValueError, match=r"knows the cameras a, b, c, and an image is from another one.*unknown_camera"
    ):
        Embedder(path, "cpu", options=values)(IMAGES[:1], "new")
    with pytest.raises(ValueError, match=r"second input, cameras \(1, int64\): name the cameras"):
        Embedder(path, "cpu", options={"input": "rgb255"})


# --- wrong files -------------------------------------------------------------------------------------------------------


@onnx_runs
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 4}, r"takes images \(N x 4 x 8 x 4, float32\); accepted: N x 3 x height x width"),
        ({"dtype": "FLOAT16"}, r"takes images \(N x 3 x 8 x 4, float16\); accepted: images in float32 or uint8"),
        ({"keep": True}, r"gives mean \(N x 3 x 1 x 1, float32\); accepted: one output N x D"),
    ],
)
def test_a_file_that_is_no_embedder_is_refused_with_what_it_has(options, message, tmp_path):
    path = onnx_file(tmp_path / "m.onnx", **options)
    with pytest.raises(ValueError, match=message):
        Embedder(path, "cpu", options={"input": "rgb1"})


@onnx_runs
def test_of_two_outputs_one_is_named(tmp_path):
    path = onnx_file(tmp_path / "m.onnx", copies=["copy"])
    message = r'gives mean \(N x 3, float32\), copy \(N x 3, float32\); accepted: .*{"output": "NAME"}'
    with pytest.raises(ValueError, match=message):
        Embedder(path, "cpu", options={"input": "rgb1"})
    with pytest.raises(ValueError, match="has no output 'feature'; accepted: output: one of mean, copy"):
        Embedder(path, "cpu", options={"input": "rgb1", "output": "feature"})
    assert Embedder(path, "cpu", options={"input": "rgb1", "output": "copy"}).dim == 3


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (OneRow, r"gives \(1, 3\) for 2 images; accepted: \(2, D\), a row per image"),
        (Doubles, "gives float64; accepted: float32 embeddings"),
        (NoNumbers, "gives NaN or infinite values for images of noise in torchscript; accepted: finite values; export"),
    ],
)
def test_what_a_file_gives_is_checked_at_the_start(module, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Embedder(script_file(tmp_path / "m.pt", module()), "cpu", options={**TRUSTED, **RAW, "input": "rgb1"})


def test_a_program_runs_only_if_the_user_says_so(tmp_path):
    """Torch's operators include one that writes any file; a JSON file of the same stranger is no consent."""
    path = write(script_file(tmp_path / "m.pt"), **RAW, input="rgb1", runtime="torchscript")
    with pytest.raises(ValueError, match=r"m\.pt is a TorchScript archive.*--embedder-runtime torchscript"):
        Embedder(path, "cpu")
    assert Embedder(path, "cpu", options=TRUSTED).dim == 3


def test_a_file_without_description_says_what_to_write(tmp_path):
    path = script_file(tmp_path / "m.pt")
    message = rf"m.pt does not say how .* \(size, channels, scale missing\): add --embedder-input .*write {path}.json"
    with pytest.raises(ValueError, match=message):
        Embedder(path, "cpu", options=TRUSTED)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"chanels": "rgb"}, "unknown key 'chanels'; choose from input, size"),
        ({"input": "imagenett"}, "input: unknown value 'imagenett'; choose from bgr1"),
        ({"size": [256]}, r"size is \[256\]; accepted: \[height, width\]"),
        ({"size": 256}, "size is 256"),
        ({"std": [1, 0, 1]}, r"std is \[1, 0, 1\]; accepted: three numbers above 0"),
        ({"scale": 0}, "scale is 0"),
        ({"channels": "gbr"}, "channels is 'gbr'; accepted: rgb or bgr"),
        ({"resize": "nearest"}, "resize is 'nearest'; accepted: one of auto"),
        ({"flip": "yes"}, "flip is 'yes'; accepted: true or false"),
        ({"cameras": ["a", "a"]}, "cameras is .*different names"),
        ({"cameras": ["a"]}, "takes images only, and cameras are named"),
        ({"batch": -1}, "batch is -1"),
        ({"runtime": "tensorrt"}, "--embedder-runtime: unknown value 'tensorrt'; choose from onnxruntime"),
        ({"runtime": "openvino"}, "openvino opens .xml and .onnx, not"),
    ],
)
def test_wrong_values_name_the_file_the_key_and_what_is_accepted(values, message, tmp_path):
    path = write(script_file(tmp_path / "m.pt"), **{**RAW, "input": "rgb1", **values})
    with pytest.raises(ValueError, match=message):
        Embedder(path, "cpu", options={} if "runtime" in values else TRUSTED)


def test_a_json_file_that_is_none_is_named(tmp_path):
    path = script_file(tmp_path / "m.pt")
    for text, message in (("{", "m.pt.json is not readable JSON"), ("[1]", "expected an object .*, got a list")):
        (tmp_path / "m.pt.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            Embedder(path, "cpu")
    with pytest.raises(FileNotFoundError, match=r"--embedder-json: nowhere.json does not exist"):
        Embedder(path, "cpu", options={"json": "nowhere.json"})


@pytest.mark.parametrize(
    "name", [pytest.param("m.onnx", marks=onnx_runs), pytest.param("m.xml", marks=needs("openvino"))]
)
def test_a_damaged_file_is_named_with_its_runtime(name, tmp_path):
    (tmp_path / name).write_bytes(b"<not a model>")
    with pytest.raises(ValueError, match=rf"{name} cannot be opened by (onnxruntime|openvino)"):
        Embedder(tmp_path / name, "cpu", options={"input": "rgb1"})


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("m.onnx", "onnxruntime", "onnx"), ("m.xml", "openvino", "openvino")]
)
def test_a_missing_runtime_names_the_command_that_installs_it(name, module, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(MissingPackageError, match=rf'{name} needs {module}: pip install "vitreid\[{extra}\]"'):
        Embedder(tmp_path / name, "cpu", options={"input": "rgb1"})


def test_options_are_for_finished_models_only(checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"--embedder-input: for ONNX, OpenVINO and TorchScript files; .*best"):
        Embedder(checkpoint, "cpu", options={"input": "rgb1"})


def test_a_torch_export_package_is_refused_by_name(tmp_path):
    (tmp_path / "m.pt2").write_bytes(b"")
    with pytest.raises(ValueError, match="m.pt2 is a torch.export package.*export it as ONNX or TorchScript"):
        Embedder(tmp_path / "m.pt2", "cpu")


@onnx_runs
def test_device_and_precision_are_those_of_the_runtime(tmp_path):
    path, options = onnx_file(tmp_path / "m.onnx"), {"input": "rgb1"}
    assert Embedder(path, options=options).device.type == "cpu"
    with pytest.raises(ValueError, match="runtime computes on cpu, not on cuda"):
        Embedder(path, "cuda", options=options)
    with pytest.raises(ValueError, match="its own precision, bf16 cannot be chosen"):
        Embedder(path, precision="bf16", options=options)


# --- fingerprints ------------------------------------------------------------------------------------------------------


@onnx_runs
def test_the_fingerprint_is_of_the_file_and_of_its_use(tmp_path):
    """Not of the file's name, the runtime or the batch size."""
    path, same = onnx_file(tmp_path / "m.onnx"), onnx_file(tmp_path / "same.onnx")
    other = onnx_file(tmp_path / "other.onnx", metadata={"x": "y"})

    def fingerprint(file, **options):
        return Embedder(file, "cpu", options={"input": "rgb1", **options}).fingerprint

    assert fingerprint(path) == fingerprint(same) == fingerprint(path, batch=2)
    changes = [{"input": "bgr1"}, {"input": "rgb255"}, {"resize": "area"}, {"flip": True}, {"normalize": False}]
    prints = [fingerprint(path), fingerprint(other), *(fingerprint(path, **change) for change in changes)]
    assert len(set(prints)) == len(prints) and all(len(text) == 71 for text in prints)


# --- a real model ------------------------------------------------------------------------------------------------------


@needs("openvino")
@pytest.mark.slow
@pytest.mark.skipif(not ASSETS.is_dir(), reason=f"no folder {ASSETS}")
def test_a_published_model_opens_without_a_word_about_its_input():
    """Its conversion parameters say BGR, 0 to 255. ONNX Runtime gives NaN for its ONNX file, which OpenVINO runs."""
    name = ASSETS / "person-reidentification-retail-0287"
    embed = Embedder(f"{name}.xml", "cpu")
    assert embed.dim == 256 and embed.preprocess.size == (256, 128)
    assert np.isfinite(embed(IMAGES[:2])).all()
    with pytest.raises(ValueError, match=r"NaN .* in onnxruntime.*--embedder-runtime openvino"):
        Embedder(f"{name}.onnx", "cpu", options={"input": "imagenet"})
    assert Embedder(f"{name}.onnx", "cpu", options={"input": "imagenet", "runtime": "openvino"}).dim == 256
