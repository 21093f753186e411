"""Fields of requests and errors, as pydantic models: they check a request and describe it in openapi.json."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import from_json

from ..storage.row_checks import LARGEST

MAX_TOPK, MAX_CONDITIONS, MAX_TEXT, MAX_VALUES = 1000, 16, 500, 8192
MAX_ID = 2**63 - 1
SOURCES = ("image", "id", "vector")


def _not_a_flag(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic reads true as 1
        raise ValueError("expected a whole number")
    return value


def _a_file(value: Any) -> Any:
    if not isinstance(value, bytes):
        raise ValueError("expected a file, sent as multipart/form-data")
    return value


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected printable characters")
    return text


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _from_text(value: Any) -> Any:
    return from_json(value, allow_inf_nan=False) if isinstance(value, str) else value


ImageBytes = Annotated[
    bytes, BeforeValidator(_a_file), Field(description="JPEG, PNG, WebP, BMP or GIF file of one person, in a form only")
]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
ConditionText = Annotated[Text, AfterValidator(_printable)]
Id = Annotated[int, Field(ge=0, le=MAX_ID), BeforeValidator(_not_a_flag)]
Count = Annotated[int, Field(ge=1, le=MAX_TOPK), BeforeValidator(_not_a_flag)]
Value = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-LARGEST, le=LARGEST)]
Vector = Annotated[list[Value], Field(min_length=1, max_length=MAX_VALUES, fail_fast=True), BeforeValidator(_from_text)]


def _drop_null_defaults(schema: dict[str, Any]) -> None:
    for item in schema["properties"].values():
        if item.get("default", "") is None:
            del item["default"]


class CheckedFields(BaseModel):
    """Fields of a body. A form sends numbers, flags and vectors as text; they are read from text in JSON too."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_drop_null_defaults)

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, fields: Any) -> Any:
        """Refuse unknown fields; drop empty ones, which forms send for inputs without a value."""
        if not isinstance(fields, dict):
            return fields
        if unknown := sorted(set(fields) - set(cls.model_fields)):
            raise ValueError(f"unknown field {unknown[0][:80]!r}; choose from {', '.join(cls.model_fields)}")
        return {name: value for name, value in fields.items() if value is not None and value != ""}


class EmbedFields(CheckedFields):
    """Fields of /embed."""

    image: ImageBytes
    camera: Text | SkipJsonSchema[None] = Field(None, description="name of the camera that took the image, if known")


class AttentionFields(EmbedFields):
    """Fields of /attention: an image or an id."""

    image: ImageBytes | SkipJsonSchema[None] = None  # type: ignore[assignment]
    id: Id | SkipJsonSchema[None] = Field(
        None, description="a row of the gallery; /search leaves it out of its results"
    )

    @model_validator(mode="after")
    def _check_source(self) -> AttentionFields:
        names = [name for name in SOURCES if name in type(self).model_fields]
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(names)}; got {' and '.join(given) or 'none'}")
        return self


class SearchFields(AttentionFields):
    """Fields of /search: an image, an id or a vector, and options."""

    vector: Vector | SkipJsonSchema[None] = Field(None, description="an embedding, as /embed returns it")
    topk: Count = Field(20, description="number of results")
    where: Annotated[tuple[ConditionText, ...], BeforeValidator(_as_list)] = Field(
        (),
        max_length=MAX_CONDITIONS,
        description="conditions on the records, all must hold: camera=c1,c2  camera!=c3  time>=2026-01-31T08:00  pid=7",
    )
    rerank: bool = Field(False, description="re-rank the results by their shared neighbours")
    other_cameras: bool = Field(False, description="leave out the query's own camera")


class ErrorAnswer(BaseModel):
    """The body of every response with a status of 400 or more."""

    detail: str = Field(description="one sentence: what is wrong and what to do")


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": meaning}
    for status, meaning in {
        400: "the request or the image is damaged",
        401: "the token is missing or wrong",
        403: "this server does not permit it, or a page of another site sent it",
        404: "no such row, or its image is gone",
        408: "the body did not arrive in time",
        409: "the decision contradicts earlier ones, or the name or the image is there already",
        411: "the body has no Content-Length",
        413: "too many bytes or pixels",
        415: "the file is not an image of a supported format",
        416: "the range of bytes begins behind the end of the file",
        421: "the server does not answer to this host name",
        422: "a field has a value that is not accepted",
        429: "too many requests or wrong tokens; Retry-After gives the seconds to wait",
        503: "the server is busy, or the gallery has just changed or cannot be read; try again",
    }.items()
}


WORDING = {  # pydantic's -> plainer
    "Value error, ": "",
    "Field required": "this field is required",
    "Input should be greater": "expected a number greater",
    "Input should be less": "expected a number less",
    "Input should be": "expected",
    "List should have": "expected",
    "Tuple should have": "expected",
    "String should have": "expected",
    " after validation": "",
    "a valid boolean, unable to interpret input": "true or false",
    "a valid integer, unable to parse string as an integer": "a whole number",
}


def explain(error: dict[str, Any]) -> str:
    """Return pydantic's description of a wrong field as one sentence: field, accepted values, value found."""
    text = error["msg"]
    for before, after in WORDING.items():
        text = text.replace(before, after)
    if error["type"] in ("json_invalid", "model_type"):
        return f'the body is not a JSON object such as {{"id": 7}}: {text}'
    where = error["loc"][1:]  # the first part is "body" or "path"; names of union members follow the field's
    name = ".".join(str(part) for place, part in enumerate(where) if place == 0 or isinstance(part, int))
    if not name or error["type"] == "missing":
        return f"{name}: {text}" if name else text
    return f"{name}: {text}, got {show(error['input'])}"


def show(value: Any) -> str:
    """Return the start of a value, for an error message."""
    return "a file" if isinstance(value, bytes) else repr(value)[:80]
