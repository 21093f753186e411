"""Bodies of requests, JSON or forms -> checked fields; read in a thread, because others wait while the event loop reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from .models import EmbedFields
from .request_error import RequestError
from .worker_lanes import Lane

FORM, JSON = "multipart/form-data", "application/json"
MAX_TEXT_BYTES = 262_144  # of a JSON body, and of a form's fields that are no files: room for the largest vector
MAX_PARTS = 64  # of a form
Fields = TypeVar("Fields", bound=EmbedFields)
_parsing = Lane("parse", 1)


def fields_of(model: type[Fields]) -> Callable[[Request], Awaitable[Fields]]:
    """Return a FastAPI dependency that reads the model from a JSON body or a form.

    Raises:
        RequestError: 400, the form cannot be read; 413, too much text; 415, the body is neither.
        RequestValidationError: a field is not accepted.
    """

    async def read(request: Request) -> Fields:
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind == JSON.encode():
            _check_text(int(request.headers.get("content-length", 0)))
            content = await request.body()
            return await _parsing.run(lambda: _checked(lambda: model.model_validate_json(content)))
        if kind == FORM.encode():
            content = await request.body()
            return await _parsing.run(lambda: _checked(lambda: model.model_validate(form_fields(content, options))))
        raise RequestError(415, f"expected {FORM} with an image, or {JSON} with an id or a vector")

    return read


def _checked(read: Callable[[], Fields]) -> Fields:
    try:
        return read()
    except ValidationError as error:
        errors = [{**found, "loc": ("body", *found["loc"])} for found in error.errors(include_url=False)]
        raise RequestValidationError(errors) from error


def _check_text(num_bytes: int) -> None:
    if num_bytes > MAX_TEXT_BYTES:
        raise RequestError(
            413, f"more than {MAX_TEXT_BYTES // 1024} kB of text; send an image as a file in a form, {FORM}"
        )


def form_fields(content: bytes, options: dict[bytes, bytes]) -> dict[str, Any]:
    """Return the fields of a form: files as bytes, others as text; a field that is given several times as a list.

    Args:
        options: parameters of the Content-Type, with the boundary.
    Raises:
        RequestError: 400, it is no form, or has too many parts; 413, too much text.
    """
    fields: dict[str, list[Any]] = {}
    num_text = 0

    def keep(name: bytes | None, value: bytes | str) -> None:
        fields.setdefault((name or b"").decode("utf-8", "replace"), []).append(value)
        if sum(map(len, fields.values())) > MAX_PARTS:
            raise RequestError(400, f"the form has more than {MAX_PARTS} parts")

    def keep_text(field: Field) -> None:
        nonlocal num_text
        value = field.value or b""
        num_text += len(value)
        _check_text(num_text)
        keep(field.field_name, value.decode("utf-8", "replace"))

    def keep_file(file: File) -> None:
        file.file_object.seek(0)
        keep(file.field_name, file.file_object.read())

    config = {"MAX_MEMORY_FILE_SIZE": len(content) + 1}  # the content is in memory already
    try:
        parser = FormParser(FORM, keep_text, keep_file, boundary=options.get(b"boundary"), config=config)
        parser.write(content)
        parser.finalize()
    except FormParserError as error:
        raise RequestError(400, f"the form cannot be read: {error}") from error
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}
