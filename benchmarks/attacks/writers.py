"""Everything of vitreid that writes files: its write, and what must hold of the files at any moment, killed or not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch

from vitreid.benchmarks.attacks.gallery_writers import GALLERY_WRITERS, Broken, Writer, looked, nothing
from vitreid.benchmarks.attacks.people_writers import PEOPLE_WRITERS
from vitreid.benchmarks.attacks.stranger_files import SAVED
from vitreid.configs import load_config
from vitreid.datasets.synthetic.dataset import SyntheticPlan, load_synthetic
from vitreid.deploy import ExportRequest, export_model
from vitreid.model.weights.deployed import load_deploy, save_deploy
from vitreid.processor import FeatureSet, load_features, save_features
from vitreid.processor.runs.checkpoint import load_last, load_newest, rotate, save_last
from vitreid.processor.runs.run_folder import RunFolder
from vitreid.processor.training.run import train
from vitreid.report.collect import read_epochs


def _save_checkpoint(folder: Path, attempt: int) -> None:
    epoch = 1
    with suppress(FileNotFoundError):
        epoch = load_newest(folder / "last.pth")["epoch"] + 1
    save_last(folder / "last.pth", {"epoch": epoch, "trainer": {"module": torch.full((200, 100), float(epoch))}})
    rotate(folder / "last.pth", epoch, 3)


def _look_checkpoint(folder: Path) -> None:
    for path in [folder / "last.pth", *folder.glob("last_epoch_*.pth")]:
        with suppress(FileNotFoundError):  # rotated away
            state = load_last(path)
            if not (state["trainer"]["module"] == state["epoch"]).all():
                raise Broken(f"{path.name} mixes two epochs")


def _features(value: float) -> FeatureSet:
    rows, pids, names = torch.full((50, 8), value), np.arange(50), [f"{number}.jpg" for number in range(50)]
    return FeatureSet(
        "market1501", "same-camera", rows, rows, pids, pids, pids * 0, pids * 0 + 1, names, names, ("c1", "c2")
    )


def _save_features(folder: Path, attempt: int) -> None:
    save_features(folder / "features.safetensors", _features(1.0 + attempt))


def _look_features(folder: Path) -> None:
    found = load_features(folder / "features.safetensors")
    if len(set(found.query.unique().tolist())) != 1:
        raise Broken("features of two writes")


def _save_weights(folder: Path, attempt: int) -> None:
    model, meta = load_deploy(SAVED / "run" / "best.safetensors")
    save_deploy(folder / "best.safetensors", model, {**meta, "attempt": attempt})


def _look_weights(folder: Path) -> None:
    load_deploy(folder / "best.safetensors")


def _prepare_weights(folder: Path) -> None:
    shutil.copy(SAVED / "run" / "best.safetensors", folder)


def _export_model(folder: Path, attempt: int) -> None:
    output = str(folder / "model.ts")
    request = ExportRequest(
        str(SAVED / "run" / "best.safetensors"),
        output,
        crops=str(SAVED / "people" / "bounding_box_train"),
        num_crops=16,
        rounds=0,
        overwrite=True,
    )
    export_model(request)


def _look_exported(folder: Path) -> None:
    with suppress(FileNotFoundError):
        if not (folder / "model.ts").read_bytes().endswith(b"PK\x05\x06", 0, None) and (folder / "model.ts").exists():
            torch.jit.load(str(folder / "model.ts"))


def _write_epochs(folder: Path, attempt: int) -> None:
    run = RunFolder(folder / "run")
    try:
        run.write_config("MODEL:\n  NAME: vit_tiny_patch16_224\n")
        done = len(read_epochs(run.metrics)[0])
        run.keep_epochs(done)
        for epoch in range(done + 1, done + 12):
            run.write_epoch({"epoch": epoch, "loss": 1.0 / epoch})
    finally:
        run.close()


def _look_epochs(folder: Path) -> None:
    rows, _ = read_epochs(folder / "run" / "metrics.jsonl")
    if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)) or any(
        row["loss"] != 1.0 / row["epoch"] for row in rows
    ):
        raise Broken(f"epochs {[row['epoch'] for row in rows]}")


TRAINING = [
    "MODEL.NAME",
    "vit_tiny_patch16_224",
    "MODEL.PRETRAIN_CHOICE",
    "none",
    "MODEL.DEVICE",
    "cpu",
    "MODEL.EMBED_DIM",
    "16",
    "MODEL.DEPTH",
    "2",
    "MODEL.NUM_HEADS",
    "2",
    "MODEL.DROP_PATH",
    "0.0",
    "INPUT.SIZE_TRAIN",
    "(64,32)",
    "INPUT.SIZE_TEST",
    "(64,32)",
    "INPUT.PADDING",
    "2",
    "SOLVER.IMS_PER_BATCH",
    "8",
    "SOLVER.MAX_EPOCHS",
    "3",
    "SOLVER.WARMUP_EPOCHS",
    "0",
    "SOLVER.EVAL_PERIOD",
    "1",
    "SOLVER.PRECISION",
    "fp32",
    "SOLVER.KEEP_LAST",
    "2",
    "DATALOADER.NUM_WORKERS",
    "1",
    "DATALOADER.CACHE",
    "off",
    "DATASETS.NAMES",
    "market1501",
]


def _train(folder: Path, attempt: int) -> None:
    words = [*TRAINING, "DATASETS.ROOT_DIR", str(SAVED / "people"), "OUTPUT_DIR", str(folder / "run")]
    train(load_config(None, words), resume="auto")


def _look_run(folder: Path) -> None:
    run = folder / "run"
    with suppress(FileNotFoundError):
        load_last(run / "last.pth")
    with suppress(FileNotFoundError):
        load_deploy(run / "best.safetensors")
    rows, _ = read_epochs(run / "metrics.jsonl")
    if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
        raise Broken(f"epochs {[row['epoch'] for row in rows]}")


PLAN = SyntheticPlan(
    num_train_ids=2, num_test_ids=2, num_distractors=1, num_cameras=2, images_per_camera=2, size=(32, 16)
)


def _draw(folder: Path, attempt: int) -> None:
    load_synthetic(folder, PLAN)


def _look_drawn(folder: Path) -> None:
    place = folder / "synthetic"
    if (place / "synthetic.json").exists():
        marker = json.loads((place / "synthetic.json").read_text())
        if missing := [name for name in marker["files"] if not (place / name).is_file()]:
            raise Broken(f"{missing[0]} is missing")


def _file_writer(
    write: Callable[[Path, int], object],
    look: Callable[[Path], object],
    left: set[str],
    prepare: Callable[[Path], object] | None = None,
) -> Writer:
    return Writer(prepare or partial(_write_first, write), write, looked(look), look, None, frozenset(left))


def _write_first(write: Callable[[Path, int], object], folder: Path) -> None:
    write(folder, 0)


WRITERS: dict[str, Writer] = {
    **GALLERY_WRITERS,
    **PEOPLE_WRITERS,
    "checkpoint": _file_writer(_save_checkpoint, _look_checkpoint, set()),
    "features": _file_writer(_save_features, _look_features, {"features.safetensors"}),
    "weights": _file_writer(_save_weights, _look_weights, {"best.safetensors"}, _prepare_weights),
    "export-model": _file_writer(_export_model, _look_exported, {"model.ts"}, nothing),
    "run folder": _file_writer(_write_epochs, _look_epochs, {"run"}, nothing),
    "train": _file_writer(_train, _look_run, {"run"}, nothing),
    "synthetic people": _file_writer(_draw, _look_drawn, {"synthetic"}, nothing),
}
