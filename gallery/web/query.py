"""The fields of a request, checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..search.exact_index import LARGEST
from .request_error import Refused

MAX_TOPK, MAX_CONDITIONS, MAX_TEXT, MAX_VALUES = 1000, 32, 500, 65_536
FIELDS = ("id", "vector", "image", "camera", "topk", "where", "rerank", "other_cameras")


@dataclass(frozen=True)
class Query:
    """Who is searched, and among whom.

    Args:
        id: a row of the gallery, or None.
        vector: (D,) float32 embedding, or None.
        image: an uploaded file, or None.
        camera: which camera saw the uploaded image.
        topk: results wanted, 1 or more.
        where: conditions such as "camera=c1,c2" or "time>=100", all of which must hold.
        rerank: whether the results are re-ranked by their own neighbours.
        other_cameras: leave out the query's own camera.
    """

    id: int | None = None
    vector: np.ndarray | None = None
    image: bytes | None = None
    camera: str | None = None
    topk: int = 20
    where: tuple[str, ...] = ()
    rerank: bool = False
    other_cameras: bool = False


def parse_json(body: bytes) -> dict[str, Any]:
    """Return the fields of a JSON object.

    Raises:
        Refused: 400, it is none.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, 'the body is not JSON; send an object such as {"id": 7}') from error
    if not isinstance(fields, dict):
        raise Refused(422, f'expected a JSON object such as {{"id": 7}}, got a {type(fields).__name__}')
    return fields


def parse_query(fields: Mapping[str, Any]) -> Query:
    """Check the fields of a JSON object or of a form (where everything is text) and the uploaded image among them.

    Raises:
        Refused: 422; names the field, its value and what is accepted.
    """
    if unknown := sorted(set(fields) - set(FIELDS)):
        raise Refused(422, f"unknown field {_show(unknown[0])}; choose from {', '.join(FIELDS)}")
    given = [name for name in ("image", "id", "vector") if fields.get(name) not in (None, "")]
    if len(given) != 1:
        raise Refused(422, f"give exactly one of image (a file), id and vector; got {' and '.join(given) or 'none'}")
    image = fields.get("image")
    if image is not None and not isinstance(image, bytes):
        raise Refused(422, "image: expected a file, sent as multipart/form-data")
    return Query(
        id=_whole("id", fields["id"], 0, 2**63 - 1) if "id" in given else None,
        vector=_vector(fields["vector"]) if "vector" in given else None,
        image=image,
        camera=_text("camera", fields.get("camera") or None),
        topk=_whole("topk", fields.get("topk", 20), 1, MAX_TOPK),
        where=_conditions(fields.get("where")),
        rerank=_flag("rerank", fields.get("rerank", False)),
        other_cameras=_flag("other_cameras", fields.get("other_cameras", False)),
    )


def _whole(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) <= 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Refused(422, f"{name}: expected a whole number from {low} to {high}, got {_show(value)}")
    return value


def _flag(name: str, value: Any) -> bool:
    words = {"true": True, "1": True, "on": True, "false": False, "0": False, "": False}
    found = words.get(str(value).lower()) if isinstance(value, str | bool | int) else None
    if found is None:
        raise Refused(422, f"{name}: expected true or false, got {_show(value)}")
    return found


def _text(name: str, value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and len(value) <= MAX_TEXT):
        raise Refused(422, f"{name}: expected text of up to {MAX_TEXT} characters, got {_show(value)}")
    return value


def _conditions(value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value or []
    if not isinstance(listed, list) or len(listed) > MAX_CONDITIONS:
        raise Refused(422, f"where: expected up to {MAX_CONDITIONS} conditions such as 'camera=c1', got {_show(value)}")
    conditions = tuple(_text("where", item) or "" for item in listed)
    if unreadable := [text for text in conditions if not text.isprintable()]:
        raise Refused(422, f"where: a condition holds characters that cannot be printed, {_show(unreadable[0])}")
    return conditions


def _vector(value: Any) -> np.ndarray:
    if isinstance(value, str):  # a form
        value = parse_json(b'{"vector": ' + value.encode("utf-8", "replace") + b"}").get("vector")
    is_list = isinstance(value, list) and 0 < len(value) <= MAX_VALUES
    if not is_list or not all(isinstance(item, int | float) and not isinstance(item, bool) for item in value):
        raise Refused(422, f"vector: expected a list of numbers, got {_show(value)}")
    try:
        row = np.array([float(item) for item in value], np.float64)
    except OverflowError:
        row = np.array([math.inf])
    if not (np.abs(row) <= LARGEST).all():  # NaN too
        raise Refused(422, f"vector: expected finite numbers up to {LARGEST:g}, as /embed returns them")
    return row.astype(np.float32)


def _show(value: Any) -> str:
    text = repr(value)[:80] if not isinstance(value, bytes) else "a file"
    return text.encode("utf-8", "replace").decode()
