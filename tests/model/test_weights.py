"""Weights in and out: the importer and its report, initial weights, the deploy checkpoint."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from helpers import original_state, read_golden
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vitreid.model import ModelSpec, ReidModel, load_deploy, load_weights, save_deploy
from vitreid.model.parts.pos_embed import guess_grid, resize_pos_embed
from vitreid.model.weights import pretrained
from vitreid.model.weights.pretrained import fetch_timm, load_initial
from vitreid.model.weights.read import read_weights

TINY = ModelSpec("vit_tiny_patch16_224", img_size=(64, 32), embed_dim=16, depth=2, num_heads=2, cameras=("a", "b", "c"))


def build(**changes: object) -> ReidModel:
    return ReidModel(replace(TINY, **changes)).eval()  # type: ignore[arg-type]


def timm_file(path: Path, name: str = "vit_tiny_patch16_224", **changes: object) -> Path:
    net = timm.create_model(
        name, **{"img_size": 64, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5, **changes}
    )
    torch.save({"model": {"module." + key: value for key, value in net.state_dict().items()}}, path)
    return path


def original_file(path: Path, case: str) -> Path:
    """The state dict of the original TransReID in a golden file."""
    torch.save(original_state(read_golden(case)[1]), path)
    return path


def copies(model: ReidModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# --- importer -----------------------------------------------------------------------------------------------------


def test_timm_weights_fill_the_backbone_and_the_rest_is_reported(tmp_path: Path):
    model = build(jpm=True, sie_camera=True)
    report = load_weights(model, timm_file(tmp_path / "vit.pth"), strict=False)
    assert report.resized == {
        "backbone.net.pos_embed": "4x4 -> 4x2 patches",
        "local branches": "= copies of the last block",
    }
    assert report.missing == ["backbone.sie.table", "neck.weight", "neck.bias", "neck.running_mean", "neck.running_var"]
    assert report.unexpected == []
    assert torch.equal(model.backbone.jigsaw.norm.weight, model.backbone.net.norm.weight)


def test_weights_with_a_distillation_token_keep_the_class_position(tmp_path: Path):
    path = timm_file(tmp_path / "deit.pth", "deit_tiny_distilled_patch16_224")
    model, file = build(), torch.load(path, weights_only=True)["model"]
    load_weights(model, path, strict=False)
    assert torch.equal(model.backbone.net.pos_embed[:, :1], file["module.pos_embed"][:, :1])


def test_weights_without_a_class_position_get_a_zero_one(tmp_path: Path):
    """As in DeiT III, whose position embeddings are for patches only."""
    path = timm_file(tmp_path / "deit3.pth", no_embed_class=True)
    model = build()
    load_weights(model, path, strict=False)
    assert not model.backbone.net.pos_embed[:, :1].any()
    assert model.backbone.net.pos_embed[:, 1:].any()


def test_checkpoint_of_a_training_run_fits_and_its_loss_is_left_out(tmp_path: Path):
    trained, model = build(jpm=True), build(jpm=True)
    module = {
        **{f"model.{name}": value for name, value in trained.state_dict().items()},
        "loss.heads.0.weight": torch.zeros(3),
    }
    torch.save(
        {"spec": trained.spec.to_dict(), "epoch": 3, "trainer": {"module": module, "ema": None}}, tmp_path / "last.pth"
    )
    load_weights(model, tmp_path / "last.pth")
    assert same(model.state_dict(), trained.state_dict())


def test_weights_of_self_supervised_pretraining_fit(tmp_path: Path):
    state = timm.create_model(
        TINY.name, img_size=(64, 32), embed_dim=16, depth=2, num_heads=2, num_classes=0
    ).state_dict()
    torch.save(
        {
            "student": {},
            "teacher": {
                **{f"backbone.{key}": value for key, value in state.items()},
                "head.mlp.weight": torch.zeros(2),
            },
        },
        tmp_path / "dino.pth",
    )
    model = build()
    assert load_weights(model, tmp_path / "dino.pth", strict=False).left_out == ["head.mlp.weight"]
    assert torch.equal(model.backbone.net.blocks[1].mlp.fc1.weight, state["blocks.1.mlp.fc1.weight"])


def test_plain_backbones_take_their_own_weights(tmp_path: Path):
    net = timm.create_model("resnet18", num_classes=7)
    torch.save(net.state_dict(), tmp_path / "resnet.pth")
    model = ReidModel(ModelSpec("resnet18", img_size=(64, 32)))
    report = load_weights(model, tmp_path / "resnet.pth", strict=False)
    assert report.unexpected == []
    assert torch.equal(model.backbone.net.layer4[1].conv2.weight, net.layer4[1].conv2.weight)


def test_am_softmax_classifier_is_turned_to_classes_by_features(tmp_path: Path):
    path = original_file(tmp_path / "am.pth", "vit_amsoftmax")
    report = load_weights(build(), path)
    assert torch.equal(report.classifiers[0], torch.load(path, weights_only=True)["classifier.W"].t())


def test_original_with_other_cameras_gives_every_camera_the_mean_row(tmp_path: Path):
    path = original_file(tmp_path / "sie.pth", "vit_sie_camera")
    model = build(sie_camera=True)
    report = load_weights(model, path)
    mean = torch.load(path, weights_only=True)["base.sie_embed"].mean(0)
    torch.testing.assert_close(model.backbone.sie.table, mean.expand(3, 16))
    assert report.resized == {"backbone.sie.table": "mean of 6 rows, repeated for the 3 of the model"}


def test_our_own_side_information_goes_by_camera_names(tmp_path: Path):
    trained = build(sie_camera=True)
    save_deploy(tmp_path / "best.safetensors", trained, {})
    model = build(sie_camera=True, sie_fallback="unknown", cameras=("c", "new", "a"))
    load_weights(model, tmp_path / "best.safetensors")
    table = trained.backbone.sie.table
    torch.testing.assert_close(model.backbone.sie.table, torch.stack([table[2], table.mean(0), table[0]]))
    torch.testing.assert_close(model.backbone.sie.unknown, model.backbone.sie.table.mean(0))


def test_our_own_checkpoint_names_the_grid_it_was_trained_on(tmp_path: Path):
    """48 patches could be 12x4, 8x6 or 16x3; the file says 8x6."""
    save_deploy(tmp_path / "best.safetensors", build(img_size=(128, 96)), {})
    report = load_weights(build(), tmp_path / "best.safetensors")
    assert report.resized == {"backbone.net.pos_embed": "8x6 -> 4x2 patches"}


def test_our_own_checkpoint_of_a_model_with_other_patches_than_16_fits(tmp_path: Path):
    """EVA-02's are of 14 pixels; MODEL.STRIDE_SIZE is for the ViT family only and stays at its 16."""
    small = ModelSpec("eva02_tiny_patch14_224", (56, 28))
    save_deploy(tmp_path / "best.safetensors", ReidModel(small), {})
    assert load_weights(ReidModel(small), tmp_path / "best.safetensors").resized == {}
    report = load_weights(ReidModel(replace(small, img_size=(28, 56))), tmp_path / "best.safetensors")
    assert report.resized == {"backbone.net.pos_embed": "4x2 -> 2x4 patches"}


