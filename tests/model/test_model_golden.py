"""The model computes what the original TransReID computes, from its own weights, loaded through the importer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from vitreid.model import LoadReport, ModelSpec, ReidModel, load_weights

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = sorted(path.stem for pattern in ("vit*.safetensors", "jpm*.safetensors") for path in GOLDEN.glob(pattern))
TOLERANCE = {"rtol": 1e-5, "atol": 2e-6}


def read_golden(name: str) -> tuple[dict, dict[str, Tensor]]:
    """Return (case, tensors) of one golden file."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        return json.loads(file.metadata()["case"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def spec_of(case: dict) -> ModelSpec:
    jpm = case["jpm"] or {"shift": 5, "groups": 2, "divide": 4, "rearrange": True}
    return ModelSpec(
        name="vit_tiny_patch16_224",
        img_size=case["size"],
        stride=case["stride"],
        embed_dim=case["embed_dim"],
        depth=case["depth"],
        num_heads=case["num_heads"],
        mlp_ratio=case["mlp_ratio"],
        sie_camera=case["cam"],
        sie_view=case["view"],
        sie_coe=case["sie_coef"],
        cameras=[f"c{i}" for i in range(case["num_cameras"])],
        views=[f"v{i}" for i in range(case["num_views"])],
        jpm=case["jpm"] is not None,
        shift_num=jpm["shift"],
        shuffle_group=jpm["groups"],
        num_parts=jpm["divide"],
        re_arrange=jpm["rearrange"],
    )


def load_golden(name: str, folder: Path) -> tuple[ReidModel, LoadReport, dict[str, Tensor]]:
    case, tensors = read_golden(name)
    path = folder / f"{name}.safetensors"
    save_file({key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}, path)
    model = ReidModel(spec_of(case))
    return model, load_weights(model, path), tensors


def inputs(tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return tensors["input.image"], tensors["input.camid"], tensors["input.viewid"]


@pytest.mark.parametrize("neck", ["before", "after"])
@pytest.mark.parametrize("name", FILES)
def test_test_embedding_is_the_original_one(name: str, neck: str, tmp_path: Path):
    model, _, tensors = load_golden(name, tmp_path)
    with torch.no_grad():
        embedding = model.eval().embed(*inputs(tensors), neck=neck)
    torch.testing.assert_close(embedding, tensors[f"eval.{neck}"], **TOLERANCE)


@pytest.mark.parametrize("name", FILES)
def test_training_features_of_every_branch_are_the_original_ones(name: str, tmp_path: Path):
    model, _, tensors = load_golden(name, tmp_path)
    before = model.train()(*inputs(tensors)).before
    for branch in range(model.num_branches):
        torch.testing.assert_close(before[:, branch], tensors[f"train.feat.{branch}"], **TOLERANCE)


@pytest.mark.parametrize(
    "name", [name for name in FILES if "face" not in name and "circle" not in name and "amsoftmax" not in name]
)
def test_imported_classifiers_give_the_original_scores(name: str, tmp_path: Path):
    model, report, tensors = load_golden(name, tmp_path)
    after = model.train()(*inputs(tensors)).after
    assert sorted(report.classifiers) == list(range(model.num_branches))
    for branch, weight in report.classifiers.items():
        torch.testing.assert_close(after[:, branch] @ weight.t(), tensors[f"train.score.{branch}"], **TOLERANCE)
