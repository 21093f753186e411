"""Everything of vitreid that writes files: its write, and what must hold of the files at any moment, killed or not.

A row of the galleries here has a key, from which its embedding is computed, so that a row with another record, or with a part of
another embedding, is noticed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitreid.benchmarks.attacks.stranger_files import SAVED
from vitreid.common.errors import UserError
from vitreid.common.inputs.archives import read_arrays
from vitreid.configs import load_config
from vitreid.datasets.synthetic.dataset import SyntheticPlan, load_synthetic
from vitreid.deploy import ExportRequest, export_model
from vitreid.gallery import Gallery, GalleryInfo, compact, export_as, fit_pca, merge, pool_tracklets, to_int8, verify
from vitreid.gallery.export.export_job import export
from vitreid.model.weights.deployed import load_deploy, save_deploy
from vitreid.processor import FeatureSet, load_features, save_features
from vitreid.processor.runs.checkpoint import load_last, load_newest, rotate, save_last
from vitreid.processor.runs.run_folder import RunFolder
from vitreid.processor.training.run import train
from vitreid.report.collect import read_epochs

MODEL, WIDTH = "sha256:of-the-benchmark", 16
FIRST, BATCH = 60, 30  # rows at the start, rows of each addition
G = "G"  # name of the output


class Broken(Exception):
    """Something is lost, half-written or left behind."""


@dataclass(frozen=True)
class Writer:
    """A write of vitreid.

    Args:
        prepare: makes what is there before, in an empty folder.
        write: the write, which is killed; its second argument counts the attempts.
        check: raises Broken unless the folder is sound after a kill and without a second writer; given what was added beside.
        beside: one write of the second writer; returns the keys of the rows that it has added.
        look: one look of the reader, at any moment; raises Broken.
        left: names in the folder once a write was finished.
        shared: whether rows added beside must still be there; a write that replaces the whole gallery may replace them.
    """

    prepare: Callable[[Path], object]
    write: Callable[[Path, int], object]
    check: Callable[[Path, set[int]], object]
    look: Callable[[Path], object]
    beside: Callable[[Path, int], set[int]] | None = None
    left: frozenset[str] = field(default_factory=frozenset)
    shared: bool = True


# ---- galleries


def rows_of(keys: np.ndarray) -> np.ndarray:
    """Return the embeddings (n, WIDTH) of some keys (n,)."""
    rows = np.stack([np.random.default_rng(int(key)).normal(size=WIDTH) for key in keys]).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def add(folder: Path, keys: np.ndarray) -> None:
    """Add the rows of some keys to the gallery in the folder."""
    records = [
        {
            "path": f"{key}.jpg",
            "pid": str(key // 8),
            "camera": f"c{key // 4 % 3}",
            "tracklet": f"t{key // 4}",
            "key": int(key),
        }
        for key in keys
    ]
    Gallery.open(folder).add(rows_of(keys), records, MODEL)


def make(folder: Path, first: int = 0, count: int = FIRST) -> None:
    """Make a gallery of the keys from `first`."""
    Gallery.create(folder, GalleryInfo(MODEL, WIDTH, embed={"normalize": True}))
    add(folder, np.arange(first, first + count))


def keys_in(folder: Path) -> set[int]:
    """Return the keys of the live rows; raise Broken if a row does not belong to its record."""
    gallery = Gallery.open(folder)
    table = gallery.select(["id", "key"])
    live = gallery.is_live
    keys = table["key"].to_numpy()[live]
    found = gallery.vectors(np.flatnonzero(live))
    if len(keys) != len(set(keys.tolist())):
        raise Broken(f"{len(keys)} rows of {len(set(keys.tolist()))} keys")
    if not np.array_equal(found, rows_of(keys)):
        raise Broken("an embedding is not that of its record")
    return set(keys.tolist())


def check_sound(folder: Path) -> None:
    """Raise Broken unless the gallery's own check finds nothing."""
    if problems := verify(folder, images=False):
        raise Broken("; ".join(map(str, problems)))


