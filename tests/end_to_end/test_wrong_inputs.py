"""Users' mistakes, each with the message it gets (options: configs/test_configs.py; data files: datasets/)."""

import errno
import json
import logging
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from helpers import run
from safetensors.torch import save_file

from vitreid.processor import FeatureSet, NonFiniteLoss, Trainer, save_features
from vitreid.tools import serve as serve_tool
from vitreid.tools import test as test_tool
from vitreid.tools import train as train_tool


def error_of(tool, words, capsys) -> str:
    """The one message a user sees on the terminal: no traceback, exit status 2."""
    assert tool.main(words) == 2
    message = re.split(r"^(?=error: )", capsys.readouterr().err, flags=re.MULTILINE)[-1]  # warnings may come before it
    assert message.startswith("error: ")
    assert "Traceback" not in message
    return message


def test_the_command_line_shows_one_message_and_fails(tiny, capsys):
    message = error_of(train_tool, [*tiny, "SOLVER.BASE_LRR", "1"], capsys)
    assert re.search(r"SOLVER\.BASE_LRR: .*SOLVER\.BASE_LR\b", message)


def test_a_second_run_into_the_same_folder_loses_nothing(tiny, tmp_path):
    run(tiny)
    before = (tmp_path / "run" / "last.pth").read_bytes()
    with pytest.raises(FileExistsError, match=rf"{tmp_path}/run.*--resume.*--overwrite"):
        run(tiny)
    assert (tmp_path / "run" / "last.pth").read_bytes() == before


def test_overwrite_replaces_a_run(tiny, tmp_path):
    run(tiny)
    run([*tiny, "SOLVER.MAX_EPOCHS", "1"], overwrite=True)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_start_that_failed_does_not_block_the_next_one(tiny, tmp_path):
    """A wrong data folder leaves no folder with a log only; a folder that was there stays, with its files."""
    with pytest.raises(FileNotFoundError):
        run([*tiny, "DATASETS.ROOT_DIR", str(tmp_path / "nowhere")])
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    with pytest.raises(FileNotFoundError):
        run([*tiny, "DATASETS.ROOT_DIR", str(tmp_path / "nowhere")])
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log.txt"]
    assert run(tiny).mAP > 0


def test_overwrite_with_a_mistake_keeps_the_earlier_run(tiny, tmp_path):
    run(tiny)
    before = (tmp_path / "run" / "best.safetensors").read_bytes()
    with pytest.raises(FileNotFoundError):
        run([*tiny, "DATASETS.ROOT_DIR", str(tmp_path / "nowhere")], overwrite=True)
    assert (tmp_path / "run" / "best.safetensors").read_bytes() == before


def test_resume_and_overwrite_exclude_each_other(tiny):
    with pytest.raises(ValueError, match="--resume.*--overwrite.*choose one"):
        run(tiny, resume="auto", overwrite=True)


def test_resuming_into_the_folder_of_another_run_is_refused(tiny, tmp_path):
    run(tiny)
    run([*tiny, "OUTPUT_DIR", str(tmp_path / "other")])
    with pytest.raises(FileExistsError, match=rf"{tmp_path}/other.*holds a run"):
        run([*tiny, "OUTPUT_DIR", str(tmp_path / "other")], resume=str(tmp_path / "run" / "last.pth"))


def test_a_refused_start_leaves_no_open_log(tiny):
    run(tiny)
    handlers = list(logging.getLogger("vitreid").handlers)
    with pytest.raises(FileExistsError):
        run(tiny)
    assert logging.getLogger("vitreid").handlers == handlers


@pytest.mark.parametrize(
    "error",
    [MemoryError(), MemoryError("a.jpg: not enough memory"), RuntimeError("CUDA out of memory. Tried to\nmore")],
    ids=["bare", "decoding", "torch"],
)
def test_too_little_memory_is_one_message_with_what_to_lower(tiny, error, monkeypatch, capsys):
    def fail(*args):
        raise error

    monkeypatch.setattr(train_tool, "train", fail)
    assert train_tool.main(tiny) == 2
    assert re.fullmatch(
        r"error: out of memory: .+ intact.* SOLVER\.MICRO_BATCH .+\n",
        capsys.readouterr().err,
    )


