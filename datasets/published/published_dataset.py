"""Published data sets: finding the folder, naming cameras, comparing counts with the publication."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...labels.setting import Setting
from ..records import Record, ReidData

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedDataset:
    """Layout and published size of a data set.

    Args:
        name: as in DATASETS.NAMES.
        folders: accepted names of its folder; case, dots, dashes and underscores are ignored.
        expected: description of its layout, for errors.
        source: web page of the data set.
        counts: items in train, query and gallery; None = not published, or not confirmed.
        people: identities in train and query.
        cameras: number of cameras.
        subsets: names of the folders or lists of train, query and gallery; case is ignored.
        settings: as in `ReidData`; empty = the field's usual one.
        pattern: regular expression of the images' names, for `load_named`; see `read_images`.
        is_nested: whether the images lie in folders below those of `subsets`.
        views: camera -> view, as in the images' names.
        places: camera -> where it stands, if other cameras stand there too.
        prefix: the name of the data set that this is a split of, which the names of cameras and views start with; "" = its own.
        items: what a record is: "images", or "tracklets" of a data set of video.
        frame_rate: frames per second of the recordings whose frame numbers its images' names have; 0 = they have none.
    """

    name: str
    folders: tuple[str, ...]
    expected: str
    source: str
    counts: tuple[int | None, int | None, int | None] | None = None
    people: tuple[int | None, int | None] | None = None
    cameras: int | None = None
    subsets: tuple[str, str, str] = ("bounding_box_train", "query", "bounding_box_test")
    settings: tuple[Setting, ...] = ()
    pattern: str = ""
    is_nested: bool = False
    views: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    items: str = "images"
    frame_rate: float = 0.0

    @property
    def family(self) -> str:
        """The name of the data set that this is a split of; its own if it is none."""
        return self.prefix or self.name


def find_folder(root: str | Path, published: PublishedDataset, parts: Sequence[str]) -> Path:
    """Return the data set's folder: one of `published.folders` in `root`, a folder in it, or `root` itself.

    Args:
        parts: required sub-folders and files; see `find_part`.
    Raises:
        FileNotFoundError: not found; names the expected and the found contents, and the source.
    """
    root = Path(root).expanduser()
    accepted = {_plain(folder) for folder in published.folders}
    children = [path for path in _folders(root) if _plain(path.name) in accepted]
    children += [path for name in published.folders if "/" in name and (path := find_part(root, name))]
    inside = [
        folder for child in children for folder in _folders(child)
    ]  # unpacked into a folder of the archive's name
    for folder in (*children, *inside, root):
        if all(find_part(folder, part) for part in parts):
            return folder
    raise FileNotFoundError(
        f"DATASETS.ROOT_DIR: {published.name} not found in {str(root)!r}. Expected: {published.expected}, in "
        f"{root / published.folders[0]} or in {root} itself. Found: {_found(children[0] if children else root)}. "
        f"Source: {published.source}"
    )


def find_part(folder: Path, name: str) -> Path | None:
    """Return the file or folder `name` (with `/`, one further down) in `folder`, in small letters or capitals; None if there is none."""
    found = folder
    for part in name.split("/"):
        if (found / part).exists():
            found /= part
            continue
        others = sorted(found.iterdir()) if found.is_dir() else []
        same = [path for path in others if path.name.lower() == part.lower()]
        if not same:
            return None
        found = same[0]
    return found


def _folders(folder: Path) -> list[Path]:
    """Return the visible folders in a folder; macOS adds `__MACOSX` to what it packs."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if path.is_dir() and not path.name.startswith((".", "__MACOSX"))]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _found(folder: Path) -> str:
    """Return a short list of the folder's contents."""
    if not folder.is_dir():
        return f"no folder {folder}"
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"in {folder}: {shown or 'nothing'}"


def name_cameras(records: Iterable[Record], prefix: str) -> tuple[dict[int, int], tuple[str, ...]]:
    """Return camera number -> row, in ascending order, and the name of each row ("market1501/c1")."""
    numbers = sorted({record.camid for record in records})
    return {number: row for row, number in enumerate(numbers)}, tuple(f"{prefix}/c{number}" for number in numbers)


def check_counts(data: ReidData, published: PublishedDataset) -> ReidData:
    """Return the data set; warn if its counts differ from the publication."""
    found: dict[str, int | tuple[int | None, ...]] = {
        "counts": (len(data.train), len(data.query), len(data.gallery)),
        "people": (len({r.pid for r in data.train}), len({r.pid for r in data.query})),
        "cameras": len(data.camera_names),
    }
    meaning = {
        "counts": f"train / query / gallery {published.items}",
        "people": "train / query people",
        "cameras": "cameras",
    }
    for what, value in found.items():
        expected = getattr(published, what)
        if isinstance(expected, tuple) and not data.train:  # the training images are absent
            expected = (0, *expected[1:])
        if isinstance(expected, tuple) and isinstance(value, tuple):  # what is not published is not compared
            value = tuple(number if right is not None else None for number, right in zip(value, expected, strict=True))
        if expected and value != expected:
            log.warning(
                "%s: found %s %s, published are %s; results do not compare with others'",
                *(data.name, _slashed(value), meaning[what], _slashed(expected)),
            )
    return data


def _slashed(value: int | tuple[int | None, ...]) -> str:
    numbers = value if isinstance(value, tuple) else (value,)
    return " / ".join("-" if number is None else str(number) for number in numbers)
