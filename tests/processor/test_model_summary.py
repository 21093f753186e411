"""The model summary."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import ROOT

from vitreid.model import ModelSpec, ReidModel, set_fused_attention
from vitreid.model.backbones.registry import OWN
from vitreid.model.weights.naming.backbone_namings import NAMINGS
from vitreid.processor.model_summary import summarise
from vitreid.tools.published import backbones
from vitreid.tools.published.backbones import ENTRIES, INTRODUCTION, PARITY, Entry, row
from vitreid.tools.published.weight_namings import HEADLINE, ROWS, chapter
from vitreid.tools.summary import main

DOCUMENT = ROOT / "docs" / "backbones.md"
TINY = ModelSpec("vit_tiny_patch16_224", (64, 32), embed_dim=16, depth=2, num_heads=2)


def test_multiply_adds_of_a_vit_by_hand():
    """8 patches of 768 pixels -> 16; per block of 9 tokens qkv, projection and MLP 12 * 16 * 16 each, attention 2 * 9 * 9 * 16."""
    summary = summarise(ReidModel(TINY), num_images=8)
    stages = {stage.name: stage for stage in summary.stages}
    assert stages["backbone.net.patch_embed"].macs == 8 * 768 * 16
    assert stages["backbone.net.patch_embed"].shape == (8, 16)
    assert stages["backbone.net.blocks.0"].macs == 9 * 12 * 16 * 16 + 2 * 9 * 9 * 16
    assert summary.total.macs == sum(stage.macs for stage in summary.stages)
    assert summary.total.shape == (16,)


def test_multiply_adds_of_osnet_are_the_published_ones():
    summary = summarise(ReidModel(ModelSpec("osnet_x0_25", (256, 128))), num_images=2)
    assert summary.total.macs / 1e6 == pytest.approx(82.3, rel=0.005)  # table 7 of Zhou et al.


def test_counting_leaves_modes_and_attention_as_they_were():
    model = ReidModel(TINY).train()
    model.neck.eval()
    model.backbone.net.blocks[0].attn.fused_attn = False
    before = {name: (part.training, getattr(part, "fused_attn", None)) for name, part in model.named_modules()}
    assert any(fused for _, fused in before.values())
    summarise(model, 4)
    assert {n: (part.training, getattr(part, "fused_attn", None)) for n, part in model.named_modules()} == before


def test_memory_grows_with_the_batch():
    few, many = (summarise(ReidModel(TINY), count).activation_bytes for count in (4, 64))
    assert many == pytest.approx(16 * few, rel=0.05)


def test_summary_of_a_config_needs_no_data(capsys: pytest.CaptureFixture[str]):
    words = ["MODEL.NAME", TINY.name, "MODEL.DEPTH", "2", "MODEL.JPM", "True", "MODEL.SIE_CAMERA", "True"]
    words += ["DATASETS.ROOT_DIR", "/nowhere", "MODEL.PRETRAIN_CHOICE", "none", "MODEL.DEVICE", "cpu"]
    assert main(["--batch", "8", *words]) == 0
    output = capsys.readouterr().out
    assert "backbone.jigsaw" in output and "of 8 images" in output
    assert main(["--batch", "-1", *words]) == 2
    assert "--batch: -1" in capsys.readouterr().err


def words_of(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The summary of a small ViT with so many options, word by word; its last but one is the memory in MiB."""
    shape = ["MODEL.NAME", TINY.name, "MODEL.DEPTH", "4", "MODEL.DEVICE", "cpu", "SOLVER.PRECISION", "fp32"]
    assert main(["--batch", "64", *words, *shape]) == 0
    return capsys.readouterr().out.replace(",", "").split()


@pytest.mark.slow
def test_summary_counts_what_training_keeps(capsys: pytest.CaptureFixture[str]):
    """Frozen and recomputed blocks keep less, and fused attention no (N, N) weights: 64 crops, 3 whole blocks, 3 heads, 129 tokens."""
    usual, frozen, recomputed = (
        int(words_of(capsys, *words)[-2])
        for words in ((), ("MODEL.FREEZE_BLOCKS", "3"), ("MODEL.CHECKPOINT_BLOCKS", "True"))
    )
    assert frozen < 0.8 * usual and recomputed < 0.8 * usual
    model = ReidModel(ModelSpec(TINY.name, depth=4))
    fused = summarise(model, 64).activation_bytes
    set_fused_attention(model, False)
    plain = summarise(model, 64).activation_bytes
    assert usual == round(fused / 2**20)
    assert plain - fused > 0.9 * 64 * 3 * 3 * 129 * 129 * 4


def test_summary_takes_cameras_and_views_apart(capsys: pytest.CaptureFixture[str]):
    words = ["--cameras", "5", "--views", "3", "MODEL.SIE_CAMERA", "True", "MODEL.SIE_VIEW", "True"]
    assert str(5 * 3 * 192) in words_of(capsys, *words)


@pytest.mark.clone
def test_the_table_of_backbones_is_what_the_models_are():
    """Small rows are made again; all our own backbones and nothing else than the tool's entries are in it."""
    page = Path(__file__).resolve().parents[2] / "docs" / "backbones.md"
    table = page.read_text(encoding="utf-8").removeprefix(INTRODUCTION).partition(HEADLINE)[0]
    lines = table.strip().splitlines()
    assert [line.split("`")[1] for line in lines] == [entry.name for entry in ENTRIES]
    assert set(OWN) <= {entry.name for entry in ENTRIES}
    for name in ("osnet_x0_25", "t2t_vit_7", "vit_tiny_patch16_224"):
        number = next(i for i, entry in enumerate(ENTRIES) if entry.name == name)
        assert lines[number] == row(ENTRIES[number])


@pytest.mark.clone
def test_the_page_lists_every_naming():
    """Each name that a report can say of a library's file has a row."""
    assert chapter() in (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
    listed = ", ".join(one.project for one in ROWS)
    assert {name.partition(",")[0] for name in NAMINGS} <= set(listed.split(", "))


def test_the_table_is_written_in_front_of_the_chapter_of_the_parity_benchmark(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    monkeypatch.setattr(backbones, "ENTRIES", (Entry("osnet_x0_25", "torchreid"),))
    assert backbones.main(["--output", str(page)]) == 0
    table = page.read_text()
    line = "| `osnet_x0_25` | 256x128 | 0.2 | 0.08 | 512 | yes |  |  |  | torchreid |\n"
    assert table == f"{INTRODUCTION}{line}\n{chapter()}"
    page.write_text(f"old\n\n{PARITY}figures\n")
    assert backbones.main(["--output", str(page)]) == 0
    assert page.read_text() == f"{table}\n{PARITY}figures\n"