def test_an_unknown_failure_keeps_its_traceback(tiny, monkeypatch):
    monkeypatch.setattr(train_tool, "train", lambda *args: [][1])
    with pytest.raises(IndexError):
        train_tool.main(tiny)


def test_nothing_to_evaluate_is_found_before_training(tiny, people, tmp_path):
    lines = [
        f"{path},{path.name[:4]},{path.name[6]},train"
        for path in sorted((people / "synthetic" / "bounding_box_train").iterdir())
    ]
    (tmp_path / "mine.csv").write_text("\n".join(["path,pid,camid,split", *lines]))
    words = [*tiny, "DATASETS.NAMES", "manifest", "DATASETS.MANIFEST", str(tmp_path / "mine.csv")]
    with pytest.raises(ValueError, match=r"manifest.*\b0 query.*\b0 gallery.*DATASETS\.VAL_IDS"):
        run(words)
    assert run([*words, "DATASETS.VAL_IDS", "3", "SOLVER.IMS_PER_BATCH", "8"]).mAP > 0


def test_queries_without_a_match_in_another_camera_are_an_error(tiny, people, tmp_path):
    root = copy_of(people, tmp_path)
    for path in (root / "bounding_box_test").glob("*.jpg"):
        if not path.name.startswith("0000"):
            path.unlink()
    with pytest.raises(ValueError, match="no query.*another camera"):
        run([*tiny, "DATASETS.ROOT_DIR", str(root)])


def test_more_neighbours_than_images_are_an_error(tiny):
    with pytest.raises(ValueError, match=r"TEST\.RERANK_K1.*\b500\b"):
        run([*tiny, "TEST.RERANK", "k-reciprocal", "TEST.RERANK_K1", "500"])


def test_an_output_folder_that_is_a_file_is_refused(tiny, tmp_path):
    (tmp_path / "run").write_text("notes")
    with pytest.raises(NotADirectoryError, match=r"OUTPUT_DIR.*run.* a file"):
        run(tiny)


def test_a_device_that_is_not_there_is_named(tiny):
    if torch.cuda.is_available():
        pytest.skip("this machine has cuda")
    with pytest.raises(ValueError, match=r"MODEL\.DEVICE.*cuda.*found cpu"):
        run([*tiny, "MODEL.DEVICE", "cuda"])


def test_a_data_folder_that_does_not_exist_is_named(tiny, tmp_path):
    with pytest.raises((FileNotFoundError, ValueError), match="market1501"):
        run([*tiny, "DATASETS.ROOT_DIR", str(tmp_path / "nowhere")])


