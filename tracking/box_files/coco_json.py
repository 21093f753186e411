"""COCO's JSON: images, annotations and categories (Lin et al., arXiv:1405.0312; cocodataset.org, "Data format")."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...common.errors import UserError
from ...datasets.box_columns import checked_corners, to_number
from ..class_names import Names
from .box_rows import BoxRows
from .given_boxes import GivenBoxes
from .text_files import read_json

TRACKS = ("track_id", "instance_id", "tracker_id")  # of annotations, or of their attributes (CVAT)


def read_coco(path: Path, class_names: Names | None = None) -> GivenBoxes:
    """Return the boxes of a COCO file; crowds (iscrowd 1) are left out, as they are no single object.

    Args:
        class_names: unused, the file states its own.
    Raises:
        UserError: a key is missing or wrong; names the entry and the reason.
    """
    data = read_json(path)
    if not isinstance(data, Mapping) or not {"images", "annotations"} <= set(data):
        raise UserError(
            f"{path}: expected an object with images and annotations; a list of results alone does not name its pictures: give "
            "the annotation file with those results in it"
        )
    check_ids(data, path)
    names = {one.get("id"): str(one.get("name")) for one in _entries(data, "categories", path)}
    pictures = {}
    for number, image in enumerate(_entries(data, "images", path)):
        if "id" not in image or not image.get("file_name"):
            raise UserError(f"{path}: images[{number}] has no id or no file_name")
        pictures[image["id"]] = str(image["file_name"])
    rows = BoxRows()
    for number, one in enumerate(_entries(data, "annotations", path)):
        where = f"{path}: annotations[{number}]"
        if one.get("iscrowd"):
            continue
        if one.get("image_id") not in pictures:
            raise UserError(f"{where}: image_id {one.get('image_id')!r} is not among the {len(pictures)} images")
        _add(rows, one, pictures[one["image_id"]], names, where)
    return rows.finish(path, all_pictures=tuple(dict.fromkeys(pictures.values())))


def check_ids(data: Mapping[str, Any], path: Path) -> None:
    """Raise UserError, naming the entry, unless all ids are numbers or texts."""
    for key in ("images", "annotations", "categories"):
        for number, one in enumerate(_entries(data, key, path)):
            for name in ("id", "image_id", "category_id"):
                if isinstance(one.get(name), (list, dict)):
                    raise UserError(
                        f"{path}: {key}[{number}]: {name} is {str(one[name])[:80]!r}; expected a number or a text"
                    )


def is_coco(path: Path, head: str) -> bool:
    """Return whether a JSON file starts as an object and has COCO's keys."""
    if path.suffix.lower() != ".json" or not head.lstrip().startswith("{"):
        return False
    data = read_json(path)
    return isinstance(data, Mapping) and "annotations" in data


def _add(rows: BoxRows, one: Mapping[str, Any], picture: str, names: Mapping[Any, str], where: str) -> None:
    values = one.get("bbox")
    if not isinstance(values, list) or len(values) != 4:
        raise UserError(f"{where}: bbox is {values!r}; expected [x, y, width, height]")
    a, b, c, d = (to_number(value, f"{where}: bbox") for value in values)
    category = one.get("category_id")
    if names and category not in names:
        raise UserError(f"{where}: category_id {category!r} is not among the categories")
    attributes = one.get("attributes")
    sources = [one, attributes if isinstance(attributes, Mapping) else {}]
    track = next((source[key] for source in sources for key in TRACKS if source.get(key) is not None), None)
    rows.add(
        checked_corners(a, b, c, d, "size", where),
        picture=picture,
        score=to_number(one["score"], f"{where}: score") if one.get("score") is not None else 1.0,
        label=names.get(category, "person" if category is None else str(category)),
        track=-1 if track is None else rows.track_number(str(track)),
    )


def _entries(data: Mapping[str, Any], key: str, path: Path) -> list[Mapping[str, Any]]:
    entries = data.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(one, Mapping) for one in entries):
        raise UserError(f"{path}: {key} is no list of objects")
    return entries
