"""State dicts of open_clip and of EfficientNet-PyTorch, made by them: our model computes the same features."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from library_models import feature_of, imported, pictures, shaken, size_words

from vitreid.model.weights.identify.identify import identify
from vitreid.model.weights.naming.recognise_project import translate

VISION = {"layers": 2, "width": 128, "head_width": 64, "patch_size": 16, "image_size": 64}
TEXT = {"context_length": 8, "vocab_size": 20, "width": 32, "heads": 2, "layers": 1}


def make_clip(quick: bool) -> Any:
    clip = pytest.importorskip("open_clip.model")
    torch.manual_seed(0)
    return shaken(clip.CLIP(32, clip.CLIPVisionCfg(**VISION), clip.CLIPTextCfg(**TEXT), quick_gelu=quick))


@pytest.mark.parametrize("quick", [False, True], ids=["open_clip", "OpenAI"])
def test_clips_vit_computes_the_same_features(quick: bool, tmp_path: Path):
    """OpenAI's files are in half precision, by which its activation is recognised; the report says so."""
    theirs, images = make_clip(quick), pictures()
    state = theirs.half().state_dict() if quick else theirs.state_dict()
    torch.save(state, tmp_path / "clip.pt")
    model, report = imported(tmp_path / "clip.pt", *size_words())
    kind = "clip_quickgelu" if quick else "clip"
    assert (model.spec.name, report.project, report.coverage) == (f"vit_base_patch16_{kind}_224", "CLIP", 1.0)
    assert "visual.proj" in report.left_out and "transformer.resblocks.0.ln_1.weight" in report.left_out
    theirs.float().visual.proj = None
    with torch.inference_mode():
        wanted = theirs.visual(images)
    torch.testing.assert_close(feature_of(model, images), wanted, rtol=1e-5, atol=1e-5)


def test_open_clips_config_says_the_activation_and_the_heads(tmp_path: Path):
    theirs = make_clip(True)
    torch.save(theirs.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    config = {"model_cfg": {"quick_gelu": True, "vision_cfg": {**VISION, "head_width": 32}}}
    config["preprocess_cfg"] = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    model, _ = imported(tmp_path, *size_words())
    assert model.spec.name == "vit_base_patch16_clip_quickgelu_224" and model.spec.num_heads == 4


def test_clips_resnet_computes_the_same_features(tmp_path: Path):
    """Its projection into the space of the texts is left out."""
    resnets = pytest.importorskip("open_clip.modified_resnet")
    torch.manual_seed(0)
    theirs, images = shaken(resnets.ModifiedResNet([3, 4, 6, 3], 1024, heads=32, image_size=64)), pictures()
    torch.save({f"visual.{name}": value for name, value in theirs.state_dict().items()}, tmp_path / "rn50.pt")
    model, report = imported(tmp_path / "rn50.pt", *size_words())
    assert (model.spec.name, report.project) == ("resnet50_clip", "CLIP ResNet")
    with torch.inference_mode():
        wanted = theirs(images)
        ours = theirs.attnpool.c_proj(feature_of(model, images))
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)


def test_a_tower_of_timm_in_open_clip_is_read_below_its_prefix():
    net = timm.create_model("vit_base_patch16_siglip_224", embed_dim=128, depth=2, num_heads=2, num_classes=0)
    state = {f"visual.trunk.{name}": value for name, value in net.state_dict().items()}
    state |= {f"text.resblocks.{number}.weight": torch.zeros(2) for number in range(500)}
    found = identify(translate(state), {})
    assert found is not None and found.options["MODEL.NAME"] == "vit_base_patch16_siglip_224"


@pytest.mark.parametrize(
    ("name", "ours"), [("efficientnet-b0", "tf_efficientnet_b0"), ("efficientnet-b2", "tf_efficientnet_b2")]
)
def test_efficientnet_pytorch_computes_the_same_features(name: str, ours: str, tmp_path: Path):
    package = pytest.importorskip("efficientnet_pytorch")
    torch.manual_seed(0)
    theirs, images = shaken(package.EfficientNet.from_name(name, image_size=64)), pictures()
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    model, report = imported(tmp_path / "net.pth", *size_words())
    assert (model.spec.name, report.project) == (ours, "lukemelas' EfficientNet")
    with torch.inference_mode():
        wanted = theirs.extract_features(images).mean((2, 3))
    torch.testing.assert_close(feature_of(model, images), wanted, rtol=1e-5, atol=1e-5)
