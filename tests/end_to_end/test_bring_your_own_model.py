"""A finished model of another project goes everywhere that our weights go: test, calibrate, export, search, serve, report."""

import json
import logging
import math

import numpy as np
import pytest
import torch
from model_files import needs, onnx_file, script_file

from vitreid import Embedder, Gallery
from vitreid.deploy import ExportRequest, export_model
from vitreid.gallery.export.export_job import export
from vitreid.processor import ScoreOptions, load_features
from vitreid.processor.scoring.evaluation_run import test as evaluate
from vitreid.report import ReportOptions, write_report
from vitreid.tools import export as export_tool
from vitreid.tools import export_model as export_model_tool
from vitreid.tools import search as search_tool
from vitreid.tools import serve as serve_tool
from vitreid.tools import test as test_tool

TRUSTED = {"runtime": "torchscript"}  # such a file is a program, which runs only if the user says so
SIZE = {"size": "64x32", "input": "rgb1", **TRUSTED}


class Stripes(torch.nn.Module):
    """The mean colours of eight stripes, by which shirts and trousers of synthetic people differ."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.reshape(images.shape[0], 3, 8, -1).mean(dim=3).flatten(1)


@pytest.fixture
def model(tmp_path):
    return script_file(tmp_path / "stripes.pt", Stripes())


@pytest.fixture
def data(people):
    return ["DATASETS.NAMES", "market1501", "DATASETS.ROOT_DIR", str(people / "synthetic"), "MODEL.DEVICE", "cpu"]


def test_a_model_is_evaluated_as_its_embeddings_are(model, data, tmp_path):
    """The figures are those of the embedder's own embeddings, and features are saved with its fingerprint."""
    report = evaluate(str(model), None, data, save_to=str(tmp_path / "f.safetensors"), options=SIZE)["market1501"]
    features = load_features(tmp_path / "f.safetensors")
    embed = Embedder(model, "cpu", options=SIZE)
    assert np.allclose(features.query, embed(features.q_names), atol=1e-5)
    assert features.about["fingerprint"] == embed.fingerprint and report.retrieval.mAP > 0.2
    assert json.loads((tmp_path / "metrics.json").read_text())["weights"] == str(model)


def test_options_of_the_test_embedding_apply(model, data, tmp_path, caplog):
    evaluate(str(model), None, [*data, "TEST.FLIP", "True"], save_to=str(tmp_path / "f.safetensors"), options=SIZE)
    features = load_features(tmp_path / "f.safetensors")
    both = Embedder(model, "cpu", options={**SIZE, "flip": True})
    assert np.allclose(features.query, both(features.q_names), atol=1e-5)
    assert features.about["fingerprint"] == both.fingerprint
    assert "left aside" not in caplog.text
    evaluate(str(model), None, [*data, "TEST.NECK_FEAT", "after"], options=SIZE)
    assert "the file's neck is before; the config's after is left aside" in caplog.text


def test_calibrate_stores_the_threshold_in_the_json_file(model, data, caplog):
    """With the description it holds for, so that the next command needs no option; another description leaves it aside."""
    evaluate(str(model), None, data, asked=ScoreOptions(calibrate=0.2), options=SIZE)
    written = json.loads(model.with_name("stripes.pt.json").read_text())
    assert written["size"] == [64, 32] and written["channels"] == "rgb" and written["threshold"]["fmr"] == 0.2
    embed = Embedder(model, "cpu", options=TRUSTED)
    assert embed.threshold["distance"] == written["threshold"]["distance"]
    assert embed.fingerprint == Embedder(model, "cpu", options=SIZE).fingerprint
    assert "left aside" not in caplog.text
    assert Embedder(model, "cpu", options={"resize": "area", **TRUSTED}).threshold is None
    assert f"the threshold in {model}.json is left aside: it holds for another resize" in caplog.text
    report = evaluate(str(model), None, data, options=TRUSTED)["market1501"]
    assert report.judged.num_genuine and report.calibration.threshold.distance == written["threshold"]["distance"]