def test_an_empty_data_folder_says_what_is_missing(tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises((FileNotFoundError, ValueError), match="bounding_box_train"):
        run([*tiny, "DATASETS.ROOT_DIR", str(tmp_path / "empty")])


def test_an_unknown_data_set_lists_the_known_ones(tiny):
    with pytest.raises(ValueError, match=r"DATASETS\.NAMES.*'market'.*market1501"):
        run([*tiny, "DATASETS.NAMES", "market"])


def test_more_identities_per_batch_than_there_are_is_an_error(tiny):
    with pytest.raises(ValueError, match=r"SOLVER.IMS_PER_BATCH.*8"):
        run([*tiny, "SOLVER.IMS_PER_BATCH", "64"])


def copy_of(people, tmp_path):
    return shutil.copytree(people / "synthetic", tmp_path / "data")


@pytest.mark.parametrize("cache", ["on", "off"])
def test_a_truncated_image_is_named(tiny, people, tmp_path, cache):
    root = copy_of(people, tmp_path)
    victim = sorted((root / "bounding_box_train").glob("*.jpg"))[3]
    victim.write_bytes(victim.read_bytes()[:200])
    with pytest.raises(ValueError, match=rf"^{victim}.*DATASETS\.CORRUPT skip"):
        run([*tiny, "DATASETS.ROOT_DIR", str(root), "DATALOADER.CACHE", cache])


def test_a_truncated_image_can_be_skipped_and_is_counted(tiny, people, tmp_path, caplog):
    root = copy_of(people, tmp_path)
    victim = sorted((root / "bounding_box_train").glob("*.jpg"))[3]
    victim.write_bytes(victim.read_bytes()[:200])
    run([*tiny, "DATASETS.ROOT_DIR", str(root), "DATASETS.CORRUPT", "skip"])
    assert "47 training images of 8 people" in caplog.text


def test_one_image_per_identity_is_enough(tiny, people, tmp_path):
    """Repetition fills the batches; the triplet loss still has positives and the run ends with a number."""
    root = copy_of(people, tmp_path)
    seen = set()
    for path in sorted((root / "bounding_box_train").glob("*.jpg")):
        if path.name[:4] in seen:
            path.unlink()
        seen.add(path.name[:4])
    assert run([*tiny, "DATASETS.ROOT_DIR", str(root)]).mAP > 0


def test_a_pretrained_file_that_does_not_exist_is_named(tiny):
    with pytest.raises(FileNotFoundError, match=r"MODEL\.PRETRAIN_PATH.*jx_vit\.pth.*MODEL\.PRETRAIN_CHOICE none"):
        run([*tiny, "MODEL.PRETRAIN_CHOICE", "imagenet", "MODEL.PRETRAIN_PATH", "jx_vit.pth"])


def test_pretrained_weights_without_a_network_are_an_error(tiny, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(timm, "create_model", offline)
    from vitreid.model.weights.pretrained import fetch_timm

    with pytest.raises(ConnectionError, match=r"vit_tiny_patch16_224.*Name or service not known.*MODEL\.PRETRAIN_PATH"):
        fetch_timm("vit_tiny_patch16_224")


def test_weights_of_another_architecture_name_the_option(tiny, tmp_path, capsys):
    run(tiny)
    weights = str(tmp_path / "run" / "best.safetensors")
    words = [
        *tiny,
        "MODEL.EMBED_DIM",
        "64",
        "MODEL.PRETRAIN_CHOICE",
        "self",
        "MODEL.PRETRAIN_PATH",
        weights,
        "OUTPUT_DIR",
        str(tmp_path / "b"),
    ]
    message = error_of(train_tool, words, capsys)
    assert re.search(r"best\.safetensors.* fit the model.*MODEL\.EMBED_DIM", message, re.DOTALL)


def test_resume_with_another_model_is_refused(tiny):
    run(tiny)
    with pytest.raises(ValueError, match="--resume.*fit.*model"):
        run([*tiny, "MODEL.DEPTH", "3", "SOLVER.MAX_EPOCHS", "3"], resume="auto")


def test_resume_with_other_people_is_refused(tiny, people, tmp_path):
    """The classifier's rows would belong to others, and held-out people would be trained on."""
    words = [*tiny, "DATASETS.VAL_IDS", "3", "SOLVER.IMS_PER_BATCH", "8"]
    run(words)
    with pytest.raises(ValueError, match=r"--resume.*\b5 people.*DATASETS"):
        run([*words, "DATASETS.SPLIT_SEED", "1", "SOLVER.MAX_EPOCHS", "3"], resume="auto")


def test_resume_from_a_damaged_checkpoint_is_refused(tiny, tmp_path):
    run(tiny)
    last = tmp_path / "run" / "last.pth"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"last\.pth.*damaged"):
        run(tiny, resume="auto")


def test_resume_from_a_file_that_does_not_exist_is_refused(tiny):
    with pytest.raises(FileNotFoundError, match=r"--resume.*old\.pth.*exist"):
        run(tiny, resume="old.pth")


def test_resume_from_foreign_weights_is_refused(tiny, tmp_path):
    torch.save({"base.cls_token": torch.zeros(1)}, tmp_path / "vit.pth")
    with pytest.raises(ValueError, match=r"last\.pth of vitreid.*MODEL\.PRETRAIN_PATH"):
        run(tiny, resume=str(tmp_path / "vit.pth"))


def test_a_test_needs_weights(capsys):
    assert re.search("no weights.*--weights", error_of(test_tool, [], capsys))


def test_weights_that_do_not_exist_list_what_the_folder_holds(tiny, tmp_path, capsys):
    run(tiny)
    message = error_of(test_tool, ["--weights", str(tmp_path / "run" / "bests.safetensors")], capsys)
    assert re.search(r"bests\.safetensors.* exist.*best\.safetensors, last\.pth", message)


def test_test_with_the_folder_of_a_run(tmp_path, capsys):
    (tmp_path / "best.safetensors").touch()
    message = error_of(test_tool, ["--weights", str(tmp_path)], capsys)
    assert "is a folder; it holds best.safetensors" in message


def test_a_damaged_weight_file_is_named(tmp_path, capsys):
    (tmp_path / "best.safetensors").write_bytes(b"not safetensors")
    message = error_of(test_tool, ["--weights", str(tmp_path / "best.safetensors")], capsys)
    assert re.search(r"best\.safetensors.*damaged", message)


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"\x80\x02K\x01.", b"d\n(i1\n."], ids=["empty", "text", "pickle", "cut"]
)
def test_test_with_a_pth_file_that_is_something_else(tmp_path, capsys, content):
    """torch's unpickler raises a KeyError for a text file, and other kinds for others."""
    (tmp_path / "notes.pth").write_bytes(content)
    assert "notes.pth" in error_of(test_tool, ["--weights", str(tmp_path / "notes.pth")], capsys)


