"""Train, evaluate, resume: the whole flow on a second's worth of data, through the command line's own functions."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import ROOT, rows, run_tool, write_test_manifest

from vitreid.configs import load_config
from vitreid.model import build_model, load_deploy, save_deploy
from vitreid.processor.device import place
from vitreid.processor.training.run import build_session
from vitreid.tools import test as test_tool


def final_state(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "last.pth", weights_only=True)["trainer"]["module"]


def test_a_run_is_a_folder_with_everything_in_it(tiny, tmp_path):
    run_tool(tiny)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"config.yml", "log.txt", "metrics.jsonl", "last.pth", "best.safetensors"}
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any(name.endswith(".tmp") for name in names)
    first, last = rows(tmp_path / "run")
    assert (first["epoch"], last["epoch"]) == (1, 2)
    assert {"loss", "id", "triplet", "accuracy", "lr", "images_per_second", "mAP", "mINP", "Rank-1", "Rank-20"} <= set(
        last
    )
    assert "epoch 2/2" in (tmp_path / "run" / "log.txt").read_text()


def test_a_checkpoint_alone_is_enough_to_evaluate(tiny, people, tmp_path, caplog):
    """No config, no training images: the same numbers as the run's last evaluation."""
    data = shutil.copytree(people / "synthetic", tmp_path / "data")
    run_tool([*tiny, "DATASETS.ROOT_DIR", str(data)])
    shutil.rmtree(data / "bounding_box_train")
    weights = tmp_path / "run" / "best.safetensors"
    assert test_tool.main(["--weights", str(weights), "--traceback"]) == 0
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert numbers["mAP"] == pytest.approx(rows(tmp_path / "run")[-1]["mAP"], abs=1e-6)
    assert "Rank-10" in caplog.text


def test_a_config_and_last_pth_give_the_same_numbers(tiny, tmp_path):
    run_tool(tiny)
    weights, output = tmp_path / "run" / "last.pth", tmp_path / "numbers.json"
    recipe = tmp_path / "run" / "config.yml"
    assert (
        test_tool.main(
            ["--config_file", str(recipe), "--output", str(output), "TEST.WEIGHT", str(weights), "--traceback"]
        )
        == 0
    )
    assert json.loads(output.read_text())["mAP"] == pytest.approx(rows(tmp_path / "run")[-1]["mAP"], abs=1e-6)


def test_a_checkpoint_says_what_it_is(tiny, tmp_path):
    run_tool([*tiny, "MODEL.SIE_CAMERA", "True"])
    model, about = load_deploy(tmp_path / "run" / "best.safetensors")
    assert model.spec.cameras == ("market1501/c1", "market1501/c2", "market1501/c3")
    assert about["preprocess"]["size"] == [64, 32]
    assert sorted(about["labels"].values()) == list(range(8))
    assert about["metrics"]["epoch"] == 2
    assert "MAX_EPOCHS: 2" in about["config"]
    assert set(about["versions"]) == {"vitreid", "torch", "timm"}


@pytest.mark.parametrize("cache", ["on", "off"])
@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(tiny, tmp_path, cache):
    """kill -9 after an epoch, then --resume: bit for bit the uninterrupted run (CPU, float32, with dropout and EMA)."""
    options = (
        f"DATALOADER.CACHE {cache} SOLVER.MAX_EPOCHS 4 MODEL.DROP_OUT 0.1 SOLVER.EMA 0.9 LOSS.CENTER_WEIGHT 0.0005"
    )
    words = [*tiny, *options.split()]
    run_tool([*words, "OUTPUT_DIR", str(tmp_path / "whole")])
    killed = tmp_path / "killed"
    kill_after_epoch(2, [*words, "OUTPUT_DIR", str(killed)], killed)
    assert len(rows(killed)) < 4
    run_tool([*words, "OUTPUT_DIR", str(killed)], "--resume")
    whole, resumed = final_state(tmp_path / "whole"), final_state(killed)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert [row["loss"] for row in rows(killed)] == [row["loss"] for row in rows(tmp_path / "whole")]


def kill_after_epoch(epoch: int, words: list[str], folder: Path) -> None:
    """Start training in another process and kill it once it has logged `epoch`."""
    command, log = [sys.executable, str(ROOT / "tools" / "train.py"), *words], folder / "log.txt"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet, env={**os.environ, "PYTHONPATH": python_path()}) as process:
        deadline = time.monotonic() + 120
        while not (log.exists() and f"epoch {epoch}/" in log.read_text()):
            assert time.monotonic() < deadline and process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)