def test_strict_import_of_a_jigsaw_file_into_a_plain_model_is_an_error_that_names_the_option(tmp_path: Path):
    path = original_file(tmp_path / "jpm.pth", "jpm_stride12")
    with pytest.raises(ValueError, match=r"backbone\.jigsaw.*MODEL\.JPM, MODEL\.NECK"):
        load_weights(build(stride=(12, 12), sie_camera=True), path)


def test_as_initial_weights_a_jigsaw_file_gives_its_global_branch(tmp_path: Path):
    path = original_file(tmp_path / "jpm.pth", "jpm_stride12")
    model = build(stride=(12, 12), sie_camera=True)
    report = load_weights(model, path, strict=False)
    file = torch.load(path, weights_only=True)
    unused = {name for name in file if name.startswith(("base.fc.", "base.blocks.1.", "base.norm."))}
    assert unused and unused <= {*report.left_out}
    assert torch.equal(model.backbone.net.norm.weight, file["b1.1.weight"])
    assert torch.equal(model.neck.running_mean, file["bottleneck.running_mean"])


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"depth": 3},
            r"3 blocks of width 16.*2 blocks of width 16.*MODEL\.NAME, MODEL\.DEPTH",
        ),
        ({"depth": 1}, r"1 blocks of width 16.*model 2"),
        ({"embed_dim": 24}, r"cls_token.*\(1, 1, 24\).*\(1, 1, 16\)"),
        ({"name": "resnet18"}, r"no transformer blocks, the model 2"),
    ],
    ids=["deeper", "shallower", "wider", "resnet"],
)
def test_weights_of_another_architecture_are_an_error_and_leave_the_model_alone(
    changes: dict, message: str, strict: bool, tmp_path: Path
):
    if changes.get("name") == "resnet18":
        torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "other.pth")
    else:
        timm_file(tmp_path / "other.pth", **changes)
    model = build()
    before = copies(model)
    with pytest.raises(ValueError, match=message):
        load_weights(model, tmp_path / "other.pth", strict)
    assert same(before, model.state_dict())