def check_keys(folder: Path, added: set[int], batches: list[range], gone: set[int] = frozenset()) -> None:  # type: ignore[assignment]
    """Raise Broken if a row is lost, or a batch is there in part.

    Args:
        added: keys that the second writer has added.
        batches: those that the killed writer may have added, each completely or not at all; `gone`: may have removed.
    """
    check_sound(folder / G)
    found = keys_in(folder / G)
    expected = set(range(FIRST)) | added
    if lost := expected - found - gone:
        raise Broken(f"{len(lost)} rows are lost, such as {min(lost)}")
    if gone and len(gone & found) not in (0, len(gone)):
        raise Broken(f"{len(gone & found)} of {len(gone)} rows are removed")
    for batch in batches:
        if len(set(batch) & found) not in (0, len(batch)):
            raise Broken(f"{len(set(batch) & found)} rows of {len(batch)} were added")
    others = found - expected - {key for batch in batches for key in batch}
    if any(key < BESIDE for key in others):  # the second writer may have been stopped between its write and its note
        raise Broken(f"rows from nowhere, such as {min(others)}")


BESIDE = 10_000  # keys of the second writer start here


def add_beside(folder: Path, number: int) -> set[int]:
    """Add two rows, unless another process is writing."""
    keys = np.arange(BESIDE + 2 * number, BESIDE + 2 * number + 2)
    try:
        add(folder / G, keys)
    except (BlockingIOError, FileNotFoundError):
        return set()
    except UserError as error:
        if "another model" in str(error) or "mixed" in str(error) or "key" in str(error):
            return set()
        raise
    return set(keys.tolist())


def _batch(attempt: int, first: int = 1000) -> range:
    return range(first + BATCH * attempt, first + BATCH * (attempt + 1))


def _batches(first: int = 1000) -> list[range]:
    return [_batch(attempt, first) for attempt in range(9)]


def _add(folder: Path, attempt: int) -> None:
    add(folder / G, np.array(_batch(attempt)))


def _remove(folder: Path, attempt: int) -> None:
    gallery = Gallery.open(folder / G)
    ids = [one for one in range(10) if one in set(gallery.ids[gallery.is_live].tolist())]
    gallery.remove(ids)


def _compact(folder: Path, attempt: int) -> None:
    gallery = Gallery.open(folder / G)
    compact(gallery)


def _prepare_compact(folder: Path) -> None:
    make(folder / G)
    Gallery.open(folder / G).remove(list(range(10)))


def _update(folder: Path, attempt: int) -> None:
    Gallery.open(folder / G).update(list(range(20)), {"pid": f"x{attempt}"})


def _check_update(folder: Path, added: set[int]) -> None:
    check_keys(folder, added, [])
    pids = Gallery.open(folder / G).select(["pid"])["pid"].to_pylist()[:20]
    if len({pid if pid.startswith("x") else "" for pid in pids}) != 1:
        raise Broken("some rows were updated, others not")


def _prepare_merge(folder: Path) -> None:
    make(folder / G)
    for number, first in enumerate((3000, 4000)):
        make(folder / f"S{number}", first, 9 * BATCH)


def _merge(folder: Path, attempt: int) -> None:
    for number in range(2):  # sources that no attempt has merged
        shutil.rmtree(folder / f"S{number}", ignore_errors=True)
        make(folder / f"S{number}", _batch(attempt, (3000, 4000)[number]).start, BATCH)
    merge(Gallery.open(folder / G), [folder / "S0", folder / "S1"])


# ---- galleries that replace others


def _prepare_derived(folder: Path) -> None:
    make(folder / "source")
    make(folder / G)


def _pool(folder: Path, attempt: int) -> None:
    pool_tracklets(Gallery.open(folder / "source"), folder / G, overwrite=True)


def _to_int8(folder: Path, attempt: int) -> None:
    to_int8(Gallery.open(folder / "source"), folder / G, overwrite=True)


def _pca(folder: Path, attempt: int) -> None:
    fit_pca(Gallery.open(folder / "source"), folder / G, 8, overwrite=True)


def _check_replaced(folder: Path, added: set[int]) -> None:
    check_sound(folder / G)
    _look_replaced(folder)


def _look_replaced(folder: Path) -> None:
    """Open and read everything; the rows of the earlier gallery, or those of a complete new one."""
    gallery = Gallery.open(folder / G)
    rows = gallery.vectors(np.flatnonzero(gallery.is_live))
    table = gallery.records
    if len(table) != gallery.state.count or not np.isfinite(rows).all():
        raise Broken(f"{len(table)} records of {gallery.state.count} rows")
    if (
        len(table) >= FIRST
        and gallery.info.model == MODEL
        and gallery.info.projection is None
        and gallery.info.dtype == "float32"
    ):
        keys = table["key"].to_numpy()[gallery.is_live]  # the earlier gallery
        if not np.array_equal(rows, rows_of(keys)):
            raise Broken("an embedding is not that of its record")
    if len(table) < FIRST // 4:
        raise Broken(f"{len(table)} rows only")


