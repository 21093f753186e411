"""Backbones from timm by name, and the config's way to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vitreid.configs import get_defaults
from vitreid.model import ModelSpec, ReidModel, build_model
from vitreid.model.weights.deployed import load_deploy, save_deploy
from vitreid.processor.device import place, with_cast_weights


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


def small(name: str, **options) -> ModelSpec:
    """A model with one block, at 64x32 pixels, with side information."""
    return ModelSpec(name, **{"img_size": (64, 32), "sie_camera": True, "cameras": ("a", "b"), **options})


FAMILIES = [
    small("vit_tiny_patch16_224", depth=1, jpm=True, stride=(12, 12)),
    small("deit_tiny_patch16_224", depth=1, jpm=True),
    small("deit_tiny_distilled_patch16_224", depth=1, jpm=True),
    small("deit3_small_patch16_224", depth=1),
    small("vit_small_patch14_reg4_dinov2", depth=1, img_size=(56, 28), stride=(14, 14)),
    small("vit_tiny_patch16_dinov3_qkvb"),
    small("eva02_tiny_patch14_224", img_size=(56, 28)),
    small("vit_base_patch16_clip_quickgelu_224", depth=1, embed_dim=64, num_heads=2, sie_tokens="class", projection=8),
    small("vit_base_patch16_siglip_224", depth=1, embed_dim=64, num_heads=2, pool="avg"),
    small("swin_tiny_patch4_window7_224"),
    small(
        "swinv2_tiny_window8_256", img_size=(128, 64)
    ),  # timm before 1.0.31 divides by 0 where a window is one patch wide
    small("convnext_atto"),
    small("resnet50"),
    small("resnet50_ibn_stride1", pool="gem"),
    small("resnet50_fastreid_sbs"),
    small("t2t_vit_7", depth=1, jpm=True),
    small("t2t_vit_t_14", depth=1, jpm=True),
    small("vit_tiny_r_s16_p8_224", depth=1),
    small("vit_base_r50_s16_224", depth=1, embed_dim=64, num_heads=2),
    small("osnet_x0_25"),
    small("osnet_x1_0"),
    small("solider_swin_tiny"),
    small("transreid_vit_small", depth=1, embed_dim=64, num_heads=2),
    small("pass_vit_small", depth=1),
    small("vit_tiny_patch16_224", depth=1, stem="ics"),
]


class Embedder(nn.Module):
    """What is shipped: images and cameras -> the test embedding."""

    def __init__(self, model: ReidModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, camids: Tensor) -> Tensor:
        return self.model.embed(images, camids, neck="after")


@pytest.mark.parametrize("spec", FAMILIES, ids=lambda spec: f"{spec.name}{'-ics' * (spec.stem == 'ics')}")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_every_family_builds_trains_a_step_and_exports(spec: ModelSpec):
    """In float32 and bf16 each trained parameter gets a gradient; the traced model embeds other people as the model does."""
    torch.manual_seed(0)
    model, images, camids = ReidModel(spec), torch.rand(4, 3, *spec.img_size), torch.tensor([0, 1, 1, 0])
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.SGD(trained.values(), lr=1e-3)
    for precision in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
            before, after = model(images, camids)
        (after.square().mean() + before.mean()).backward()
        assert not [name for name, value in trained.items() if value.grad is None or not value.grad.isfinite().all()]
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        traced = torch.jit.trace(Embedder(model), (images[:2], camids[:2]), check_trace=False)
        torch.testing.assert_close(traced(images[2:], camids[2:]), model.embed(images[2:], camids[2:], neck="after"))


@pytest.mark.parametrize("spec", FAMILIES, ids=lambda spec: f"{spec.name}{'-ics' * (spec.stem == 'ics')}")
@pytest.mark.filterwarnings("ignore")
def test_every_family_is_the_same_from_a_file_and_with_its_weights_cast(spec: ModelSpec, tmp_path: Path):
    """Building without random numbers leaves nothing out, buffers outside the file included; weights cast once change no bit."""
    model, images, camids = ReidModel(spec).eval(), torch.rand(2, 3, *spec.img_size), torch.tensor([0, 1])
    save_deploy(tmp_path / "model.safetensors", model, {})
    found, _ = load_deploy(tmp_path / "model.safetensors")
    for kind in ("named_parameters", "named_buffers"):
        expected = dict(getattr(model, kind)())
        for name, value in getattr(found, kind)():
            assert torch.equal(value, expected[name]), name
    placed = place(found, torch.device("cpu"), torch.bfloat16)
    cast = with_cast_weights(placed, torch.device("cpu"), torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cast.embed(images, camids), placed.embed(images, camids))
    assert {value.dtype for value in placed.parameters()} == {torch.float32}
    assert torch.bfloat16 in {value.dtype for value in cast.parameters()}


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
            r"MODEL\.JPM, MODEL\.EMBED_DIM.*resnet18",
        ),
        (ModelSpec("resnet18", stride=(12, 12)), r"MODEL\.STRIDE_SIZE.*resnet18"),
        (
            ModelSpec("vgg11", img_size=(64, 32), drop_path=0.1),
            r"MODEL\.DROP_PATH.*vgg11.*0\.0",
        ),
        (ModelSpec("resnet81"), r"MODEL\.NAME.*'resnet81'.*resnet"),
        (
            ModelSpec("vit_tiny_patch16_224.in99k"),
            r"MODEL\.NAME.*'in99k'.*augreg_in21k",
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
    with pytest.raises(ValueError, match="wings.*newer vitreid"):
        ModelSpec.from_dict({**replace(ModelSpec("resnet18")).to_dict(), "wings": 2})
