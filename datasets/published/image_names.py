"""Published data sets whose file names are their labels: files -> labels -> records."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..readers.image_files import list_images, walk_images
from ..records import Record, ReidData
from .published_dataset import PublishedDataset, check_counts, find_folder, find_part

log = logging.getLogger(__name__)


class LabelledImage(NamedTuple):
    """An image file, or the frames of a tracklet, and its labels as the data set writes them; "" = unknown."""

    path: str
    pid: int
    camera: str
    clothes: str = ""
    view: str = ""
    tracklet: str = ""
    frames: tuple[str, ...] = ()


def load_named(root: str | Path, published: PublishedDataset) -> ReidData:
    """Read a data set with a folder each for train, query and gallery, and images named as its `pattern` says.

    The training folder may be missing; evaluation does not need it.

    Raises:
        FileNotFoundError: the folder is missing, or one of its parts holds no image.
    """
    folder = find_folder(root, published, published.subsets[1:])
    places = [find_part(folder, subset) for subset in published.subsets]
    read = [read_images(place, published) if place else ([], ()) for place in places]
    (train, query, gallery), left_out = (part for part, _ in read), (path for _, others in read for path in others)
    return build_records(published, train, query, gallery, left_out)


def read_images(
    folder: Path, published: PublishedDataset, pattern: str = "", **shared: str
) -> tuple[list[LabelledImage], tuple[str, ...]]:
    """Return the labels of the images in a folder, and the images with other names, which are left out.

    Args:
        pattern: regular expression of the file's path within `folder`, from its start; its groups are fields of `LabelledImage`, of the
            pid only the digits count, and case is ignored; "" = the data set's.
        shared: labels that all images share.
    Raises:
        FileNotFoundError: no image has such a name.
    """
    files = sorted(walk_images(folder)) if published.is_nested else [str(path) for path in list_images(folder)]
    finder = re.compile(pattern or published.pattern, re.IGNORECASE)
    found, others = [], []
    for path in files:
        if match := finder.match(Path(path).relative_to(folder).as_posix()):
            fields: dict[str, Any] = {**shared, **{name: text for name, text in match.groupdict().items() if text}}
            pid = re.sub(r"\D", "", fields.pop("pid"))
            found.append(LabelledImage(path, int(pid), **fields))
        else:
            others.append(path)
    if others:
        log.warning("%s: %d files left out that have other names, first %s", folder, len(others), Path(others[0]).name)
    if not found:
        raise FileNotFoundError(
            f"{folder}: no image of {published.name} found among {len(files)} image files. Expected: {published.expected}"
        )
    return found, tuple(others)


def build_records(
    published: PublishedDataset,
    train: Sequence[LabelledImage],
    query: Sequence[LabelledImage],
    gallery: Sequence[LabelledImage],
    left_out: Iterable[str] = (),
) -> ReidData:
    """Return the data set, with a warning if its counts differ from the publication.

    Cameras and views are numbered in the order of their names, 2 before 10; clothes and tracklets in that of the identities.
    """
    every = [one for part in (train, query, gallery) for one in part]
    cameras = _rows(one.camera for one in every)
    views = _rows(published.views.values() or (one.view for one in every))
    clothes, tracklets = (_per_person(every, name) for name in ("clothes", "tracklet"))

    def records(part: Sequence[LabelledImage]) -> list[Record]:
        return [
            Record(
                one.path,
                one.pid,
                cameras[one.camera],
                views.get(published.views.get(one.camera, one.view), -1),
                tracklets.get((one.pid, one.tracklet), -1),
                clothes.get((one.pid, one.clothes), -1),
                one.frames,
            )
            for one in part
        ]

    data = ReidData(
        published.name,
        records(train),
        records(query),
        records(gallery),
        tuple(f"{published.family}/c{name}" if name.isdigit() else f"{published.family}/{name}" for name in cameras),
        tuple(f"{published.family}/{name}" for name in views),
        left_out=tuple(left_out),
        settings=published.settings,
        places={f"{published.family}/c{camera}": place for camera, place in published.places.items()},
    )
    return check_counts(data, published)


def _rows(names: Iterable[str]) -> dict[str, int]:
    """Return name -> row, of numbers and of names with numbers in their order."""
    parts = {
        name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)] for name in names if name
    }
    return {name: row for row, name in enumerate(sorted(parts, key=lambda name: parts[name]))}


def _per_person(images: Sequence[LabelledImage], label: str) -> dict[tuple[int, str], int]:
    """Return (pid, label) -> number, for the images that have the label."""
    found = {(image.pid, getattr(image, label)) for image in images if getattr(image, label)}
    return {key: number for number, key in enumerate(sorted(found))}