def _export(folder: Path, attempt: int) -> None:
    export(
        SAVED / "calibrated" / "best.safetensors",
        str(SAVED / "people" / "bounding_box_test"),
        folder / G,
        device="cpu",
        precision="fp32",
        batch_size=4,
    )


def _export_over(folder: Path, attempt: int) -> None:
    source = SAVED / "people" / ("bounding_box_test", "bounding_box_train")[attempt % 2]
    export(
        SAVED / "calibrated" / "best.safetensors",
        str(source),
        folder / G,
        device="cpu",
        precision="fp32",
        overwrite=True,
    )


def _look_export(folder: Path) -> None:
    with suppress(FileNotFoundError):
        gallery = Gallery.open(folder / G)
        if len(gallery.vectors(np.arange(len(gallery)))) != len(gallery.records):
            raise Broken("rows without records")


def _check_export(folder: Path, added: set[int]) -> None:
    if (folder / G / "gallery.json").exists():
        check_sound(folder / G)


def _convert(folder: Path, attempt: int) -> None:
    export_as(Gallery.open(folder / "source"), folder / "G.npz", "npz")


def _look_npz(folder: Path) -> None:
    with suppress(FileNotFoundError):
        arrays = read_arrays(folder / "G.npz", "biufcU")
        if not np.array_equal(arrays["embeddings"], rows_of(arrays["key"])):
            raise Broken("an embedding is not that of its record")


# ---- models, runs, data


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


def _nothing(folder: Path) -> None:
    pass


def _looked(look: Callable[[Path], object]) -> Callable[[Path, set[int]], None]:
    return lambda folder, _: (look(folder), None)[1]


def _gallery_writer(
    write: Callable[[Path, int], object], check: Any, prepare: Any = None, left: tuple[str, ...] = ()
) -> Writer:
    return Writer(
        prepare or (lambda folder: make(folder / G)),
        write,
        check,
        lambda folder: keys_in(folder / G),
        add_beside,
        frozenset({G, *left}),
    )


def _replacing(write: Callable[[Path, int], object]) -> Writer:
    return Writer(
        _prepare_derived, write, _check_replaced, _look_replaced, add_beside, frozenset({G, "source"}), shared=False
    )


def _file_writer(
    write: Callable[[Path, int], object],
    look: Callable[[Path], object],
    left: set[str],
    prepare: Callable[[Path], object] | None = None,
) -> Writer:
    return Writer(prepare or partial(_write_first, write), write, _looked(look), look, None, frozenset(left))


def _write_first(write: Callable[[Path, int], object], folder: Path) -> None:
    write(folder, 0)


WRITERS: dict[str, Writer] = {
    "gallery add": _gallery_writer(_add, lambda folder, added: check_keys(folder, added, _batches())),
    "gallery remove": _gallery_writer(_remove, lambda folder, added: check_keys(folder, added, [], set(range(10)))),
    "gallery update": _gallery_writer(_update, _check_update),
    "gallery compact": _gallery_writer(
        _compact, lambda folder, added: check_keys(folder, added, [], set(range(10))), _prepare_compact
    ),
    "gallery merge": _gallery_writer(
        _merge,
        lambda folder, added: check_keys(folder, added, [*_batches(3000), *_batches(4000)]),
        _prepare_merge,
        ("S0", "S1"),
    ),
    "gallery pool": _replacing(_pool),
    "gallery compress --int8": _replacing(_to_int8),
    "gallery compress --dim": _replacing(_pca),
    "gallery convert": Writer(
        _prepare_derived, _convert, _looked(_look_npz), _look_npz, None, frozenset({G, "G.npz", "source"})
    ),
    "export": Writer(_nothing, _export, _check_export, _look_export, None, frozenset({G})),
    "export --overwrite": Writer(
        lambda folder: _export_over(folder, 1),
        _export_over,
        _check_export,
        _look_export,
        add_beside,
        frozenset({G}),
        shared=False,
    ),
    "checkpoint": _file_writer(_save_checkpoint, _look_checkpoint, set()),
    "features": _file_writer(_save_features, _look_features, {"features.safetensors"}),
    "weights": _file_writer(_save_weights, _look_weights, {"best.safetensors"}, _prepare_weights),
    "export-model": _file_writer(_export_model, _look_exported, {"model.ts"}, _nothing),
    "run folder": _file_writer(_write_epochs, _look_epochs, {"run"}, _nothing),
    "train": _file_writer(_train, _look_run, {"run"}, _nothing),
    "synthetic people": _file_writer(_draw, _look_drawn, {"synthetic"}, _nothing),
}
