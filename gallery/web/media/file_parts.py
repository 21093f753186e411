"""Responses out of an open file: the whole of it, or the range of bytes that a player asks for."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from ....common.inputs.regular_files import open_regular
from ..request_error import RequestError
from ..worker_lanes import Lane

PIECE = 2**18  # bytes read at once
MOST_OF_RANGE = 2**21  # bytes of a response to a range; a player asks for the next one when it needs it
_RANGE = re.compile(
    r"bytes=(\d{0,18})-(\d{0,18})"
)  # several ranges at once are answered with the whole file, as HTTP permits


class ServedFile(NamedTuple):
    """An open file.

    Args:
        file: read from by one response, which closes it.
        size: in bytes, when it was opened.
        media_type: e.g. video/mp4.
        version: changes with the content.
    """

    file: BinaryIO
    size: int
    media_type: str
    version: str


def open_served(path: Path, media_type: str) -> ServedFile:
    """Return the opened file; raise as `open_regular`."""
    file = open_regular(path)
    status = os.fstat(file.fileno())
    return ServedFile(file, status.st_size, media_type, f'"{status.st_mtime_ns:x}-{status.st_size:x}"')


def answer_with(served: ServedFile, headers: Headers, lane: Lane, cache: str) -> Response:
    """Return the response: 206 for a range, else 200.

    Args:
        headers: of the request.
        lane: threads that read the file.
        cache: value of Cache-Control.
    Raises:
        RequestError: 416, the range begins behind the end of the file.
    """
    about = {"Accept-Ranges": "bytes", "ETag": served.version, "Cache-Control": cache}
    start, stop, status = 0, served.size, 200
    try:
        if wanted := _range_of(headers, served):
            start, stop = wanted
            status, about["Content-Range"] = 206, f"bytes {start}-{stop - 1}/{served.size}"
    except RequestError:
        served.file.close()
        raise
    about["Content-Length"] = str(stop - start)
    return StreamingResponse(_pieces(served.file, start, stop, lane), status, about, served.media_type)


def _range_of(headers: Headers, served: ServedFile) -> tuple[int, int] | None:
    """Return start and stop of the range asked for; None for the whole file."""
    found = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if not found or not any(found.groups()) or headers.get("if-range", served.version) != served.version:
        return None
    first, last = (int(text) if text else None for text in found.groups())
    start = max(0, served.size - (last or 0)) if first is None else first  # bytes=-500: the last 500
    if start >= served.size:
        raise RequestError(416, f"the file has {served.size} bytes", {"Content-Range": f"bytes */{served.size}"})
    stop = served.size if first is None or last is None else min(last + 1, served.size)
    return (start, min(stop, start + MOST_OF_RANGE)) if stop > start else None


async def _pieces(file: BinaryIO, start: int, stop: int, lane: Lane) -> AsyncIterator[bytes]:
    """Yield the bytes from `start` to `stop`, fewer if the file became shorter; close the file."""

    def read(place: int) -> bytes:
        file.seek(place)
        return file.read(min(PIECE, stop - place))

    with file:
        while start < stop and (content := await lane.run(partial(read, start))):
            yield content
            start += len(content)
