"""The comparison with other projects' models, on a small stand-in for one."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

from vitreid.benchmarks import parity
from vitreid.benchmarks.common.checkouts import Checkout
from vitreid.benchmarks.common.project_models import CASES, PROJECTS, ProjectCase, ProjectModel, randomise
from vitreid.benchmarks.parity import (
    ParityResult,
    chapter,
    check_recipes,
    crop_paths,
    put_into,
    result_of,
    run_apart,
    run_project,
)
from vitreid.model import ModelSpec
from vitreid.tools.published.backbones import PARITY

SPEC = ModelSpec("vit_tiny_patch16_224", (64, 32), embed_dim=16, depth=2, num_heads=2, neck="no")
SIZES = {"img_size": (64, 32), "embed_dim": 16, "depth": 2, "num_heads": 2}


def crops(folder: Path, count: int = 6) -> Path:
    (folder / "market1501" / "query").mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "market1501" / "query" / f"000{number}_c{number % 6 + 1}s1_000001_00.jpg")
    return folder


def small_case(factor: float = 1.0) -> ProjectCase:
    """timm's model for the original, whose embeddings are multiplied by a factor."""

    def build(checkout: Checkout) -> ProjectModel:
        net = timm.create_model(SPEC.name, num_classes=0, **SIZES).eval()
        randomise(net)

        def embed(images: Tensor, camids: Tensor) -> Tensor:
            return net(images) * factor

        return ProjectModel(net, embed, SPEC)

    return ProjectCase("timm", build, strict=False)


def test_crops_are_spread_over_the_sorted_names(tmp_path: Path):
    assert [path.name[:4] for path in crop_paths(crops(tmp_path), 3)] == ["0000", "0002", "0004"]
    with pytest.raises(FileNotFoundError, match="--data: no crops at .*name the folder that holds Market-1501"):
        crop_paths(tmp_path / "elsewhere", 3)
    with pytest.raises(ValueError, match="--crops: 0; give 2 or more"):
        crop_paths(tmp_path, 0)


def test_equal_models_have_no_difference_and_crops_have_one(tmp_path: Path):
    result = result_of("small", small_case(), Checkout(tmp_path), crop_paths(crops(tmp_path), 3))
    found = result.figures
    assert (found["importer"], found["coverage"], found["num_crops"], found["embed_dim"]) == ("timm", 1.0, 3, 16)
    assert found["difference"] < 1e-5 < 1e-3 < found["variety"]


def test_a_difference_is_relative_to_the_originals_largest_number(tmp_path: Path):
    paths = crop_paths(crops(tmp_path), 3)
    result = result_of("small", small_case(0.5), Checkout(tmp_path), paths)
    assert result.figures["difference"] == pytest.approx(1.0, rel=1e-4)


def test_every_weight_is_drawn_and_the_same_each_time():
    nets = [timm.create_model("resnet18", num_classes=3) for _ in range(2)]
    before = {name: value.clone() for name, value in nets[0].state_dict().items()}
    for net in nets:
        torch.manual_seed(1)
        randomise(net)
    for name, value in nets[0].state_dict().items():
        if value.is_floating_point():
            assert not torch.equal(value, before[name]), name
            if value.ndim == 1 and not name.endswith("fc.bias"):
                assert torch.equal(value, nets[1].state_dict()[name]), name
    assert all((value > 0).all() for name, value in nets[0].state_dict().items() if name.endswith("running_var"))


