"""Files that an older version wrote keep working; tests/legacy/README.md says how they were made."""

import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, rows

from vitreid import Embedder
from vitreid.gallery import Gallery, verify
from vitreid.model import load_deploy
from vitreid.tools import export as export_tool
from vitreid.tools import report as report_tool
from vitreid.tools import search as search_tool
from vitreid.tools import test as test_tool
from vitreid.tools import train as train_tool

pytestmark = pytest.mark.slow

LEGACY = ROOT / "tests" / "legacy"
EXPECTED = json.loads((LEGACY / "expected.json").read_text())
IMAGE, CAMERA = EXPECTED["image"], EXPECTED["camera"]
DATE = 1_700_000_000  # date of every image: an export knows its images by size and date, and git keeps no dates
HERE = "/proc/self/cwd"  # exports keep absolute paths; this one leads to the copy of the files
CPU = ["--device", "cpu", "--precision", "fp32", "--traceback"]
PEOPLE = ["DATASETS.ROOT_DIR", "people"]  # older files do not prove that this user wrote them, so they choose no folder
CLOSE = 1e-4  # relative; processors round differently
DONE, COUNT = EXPECTED["export"]["done"], EXPECTED["export"]["count"]

on_linux = pytest.mark.skipif(not Path(HERE).is_dir(), reason="the files' absolute paths begin with /proc/self/cwd")


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """A copy of the files in the current folder, the images with their dates."""
    folder = tmp_path / "older"
    shutil.copytree(LEGACY, folder)
    for path in folder.glob("people/*/*.jpg"):
        os.utime(path, (DATE, DATE))
    monkeypatch.chdir(folder)


def numbers(*words: str) -> dict:
    """Return what tools/test.py finds."""
    assert test_tool.main([*words, "--output", "numbers.json", "--traceback"]) == 0
    return json.loads(Path("numbers.json").read_text())


def export(weights: str, source: str, output: str, *words: str) -> None:
    """Export as a user would, with the paths that the files were made with."""
    command = ["--weights", weights, "--input", source, "--output", output, *words, *CPU]
    assert export_tool.main(command) == 0


def assert_close(found: dict, expected: dict) -> None:
    """Compare those of the figures that are expected."""
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=CLOSE)


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_say_what_they_are():
    """The model, its cameras, its settings and its figures are in the file."""
    model, about = load_deploy("run/best.safetensors")
    assert model.spec.cameras == ("market1501/c1", "market1501/c2")
    assert (model.spec.jpm, model.spec.sie_camera, model.spec.embed_dim) == (True, True, 16)
    assert (about["embed"]["neck"], about["preprocess"]["size"], len(about["labels"])) == ("after", [64, 32], 6)
    assert about["metrics"]["mAP"] == EXPECTED["best"]["mAP"]


@pytest.mark.parametrize("name", ["best.safetensors", "last.pth"])
def test_weights_give_the_same_figures(name):
    """Evaluated by what is in the file alone."""
    figures = numbers("--weights", f"run/{name}", *PEOPLE)
    assert_close(figures, EXPECTED[name.partition(".")[0]])
    assert "threshold" not in figures


def test_weights_give_the_same_embedding():
    """With side information of a camera, and with another camera another embedding."""
    embedder = Embedder("run/best.safetensors", device="cpu", precision="fp32")
    embeddings = embedder([IMAGE, IMAGE], [CAMERA, "market1501/c2"])
    assert embeddings[0, :8].tolist() == pytest.approx(EXPECTED["embedding"], abs=1e-5)
    assert np.linalg.norm(embeddings[0] - embeddings[1]) > 0.1


def test_a_stored_threshold_is_found():
    """In the file, and in the figures of its evaluation."""
    stored = load_deploy("calibrated/best.safetensors")[1]["threshold"]
    figures = numbers("--weights", "calibrated/best.safetensors", *PEOPLE)
    assert_close(stored, EXPECTED["threshold"])
    assert figures["threshold"] == stored


# --- runs -------------------------------------------------------------------------------------------------------------


def test_an_interrupted_run_goes_on():
    """Stopped inside an epoch: optimizers, averaged weights and the position in the data continue exactly.

    AdamW's state follows the order of the parameters; two that are swapped hardly change the losses.
    """
    before, log = Path("run/metrics.jsonl").read_text(), Path("run/log.txt").read_text()
    words = ["--config_file", "run/config.yml", "--resume", "--no-report", "--traceback"]
    assert train_tool.main(words) == 0
    assert Path("run/metrics.jsonl").read_text().startswith(before)
    assert Path("run/log.txt").read_text().startswith(log)
    finished = rows("run")[6:]
    for row, expected in zip(finished, EXPECTED["resumed"], strict=True):
        assert_close(row, expected)
    assert_close(numbers("--weights", "run/best.safetensors"), {"mAP": finished[-1]["mAP"]})
    adamw = torch.load("run/last.pth", weights_only=True)["trainer"]["optimizers"][0]["state"]
    moments = [float(state["exp_avg_sq"].norm()) for state in adamw.values()]
    assert moments == pytest.approx(EXPECTED["second_moments"], rel=1e-3, abs=1e-10)