def test_foreign_weights_without_a_config(tmp_path, capsys):
    torch.save({"base.cls_token": torch.zeros(1)}, tmp_path / "vit.pth")
    assert re.search(r"vit\.pth.* config", error_of(test_tool, ["--weights", str(tmp_path / "vit.pth")], capsys))


def test_safetensors_of_another_project_need_a_config(tiny, tmp_path, capsys):
    save_file({"cls_token": torch.zeros(1)}, tmp_path / "vit.safetensors")
    words = ["--weights", str(tmp_path / "vit.safetensors")]
    assert re.search(r"vit\.safetensors.* config", error_of(test_tool, words, capsys))
    run([*tiny, "SOLVER.MAX_EPOCHS", "1"])
    words += ["--config_file", str(tmp_path / "run" / "config.yml")]
    assert re.search(r"vit\.safetensors.* fit the model", error_of(test_tool, words, capsys))


def features_file(path, **changes):
    """Write two crops of each of two people, or something wrong."""
    crops = torch.eye(4)[:2]
    values = {
        "query": crops,
        "gallery": crops,
        "q_names": ["a", "b"],
        "g_names": ["c", "d"],
        "camera_names": ("1", "2"),
    }
    labels = {"q_pids": [0, 1], "g_pids": [0, 1], "q_camids": [0, 0], "g_camids": [1, 1]}
    arrays = {name: np.array(numbers) for name, numbers in labels.items()}
    save_features(path, FeatureSet("two", "same-camera", **{**values, **arrays, **changes}))
    return ["--features", str(path)]


def test_a_features_file_that_does_not_exist_is_named(tmp_path, capsys):
    message = error_of(test_tool, ["--features", str(tmp_path / "f.safetensors")], capsys)
    assert re.search(r"--features: .*f\.safetensors.*--save-features", message)


def test_a_damaged_features_file_is_named(tmp_path, capsys):
    path = tmp_path / "f.safetensors"
    words = features_file(path)
    path.write_bytes(path.read_bytes()[:-9])
    assert re.search(r"f\.safetensors.*damaged", error_of(test_tool, words, capsys))


