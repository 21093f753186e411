"""Exported models: embeddings, metadata, and that a wrong file is not kept."""

import importlib.util
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from vitreid import deploy
from vitreid.configs import load_config
from vitreid.datasets import Preprocess, ReidData
from vitreid.deploy import FORMATS, INPUTS, ExportRequest, export_model, exporter, parity_check
from vitreid.deploy.formats import load_onnx
from vitreid.deploy.input_names import as_input
from vitreid.deploy.parity import FLOAT16, FLOAT32, compare, worst
from vitreid.deploy.parity_check import Disagreement, ParityCheck, folder_crops, measure, named, synthetic_crops
from vitreid.deploy.wrapper import ExportedNetwork
from vitreid.model import ModelSpec, ReidModel, save_deploy
from vitreid.processor.embedding.embedder import Embedder
from vitreid.processor.embedding.extract import EmbedSettings
from vitreid.processor.runs.checkpoint import describe_model
from vitreid.tools import export_model as tool

ONNX = ("onnx", "onnxscript", "onnxruntime")
WORDS = ["INPUT.SIZE_TEST", "(32,16)", "INPUT.SIZE_TRAIN", "(32,16)", "MODEL.DEVICE", "cpu"]
BATCHES = (1, 2, 7, 32)
FEW = {"num_crops": 16, "rounds": 0}


