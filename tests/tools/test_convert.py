"""The command that converts weights of other projects."""

from __future__ import annotations

from pathlib import Path

import pytest
from foreign_files import CLIP, clip_reid, filled, saved, torchreid_osnet

from vitreid.model import load_deploy
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