def python_path() -> str:
    return os.pathsep.join(path for path in sys.path if path)


def test_people_of_joined_sets_stay_apart_in_the_checkpoint(people, tiny, tmp_path):
    """A manifest's person called 1 is not the published set's pid 1."""
    files = sorted((people / "synthetic" / "bounding_box_train").glob("*.jpg"))
    lines = [f"{path},{int(path.name[:4])},door {path.name[6]},train" for path in files]
    (tmp_path / "mine.csv").write_text("\n".join(["path,pid,camid,split", *lines]))
    run_tool([*tiny, "DATASETS.NAMES", "('market1501', 'manifest')", "DATASETS.MANIFEST", str(tmp_path / "mine.csv")])
    _, about = load_deploy(tmp_path / "run" / "best.safetensors")
    assert sorted(about["labels"].values()) == list(range(16))
    assert sorted(about["people"].values()) == sorted({str(int(path.name[:4])) for path in files})


def test_resume_of_a_finished_run_trains_nothing_and_evaluates(tiny, tmp_path, caplog):
    run_tool(tiny)
    before = final_state(tmp_path / "run")
    run_tool(tiny, "--resume")
    assert "nothing left to train" in caplog.text
    assert all(torch.equal(value, before[name]) for name, value in final_state(tmp_path / "run").items())


def test_resume_without_a_checkpoint_starts_anew(tiny, tmp_path, caplog):
    """Pre-emptible machines always start with --resume."""
    run_tool(tiny, "--resume")
    assert "starting anew" in caplog.text
    assert len(rows(tmp_path / "run")) == 2


def test_a_resumed_run_warns_of_changed_options(tiny, tmp_path, caplog):
    run_tool(tiny)
    run_tool([*tiny, "SOLVER.MAX_EPOCHS", "3", "SOLVER.WEIGHT_DECAY", "0.5"], "--resume")
    assert "SOLVER.WEIGHT_DECAY was 0.0001, is now 0.5" in caplog.text
    state = torch.load(tmp_path / "run" / "last.pth", weights_only=True)["trainer"]["optimizers"][0]
    assert {group["weight_decay"] for group in state["param_groups"]} == {0.5, 1e-4}, "and they are what is used"


def test_the_best_epoch_is_chosen_on_the_validation_people_only(tiny, tmp_path, caplog):
    """Without a validation split the newest weights are kept: the test set chooses nothing."""
    options = "DATASETS.VAL_IDS 3 SOLVER.IMS_PER_BATCH 8 SOLVER.MAX_EPOCHS 3 TEST.FMR 0.1"
    run_tool([*tiny, *options.split()])
    _, about = load_deploy(tmp_path / "run" / "best.safetensors")
    assert (about["threshold"]["dataset"], about["threshold"]["fmr"]) == (about["evaluated"], 0.1)
    assert about["evaluated"] == "market1501 validation (3 people)"
    assert about["metrics"]["mAP"] == pytest.approx(max(row["mAP"] for row in rows(tmp_path / "run")))
    assert len(about["labels"]) == 5


def test_accumulated_batches_make_one_step(tiny, tmp_path):
    run_tool([*tiny, "SOLVER.ACCUMULATE", "100", "SOLVER.MAX_EPOCHS", "1"])
    state = torch.load(tmp_path / "run" / "last.pth", weights_only=True)["trainer"]["optimizers"][0]
    assert state["state"], "the rest of an epoch is stepped, too"


def test_a_model_with_side_information_meets_unseen_cameras(tiny, people, tmp_path):
    """Trained on cameras of one name, tested on people's own data, whose cameras have other names."""
    run_tool([*tiny, "MODEL.SIE_CAMERA", "True"])
    manifest = write_test_manifest(people, tmp_path / "mine.csv")
    weights, output = tmp_path / "run" / "best.safetensors", tmp_path / "other.json"
    words = ["DATASETS.NAMES", "manifest", "DATASETS.MANIFEST", str(manifest)]
    assert test_tool.main(["--weights", str(weights), "--output", str(output), *words, "--traceback"]) == 0
    assert 0 < json.loads(output.read_text())["mAP"] <= 1


