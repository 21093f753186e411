"""INT8: what is quantised, on which crops, and that a file which costs too much is not kept."""

import importlib.util
import json

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from vitreid.configs import load_config
from vitreid.datasets import ReidData
from vitreid.deploy import ExportRequest, export_model, exporter
from vitreid.deploy.labelled_crops import LabelledCrops, RetrievalCost, read_labelled
from vitreid.deploy.parity_check import Disagreement, own_crops
from vitreid.deploy.quantised.int8_recipe import Int8Recipe
from vitreid.deploy.quantised.smoothing import smooth
from vitreid.model import ModelSpec, ReidModel, save_deploy
from vitreid.processor.embedding.embedder import Embedder
from vitreid.processor.runs.checkpoint import describe_model

SMALL = {"img_size": (32, 16), "embed_dim": 16, "depth": 2, "num_heads": 2}
ONNX = ("onnx", "onnxscript", "onnxruntime")


def needs(*modules):
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("int8") / "best.safetensors"
    words = ["INPUT.SIZE_TEST", "(32,16)", "INPUT.SIZE_TRAIN", "(32,16)"]
    model = ReidModel(ModelSpec("vit_tiny_patch16_224", **SMALL))
    save_deploy(path, model, describe_model(load_config(None, words), ReidData("none", [], [], [], ()), {}, {}))
    return str(path)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Forty pictures in Market-1501's names: ten people, each twice in two cameras."""
    folder = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(0)
    for pid in range(10):
        base = rng.integers(0, 256, (8, 4, 3))
        for number in range(4):
            image = np.clip(base + rng.integers(-30, 30, base.shape), 0, 255).astype(np.uint8)
            name = f"{pid:04d}_c{number % 2 + 1}s1_{number:06d}_00.png"
            cv2.imwrite(str(folder / name), cv2.resize(image, (16, 32), interpolation=cv2.INTER_CUBIC))
    return folder


def request(weights, output, crops, **options):
    given = {"int8": True, "crops": str(crops), "num_crops": 16, "num_calibration": 16, "rounds": 0, **options}
    return ExportRequest(weights, str(output), **given)


def test_smoothing_changes_activations_but_no_embedding():
    """A channel of the layer norm that is 50 times the others is brought near them."""
    torch.manual_seed(0)
    network = ReidModel(ModelSpec("vit_tiny_patch16_224", **SMALL)).eval()
    block = network.backbone.net.blocks[0]
    with torch.no_grad():
        block.norm1.weight[3] *= 50
    images = torch.randn(8, 3, 32, 16)
    before = network(images).before
    assert smooth(network, [(images,)]) == 6  # three products in each of two blocks
    assert torch.allclose(network(images).before, before, atol=1e-4)
    assert block.norm1.weight.abs().max() / block.norm1.weight.abs().median() < 20


def test_a_network_without_vit_blocks_is_not_smoothed():
    network = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    assert smooth(network, [(torch.ones(1, 3),)]) == 0


def test_calibration_batches_are_whole():
    recipe = Int8Recipe((np.arange(10), np.arange(10)))
    assert [len(batch[0]) for batch in recipe.batches(4)] == [4, 4]
    assert [len(batch) for batch in recipe.batches(16)] == [2]


def test_ranges_are_measured_on_other_crops_than_the_comparison(crops):
    compared, further = own_crops(str(crops), 16, 16)
    assert len(compared) == len(further) == 16
    assert not {image.tobytes() for image in compared} & {image.tobytes() for image in further}


def test_too_few_crops_for_both_are_refused(crops, tmp_path):
    few = sorted(crops.iterdir())[:20]
    (tmp_path / "few.csv").write_text("\n".join(["path", *map(str, few)]))
    with pytest.raises(ValueError, match=r"--crops.*few\.csv.*20 images"):
        own_crops(str(tmp_path / "few.csv"), 16, 16)
    assert len(own_crops(str(tmp_path / "few.csv"), 16)[0]) == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crops": ""}, "--int8.*--crops"),
        ({"half": True}, "--int8 and --half"),
        ({"format": "torchscript"}, "--format|--output"),
        ({"max_loss": 1.0}, "--max-loss.*--labelled"),
        ({"max_loss": -1.0, "labelled": "x.csv"}, "--max-loss.*-1"),
    ],
)
def test_what_int8_cannot_do_is_refused_at_once(options, message):
    given = {"int8": True, "crops": "crops", **options}
    with pytest.raises(ValueError, match=message):
        ExportRequest("best.safetensors", "m.onnx", **given)


def test_int8_of_a_torch_format_is_refused():
    with pytest.raises(ValueError, match="--int8: for onnx and openvino, not for torchscript"):
        ExportRequest("best.safetensors", "m.torchscript", int8=True, crops="crops")