def test_convolutional_stem_does_not_silently_lose_the_patch_projection(tmp_path: Path):
    with pytest.raises(ValueError, match=r"patch_embed.*MODEL\.STEM"):
        load_weights(build(stem="conv"), timm_file(tmp_path / "vit.pth"), strict=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"<html>not found</html>", "damaged|more than tensors"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{damaged", "damaged.*safetensors"),
    ],
    ids=["empty", "web page", "cut off"],
)
def test_damaged_file_is_named(content: bytes, message: str, tmp_path: Path):
    path = tmp_path / "bad.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"bad.pth.*({message})"):
        load_weights(build(), path)


def out_of_memory(*args, **options):
    raise MemoryError("no memory for the tensors")


@pytest.mark.parametrize("plain", [False, True])
def test_too_little_memory_is_not_a_damaged_file(plain: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = timm_file(tmp_path / "vit.pth")
    monkeypatch.setattr(torch, "load", out_of_memory)
    with pytest.raises(MemoryError):
        read_weights(path, plain=plain)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (HfHubHTTPError.__bases__[0]("timed out"), ConnectionError),
        (RuntimeError("No pretrained weights exist for this model"), ConnectionError),
        (OSError("Name or service not known"), ConnectionError),
        (MemoryError("no memory for the tensors"), MemoryError),
        (TypeError("a defect of ours"), TypeError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_only_what_keeps_weights_from_coming_is_a_connection_error(error, raised, monkeypatch: pytest.MonkeyPatch):
    def create(*args, **options):
        raise error

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(raised):
        fetch_timm("vit_tiny_patch16_224")


def test_file_that_could_run_code_is_refused(tmp_path: Path):
    torch.save({"model": build()}, tmp_path / "whole.pth")
    with pytest.raises(ValueError, match=r"more than tensors"):
        load_weights(build(), tmp_path / "whole.pth")


def test_file_without_tensors_says_where_they_are_looked_for(tmp_path: Path):
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="state dict"):
        load_weights(build(), tmp_path / "empty.pth")


# --- position embedding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "like", "grid"),
    [
        (196, (16, 8), (14, 14)),
        (128, (24, 8), (16, 8)),
        (192, (16, 8), (24, 8)),
        (210, (16, 8), (21, 10)),
        (310, (16, 8), (31, 10)),
        (48, (8, 6), (8, 6)),
    ],
)
def test_grid_of_usual_crops_is_found_from_the_number_of_patches(
    count: int, like: tuple[int, int], grid: tuple[int, int]
):
    assert guess_grid(count, like) == grid


def test_resized_position_embedding_keeps_the_class_token_and_constant_fields():
    source = torch.cat([torch.full((1, 1, 4), 5.0), torch.full((1, 128, 4), 2.0)], dim=1)
    resized, old = resize_pos_embed(source, (24, 8), num_prefix=1, source_prefix=1)
    assert old == (16, 8)
    assert resized.shape == (1, 193, 4)
    assert (resized[:, 0] == 5).all()
    torch.testing.assert_close(resized[:, 1:], torch.full((1, 192, 4), 2.0))


# --- initial weights ----------------------------------------------------------------------------------------------


def test_missing_pretrained_file_is_an_error_with_the_remedy():
    with pytest.raises(
        FileNotFoundError, match=r"MODEL\.PRETRAIN_PATH.*/nowhere/vit\.pth.*MODEL\.PRETRAIN_CHOICE none"
    ):
        load_initial(build(), "imagenet", "/nowhere/vit.pth")