def needs(*modules):
    """Skip a test, with the reason, where a module is not installed; nothing is imported."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def save_weights(path, words=(), **options):
    """An untrained model; cameras, where it has any, differ as after training."""
    torch.manual_seed(0)
    spec = ModelSpec("vit_tiny_patch16_224", (32, 16), embed_dim=16, depth=1, num_heads=2, **options)
    model = ReidModel(spec)
    if model.backbone.sie is not None:
        torch.nn.init.normal_(model.backbone.sie.table, std=0.1)
    if model.neck is not None:
        torch.nn.init.uniform_(model.neck.running_var, 0.5, 2.0)
    cfg = load_config(None, [*WORDS, *words])
    save_deploy(path, model, describe_model(cfg, ReidData("none", [], [], [], ()), {}, {}))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def full(folder):
    """A checkpoint with everything: cameras, JPM of two parts, the mirror image, behind the neck."""
    return save_weights(
        folder / "full.safetensors",
        ["TEST.FLIP", "True", "TEST.NECK_FEAT", "after"],
        sie_camera=True,
        cameras=("a", "b"),
        jpm=True,
        num_parts=2,
        shift_num=1,
        shuffle_group=1,
    )


@pytest.fixture(scope="module")
def bare(folder):
    """A checkpoint without cameras and parts; mean and std are 0.5, as in the recipes."""
    return save_weights(folder / "bare.safetensors")


@pytest.fixture(scope="module")
def crops():
    return synthetic_crops(9, seed=1)


def planes_of(embedder, crops):
    return np.stack([embedder.planes(crop) for crop in crops])


def network_of(embedder, kind="normalised", **options):
    return ExportedNetwork(embedder.model, embedder.preprocess, embedder.settings, kind, **options)


# The network


@pytest.mark.parametrize("kind", INPUTS)
def test_every_kind_of_input_gives_the_embedders_embeddings(full, crops, kind):
    embedder = Embedder(full, "cpu", "fp32")
    planes = planes_of(embedder, crops)
    found = network_of(embedder, kind)(torch.from_numpy(as_input(planes, kind, embedder.preprocess)))
    assert np.allclose(found, embedder(crops), atol=1e-6)


def test_imagenet_input_of_an_imagenet_checkpoint_is_left_as_it_is():
    imagenet = Preprocess((32, 16), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    model = ReidModel(ModelSpec("vit_tiny_patch16_224", (32, 16), embed_dim=16, depth=1, num_heads=2))
    assert ExportedNetwork(model, imagenet, EmbedSettings(), "imagenet").scale is None
    assert ExportedNetwork(model, Preprocess((32, 16)), EmbedSettings(), "imagenet").scale is not None


@pytest.mark.parametrize(
    "settings",
    [
        EmbedSettings(),
        EmbedSettings(normalize=False),
        EmbedSettings(flip=True),
        EmbedSettings("after", normalize=False, flip=True),
        EmbedSettings("after", global_only=True),
    ],
    ids=str,
)
def test_the_settings_are_the_checkpoints(full, crops, settings):
    embedder = Embedder(full, "cpu", "fp32")
    embedder.settings = settings
    images = embedder.preprocess.normalise(torch.from_numpy(planes_of(embedder, crops)))
    assert np.allclose(network_of(embedder)(images), embedder(crops), atol=1e-6)


def test_cameras_come_by_number_fixed_or_unknown(full, crops):
    embedder = Embedder(full, "cpu", "fp32")
    images = embedder.preprocess.normalise(torch.from_numpy(planes_of(embedder, crops[:4])))
    by_number = network_of(embedder, camera_input=True)(images, torch.tensor([0, 1, -1, 2]))
    expected = embedder(crops[:4], ["a", "b", None, "a new one"])
    assert np.allclose(by_number, expected, atol=1e-6)
    assert np.allclose(network_of(embedder, camera=1)(images), embedder(crops[:4], "b"), atol=1e-6)
    assert np.allclose(network_of(embedder)(images), embedder(crops[:4]), atol=1e-6)
    assert not np.allclose(network_of(embedder)(images), embedder(crops[:4], "b"), atol=1e-3)


def test_the_embedders_model_is_left_as_it_is(full):
    embedder = Embedder(full, "cpu", "fp32")
    network_of(embedder, camera=0, half=True)
    assert {value.dtype for value in embedder.model.parameters()} == {torch.float32}
    assert len(embedder.model.backbone.sie.table) == 2


def test_half_takes_and_gives_float32(full, crops):
    embedder = Embedder(full, "cpu", "fp32")
    network = network_of(embedder, "pixels", half=True)
    found = network(torch.from_numpy(planes_of(embedder, crops)))
    assert found.dtype == torch.float32 and network.model.backbone.net.blocks[0].mlp.fc1.weight.dtype == torch.float16
    assert np.allclose(found, embedder(crops), atol=5e-3)


# Files


@pytest.fixture(scope="module")
def onnx_file(full, folder):
    """The hardest ONNX file: pixels and cameras in, everything inside."""
    pytest.importorskip("onnxruntime", reason="not installed: onnxruntime")
    pytest.importorskip("onnxscript", reason="not installed: onnxscript")
    return export_model(ExportRequest(full, str(folder / "full.onnx"), input="pixels", camera_input=True, **FEW)).path


@needs(*ONNX)
@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.slow
def test_onnx_runs_with_every_size_of_batch(onnx_file, full, size):
    embedder = Embedder(full, "cpu", "fp32")
    crops = synthetic_crops(size, seed=2)
    rows = np.arange(size) % 3 - 1
    found = load_onnx(onnx_file, 1)(planes_of(embedder, crops), rows)
    assert found.dtype == np.float32
    assert np.allclose(found, embedder(crops, [("a", "b", None)[row] for row in rows]), atol=1e-5)


@needs(*ONNX)
@pytest.mark.slow
def test_onnx_names_its_inputs_and_explains_itself(onnx_file, full):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    assert [(item.name, item.shape, item.type) for item in session.get_inputs()] == [
        ("images", ["batch", 3, 32, 16], "tensor(uint8)"),
        ("cameras", ["batch"], "tensor(int64)"),
    ]
    assert [(item.name, item.shape) for item in session.get_outputs()] == [("embeddings", ["batch", 48])]
    props = session.get_modelmeta().custom_metadata_map
    notes = {key.removeprefix("vitreid."): json.loads(value) for key, value in props.items()}
    embedder = Embedder(full, "cpu")
    assert notes["fingerprint"] == embedder.fingerprint and notes["dimension"] == embedder.dim == 48
    assert notes["cameras"] == ["a", "b"] and notes["camera"] is None and notes["half"] is False
    assert notes["preprocess"] == embedder.preprocess.to_dict() and notes["embed"] == embedder.settings.to_dict()
    assert notes["input"]["dtype"] == "uint8" and notes["threshold"] is None


@needs(*ONNX)
@pytest.mark.slow
def test_half_precision_onnx_is_smaller_and_keeps_its_interface(full, onnx_file, folder):
    exported = export_model(ExportRequest(full, str(folder / "half.onnx"), half=True, camera="b", **FEW))
    inputs = np.zeros((2, 3, 32, 16), np.float32)
    assert load_onnx(exported.path, 1)(inputs).dtype == np.float32
    assert exported.notes["camera"] == "b" and 0 < exported.agreement.difference < FLOAT16.difference
    assert exported.num_bytes < onnx_file.stat().st_size


@pytest.mark.parametrize(("name", "half"), [("full.torchscript", False), ("full.pt2", True)])
@pytest.mark.slow
def test_torch_formats_keep_rankings_and_notes(full, folder, name, half):
    path = folder / f"{half}-{name}"
    exported = export_model(ExportRequest(full, str(path), half=half, camera_input=True, **FEW))
    assert exported.agreement.places == 1 and exported.num_crops == 16
    extra = {"vitreid.json": ""}
    if path.suffix == ".torchscript":
        torch.jit.load(str(path), _extra_files=extra)
    else:
        torch.export.load(str(path), extra_files=extra)
    assert json.loads(extra["vitreid.json"]) == exported.notes


@needs("onnx", "onnxscript", "openvino")
@pytest.mark.slow
def test_openvino_is_two_files_with_the_notes(full, folder):
    import openvino

    exported = export_model(ExportRequest(full, str(folder / "full.xml"), half=True, camera_input=True, **FEW))
    assert sorted(path.name for path in folder.glob("full.*") if path.suffix in (".xml", ".bin")) == [
        "full.bin",
        "full.xml",
    ]
    model = openvino.Core().read_model(str(exported.path))
    assert json.loads(model.get_rt_info(["vitreid", "fingerprint"]).astype(str)) == exported.notes["fingerprint"]


@pytest.mark.parametrize("stem", ["conv", "resnet"])
@pytest.mark.slow
def test_other_backbones_can_be_exported(tmp_path, stem):
    """A convolutional stem, and a network without attention."""
    torch.manual_seed(0)
    small = {"embed_dim": 16, "depth": 1, "num_heads": 2}
    spec = (
        ModelSpec("resnet18", (32, 16))
        if stem == "resnet"
        else ModelSpec("vit_tiny_patch16_224", (32, 16), stem=stem, **small)
    )
    cfg = load_config(None, WORDS)
    save_deploy(
        tmp_path / "m.safetensors", ReidModel(spec), describe_model(cfg, ReidData("none", [], [], [], ()), {}, {})
    )
    assert (
        export_model(ExportRequest(str(tmp_path / "m.safetensors"), str(tmp_path / "m.ts"), **FEW)).agreement.places
        == 1
    )


# A wrong file is not kept


@pytest.fixture
def writes_nonsense(monkeypatch):
    """Make the torchscript format write something wrong."""

    def patch(change):
        usual = FORMATS["torchscript"]
        monkeypatch.setitem(
            FORMATS, "torchscript", usual._replace(load=lambda path, threads: change(usual.load(path, threads)))
        )

    return patch


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda run: lambda images: run(images)[::-1].copy(),
            r"ranks agree.*100\.00%",
        ),
        (lambda run: lambda images: run(images) * np.float32(1.2), "embedding is off by"),
        (lambda run: lambda images: np.full_like(run(images), np.nan), "not finite"),
        (
            lambda run: lambda images: run(images)[:, :4],
            r"\(16, 4\) float32.*\(16, 16\)",
        ),
        (
            lambda run: lambda images: run(np.concatenate([images] * 2))[: len(images)] if len(images) != 7 else 1 / 0,
            "batches of 7",
        ),
    ],
)
def test_a_file_that_differs_is_not_left(bare, tmp_path, writes_nonsense, change, message):
    writes_nonsense(change)
    output = tmp_path / "model.torchscript"
    output.write_text("earlier")
    with pytest.raises(Disagreement, match=message):
        export_model(ExportRequest(bare, str(output), overwrite=True, **FEW))
    assert output.read_text() == "earlier" and list(tmp_path.iterdir()) == [output]


def test_rankings_that_differ_can_be_allowed(bare, tmp_path, writes_nonsense):
    """Embeddings that are far off are refused even so."""
    writes_nonsense(lambda run: lambda images: run(images)[::-1].copy())
    with pytest.raises(Disagreement, match="embedding is off by"):
        export_model(ExportRequest(bare, str(tmp_path / "model.torchscript"), min_agreement=0, **FEW))


def test_an_earlier_file_is_replaced_only_on_request(bare, tmp_path):
    output = tmp_path / "model.torchscript"
    output.write_text("earlier")
    with pytest.raises(FileExistsError, match="--overwrite"):
        export_model(ExportRequest(bare, str(output), **FEW))
    assert output.read_text() == "earlier"
    assert export_model(ExportRequest(bare, str(output), overwrite=True, **FEW)).num_bytes == output.stat().st_size


# Agreement


def test_neighbours_as_near_may_change_places():
    """Crops 1 and 2 are 1 and 1.00001 away from crop 0: which one is first is decided by rounding."""
    expected = np.array([[0.0], [1.0], [-1.00001], [5.0]], np.float32)
    found = np.array([[0.0], [1.00001], [-1.0], [5.0]], np.float32)
    assert compare(expected, found, FLOAT32.tie).places == 1
    assert compare(expected, found, tie=0.0).places < 1


def test_a_swap_of_neighbours_that_are_not_as_near_is_counted():
    """Crop 0 finds 2 in place of 1; the others find the same crop as before."""
    expected = np.array([[0.0], [1.0], [-1.5], [9.0]], np.float32)
    found = np.array([[0.0], [1.5], [-1.0], [9.0]], np.float32)
    result = compare(expected, found, FLOAT32.tie, topk=1)
    assert result.places == result.first == 0.75
    assert result.largest == 0.5 and result.difference == pytest.approx(0.5 / 5.25)  # distances 1, 1.5, 2.5, 8, 9, 10.5


def test_the_first_places_have_to_agree_also_in_half_precision():
    """95 of 100 places would do, were the wrong ones not the first."""
    good = compare(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32), 0.0)
    almost = good._replace(places=0.98, first=0.9)
    assert almost.problem(FLOAT16) == "90.00% of the first ranks agree, 100.00% are needed"
    assert almost._replace(first=1.0).problem(FLOAT16) == ""
    lenient = ExportRequest("w", "m.onnx", half=True, min_agreement=0.9).tolerance
    assert almost.problem(lenient) == "" and (lenient.places, lenient.first) == (0.9, 0.9)


def test_nan_is_the_worst_of_all():
    good = compare(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32), 0.0)
    bad = compare(np.eye(4, dtype=np.float32), np.full((4, 4), np.nan, np.float32), 0.0)
    assert worst([bad, good]).problem(FLOAT32) == worst([good, bad]).problem(FLOAT32) == "its embeddings are not finite"
    assert good.problem(FLOAT32) == ""


@pytest.mark.parametrize(("count", "message"), [(2, "3 or more"), (4, "same embedding")])
def test_crops_that_cannot_be_ranked_are_refused(count, message):
    with pytest.raises(ValueError, match=message):
        compare(np.ones((count, 2), np.float32), np.ones((count, 2), np.float32), 0.0)


def test_the_first_round_is_not_timed():
    calls = []
    latency = measure({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert calls == ["a", "b"] * 4 and latency["a"].least <= latency["a"].median <= latency["a"].most


def test_crops_of_a_folder_are_spread_over_it(tmp_path):
    for number in range(9):
        (tmp_path / "deeper").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "deeper" / f"{number}.png"), np.full((4, 2, 3), number, np.uint8))
    assert [int(image[0, 0, 0]) for image in folder_crops(str(tmp_path), 3)] == [0, 4, 8]
    assert len(folder_crops(str(tmp_path), 100)) == 9


# Mistakes


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"output": "{}/no/model.pt2"}, FileNotFoundError, "--output.*/no .*exist"),
        (
            {"output": "{}/model.zip"},
            ValueError,
            r"--output.*'\.zip'.*\.onnx for onnx",
        ),
        ({"output": "{}/model.pt2", "format": "onnx"}, ValueError, r"--output.*\.onnx for onnx$"),
        ({"format": "tflite"}, ValueError, "--format.*'tflite'.*onnx"),
        ({"input": "bgr"}, ValueError, "--input.*'bgr'.*normalised"),
        ({"tracker": "sort"}, ValueError, "--for.*'sort'.*boxmot"),
        ({"opset": 17}, ValueError, "--opset.*18.*17"),
        ({"num_crops": 15}, ValueError, "--num-crops.*16.*15"),
        (
            {"output": "{}/model"},
            ValueError,
            r"--output.*/model .*suffix.*\.onnx for onnx",
        ),
        ({"threads": -1}, ValueError, "--threads.*-1"),
        ({"min_agreement": 1.5}, ValueError, r"--min-agreement.*1\.5"),
        ({"camera": "a", "camera_input": True}, ValueError, "--camera.*one of them"),
        ({"camera": "a"}, ValueError, r"--camera: .*MODEL\.SIE_CAMERA"),
        ({"camera_input": True}, ValueError, r"--camera-input: .*MODEL\.SIE_CAMERA"),
        ({"crops": "{}/none"}, FileNotFoundError, "--crops.*no folder.*/none"),
        ({"crops": "{}"}, FileNotFoundError, "--crops.*no image"),
        ({"weights": "{}/none.safetensors"}, FileNotFoundError, r"none\.safetensors.*exist"),
        ({"tracker": "boxmot", "input": "imagenet"}, ValueError, "--for boxmot.*ONNX"),
        (
            {"tracker": "boxmot", "output": "m.onnx", "input": "pixels"},
            ValueError,
            "--for boxmot.*--input",
        ),
        ({"tracker": "boxmot", "output": "m.onnx", "camera_input": True}, ValueError, "images only"),
    ],
)
def test_mistakes_are_explained(bare, tmp_path, options, error, message):
    given = {"weights": bare, "output": "{}/model.pt2", **FEW, **options}
    filled = {key: value.format(tmp_path) if isinstance(value, str) else value for key, value in given.items()}
    with pytest.raises(error, match=message):
        export_model(ExportRequest(**filled))
    assert not list(tmp_path.iterdir())


def test_an_unknown_camera_is_refused_with_those_that_are_known(full, tmp_path):
    with pytest.raises(ValueError, match="--camera.*'c'.*a, b"):
        export_model(ExportRequest(full, str(tmp_path / "m.pt2"), camera="c", **FEW))


@pytest.mark.parametrize("error", [ValueError("bad shape"), ImportError("no module x"), RuntimeError("broken")])
def test_an_error_of_a_foreign_exporter_is_a_message(error):
    with (
        pytest.raises(Disagreement, match=f"cannot be written.*{type(error).__name__}: {error}"),
        named("cannot be written"),
    ):
        raise error


def test_a_full_disk_is_reported_as_such():
    with pytest.raises(OSError, match="No space"), named("cannot be written"):
        raise OSError(28, "No space left on device")


def test_a_camera_may_be_named_by_the_end_of_its_name():
    names = ("market1501/c1", "market1501/c2", "mine/c2")
    assert ExportRequest("w", "m.onnx", camera="c1").camera_row(names) == 0
    assert ExportRequest("w", "m.onnx", camera="mine/c2").camera_row(names) == 2
    with pytest.raises(ValueError, match="--camera.*'c2'.*market1501/c2 or mine/c2"):
        ExportRequest("w", "m.onnx", camera="c2").camera_row(names)


def test_an_openvino_file_of_weights_is_replaced_only_on_request(bare, tmp_path):
    (tmp_path / "m.bin").write_bytes(b"foreign")
    with pytest.raises(FileExistsError, match=r"--output.*m\.bin.*--overwrite"):
        ExportRequest(bare, str(tmp_path / "m.xml")).check_output()
    ExportRequest(bare, str(tmp_path / "m.xml"), overwrite=True).check_output()
    ExportRequest(bare, str(tmp_path / "m.onnx")).check_output()


def test_a_corrupt_crop_is_named_with_what_helps_here(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"--crops.*a\.jpg.*image") as caught:
        folder_crops(str(tmp_path), 3)
    assert "DATASETS" not in str(caught.value)


def test_both_are_timed_from_pixels(bare, monkeypatch):
    """Torch normalises inside the timer, so the exported model's input is made inside it as well."""
    request = ExportRequest(bare, "m.pt2", num_crops=16, rounds=1)
    check = ParityCheck(request, Embedder(bare, "cpu", "fp32"))
    calls = []
    monkeypatch.setattr(parity_check, "as_input", lambda planes, *args: calls.append(len(planes)) or planes)
    check.latency(lambda images: images, rounds=1)
    assert calls == [1, 1, 32, 32]  # a round that does not count and one that does, by size of batch


