"""Unpack CUHK03 as its authors give it out: `cuhk-03.mat` [Li et al., CVPR 2014] -> images and the splits of its first protocol.

The names of the images and the lists of splits are those of torchreid (Zhou and Xiang, arXiv:1910.10093), which other projects
read too. The file has the cell arrays `labeled` and `detected`, a cell for each of five camera pairs: a cell array of people x 10
images, five of each view, some cells empty; and `testsets`, 20 lists of (camera pair, person) who are for testing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np

from ....common.errors import UserError
from ....common.inputs.hdf5_file import Cell, read_cells
from ....common.pictures import encode
from ....common.replace_folder import scratch_folder
from ..published_dataset import PublishedDataset, find_folder, find_part

KINDS = ("labeled", "detected")
IMAGES, SPLITS = ([name.format(kind) for kind in KINDS] for name in ("images_{}", "splits_classic_{}.json"))
ARCHIVES = ("cuhk03_release/cuhk-03.mat", "cuhk-03.mat")  # in the data set's folder
FOLDERS = ("cuhk03", "CUHK03", "cuhk03-np")
IMAGES_OF_A_VIEW = 5
MOST_PIXELS = 2**22  # of an image; those of CUHK03 have some ten thousand
_ARCHIVE = PublishedDataset(
    "cuhk03",
    FOLDERS,
    "the archive cuhk03_release/cuhk-03.mat, or cuhk-03.mat",
    "http://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html",
)
Person = tuple[int, int]  # camera pair and number, from 1


def find_archive(root: str | Path) -> tuple[Path, Path] | None:
    """Return CUHK03's folder in `root` and the archive in it; None if there is none."""
    for name in ARCHIVES:
        with suppress(FileNotFoundError):
            folder = find_folder(root, _ARCHIVE, (name,))
            return folder, find_part(folder, name) or folder
    return None


def not_unpacked(root: str | Path, images: str) -> str:
    """Return the end of an error's message if the archive is there and the folder `images` is not; "" otherwise."""
    found = find_archive(root)
    if found is None or find_part(found[0], images):
        return ""
    return f"; {found[1]} is there, but not unpacked: run `vitreid datasets --unpack cuhk03 {root}`"


def unpack_cuhk03(root: str | Path) -> str:
    """Unpack the archive in `root` or its folder cuhk03, and return what was written, a line each.

    Writes, next to the archive's folder, `images_labeled`, `images_detected` and the lists of the 20 splits, all or nothing:
    what a stopped run has made is deleted by the next.

    Raises:
        FileNotFoundError: there is no archive.
        FileExistsError: a part is there already; nothing is replaced.
        MissingPackageError: h5py, which reads the archive, is not installed.
        UserError: the archive is damaged, or holds something else.
        BlockingIOError: another process is unpacking it.
    """
    found = find_archive(root)
    if found is None:
        find_folder(root, _ARCHIVE, ARCHIVES)  # raises the error that says what is there
        raise FileNotFoundError(f"{root}: there is no {ARCHIVES[0]}")
    folder, archive = found
    for name in (*IMAGES, *SPLITS):
        if os.path.lexists(folder / name):
            raise FileExistsError(f"{folder / name} exists, and nothing is replaced; move it away to unpack {archive}")
    with scratch_folder(folder / archive.name) as scratch:
        people, tests = _write_images(archive, scratch)
        for kind, images, splits in zip(KINDS, IMAGES, SPLITS, strict=True):
            made = [_split(images, people[kind], test) for test in tests]
            (scratch / splits).write_text(json.dumps(made), encoding="utf-8")
        _move_all(scratch, folder)
    counts = [(sum(map(len, people[kind].values())), len(people[kind])) for kind in KINDS]
    lines = [f"{folder / name}: {count:,} images of {number:,} people" for name, (count, number) in zip(IMAGES, counts)]
    return "\n".join([*lines, *(f"{folder / name}: {len(tests)} splits" for name in SPLITS)])


def _move_all(source: Path, target: Path) -> None:
    """Move what was made to its place; an error moves all of it back."""
    with ExitStack() as undo:
        for name in (*IMAGES, *SPLITS):
            (source / name).rename(target / name)
            undo.callback((target / name).rename, source / name)
        undo.pop_all()


def _write_images(archive: Path, scratch: Path) -> tuple[dict[str, dict[Person, list[str]]], list[set[Person]]]:
    """Write all images; return the names of each person's, by kind, and the people for testing of each split.

    Raises:
        UserError: a cell holds something else, or there are no images or splits of a kind.
    """
    people: dict[str, dict[Person, list[str]]] = {kind: {} for kind in KINDS}
    tests: list[set[Person]] = []
    for name in IMAGES:
        (scratch / name).mkdir()
    for cell in read_cells(archive, (*KINDS, "testsets")):
        try:
            if cell.variable == "testsets":
                tests.append({(int(pair), int(person)) for pair, person in cell.values.tolist()})
            elif cell.values.ndim == 3:  # others are empty cells of another writer than MATLAB
                person, name = _name(cell)
                people[cell.variable].setdefault(person, []).append(name)
                (scratch / f"images_{cell.variable}" / name).write_bytes(encode(_pixels(cell.values)))
        except (ValueError, TypeError, OverflowError) as error:
            about = f"{cell.variable}{cell.way} holds {cell.values.dtype} {cell.values.shape}"
            raise UserError(f"{archive}: {about}, which is no cell of CUHK03 ({error}); download it again") from error
    if not all(people.values()) or not tests:
        raise UserError(f"{archive}: expected images in {' and '.join(KINDS)} and lists in testsets; download it again")
    return people, tests


def _name(cell: Cell) -> tuple[Person, str]:
    """Return whom an image shows, and its name: camera pair, person, view, number."""
    (pair, _), (person, number) = cell.way
    view = 1 if number < IMAGES_OF_A_VIEW else 2
    return (pair + 1, person + 1), f"{pair + 1}_{person + 1:03d}_{view}_{number + 1:02d}.png"


def _pixels(values: np.ndarray) -> np.ndarray:
    """Return the image, (height, width, 3) uint8 RGB, if it is one."""
    if values.dtype != np.uint8 or values.shape[2] != 3 or values.size > 3 * MOST_PIXELS:
        raise ValueError("expected an image, (height, width, 3) uint8")
    return values


def _split(folder: str, people: dict[Person, list[str]], test: set[Person]) -> dict[str, object]:
    """Return a split of the first protocol: lists of a path, a person counted from 0 and a camera counted from 0."""
    parts = ([names for who, names in people.items() if (who in test) is is_test] for is_test in (False, True))
    (train, train_people), (query, query_people) = ((_items(folder, part), len(part)) for part in map(list, parts))
    counts = {"train": (train, train_people), "query": (query, query_people), "gallery": (query, query_people)}
    return {
        **{part: items for part, (items, _) in counts.items()},
        **{f"num_{part}_pids": number for part, (_, number) in counts.items()},
        **{f"num_{part}_imgs": len(items) for part, (items, _) in counts.items()},
    }


def _items(folder: str, people: Sequence[Iterable[str]]) -> list[tuple[str, int, int]]:
    return [
        (f"{folder}/{name}", label, int(name.split("_")[2]) - 1) for label, names in enumerate(people) for name in names
    ]


UNPACKERS: dict[str, Callable[[str | Path], str]] = {"cuhk03": unpack_cuhk03}