def test_offline_machine_is_an_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    def offline(*args: object, **options: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'\nsecond line")

    model = build()
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        ConnectionError,
        match=r"vit_tiny_patch16_224.*We couldn't connect to .*MODEL\.PRETRAIN_PATH.*MODEL\.PRETRAIN_CHOICE none",
    ):
        load_initial(model, "imagenet")


def test_without_a_network_only_the_cache_is_asked_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """The hub's library would try again and again for a minute."""
    asked = []

    def create(name: str, pretrained: bool) -> torch.nn.Module:
        asked.append(constants.HF_HUB_OFFLINE)
        return torch.nn.Linear(1, 1)

    monkeypatch.setattr(timm, "create_model", create)
    for failure in ("hub:443: connection refused", ""):
        monkeypatch.setattr(pretrained, "hub_failure", lambda failure=failure: failure)
        fetch_timm("vit_tiny_patch16_224")
    assert asked == [True, constants.HF_HUB_OFFLINE]
    assert "weights of vit_tiny_patch16_224: from the cache, as hub:443: connection refused" in caplog.text


def test_weights_that_timm_does_not_have_are_not_looked_for():
    """Of our own backbones; a download would be a vain one."""
    with pytest.raises(ValueError, match=r"MODEL\.PRETRAIN_PATH.*osnet_x0_25.*MODEL\.PRETRAIN_CHOICE none"):
        load_initial(ReidModel(ModelSpec("osnet_x0_25", (64, 32))), "imagenet")


def test_timm_weights_by_name_fill_the_backbone(monkeypatch: pytest.MonkeyPatch):
    net = timm.create_model("vit_tiny_patch16_224", img_size=64, embed_dim=16, depth=2, num_heads=2)
    model = build()
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: net)
    report = load_initial(model, "imagenet")
    assert report is not None and report.source == "timm's vit_tiny_patch16_224"
    assert torch.equal(model.backbone.net.blocks[0].attn.qkv.weight, net.blocks[0].attn.qkv.weight)


def test_pretrain_choice_self_needs_a_path():
    with pytest.raises(ValueError, match=r"MODEL\.PRETRAIN_PATH.*MODEL\.PRETRAIN_CHOICE self"):
        load_initial(build(), "self")


# --- deploy checkpoint --------------------------------------------------------------------------------------------


def test_deploy_checkpoint_gives_back_model_and_meta_without_a_config(tmp_path: Path):
    model = build(jpm=True, sie_camera=True)
    meta = {"metrics": {"mAP": 0.5}, "labels": {"7": 0}, "size": [64, 32]}
    save_deploy(tmp_path / "best.safetensors", model, meta)
    loaded, about = load_deploy(tmp_path / "best.safetensors")
    assert about == meta
    assert loaded.spec == model.spec
    assert not loaded.training
    images, camids = torch.rand(2, 3, 64, 32), torch.tensor([1, -1])
    assert torch.equal(loaded.embed(images, camids), model.embed(images, camids))


@pytest.mark.parametrize("cut", [0, 5, 1000, -4])
def test_truncated_deploy_checkpoint_is_named(cut: int, tmp_path: Path):
    path = tmp_path / "best.safetensors"
    save_deploy(path, build(), {})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"best\.safetensors.*damaged"):
        load_deploy(path)


def test_deploy_checkpoint_with_other_tensors_lists_them(tmp_path: Path):
    path = tmp_path / "best.safetensors"
    save_deploy(path, build(depth=1), {})
    smaller = load_file(path)
    save_deploy(path, build(), {})
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        about = file.metadata()
    save_file(smaller, path, about)
    with pytest.raises(
        ValueError,
        match=r"missing backbone\.net\.blocks\.1\.attn\.proj\.bias.*unexpected none",
    ):
        load_deploy(path)


def test_foreign_safetensors_file_is_not_taken_for_a_deploy_checkpoint(tmp_path: Path):
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="does not describe its model"):
        load_deploy(tmp_path / "x.safetensors")


def test_failed_write_leaves_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "best.safetensors"
    save_deploy(path, build(), {"epoch": 1})

    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match=r"best\.safetensors.*No space left .*intact"):
        save_deploy(path, build(), {"epoch": 2})
    monkeypatch.undo()
    assert load_deploy(path)[1] == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["best.safetensors"]
