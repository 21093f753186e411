"""People of a gallery as training data: a CSV file that `DATASETS.NAMES manifest` reads, split by person."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ...common.errors import UserError
from ...common.files import check_output_file, write_atomically
from ...common.text import csv_cell
from ..storage.gallery import Gallery
from .decisions.decided_people import confirmed_rows
from .person_columns import is_none, read_people

BOX = ("x", "y", "width", "height")
COLUMNS = ("path", "pid", "camid", "split", "frame", *BOX)
UNKNOWN = "unknown"  # camera of rows without one


@dataclass(frozen=True)
class ManifestOptions:
    """Which people become training data.

    Args:
        test_share: of the people, held out for the test, between 0 and 1.
        seed: of the people held out.
        least: rows that a person needs.
        confirmed: only rows that somebody has confirmed, or decided about.
    Raises:
        UserError: a number is out of range.
    """

    test_share: float = 0.3
    seed: int = 0
    least: int = 2
    confirmed: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.test_share < 1:
            raise UserError(f"--test-share: 0 or more and below 1, got {self.test_share}")
        if self.least < 2:
            raise UserError(f"--least: a person needs 2 or more images, got {self.least}")


class ManifestCounts(NamedTuple):
    """Numbers of a manifest: people for training and test, lines per split, rows left out because their image is missing."""

    num_train_people: int
    num_test_people: int
    num_lines: dict[str, int]
    num_missing: int


def write_manifest(gallery: Gallery, path: str | Path, options: ManifestOptions = ManifestOptions()) -> ManifestCounts:
    """Write the rows with a person as a manifest.

    People are shuffled with the seed; `test_share` of those that two cameras have seen are held out (of all people, if the
    gallery has one camera). Each held-out person is queried with one image per camera, the others are the gallery. All other
    people are for training.

    Raises:
        UserError: no row has a person, or too few people have `least` images.
        FileNotFoundError: the folder of the file does not exist.
    """
    path = check_output_file("--to-manifest", path)
    lines, num_missing = _lines(gallery, path, options)
    if len({line["pid"] for line in lines}) < 2:
        raise UserError(
            f"--to-manifest: {gallery.path} has fewer than 2 people with {options.least} images or more"
            f"{' that are confirmed' * options.confirmed}; run vitreid identities first, or lower the number"
        )
    test = _held_out(lines, options)
    for line in lines:
        line["split"] = "gallery" if line["pid"] in test else "train"
    for line in _queries([line for line in lines if line["pid"] in test]):
        line["split"] = "query"
    write_atomically(path, lambda temporary: _write(temporary, lines))
    splits = [line["split"] for line in lines]
    people = {line["pid"] for line in lines}
    counts = {split: splits.count(split) for split in ("train", "query", "gallery")}
    return ManifestCounts(len(people - test), len(test), counts, num_missing)


def _lines(gallery: Gallery, path: Path, options: ManifestOptions) -> tuple[list[dict[str, Any]], int]:
    """Return a line per usable row of a person with enough of them, and the number of rows without an image."""
    people = read_people(gallery)
    chosen = ~is_none(people.names)
    if options.confirmed:
        chosen &= confirmed_rows(gallery, people)
    names = [name for name in ("path", "camera", "video", "frame", *BOX) if name in gallery.columns]
    records = gallery.select(names).filter(pa.array(gallery.is_live)).filter(pa.array(chosen)).to_pylist()
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    num_missing = 0
    for record, name in zip(records, people.names[chosen].tolist(), strict=True):
        source = _source(gallery, record)
        if source is None:
            num_missing += 1
        else:
            file, place = source
            shown = os.path.relpath(file, path.absolute().parent)
            shown = shown if csv_cell(shown) == shown else os.path.join(".", shown)
            found[name].append({"path": shown, "pid": name, "camid": record["camera"] or UNKNOWN, "split": "", **place})
    return [line for lines in found.values() if len(lines) >= options.least for line in lines], num_missing


def _source(gallery: Gallery, record: dict[str, Any]) -> tuple[Path, dict[str, Any]] | None:
    """Return the file of a row's image, with frame and box if it must be cut out; None if there is no such file."""
    box = {name: record.get(name) for name in BOX}
    has_box = all(value is not None for value in box.values())
    file = gallery.image_path(record["path"])
    if file.is_file():
        is_whole = has_box and record.get("frame") is None
        return file, box if is_whole else {}
    video = gallery.image_path(record["video"]) if record.get("video") else None
    if video is not None and video.is_file() and has_box and record.get("frame") is not None:
        return video, {"frame": record["frame"], **box}
    return None


def _held_out(lines: Sequence[dict[str, Any]], options: ManifestOptions) -> set[str]:
    """Return the people of the test."""
    cameras: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        cameras[line["pid"]].add(line["camid"])
    one_camera = len(set().union(*cameras.values())) == 1
    able = sorted(name for name, seen in cameras.items() if len(seen) > 1 or one_camera)
    count = min(round(options.test_share * len(able)), len(cameras) - 1)
    return set(np.random.default_rng(options.seed).permutation(able)[:count].tolist())


def _queries(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first line of each person and camera; with one camera all others are the gallery."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        first.setdefault((line["pid"], line["camid"]), line)
    sizes: dict[str, int] = defaultdict(int)
    for line in lines:
        sizes[line["pid"]] += 1
    found: list[dict[str, Any]] = []
    taken: dict[str, int] = defaultdict(int)
    for (name, _), line in first.items():
        if taken[name] + 1 < sizes[name]:  # at least one image remains to be found
            taken[name] += 1
            found.append(line)
    return found


def _write(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    names = [name for name in COLUMNS if name in COLUMNS[:4] or any(line.get(name) is not None for line in lines)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({name: csv_cell(line.get(name)) for name in names} for line in lines)