@needs(*ONNX)
@pytest.mark.slow
def test_onnx_has_bytes_in_its_products_and_floats_in_softmax(weights, crops, tmp_path):
    import onnx

    exported = export_model(request(weights, tmp_path / "m.onnx", crops, min_agreement=0.5))
    graph = onnx.load(str(exported.path)).graph
    notes = {item.key: item.value for item in onnx.load(str(exported.path)).metadata_props}
    makers = {output: node for node in graph.node for output in node.output}
    types = {item.name: item.data_type for item in graph.initializer}
    quantised = [
        node for node in graph.node if node.op_type in ("MatMul", "Gemm", "Conv") and _reads_bytes(node, makers)
    ]
    assert len(quantised) >= 8  # four in each block
    assert onnx.TensorProto.INT8 in types.values()
    softmaxes = [node for node in graph.node if node.op_type in ("Softmax", "LayerNormalization")]
    assert softmaxes and not any(_reads_bytes(node, makers) for node in softmaxes)
    assert json.loads(notes["vitreid.int8"]) and exported.level in ("all", "careful")
    assert Embedder(exported.path, device="cpu")(sorted(map(str, crops.iterdir()))[:3]).shape == (3, 16)


def _reads_bytes(node, makers):
    first = makers.get(node.input[0])
    return first is not None and first.op_type == "DequantizeLinear"


@needs(*ONNX)
@pytest.mark.slow
def test_a_file_that_costs_too_much_is_not_kept(weights, crops, tmp_path, monkeypatch):
    """Both levels are tried; the message has the measured value and the bar, an earlier file stays as it is."""
    (tmp_path / "m.onnx").write_text("earlier")
    cost = RetrievalCost(0.5, 0.47, 0.48, 0.6, 0.6, 10, 20, 20)
    calls = []
    monkeypatch.setattr(LabelledCrops, "cost", lambda self, embed: calls.append(1) or cost)
    options = {"labelled": str(crops), "names": "market1501", "min_agreement": 0.0, "overwrite": True}
    with pytest.raises(Disagreement, match=r"3\.00 points of mAP.*--max-loss allows 1\b.*leave --int8 out"):
        export_model(request(weights, tmp_path / "m.onnx", crops, **options))
    assert len(calls) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"] and (tmp_path / "m.onnx").read_text() == "earlier"


@needs("openvino", "nncf", *ONNX)
@pytest.mark.slow
def test_a_finished_model_is_quantised_with_its_description(weights, crops, tmp_path):
    export_model(ExportRequest(weights, str(tmp_path / "f.xml"), input="pixels", num_crops=16, rounds=0))
    exported = export_model(request(str(tmp_path / "f.xml"), tmp_path / "i.xml", crops, min_agreement=0.5))
    assert exported.num_bytes < exported.float_bytes
    assert Embedder(tmp_path / "i.xml", device="cpu")(sorted(map(str, crops.iterdir()))[:3]).shape == (3, 16)


def test_openvino_without_nncf_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nncf", None)
    with pytest.raises(ImportError, match=r"nncf.*vitreid\[int8\]"):
        exporter.check_nncf()


# labelled crops


def test_the_cost_is_the_larger_loss():
    cost = RetrievalCost(0.80, 0.795, 0.78, 0.9, 0.9, 3, 6, 12)
    assert cost.points == pytest.approx(2.0) and "2.00 points" in cost.problem(1.9) and not cost.problem(2.1)
    assert RetrievalCost(0.80, 0.81, 0.82, 0.9, 0.9, 3, 6, 12).points < 0


def test_the_cost_of_the_model_itself_is_nothing(weights, crops):
    embedder = Embedder(weights, "cpu", "fp32")
    data = read_labelled(str(crops), names="market1501")
    labelled = LabelledCrops(data, embedder.planes, embedder.embed)
    cost = labelled.cost(embedder.embed)
    assert cost.points == 0 and cost.before == cost.after == cost.mixed and cost.num_people == 10
    noise = np.random.default_rng(0)
    worse = labelled.cost(lambda planes, cameras: noise.normal(size=(len(planes), 16)).astype(np.float32))
    assert worse.before == cost.before and worse.points > 10


def test_labelled_crops_come_from_folders_and_manifests(crops, tmp_path):
    rows = [
        f"{path},{path.name[:4]},{path.name[6]},{'query' if '_000000' in path.name else 'gallery'}"
        for path in crops.iterdir()
    ]
    (tmp_path / "m.csv").write_text("\n".join(["path,pid,camid,split", *rows]))
    found = read_labelled(str(tmp_path / "m.csv"), people=3)
    assert len(found.query) == 3 and len(found.gallery) == 9
    assert {one.pid for one in found.query} == {one.pid for one in found.gallery}
    assert read_labelled(str(tmp_path / "m.csv"), people=3, seed=1).query != found.query
    named = read_labelled(str(crops), names="market1501")
    assert len(named.query) == 20 and len(named.gallery) == 20  # one query per person and camera
    with pytest.raises(FileNotFoundError, match="--labelled.*no.csv"):
        read_labelled("no.csv")
    with pytest.raises(ValueError, match="--names: for a folder"):
        read_labelled(str(tmp_path / "m.csv"), names="market1501")