@pytest.mark.parametrize(
    "options",
    [
        ["MODEL.JPM", "True", "MODEL.SIE_CAMERA", "True"],
        ["LOSS.ID", "arcface"],
        ["SOLVER.PRECISION", "bf16"],
        ["SOLVER.OPTIMIZER_NAME", "AdamW", "SOLVER.GRAD_CLIP", "1.0"],
        ["TEST.RERANK", "k-reciprocal", "TEST.FLIP", "True"],
    ],
    ids=lambda words: words[0],
)
def test_options_train_end_to_end(tiny, tmp_path, options):
    run_tool([*tiny, *options, "SOLVER.MAX_EPOCHS", "1"])
    assert rows(tmp_path / "run")[0]["loss"] > 0


def test_convolutional_networks_are_placed_channels_last_and_saved_as_any_other(tiny, tmp_path):
    """The same embeddings to rounding, and plain tensors in the file."""
    words = [*tiny, "MODEL.NAME", "osnet_x0_25", "MODEL.EMBED_DIM", "0", "MODEL.DEPTH", "0", "MODEL.NUM_HEADS", "0"]
    model = build_model(load_config(None, [*words, "MODEL.DROP_PATH", "0.0"]), ("c1",)).eval()
    images = torch.randn(2, 3, 64, 32)
    expected = model(images).before
    placed = place(model, torch.device("cpu"), torch.float32)
    kernels = [p for p in placed.parameters() if p.ndim == 4 and p.shape[2] > 1]
    assert kernels and all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    torch.testing.assert_close(placed(images).before, expected, rtol=1e-4, atol=1e-5)
    save_deploy(tmp_path / "best.safetensors", placed, {})
    torch.testing.assert_close(load_deploy(tmp_path / "best.safetensors")[0].state_dict(), placed.state_dict())


def test_classifiers_of_the_same_people_go_on_too(tiny, tmp_path, caplog):
    run_tool([*tiny, "SOLVER.MAX_EPOCHS", "1"])
    state = final_state(tmp_path / "run")
    original = {"classifier.weight": state["loss.heads.0.weight"], "bottleneck.weight": torch.ones(32)}
    for path, tensors in (("theirs.pth", original), ("others.pth", {"classifier.weight": torch.zeros(3, 32)})):
        backbone = {
            name.replace("model.backbone.net.", "base."): value for name, value in state.items() if "net." in name
        }
        torch.save({**backbone, **tensors}, tmp_path / path)
    words = [*tiny, "MODEL.PRETRAIN_CHOICE", "self", "MODEL.PRETRAIN_CLASSIFIERS", "True", "MODEL.PRETRAIN_PATH"]
    for path in (tmp_path / "run" / "last.pth", tmp_path / "theirs.pth"):
        session = build_session(load_config(None, [*words, str(path)]))
        assert torch.equal(session.module.loss.heads[0].weight, state["loss.heads.0.weight"])
        assert f"{path}: the ID classifiers of 8 people too" in caplog.text
    with pytest.raises(ValueError, match=r"MODEL\.PRETRAIN_CLASSIFIERS.*others\.pth.*\(3, 32\).*\(8, 32\)"):
        build_session(load_config(None, [*words, str(tmp_path / "others.pth")]))
    with pytest.raises(ValueError, match=r"MODEL\.PRETRAIN_CLASSIFIERS.*MODEL\.PRETRAIN_CHOICE self"):
        load_config(None, [*words, "x.pth", "MODEL.PRETRAIN_CHOICE", "none"])


def test_classifiers_of_a_run_with_averaged_weights_are_found(tiny, tmp_path):
    """last.pth holds them next to the trained weights, not next to the averaged ones."""
    run_tool([*tiny, "SOLVER.MAX_EPOCHS", "1", "SOLVER.EMA", "0.9"])
    last = str(tmp_path / "run" / "last.pth")
    words = [*tiny, "MODEL.PRETRAIN_CHOICE", "self", "MODEL.PRETRAIN_CLASSIFIERS", "True", "MODEL.PRETRAIN_PATH", last]
    session = build_session(load_config(None, words))
    trained = torch.load(last, weights_only=True)["trainer"]["module"]["loss.heads.0.weight"]
    assert torch.equal(session.module.loss.heads[0].weight, trained)
