"""Backbones from timm by name, and the config's way to them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from vitreid.configs import get_defaults
from vitreid.model import ModelSpec, ReidModel, build_model


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec("deit_tiny_distilled_patch16_224", img_size=(64, 32), depth=1, jpm=True),
        ModelSpec("deit3_small_patch16_224", img_size=(64, 32), depth=1, jpm=True),
        ModelSpec("vit_small_patch14_reg4_dinov2", img_size=(56, 28), stride=(14, 14), depth=1, jpm=True, num_parts=2),
        ModelSpec("vit_base_patch16_clip_224", img_size=(64, 32), depth=1, sie_camera=True, cameras=("a", "b")),
        ModelSpec("vit_base_patch16_siglip_224", img_size=(64, 32), depth=1, pool="avg"),
    ],
    ids=lambda spec: spec.name,
)
def test_vision_transformers_get_the_reid_parts(spec: ModelSpec):
    model = ReidModel(spec).eval()
    embedding = model.embed(torch.zeros(2, 3, *spec.img_size), torch.tensor([0, 1]))
    assert embedding.shape == (2, model.num_branches * model.embed_dim)


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [
        ("resnet18", (64, 32), 512),
        ("mobilenetv3_small_050", (64, 32), 1024),
        ("convnext_atto", (64, 32), 320),
        ("swin_tiny_patch4_window7_224", (128, 64), 768),
    ],
)
def test_other_models_work_as_plain_backbones(name: str, size: tuple[int, int], width: int):
    model = ReidModel(ModelSpec(name, img_size=size, drop_path=0.1)).eval()
    before, after = model(torch.zeros(2, 3, *size), torch.tensor([0, 1]))
    assert before.shape == after.shape == (2, 1, width)
    assert model.embed_dim == width


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            ModelSpec("resnet18", jpm=True, embed_dim=16),
            "MODEL.JPM, MODEL.EMBED_DIM: only for .* VisionTransformer family, resnet18 is none",
        ),
        (ModelSpec("resnet18", stride=(12, 12)), "MODEL.STRIDE_SIZE: only for"),
        (
            ModelSpec("vgg11", img_size=(64, 32), drop_path=0.1),
            "MODEL.DROP_PATH: vgg11 has no such rate; set MODEL.DROP_PATH 0.0",
        ),
        (ModelSpec("resnet81"), "MODEL.NAME: timm .* has no model 'resnet81'; did you mean resnet"),
        (
            ModelSpec("vit_tiny_patch16_224.in99k"),
            "MODEL.NAME: vit_tiny_patch16_224 has no weights 'in99k'; choose from .*augreg_in21k",
        ),
    ],
    ids=["jpm", "stride", "rate", "name", "tag"],
)
def test_what_a_backbone_cannot_do_is_an_error_that_names_the_key(spec: ModelSpec, message: str):
    with pytest.raises(ValueError, match=message):
        ReidModel(spec)


def test_config_describes_the_model():
    cfg = get_defaults()
    cfg.merge_from_list(
        [
            "MODEL.NAME",
            "vit_tiny_patch16_224",
            "MODEL.PRETRAIN_CHOICE",
            "none",
            "MODEL.EMBED_DIM",
            16,
            "MODEL.NUM_HEADS",
            2,
            "MODEL.DEPTH",
            2,
        ]
        + ["MODEL.JPM", True, "MODEL.SIE_CAMERA", True, "INPUT.SIZE_TRAIN", (64, 32)]
    )
    model = build_model(cfg, cameras=("market1501/c1", "market1501/c2"))
    assert model.spec.cameras == ("market1501/c1", "market1501/c2")
    assert (model.num_branches, model.embed_dim) == (5, 16)
    assert model.backbone.sie.table.shape == (2, 16)


def test_spec_survives_json_types():
    spec = ModelSpec("vit_tiny_patch16_224", img_size=(64, 32), sie_camera=True, cameras=("a", "b"))
    assert ModelSpec.from_dict(spec.to_dict()) == spec
    assert spec.to_dict()["cameras"] == ["a", "b"]


def test_spec_of_a_newer_version_is_an_error_that_names_the_field():
    with pytest.raises(ValueError, match="unknown fields wings; it was written by a newer vitreid"):
        ModelSpec.from_dict({**replace(ModelSpec("resnet18")).to_dict(), "wings": 2})