def test_a_gallery_is_made_searched_and_refuses_other_models(model, data, people, tmp_path):
    evaluate(str(model), None, data, asked=ScoreOptions(calibrate=0.2), options=SIZE)
    crops = people / "synthetic" / "query"
    folder = export(model, str(crops), tmp_path / "gallery", device="cpu", options=TRUSTED)
    embed = Embedder(model, "cpu", options=TRUSTED)
    gallery = Gallery.open(folder, embed)
    first = sorted(crops.glob("*.jpg"))[0]
    assert gallery.search(str(first), topk=1)[0].rows[0]["path"].endswith(first.name)
    assert gallery.same_person(str(first), str(first)).answer == "same"
    assert gallery.info.threshold == embed.threshold and gallery.info.model_name == "stripes.pt"
    for options in ({"resize": "area", **TRUSTED}, {"input": "bgr1", **TRUSTED}):
        with pytest.raises(ValueError, match="another model or preprocessing"):
            Gallery.open(folder, Embedder(model, "cpu", options=options))


def test_the_commands_take_it(model, data, people, tmp_path, capsys):
    trusts = ["--embedder-runtime", "torchscript"]
    flags = ["--embedder-size", "64x32", "--embedder-input", "rgb1", "--embedder-resize", "bilinear", *trusts]
    query = people / "synthetic" / "query"
    assert test_tool.main(["--weights", str(model), *flags, *data]) == 0
    out = str(tmp_path / "gallery")
    assert export_tool.main(["--weights", str(model), *flags, "--input", str(query), "--output", out]) == 0
    image = str(sorted(query.glob("*.jpg"))[0])
    assert search_tool.main(["--gallery", out, "--weights", str(model), *flags, "--query", image, "--topk", "1"]) == 0
    assert "0.0000" in capsys.readouterr().out
    assert search_tool.main(["--gallery", out, "--weights", str(model), *trusts, "--query", image]) == 2
    assert "add --embedder-input" in capsys.readouterr().err
    (tmp_path / "other.json").write_text(json.dumps({"size": [64, 32], "input": "rgb1"}))
    words = ["--gallery", out, "--weights", str(model), *trusts, "--embedder-json", str(tmp_path / "other.json")]
    assert search_tool.main([*words, "--query", image]) == 0
    pytest.importorskip("fastapi", reason="not installed: fastapi")
    assert serve_tool.make_app(serve_tool.get_parser().parse_args(words), None, True).routes


@needs("onnx", "onnxruntime")
def test_a_folder_with_one_model_has_a_report(data, tmp_path):
    """Ranked lists and curves as of a run; what needs the layers is named as missing."""
    path = onnx_file(tmp_path / "means.onnx")
    path.with_name("means.onnx.json").write_text(json.dumps({"input": "rgb1"}))
    write_report([str(tmp_path)], None, overrides=data, shown=ReportOptions(num_queries=1, map_method="none"))
    page = (tmp_path / "report.html").read_text()
    assert "means.onnx" in page and "is a finished model; its layers are not known" in page and "CMC" in page


def test_a_report_runs_no_program(model, data, tmp_path):
    write_report([str(tmp_path)], None, overrides=data, shown=ReportOptions(num_queries=1, map_method="none"))
    assert "stripes.pt is a TorchScript archive, a program" in (tmp_path / "report.html").read_text()


@needs("onnx", "onnxruntime")
def test_a_finished_model_is_not_exported_again(tmp_path, capsys):
    path = onnx_file(tmp_path / "means.onnx")
    path.with_name("means.onnx.json").write_text(json.dumps({"input": "rgb1"}))
    assert export_model_tool.main(["--weights", str(path), "--output", str(tmp_path / "m.ts")]) == 2
    assert "is a finished model already, which can only be quantised" in capsys.readouterr().err