def test_only_what_the_project_itself_cannot_do_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """A failure of ours, in the import or the comparison, is one of the benchmark."""

    def broken(checkout: Checkout) -> ProjectModel:
        raise ImportError("no module mmcv")

    def deeper(checkout: Checkout) -> ProjectModel:
        return small_case().build(checkout)._replace(spec=replace(SPEC, depth=3))

    cases = {name: ProjectCase("timm", build, quick=True) for name, build in (("theirs", broken), ("ours", deeper))}
    monkeypatch.setattr(parity, "CASES", cases)
    args = argparse.Namespace(quick=True)
    theirs, ours = run_project("timm", args, crop_paths(crops(tmp_path), 2))
    assert (theirs.skipped, theirs.failed) == ("ImportError: no module mmcv", "")
    assert ours.skipped == "" and "does not fit the model" in ours.failed
    monkeypatch.setattr(parity, "run_apart", lambda project, *args: [theirs, ours] if project == "timm" else [])
    page = tmp_path / "page.md"
    page.write_text("# Backbones\n")
    assert parity.main(["--data", str(tmp_path), "--document", str(page)]) == 1
    assert "failed: ours: UserError: " in capsys.readouterr().out and page.read_text() == "# Backbones\n"


@pytest.mark.slow
def test_a_process_that_fails_is_a_failure(tmp_path: Path):
    args = argparse.Namespace(transreid=tmp_path, quick=True, crops=2, data=tmp_path)
    (row,) = run_apart("TransReID", "--transreid", args)
    assert row.failed.startswith("its process failed: error: --data: no crops at")


def test_a_project_without_a_checkout_is_named():
    args = argparse.Namespace(transreid=None, quick=True)
    skipped = run_apart("TransReID", "--transreid", args)
    assert [(row.case, row.skipped) for row in skipped] == [
        ("TransReID ViT-B, SIE, JPM, stride 12", "no checkout; give --transreid DIR")
    ]


def test_what_differs_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    differences = {"far": 1e-3, "near": 1e-7, "not a number": float("nan")}
    rows = [ParityResult(name, {"difference": value}) for name, value in differences.items()]
    monkeypatch.setattr(parity, "run_apart", lambda project, *args: rows if project == "timm" else [])
    assert parity.main(["--data", str(crops(tmp_path))]) == 1
    assert "above 1e-05: far, not a number" in capsys.readouterr().out


def test_recipes_that_fail_are_named(tmp_path: Path):
    (tmp_path / "configs" / "Market").mkdir(parents=True)
    words = "MODEL: {NAME: transformer, TRANSFORMER_TYPE: deit_small_patch16_224_TransReID, SIE_VIEW: True}"
    for name, text in (("good", words), ("bad", words.replace("deit_small", "deit_tiny"))):
        (tmp_path / "configs" / "Market" / f"{name}.yml").write_text(text)
    count, failures = check_recipes(tmp_path)
    assert (count, len(failures)) == (2, 1)
    assert failures[0].startswith("configs/Market/bad.yml: UserError: MODEL.TRANSFORMER_TYPE: unknown backbone")


def test_the_chapter_replaces_its_earlier_text(tmp_path: Path):
    figures = {"importer": "timm", "backbone": "osnet_x0_25", "coverage": 1.0, "loaded": 3, "resized": 2, "left_out": 1}
    figures |= {"difference": 4e-7, "variety": 0.5, "num_crops": 8}
    page, row = tmp_path / "page.md", ParityResult("a", figures)
    page.write_text(f"# Backbones\n\n{PARITY}old\n")
    put_into(page, [row, ParityResult("b", skipped="no checkout")])
    text = page.read_text()
    assert text.startswith("# Backbones\n\n" + PARITY) and "old" not in text and "embed 8 crops" in text
    assert "| a | timm | `osnet_x0_25` | 100.00% | 3 / 2 / 1 | 4.0e-07 | 5.0e-01 |" in text
    assert "Not run: b (no checkout)." in text
    put_into(page, [replace(row, case="c")])
    assert page.read_text() == f"# Backbones\n\n{chapter([replace(row, case='c')])}"


def test_every_case_belongs_to_a_project_and_the_short_run_has_one_of_each():
    assert {case.project for case in CASES.values()} == set(PROJECTS)
    assert {case.project for case in CASES.values() if case.quick} == set(PROJECTS) - {"timm"}