def test_a_model_or_foreign_tensors_are_no_features(checkpoint, tmp_path, capsys):
    assert re.search(rf"{checkpoint}.*--weights", error_of(test_tool, ["--features", str(checkpoint)], capsys))
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    message = error_of(test_tool, ["--features", str(tmp_path / "x.safetensors")], capsys)
    assert re.search(r"x\.safetensors.*features", message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gallery": torch.tensor([[1.0, 0], [float("nan"), 0]])}, "gallery.*row 1 "),
        ({"g_pids": np.array([0, 1, 1])}, r"g_pids.*\b2 .*gallery"),
        ({"q_camids": np.array([0, 7])}, "q_camids: 0 to 1 .*7"),
        ({"g_pids": np.array([5, 6])}, "none of the 2 queries"),
    ],
)
def test_features_that_cannot_be_evaluated_are_an_error(tmp_path, capsys, changes, message):
    assert re.search(message, error_of(test_tool, features_file(tmp_path / "f.safetensors", **changes), capsys))


def test_options_that_exclude_each_other_are_an_error(checkpoint, tmp_path, capsys):
    weights, features = ["--weights", str(checkpoint)], features_file(tmp_path / "f.safetensors")
    two = ["DATASETS.TEST", "('market1501', 'dukemtmc')"]
    for words, message in (
        ([*weights, *features], "--features .*--weights"),
        ([*features, "--save-features", str(tmp_path / "g.safetensors")], "features come from a file"),
        ([*weights, "--calibrate", "5"], r"--calibrate: .*\b0 .*\b0\.5"),
        ([*weights, "--calibrate", "0.1", *two], r"one data set.*DATASETS\.TEST has 2"),
        ([*weights, "--calibrate", "1e-9"], "fmr: 1e-09 "),
        ([*weights, "--output", str(tmp_path / "no" / "m.json")], "--output: .*/no .*exist"),
    ):
        assert re.search(message, error_of(test_tool, words, capsys))


def test_a_threshold_cannot_be_stored_in_last_pth(tiny, tmp_path, capsys):
    run([*tiny, "SOLVER.MAX_EPOCHS", "1"])
    words = ["--weights", str(tmp_path / "run" / "last.pth"), "--calibrate", "0.1"]
    assert re.search(r"best\.safetensors.*last\.pth", error_of(test_tool, words, capsys))


def test_a_loss_that_is_no_number_stops_with_step_terms_and_files(tiny, tmp_path):
    run([*tiny, "SOLVER.MAX_EPOCHS", "1"])
    good = (tmp_path / "run" / "last.pth").read_bytes()
    with pytest.raises(NonFiniteLoss, match=r"epoch \d+, iteration \d+: .*id .*\.jpg.*SOLVER\.BASE_LR"):
        run([*tiny, "SOLVER.BASE_LR", "1e30", "SOLVER.MAX_EPOCHS", "3"], resume="auto")
    assert (tmp_path / "run" / "last.pth").read_bytes() == good, "the last good checkpoint is intact"


def test_a_loss_that_is_looked_at_later_is_named_all_the_same(tiny, monkeypatch):
    """On a GPU the losses of many batches are read at once."""
    monkeypatch.setattr(Trainer, "_waits_for_losses", True)
    real, batches = Trainer._record, []

    def record(self, batch, loss, terms, stats):
        batches.append([Path(self.log.paths[position]).name for position in batch.index.tolist()])
        if len(batches) == 2:
            terms = {name: term * float("nan") for name, term in terms.items()}
        return real(self, batch, loss, terms, stats)

    monkeypatch.setattr(Trainer, "_record", record)
    with pytest.raises(NonFiniteLoss, match=r"epoch 1, iteration 2: id nan") as error:
        run([*tiny, "SOLVER.LOG_PERIOD", "50"])
    assert len(batches) > 2 and all(name in str(error.value) for name in batches[1])


