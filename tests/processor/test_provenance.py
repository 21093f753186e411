"""Where a checkpoint comes from is in it: data with their terms, commit, commands, parent weights with their SHA-256."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from helpers import run

from vitreid.configs import load_config
from vitreid.datasets import DATASETS
from vitreid.datasets.dataset_terms import TERMS, UNSTATED, terms_of
from vitreid.model import load_deploy
from vitreid.processor.runs import provenance
from vitreid.processor.runs.checkpoint import load_last
from vitreid.processor.runs.provenance import build_parents, build_provenance, commit, parents_of, provenance_lines
from vitreid.tools import convert, summary


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_data_set_has_terms_or_is_the_users_own():
    assert set(TERMS) <= set(DATASETS)
    assert {name for name in DATASETS if terms_of(name) == UNSTATED} == {"manifest", "folder", "crops"}


def test_a_run_writes_its_data_command_and_parents_into_its_checkpoints(tiny: list[str], tmp_path: Path, monkeypatch):
    size = {"img_size": (32, 16), "embed_dim": 32, "depth": 2, "num_heads": 2}
    weights = tmp_path / "vit.pth"
    torch.save(timm.create_model("vit_tiny_patch16_224", **size).state_dict(), weights)
    monkeypatch.setattr(sys, "argv", ["vitreid", "train", "MODEL.NAME", "x y"])
    words = [*tiny, "MODEL.PRETRAIN_CHOICE", "imagenet", "MODEL.PRETRAIN_PATH", str(weights), "SOLVER.MAX_EPOCHS", "1"]
    words += [
        "MODEL.EMBED_DIM",
        "32",
        "MODEL.DEPTH",
        "2",
        "MODEL.NUM_HEADS",
        "2",
        "INPUT.SIZE_TRAIN",
        "(32, 16)",
        "INPUT.SIZE_TEST",
        "(32, 16)",
    ]
    run(words)
    found = load_last(tmp_path / "run" / "last.pth")["about"]["provenance"]
    assert found["data"] == [{"name": "market1501", "terms": TERMS["market1501"]}]
    assert found["commands"] == ["vitreid train MODEL.NAME 'x y'"]
    assert found["parents"] == [{"name": "vit.pth", "sha256": sum_of(weights)}]
    assert load_deploy(tmp_path / "run" / "best.safetensors")[1]["provenance"] == found
    weights.unlink()
    monkeypatch.setattr(sys, "argv", ["vitreid", "train", "--resume", "auto"])
    run([*words, "SOLVER.MAX_EPOCHS", "2"], resume="auto")
    later = load_last(tmp_path / "run" / "last.pth")["about"]["provenance"]
    assert later["commands"] == ["vitreid train MODEL.NAME 'x y'", "vitreid train --resume auto"]
    assert later["parents"] == found["parents"]


def test_a_converted_file_names_its_source(tmp_path: Path):
    net = timm.create_model("vit_small_patch14_dinov2", img_size=28, depth=1)
    torch.save(net.state_dict(), tmp_path / "dino.pth")
    assert convert.main([str(tmp_path / "dino.pth"), str(tmp_path / "out.safetensors")]) == 0
    found = load_deploy(tmp_path / "out.safetensors")[1]["provenance"]
    assert found["parents"] == [{"name": "dino.pth", "sha256": sum_of(tmp_path / "dino.pth")}] and found["data"] == []


def test_every_shard_of_a_folder_is_a_parent(tmp_path: Path):
    for number in (1, 2):
        (tmp_path / f"model-{number}.safetensors").write_bytes(bytes([number]))
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    )
    assert [one["name"] for one in parents_of(tmp_path)] == ["model-1.safetensors", "model-2.safetensors"]


def test_random_weights_have_no_parents_and_timms_are_named():
    assert build_parents(load_config(None, ["MODEL.PRETRAIN_CHOICE", "none"])) == []
    assert build_parents(load_config(None))[0]["name"] == "timm's vit_base_patch16_224.orig_in21k_ft_in1k"


def test_the_users_folder_is_not_in_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["vitreid", "train", "DATASETS.ROOT_DIR", f"{Path.home()}/data"])
    command = build_provenance(load_config(None, ["MODEL.PRETRAIN_CHOICE", "none"]))["commands"][0]
    assert str(Path.home()) not in command and "~/data" in command


def test_the_commit_is_that_of_the_checkout_with_a_mark_for_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True, capture_output=True
        )

    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert commit() == ""
    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "one")
    assert len(commit()) == 40
    (tmp_path / "file").write_text("2")
    assert commit().endswith("+")


def test_a_strangers_block_is_shown_without_trusting_its_form():
    assert provenance_lines({"data": "x", "parents": [3], "commands": [None]}) == [
        "no provenance: written by an earlier version, or by another program"
    ]


def test_summary_shows_the_model_of_a_file_and_where_it_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    net = timm.create_model("vit_small_patch14_dinov2", img_size=28, depth=1)
    torch.save(net.state_dict(), tmp_path / "dino.pth")
    assert convert.main([str(tmp_path / "dino.pth"), str(tmp_path / "out.safetensors")]) == 0
    capsys.readouterr()
    assert summary.main(["--weights", str(tmp_path / "out.safetensors")]) == 0
    text = capsys.readouterr().out
    assert text.startswith("vit_base_patch14_dinov2 (depth 1, width 384, heads 6)")
    assert f"started from: dino.pth (SHA-256 {sum_of(tmp_path / 'dino.pth')})" in text
    assert summary.main(["--weights", "x", "--config_file", "market/vit_base"]) == 2
