"""Everything of vitreid that writes galleries: its write, and what must hold of the files at any moment, killed or not.

A row of the galleries here has a key, from which its embedding is computed, so that a row with another record, or with a part of
another embedding, is noticed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitreid.benchmarks.attacks.stranger_files import SAVED
from vitreid.common.errors import UserError
from vitreid.common.inputs.archives import read_arrays
from vitreid.gallery import Gallery, GalleryInfo, compact, export_as, fit_pca, merge, pool_tracklets, to_int8, verify
from vitreid.gallery.export.export_job import export

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
        check: raises Broken unless the folder is sound after a kill and without a second writer; given what the second writer added.
        second: one write of the second writer; returns the keys of the rows that it has added.
        look: one look of the reader, at any moment; raises Broken.
        left: names in the folder once a write was finished.
        shared: whether the rows of the second writer must still be there; a write that replaces the whole gallery may replace them.
    """

    prepare: Callable[[Path], object]
    write: Callable[[Path, int], object]
    check: Callable[[Path, set[int]], object]
    look: Callable[[Path], object]
    second: Callable[[Path, int], set[int]] | None = None
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
    if any(key < SECOND for key in others):  # the second writer may have been stopped between its write and its note
        raise Broken(f"rows from nowhere, such as {min(others)}")


SECOND = 10_000  # keys of the second writer start here


def add_as_second(folder: Path, number: int) -> set[int]:
    """Add two rows, unless another process is writing."""
    keys = np.arange(SECOND + 2 * number, SECOND + 2 * number + 2)
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


def _export_from(folder: Path, part: str, **options: Any) -> None:
    """Export a part of the saved people to the gallery of the folder."""
    weights = SAVED / "calibrated" / "best.safetensors"
    export(weights, str(SAVED / "people" / part), folder / G, device="cpu", precision="fp32", **options)


def _export(folder: Path, attempt: int) -> None:
    _export_from(folder, "bounding_box_test", batch_size=4)


def _export_over(folder: Path, attempt: int) -> None:
    _export_from(folder, ("bounding_box_test", "bounding_box_train")[attempt % 2], overwrite=True)


def _export_onto(folder: Path, attempt: int) -> None:
    _export_from(folder, "bounding_box_train", batch_size=4)


def _prepare_onto(folder: Path) -> None:
    _export(folder, 0)
    Gallery.open(folder / G).remove([0, 1])


def _check_onto(folder: Path, added: set[int]) -> None:
    check_sound(folder / G)
    gallery = Gallery.open(folder / G)
    counts = [
        len(list((SAVED / "people" / name).glob("*.jpg"))) for name in ("bounding_box_test", "bounding_box_train")
    ]
    if len(gallery) not in (counts[0] - 2, sum(counts) - 2):
        raise Broken(f"{len(gallery)} rows of {counts[0]} and {counts[1]}, of which 2 were removed")
    if gallery.state.suppressed != 2:
        raise Broken("the list of removed rows has changed")


def _look_export(folder: Path) -> None:
    with suppress(FileNotFoundError):
        gallery = Gallery.open(folder / G)
        if len(gallery.vectors(np.arange(gallery.state.count))) != len(gallery.records):
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


def nothing(folder: Path) -> None:
    """Prepare nothing."""


def looked(look: Callable[[Path], object]) -> Callable[[Path, set[int]], None]:
    """Return a check that is one look."""
    return lambda folder, _: (look(folder), None)[1]


def _gallery_writer(
    write: Callable[[Path, int], object], check: Any, prepare: Any = None, left: tuple[str, ...] = ()
) -> Writer:
    return Writer(
        prepare or (lambda folder: make(folder / G)),
        write,
        check,
        lambda folder: keys_in(folder / G),
        add_as_second,
        frozenset({G, *left}),
    )


def _replacing(write: Callable[[Path, int], object]) -> Writer:
    return Writer(
        _prepare_derived, write, _check_replaced, _look_replaced, add_as_second, frozenset({G, "source"}), shared=False
    )


GALLERY_WRITERS: dict[str, Writer] = {
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
        _prepare_derived, _convert, looked(_look_npz), _look_npz, None, frozenset({G, "G.npz", "source"})
    ),
    "export": Writer(nothing, _export, _check_export, _look_export, None, frozenset({G})),
    "export onto a gallery": Writer(_prepare_onto, _export_onto, _check_onto, _look_export, None, frozenset({G})),
    "export --overwrite": Writer(
        lambda folder: _export_over(folder, 1),
        _export_over,
        _check_export,
        _look_export,
        add_as_second,
        frozenset({G}),
        shared=False,
    ),
}