@needs("onnx", "onnxruntime")
def test_a_model_that_numbers_cameras_is_evaluated_with_theirs(data, tmp_path):
    """Cameras have the data set's names; here each moves all embeddings of its images."""
    path = onnx_file(tmp_path / "m.onnx", cameras=3)
    cameras = [f"market1501/c{number}" for number in (1, 2, 3)]
    options = {"input": "rgb1", "normalize": False, "cameras": cameras}
    evaluate(
        str(path), None, [*data, "TEST.FEAT_NORM", "False"], save_to=str(tmp_path / "f.safetensors"), options=options
    )
    features = load_features(tmp_path / "f.safetensors")
    assert np.array_equal(np.floor(features.query[:, 0].numpy() / 100), features.q_camids)


# --- our own exported files -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(untrained, tmp_path_factory):
    """An exported file with cameras and pixels as inputs."""
    request = ExportRequest(
        *(str(untrained), str(tmp_path_factory.mktemp("exported") / "m.torchscript")),
        input="pixels",
        camera_input=True,
        num_crops=16,
        rounds=0,
    )
    return export_model(request).path


def test_an_exported_model_is_the_checkpoint(exported, untrained, people, tmp_path):
    """Same embeddings, with and without cameras, and the same fingerprint: one gallery takes both."""
    ours, theirs = Embedder(untrained, "cpu", "fp32"), Embedder(exported, "cpu", options=TRUSTED)
    crops = [str(path) for path in sorted((people / "synthetic" / "query").glob("*.jpg"))[:5]]
    cameras = ["market1501/c1", "market1501/c2", None, "another", "market1501/c3"]
    assert np.allclose(ours(crops, cameras), theirs(crops, cameras), atol=1e-5)
    assert (ours.fingerprint, ours.dim, ours.settings) == (theirs.fingerprint, theirs.dim, theirs.settings)
    folder = export(
        untrained, str(people / "synthetic" / "query"), tmp_path / "gallery", device="cpu", precision="fp32"
    )
    assert math.isclose(Gallery.open(folder, theirs).search(crops[0], topk=1)[0].distances[0], 0, abs_tol=1e-3)


def test_an_exported_model_describes_itself(exported, data, caplog):
    with pytest.raises(ValueError, match=r"scale is 1.0, .* says 255 \(its own metadata\); leave it out"):
        Embedder(exported, "cpu", options={"input": "imagenet", **TRUSTED})
    evaluate(str(exported), None, [*data, "TEST.FLIP", "True"], options=TRUSTED)
    assert "the file's flip is False; the config's True is left aside" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        pytest.param("m.onnx", "", marks=needs("onnx", "onnxscript", "onnxruntime")),
        pytest.param("m.onnx", "openvino", marks=needs("onnx", "onnxscript", "onnxruntime", "openvino")),
        pytest.param("m.xml", "", marks=needs("onnx", "onnxscript", "openvino")),
    ],
)
@pytest.mark.parametrize("kind", ["normalised", "imagenet"])
def test_exported_files_of_other_runtimes_are_the_checkpoint_too(name, runtime, kind, untrained, people, tmp_path):
    request = ExportRequest(str(untrained), str(tmp_path / name), input=kind, camera="c2", num_crops=16, rounds=0)
    theirs = Embedder(export_model(request).path, "cpu", options={"runtime": runtime} if runtime else None)
    ours = Embedder(untrained, "cpu", "fp32")
    crops = [str(path) for path in sorted((people / "synthetic" / "query").glob("*.jpg"))[:5]]
    assert np.allclose(theirs(crops), ours(crops, "market1501/c2"), atol=1e-5)
    assert theirs.fingerprint == ours.fingerprint and theirs.name == "vit_tiny_patch16_224"


def test_logs_say_what_a_file_expects_once(model, caplog):
    caplog.set_level(logging.INFO)
    Embedder(model, "cpu", options=SIZE)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == (
        f"{model} in torchscript: 64 x 32 pixels (the options), RGB (the options), 0 to 1 (the options), resized bilinear (usual); "
        "batches of any size -> 24 numbers per image"
    )
