"""What the API's description says beyond what FastAPI finds out itself."""

from __future__ import annotations

from typing import Any

from .query import MAX_TOPK

ABOUT = (
    "Who else in the gallery is this person? Distances are the gallery's metric; a result is the same person if its "
    "distance is at most the gallery's threshold, different if it is larger, unknown if the gallery has no threshold."
)
_IMAGE = {"type": "string", "format": "binary", "description": "JPEG, PNG, WebP, BMP or GIF file of one person"}
_CAMERA = {"type": "string", "maxLength": 500, "description": "name of the camera that saw the image, if it is known"}
_OPTIONS: dict[str, Any] = {
    "camera": _CAMERA,
    "topk": {"type": "integer", "minimum": 1, "maximum": MAX_TOPK, "default": 20, "description": "results wanted"},
    "where": {
        "type": "array",
        "items": {"type": "string", "maxLength": 500},
        "maxItems": 32,
        "description": "conditions on the records, all of which must hold: camera=c1,c2  camera!=c3  time>=2026-01-31T08:00  pid=7",
    },
    "rerank": {"type": "boolean", "default": False, "description": "rank the results again by their own neighbours"},
    "other_cameras": {"type": "boolean", "default": False, "description": "leave out the query's own camera"},
}
_ID = {"type": "integer", "minimum": 0, "description": "a row of the gallery; it does not find itself"}
_VECTOR = {"type": "array", "items": {"type": "number"}, "description": "an embedding, as /embed returns it"}


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {
        "schema": {"type": "object", "required": [required], "properties": properties, "additionalProperties": False}
    }


def _body(**content: dict[str, Any]) -> dict[str, Any]:
    kinds = {"form": "multipart/form-data", "json": "application/json"}
    return {"requestBody": {"required": True, "content": {kinds[name]: value for name, value in content.items()}}}


def _either(*choices: dict[str, Any]) -> dict[str, Any]:
    return {"schema": {"oneOf": [choice["schema"] for choice in choices]}}


SEARCH = _body(
    form=_object("image", image=_IMAGE, **_OPTIONS),
    json=_either(_object("id", id=_ID, **_OPTIONS), _object("vector", vector=_VECTOR, **_OPTIONS)),
)
EMBED = _body(form=_object("image", image=_IMAGE, camera=_CAMERA))
OVERLAY = _body(form=_object("image", image=_IMAGE, camera=_CAMERA), json=_object("id", id=_ID))
IMAGE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}, "description": "the image"}
}
_DETAIL = {"application/json": {"schema": {"type": "object", "properties": {"detail": {"type": "string"}}}}}
_MEANINGS = {
    400: "the request or the image is damaged",
    401: "the token is missing or wrong",
    404: "no such row, or its image is gone",
    413: "too many bytes or pixels",
    415: "not an image that is read here",
    421: "the server does not answer to this host name",
    422: "a field that is not accepted",
    429: "too many requests; Retry-After says how many seconds to wait",
    503: "the server is busy, or what was found is being removed; try again",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "content": _DETAIL} for status, meaning in _MEANINGS.items()
}
