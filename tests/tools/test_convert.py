"""The command that converts weights of other projects."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from foreign_files import CLIP, clip_reid, filled, saved, torchreid_osnet

from vitreid.model import load_deploy
from vitreid.processor.embedding.embedder import Embedder
from vitreid.tools import convert

WORDS = ["MODEL.NAME", "osnet_x0_25", "MODEL.DROP_PATH", "0.0", "MODEL.NECK", "no", "INPUT.SIZE_TRAIN", "(64, 32)"]


def test_converted_file_explains_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, target = saved(tmp_path / "in.pth", filled(torchreid_osnet())), tmp_path / "out.safetensors"
    words = [*WORDS, "INPUT.SIZE_TEST", "(64, 32)"]
    assert convert.main([str(source), "--dry-run", *words]) == 0
    assert not target.exists()
    assert "torchreid's OSNet names" in capsys.readouterr().out
    assert convert.main([str(source), str(tmp_path / "no" / "out.safetensors"), *words]) == 2
    assert f"{tmp_path / 'no'} does not exist" in capsys.readouterr().err
    assert convert.main([str(source), str(target), *words]) == 0
    model, about = load_deploy(target)
    assert (model.spec.name, about["source"]) == ("osnet_x0_25", "in.pth (torchreid's OSNet)")
    assert convert.main([str(source), str(target), *words]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_conversion_says_how_many_cameras_to_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, target = saved(tmp_path / "clip.pth", filled(clip_reid())), tmp_path / "out.safetensors"
    words = ["MODEL.NAME", CLIP.name, "MODEL.EMBED_DIM", "16", "MODEL.DEPTH", "2", "MODEL.NUM_HEADS", "2"]
    words += ["MODEL.PROJECTION", "8", "MODEL.SIE_CAMERA", "True", "MODEL.SIE_TOKENS", "class"]
    words += ["INPUT.SIZE_TRAIN", "(64, 32)", "INPUT.SIZE_TEST", "(64, 32)"]
    assert convert.main([str(source), str(target), "--cameras", "a", *words]) == 2
    assert "2 cameras" in capsys.readouterr().err
    assert convert.main([str(source), str(target), "--cameras", "a,b", *words]) == 0
    assert load_deploy(target)[0].spec.cameras == ("a", "b")


def small_dino(path: Path) -> Path:
    """A DINOv2 of one block, as timm stores it, with the copy that its training averages."""
    net = timm.create_model("vit_small_patch14_dinov2", img_size=28, depth=1)
    torch.save({"model": {}, "model_ema": net.state_dict()}, path)
    return path


def test_without_a_config_the_model_is_read_off_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, target = small_dino(tmp_path / "dino.pth"), tmp_path / "out.safetensors"
    assert convert.main([str(source), str(target)]) == 0
    assert (
        "dino.pth fits MODEL.NAME vit_base_patch14_dinov2 MODEL.EMBED_DIM 384 MODEL.DEPTH 1" in capsys.readouterr().out
    )
    model, about = load_deploy(target)
    assert (model.spec.img_size, model.spec.stride, model.spec.neck) == ((252, 126), (14, 14), "no")
    assert about["preprocess"]["mean"] == [0.485, 0.456, 0.406]
    embedding = Embedder(target, device="cpu")(np.zeros((252, 126, 3), np.uint8))
    assert embedding.shape == (1, 384)


def test_options_of_the_command_line_are_added_to_what_is_found(tmp_path: Path):
    target = tmp_path / "out.safetensors"
    words = ["INPUT.SIZE_TRAIN", "(56, 28)", "INPUT.SIZE_TEST", "(56, 28)", "TEST.FLIP", "True"]
    assert convert.main([str(small_dino(tmp_path / "dino.pth")), str(target), *words]) == 0
    model, about = load_deploy(target)
    assert model.spec.img_size == (56, 28) and about["embed"]["flip"]


def test_without_a_target_nothing_is_written_and_the_way_on_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert convert.main([str(small_dino(tmp_path / "dino.pth"))]) == 0
    assert "nothing written; name OUT.safetensors after the file" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["dino.pth"]


def test_a_file_that_nobody_knows_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.save({"layer.weight": torch.zeros(3, 4)}, tmp_path / "net.pth")
    assert convert.main([str(tmp_path / "net.pth")]) == 2
    error = capsys.readouterr().err
    assert "neither timm nor vitreid has a model with exactly these tensors" in error and "layer.weight (3, 4)" in error
    assert "vit_base" not in error


def test_a_file_of_vitreid_needs_no_conversion(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert convert.main([str(small_dino(tmp_path / "dino.pth")), str(tmp_path / "out.safetensors")]) == 0
    assert convert.main([str(tmp_path / "out.safetensors"), str(tmp_path / "again.safetensors")]) == 2
    assert "says so; it is ready for use" in capsys.readouterr().err


REAL = Path(os.environ.get("VITREID_WEIGHTS", "nowhere"))  # published weights, which do not belong into the repository


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("dinov2_vits14_hf.safetensors", "vit_small_patch14_dinov2"),
        ("dinov2_vits14_timm.safetensors", "vit_small_patch14_dinov2"),
        ("efficientnet_lite0.pth", "tf_efficientnet_lite0"),
        ("mobilenetv2_bottleneck.pt", "mobilenetv2_100"),
    ],
)
@pytest.mark.skipif(not REAL.is_dir(), reason="VITREID_WEIGHTS names no folder with published weights")
def test_published_weights_load_without_naming_the_model(name: str, model: str, tmp_path: Path):
    target = tmp_path / "out.safetensors"
    assert convert.main([str(REAL / name), str(target)]) == 0
    assert load_deploy(target)[0].spec.name == model


@pytest.mark.skipif(not REAL.is_dir(), reason="VITREID_WEIGHTS names no folder with published weights")
def test_published_weights_in_two_namings_are_the_same_model(tmp_path: Path):
    for naming in ("hf", "timm"):
        source, target = REAL / f"dinov2_vits14_{naming}.safetensors", tmp_path / f"{naming}.safetensors"
        assert convert.main([str(source), str(target)]) == 0
    first, second = (load_deploy(tmp_path / f"{naming}.safetensors")[0].state_dict() for naming in ("hf", "timm"))
    assert all(torch.equal(first[name], second[name]) for name in first)