@pytest.mark.parametrize("name", ["last.pth", "best.safetensors"])
def test_a_full_disk_is_named_and_the_earlier_checkpoint_stays(tiny, tmp_path, monkeypatch, name):
    run(tiny)
    before = (tmp_path / "run" / name).read_bytes()
    real = os.replace

    def full(source, target):
        if str(target).endswith(name):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=f"{name}.*No space left on device"):
        run([*tiny, "SOLVER.MAX_EPOCHS", "3"], resume="auto")
    assert (tmp_path / "run" / name).read_bytes() == before
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_a_write_that_dies_halfway_leaves_the_earlier_checkpoint(tiny, tmp_path, monkeypatch):
    """As kill -9 in the middle of torch.save: bytes of the new file are on disk, the old one is what loads."""
    run(tiny)

    def die(state, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", die)
    with pytest.raises(KeyboardInterrupt):
        run([*tiny, "SOLVER.MAX_EPOCHS", "3"], resume="auto")
    assert torch.load(tmp_path / "run" / "last.pth", weights_only=True)["epoch"] == 2


def test_images_of_strange_kinds_are_read(tiny, people, tmp_path, caplog):
    """Grey, 16-bit and transparent files become RGB like any other."""
    root = copy_of(people, tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 32, 4), np.uint8)
    folder = root / "bounding_box_train"
    cv2.imwrite(str(folder / "0900_c1s1_000001_00.png"), pixels[..., 0])
    cv2.imwrite(str(folder / "0900_c2s1_000002_00.PNG"), pixels)
    cv2.imwrite(str(folder / "0900_c3s1_000003_00.png"), pixels[..., :3].astype(np.uint16) * 257)
    run([*tiny, "DATASETS.ROOT_DIR", str(root), "SOLVER.MAX_EPOCHS", "1"])
    assert "51 training images of 9 people" in caplog.text


def test_a_port_that_does_not_exist(capsys):
    assert "--port: a number from 0 to 65535, got 99999" in error_of(
        serve_tool, ["--gallery", "g", "--weights", "w.safetensors", "--port", "99999"], capsys
    )


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("photo.jpg", b"\xff\xd8\xff\xe0" + bytes(99), "a JPEG picture"),
        ("photo", b"\x89PNG\r\n" + bytes(99), "a PNG picture"),
        ("walk.mp4", bytes(4) + b"ftypisom" + bytes(99), "a video"),
        ("vit_base.yml", b"MODEL:\n  NAME: vit", "a recipe"),
        ("people.csv", b"path,pid", "a CSV file"),
    ],
)
def test_a_picture_or_text_in_the_place_of_weights_is_named(tmp_path, capsys, name, content, kind):
    (tmp_path / name).write_bytes(content)
    message = error_of(test_tool, ["--weights", str(tmp_path / name)], capsys)
    assert f"{name} is {kind}" in message and "best.safetensors" in message


def test_a_run_needs_a_folder(tiny, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = error_of(train_tool, [*tiny, "OUTPUT_DIR", ""], capsys)
    assert "OUTPUT_DIR: empty" in message and not list(tmp_path.iterdir())


def test_a_batch_below_one_identity_has_one_remedy(tiny, capsys):
    message = error_of(train_tool, [*tiny, "SOLVER.IMS_PER_BATCH", "3"], capsys)
    assert message.rstrip().endswith("take 4")


@pytest.mark.parametrize("rest", ['{"epoch": 2, "loss"', '{"a": {"b": 1}', "\x00\x00", "7"])
def test_a_broken_last_line_of_the_metrics_does_not_stop_a_resume(tiny, tmp_path, rest):
    """A killed process, or a disk that lost power, leaves any bytes at the end of metrics.jsonl."""
    run([*tiny, "SOLVER.MAX_EPOCHS", "1"])
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + rest)
    run(tiny, resume="auto")
    assert [json.loads(line)["epoch"] for line in metrics.read_text().splitlines()] == [1, 2]