def test_foreign_weights_are_refused(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "resnet.pth")
    with pytest.raises(ValueError, match=r"resnet\.pth.*images are prepared"):
        export_model(ExportRequest(str(tmp_path / "resnet.pth"), str(tmp_path / "m.pt2"), **FEW))


def test_weights_of_a_newer_version_are_refused(tmp_path, monkeypatch):
    """Its settings have a field that this version lacks."""
    path = save_weights(tmp_path / "new.safetensors")
    monkeypatch.setattr(exporter, "Embedder", lambda *args, **options: EmbedSettings(colour=True))
    with pytest.raises(ValueError, match=r"new\.safetensors.*newer vitreid"):
        export_model(ExportRequest(path, str(tmp_path / "m.pt2"), **FEW))
    monkeypatch.setattr(exporter, "Embedder", lambda *args, **options: len(7))
    with pytest.raises(TypeError, match="has no len"):
        export_model(ExportRequest(path, str(tmp_path / "m.pt2"), **FEW))


@pytest.mark.parametrize(
    ("module", "output", "extra"), [("onnxscript", "m.onnx", "onnx"), ("openvino", "m.xml", "openvino")]
)
def test_a_missing_extra_is_named(bare, tmp_path, monkeypatch, module, output, extra):
    for name in {*ONNX, "openvino"}:
        monkeypatch.setitem(sys.modules, name, None if name == module else sys)
    with pytest.raises(ImportError, match=rf"{module}.*vitreid\[{extra}\]"):
        export_model(ExportRequest(bare, str(tmp_path / output), **FEW))


