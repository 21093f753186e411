"""Weights for another image size or patch than the model's: positions, tables of distances and patch projections are resampled."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from library_models import pictures

from vitreid.model import ModelSpec, ReidModel, load_weights
from vitreid.model.backbones.registry import CNNS
from vitreid.model.parts.pos_embed import resize_bias_table

VIT = {"img_size": 64, "embed_dim": 32, "depth": 1, "num_heads": 2, "num_classes": 0}
SPEC = ModelSpec("vit_tiny_patch16_224", (64, 64), embed_dim=32, depth=1, num_heads=2)
SWIN = {"embed_dim": 32, "depths": (2, 2), "num_heads": (1, 2)}


def test_a_table_of_distances_keeps_constants_and_the_rows_of_the_class_token():
    table = torch.cat([torch.full((13 * 13, 2), 3.0), torch.tensor([[7.0, 8.0]] * 3)])
    resized, old = resize_bias_table(table, (16, 8))
    assert (resized.shape, old) == ((31 * 15 + 3, 2), (7, 7))
    torch.testing.assert_close(resized[:-3], torch.full((31 * 15, 2), 3.0))
    assert torch.equal(resized[-3:], table[-3:])


def test_a_table_of_distances_keeps_the_distance_of_zero_in_its_middle():
    rows = torch.arange(-3.0, 4.0).abs()  # the distance down, of 7 rows
    table = (rows[:, None] + torch.zeros(7)).reshape(-1, 1)
    resized, _ = resize_bias_table(table, (8, 4))
    plane = resized.reshape(15, 7)
    assert plane.argmin(0).tolist() == [7] * 7
    torch.testing.assert_close(plane, plane.flip(0))


def test_swins_windows_of_a_person_crop_get_a_resized_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The last stage of a 64x32 crop has 8x4 tokens, fewer across than a window."""
    source = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, window_size=8, **SWIN)
    torch.save(source.state_dict(), tmp_path / "swin.pth")
    monkeypatch.setitem(CNNS, "swin", lambda num_classes: _swin(num_classes))
    model = ReidModel(ModelSpec("swin", (64, 32)))
    report = load_weights(model, tmp_path / "swin.pth", strict=False)
    assert report.coverage == 1.0
    assert report.resized == {
        f"backbone.net.layers.1.blocks.{number}.attn.relative_position_bias_table": "8x8 -> 8x4 tokens"
        for number in (0, 1)
    }


def _swin(num_classes: int) -> torch.nn.Module:
    name = "swin_tiny_patch4_window7_224"
    return timm.create_model(name, img_size=(64, 32), window_size=8, num_classes=num_classes, **SWIN)


def test_initial_weights_of_another_patch_size_are_resampled_and_the_report_says_so(tmp_path: Path):
    torch.save(timm.create_model("vit_tiny_patch16_224", **{**VIT, "patch_size": 8}).state_dict(), tmp_path / "vit.pth")
    model = ReidModel(SPEC)
    report = load_weights(model, tmp_path / "vit.pth", strict=False)
    assert report.resized == {
        "backbone.net.pos_embed": "8x8 -> 4x4 patches",
        "backbone.net.patch_embed.proj.weight": "8x8 -> 16x16 pixels per patch",
    }
    with pytest.raises(ValueError, match=r"MODEL\.PATCH_SIZE 8.*patch_embed\.proj\.weight \(32, 3, 8, 8\) in the file"):
        load_weights(model, tmp_path / "vit.pth")


def test_a_model_with_the_patches_of_the_file_takes_them_as_they_are(tmp_path: Path):
    net = timm.create_model("vit_tiny_patch16_224", **{**VIT, "patch_size": 8}).eval()
    torch.save(net.state_dict(), tmp_path / "vit.pth")
    model = ReidModel(ModelSpec(**{**SPEC.to_dict(), "patch_size": 8, "stride": (8, 8), "neck": "no"})).eval()
    assert load_weights(model, tmp_path / "vit.pth").resized == {}
    images = pictures()
    with torch.inference_mode():
        torch.testing.assert_close(model.embed(images), net(images))


def test_another_activation_of_the_blocks_can_be_chosen():
    default, quick = (ReidModel(ModelSpec(**{**SPEC.to_dict(), "activation": name})) for name in ("", "quick_gelu"))
    assert type(default.backbone.net.blocks[0].mlp.act).__name__ == "GELU"
    assert type(quick.backbone.net.blocks[0].mlp.act).__name__ == "QuickGELU"
    assert quick.spec.title.endswith("heads 2, quick_gelu)")
