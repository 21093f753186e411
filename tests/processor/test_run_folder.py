"""What a run says of itself and leaves behind: its model's size, an interrupted report, an earlier run's pictures."""

import pytest
import torch

from vitreid.model import ModelSpec
from vitreid.processor import RunFolder
from vitreid.processor.runs.checkpoint import DamagedCheckpointError, NotACheckpointError, load_newest, save_last
from vitreid.report import write
from vitreid.tools import summary as summary_tool
from vitreid.tools import train as train_tool

# --- the model's size -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "vit_small_patch16_224"),
        ({"jpm": True}, "vit_small_patch16_224"),
        ({"depth": 2, "embed_dim": 256}, "vit_small_patch16_224 (depth 2, width 256)"),
        (
            {"num_heads": 4, "mlp_ratio": 2.5, "stem": "resconv"},
            "vit_small_patch16_224 (heads 4, MLP ratio 2.5, stem resconv)",
        ),
    ],
)
def test_a_model_is_called_by_its_name_and_what_is_changed(changes, title):
    assert ModelSpec("vit_small_patch16_224", **changes).title == title


def test_the_summary_says_what_is_changed(tiny, capsys):
    assert summary_tool.main(["--batch", "8", *tiny]) == 0
    assert capsys.readouterr().out.startswith("vit_tiny_patch16_224 (depth 2, width 32, heads 2)\nstage ")


def test_the_log_of_training_says_what_is_changed(tiny, caplog):
    assert train_tool.main(["--no-report", *tiny, "SOLVER.MAX_EPOCHS", "1"]) == 0
    assert "vit_tiny_patch16_224 (depth 2, width 32, heads 2): 0.1 M parameters" in caplog.text


# --- Ctrl-C in the report -------------------------------------------------------------------------------------------------


def test_an_interrupted_report_says_that_training_is_finished(tiny, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_tool, "train", lambda *_: None)
    monkeypatch.setattr(write, "write_report", interrupted)
    assert train_tool.main(tiny) == 130
    said = capsys.readouterr().err
    assert "training is finished and its weights are saved" in said
    assert f"`vitreid report {tmp_path / 'run'}`" in said


# --- an earlier run's pictures --------------------------------------------------------------------------------------------


def test_a_run_that_is_replaced_takes_its_report_along_and_nothing_of_others(tmp_path):
    folder = RunFolder(tmp_path)
    pictures = tmp_path / "report_pictures"
    pictures.mkdir()
    for path in (tmp_path / "report.html", pictures / "attention.png", pictures / "mine.png"):
        path.write_bytes(b"old")
    folder.clear()
    assert not (tmp_path / "report.html").exists() and [path.name for path in pictures.iterdir()] == ["mine.png"]
    (pictures / "mine.png").unlink()
    folder.clear()
    assert not pictures.exists()
    folder.close()


# --- last.pth -------------------------------------------------------------------------------------------------------------


def test_too_little_memory_does_not_make_a_checkpoint_damaged(tmp_path, monkeypatch):
    """Else an older checkpoint would be resumed instead."""

    def no_memory(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    save_last(tmp_path / "last.pth", {})
    monkeypatch.setattr(torch, "load", no_memory)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        load_newest(tmp_path / "last.pth")
    monkeypatch.undo()
    content = (tmp_path / "last.pth").read_bytes()
    (tmp_path / "last.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedCheckpointError, match=r"last\.pth.*damaged"):
        load_newest(tmp_path / "last.pth")
    torch.save({"anything": 1}, tmp_path / "last.pth")
    with pytest.raises(NotACheckpointError, match=r"last\.pth is not a last\.pth"):
        load_newest(tmp_path / "last.pth")
