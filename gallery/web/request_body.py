"""Bodies of requests, JSON or forms -> checked fields; read in a thread, because others wait while the event loop reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from .models import CheckedFields
from .request_error import RequestError
from .worker_lanes import Lane

FORM, JSON = "multipart/form-data", "application/json"
MAX_TEXT_BYTES = 262_144  # of a JSON body, and of a form's fields that are no files: room for the largest vector
MAX_PARTS = 64  # of a form
Fields = TypeVar("Fields", bound=CheckedFields)
_parsing = Lane("parse", 1)


def fields_of(model: type[Fields], kinds: Sequence[str] = (FORM, JSON)) -> Callable[[Request], Awaitable[Fields]]:
    """Return a FastAPI dependency that reads the model from a JSON body or a form.

    Args:
        kinds: accepted content types.
    Raises:
        RequestError: 400, the form cannot be read; 413, too much text; 415, the body is neither.
        RequestValidationError: a field is not accepted.
    """

    return fields_by_kind(dict.fromkeys(kinds, model))


def fields_by_kind(models: Mapping[str, type[Fields]]) -> Callable[[Request], Awaitable[Fields]]:
    """Return a dependency as `fields_of` does, of a route with a model for each content type."""

    async def read(request: Request) -> Fields:
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind == JSON.encode() and JSON in models:
            _check_text(int(request.headers.get("content-length", 0)))
            content = await _content(request)
            return await _parsing.run(lambda: _checked(lambda: models[JSON].model_validate_json(content)))
        if kind == FORM.encode() and FORM in models:
            content = await _content(request)
            return await _parsing.run(
                lambda: _checked(lambda: models[FORM].model_validate(form_fields(content, options)))
            )
        if FORM not in models:
            raise RequestError(415, f"expected {JSON}")
        raise RequestError(415, f"expected {FORM} with an image, or {JSON} with an id or a vector")

    return read


async def _content(request: Request) -> bytearray:
    """Return the body; `request.body()` would hold it twice, once until the response."""
    content = bytearray()
    async for part in request.stream():
        content += part
    return content


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


def form_fields(content: bytearray, options: dict[bytes, bytes]) -> dict[str, Any]:
    """Return the fields of a form: files as bytes, others as text; a field that is given several times as a list.

    Args:
        options: parameters of the Content-Type, with the boundary.
    Raises:
        RequestError: 400, it is no form, or has too many parts; 413, too much text.
    """
    form = _Form()
    try:
        if not options.get(b"boundary"):
            raise FormParserError("its Content-Type names no boundary")
        parser = MultipartParser(options[b"boundary"], form.callbacks())  # type: ignore[arg-type]
        parser.write(content)  # type: ignore[arg-type]  # it reads slices of it
        parser.finalize()
    except FormParserError as error:
        raise RequestError(400, f"the form cannot be read: {error}") from error
    return {name: values[0] if len(values) == 1 else values for name, values in form.fields.items()}


class _Form:
    """The fields of a form while it is read.

    The library's own `FormParser` keeps a form with 10 MB of image until Python next looks for reference cycles.
    """

    def __init__(self) -> None:
        self.fields: dict[str, list[Any]] = {}
        self._num_parts = self._num_text = 0
        self._name, self._value, self._disposition = bytearray(), bytearray(), b""
        self._content = bytearray()

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._content.extend(data[start:end]),
            "on_part_end": self._end_part,
        }

    def _begin(self) -> None:
        self._num_parts += 1
        if self._num_parts > MAX_PARTS:
            raise RequestError(400, f"the form has more than {MAX_PARTS} parts")
        self._disposition, self._content = b"", bytearray()

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _end_part(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise RequestError(400, "the form cannot be read: a part has no name")
        value: str | bytes = bytes(self._content)
        if b"filename" not in options:
            self._num_text += len(value)
            _check_text(self._num_text)
            value = self._content.decode("utf-8", "replace")
        self._content = bytearray()
        self.fields.setdefault(options[b"name"].decode("utf-8", "replace"), []).append(value)