@needs(*ONNX)
def test_an_opset_that_nobody_has_leaves_nothing(bare, tmp_path):
    with pytest.raises(ValueError, match=r"--opset.*onnx.*\b18 to .*\b99"):
        export_model(ExportRequest(bare, str(tmp_path / "m.onnx"), opset=99, **FEW))
    assert not list(tmp_path.iterdir())


# The tool


def test_the_tool_prints_what_it_made(full, tmp_path, capsys):
    words = [
        "--weights",
        full,
        "--output",
        str(tmp_path / "m.ts"),
        "--preprocess",
        "--camera",
        "a",
        "--num-crops",
        "16",
    ]
    assert tool.main([*words, "--rounds", "1", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert "images (N, 3, 32, 16) uint8: uint8 RGB, 0-255; normalised inside" in printed
    assert "embeddings (N, 48) float32, unit length" in printed
    assert (
        "allowed  neighbours whose distances differ by less than 0.0001 of the median distance may swap; 100.00%"
        in printed
    )
    assert "100.00% agree" in printed and "batch 1 " in printed and "batch 32" in printed and "1 threads" in printed


def test_earlier_names_stay():
    from vitreid.processor import ship as earlier

    assert (deploy.Order, deploy.Shipped, deploy.ship) == (ExportRequest, deploy.ExportedModel, export_model)
    assert {earlier.Order, earlier.ship, earlier.FORMATS["onnx"]} == {ExportRequest, export_model, FORMATS["onnx"]}
    with pytest.raises(AttributeError, match="nothing"):
        _ = earlier.nothing


@pytest.mark.slow
def test_the_engine_does_not_import_deployment():
    """The earlier name `vitreid.processor.ship` looks it up only when asked for a name."""
    code = "import sys, vitreid.processor, vitreid.processor.ship; sys.exit('vitreid.deploy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_tool_turns_a_mistake_into_one_line(bare, tmp_path, capsys):
    assert tool.main(["--weights", bare, "--output", str(tmp_path / "m.pt2"), "--camera", "x"]) == 2
    assert capsys.readouterr().err.startswith("error: --camera:")
    with pytest.raises(SystemExit):
        tool.main(["--weights", bare, "--output", "m.onnx", "--preprocess", "--input", "imagenet"])