@pytest.mark.parametrize("name", ["best.safetensors", "last.pth"])
def test_a_new_run_starts_from_the_weights(name):
    """As initial weights of a run without classifiers, whose values would be drawn at random."""
    words = ["OUTPUT_DIR", "new", "MODEL.PRETRAIN_CHOICE", "self", "MODEL.PRETRAIN_PATH", f"run/{name}"]
    words += ["SOLVER.MAX_EPOCHS", "1", "SOLVER.OPTIMIZER_NAME", "SGD", "LOSS.ID", "none", "LOSS.CENTER_WEIGHT", "0"]
    assert train_tool.main(["--config_file", "run/config.yml", "--no-report", "--traceback", *words]) == 0
    assert_close(rows("new")[0], EXPECTED["started_from"][name])


def test_a_run_is_reported():
    """Its curves and options, without its model."""
    assert report_tool.main(["run", "--no-model", "--output", "report.html", "--traceback"]) == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert "29.0" in page and "vit_tiny_patch16_224" in page


# --- saved features ---------------------------------------------------------------------------------------------------


def test_saved_features_are_evaluated():
    """By the config that is in the file, and by another ranking."""
    file = ["--features", "features/market1501.safetensors"]
    figures = numbers(*file, "--cameras", "--verification")
    assert_close(figures, EXPECTED["features"])
    assert figures["embedding"]["neck"] == "after"
    assert numbers(*file, "TEST.RERANK", "aqe", "TEST.QE_K", "2")["rerank"] == "aqe"


# --- galleries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [("gallery", 12), ("gallery_small", 11)])
def test_a_gallery_is_whole_and_is_searched(name, count, capsys):
    """The second is projected, has one byte per value, and a row was removed."""
    assert verify(name, images=Path(HERE).is_dir()) == []
    assert len(Gallery.open(name)) == count
    words = ["--gallery", name, "--weights", "run/best.safetensors", "--query", IMAGE, "--camera", CAMERA]
    capsys.readouterr()
    assert search_tool.main([*words, "--topk", "5", "--json", *CPU]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    found, expected = answer["results"], EXPECTED[name]
    assert [row["id"] for row in found] == expected["ids"]
    assert [row["distance"] for row in found] == pytest.approx(expected["distances"], rel=CLOSE)
    assert [row.get("is_match") for row in found] == expected["matches"]
    assert answer["verdict"] == expected["verdict"]


@pytest.mark.parametrize("name", ["gallery", "gallery_small"])
def test_a_gallery_is_changed(name):
    """Rows are added, changed and removed, and those of before stay."""
    gallery = Gallery.open(name)
    before, count = np.array(gallery.embeddings), len(gallery)
    gallery.update([0], {"pid": "somebody"})
    gallery.remove([1])
    row = np.ones((1, gallery.projection.num_inputs if gallery.projection else gallery.info.dimension), np.float32)
    (number,) = gallery.add(row / np.linalg.norm(row), [{"path": os.path.abspath(IMAGE)}], gallery.info.model)
    again = Gallery.open(name)
    assert number == 12 and len(again) == count
    assert np.array_equal(again.embeddings[:-1], before)
    assert again.records["pid"][0].as_py() == "somebody"
    assert verify(name, images=Path(HERE).is_dir()) == []


# --- exports ----------------------------------------------------------------------------------------------------------


@on_linux
def test_a_finished_export_is_known_again():
    """Run again it does nothing: model, images and options are the same."""
    before = {path.name: path.read_bytes() for path in Path("gallery").iterdir()}
    export("calibrated/best.safetensors", "market1501:gallery", "gallery", "--root", f"{HERE}/people")
    assert {path.name: path.read_bytes() for path in Path("gallery").iterdir()} == before


@on_linux
def test_an_interrupted_export_goes_on():
    """Two parts of 4096 images are taken over, which can no longer be embedded; the third is done anew.

    What is done is the same to the byte as in the older version; the rest as in an export of these images alone.
    """
    with zipfile.ZipFile("interrupted_export.zip") as archive:
        archive.extractall()
    for path in Path("people/bounding_box_train").iterdir():  # the images of the two parts, of the same size and date
        path.write_bytes(bytes(path.stat().st_size))
        os.utime(path, (DATE, DATE))
    export("run/best.safetensors", f"{HERE}/crops.csv", "crops")
    assert not Path("crops.partial").exists()
    gallery = Gallery.open("crops")
    assert len(gallery) == COUNT
    assert hashlib.sha256(gallery.embeddings[:DONE].tobytes()).hexdigest() == EXPECTED["export"]["sha256_of_done"]
    assert gallery.records["crop"].to_pylist() == [str(number) for number in range(COUNT)]
    assert verify("crops", images=False) == []

    head, *lines = Path("crops.csv").read_text().splitlines()
    Path("rest.csv").write_text("\n".join([head, *lines[DONE:]]) + "\n")
    export("run/best.safetensors", "rest.csv", "rest")
    assert gallery.embeddings[DONE:].tobytes() == Gallery.open("rest").embeddings.tobytes()


@on_linux
def test_an_interrupted_export_of_other_weights_is_not_mixed_in():
    """The unfinished work of an older version differs by its model too."""
    with zipfile.ZipFile("interrupted_export.zip") as archive:
        archive.extractall()
    with pytest.raises(ValueError, match="unfinished export.*model was"):
        export("run/last.pth", f"{HERE}/crops.csv", "crops")
