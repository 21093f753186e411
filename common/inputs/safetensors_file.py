"""Open a safetensors file: a header in JSON, then the bytes of tensors. Nothing in it can be executed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import UserError
from ..text import parse_json
from .regular_files import check_regular


@contextmanager
def open_safetensors(
    path: str | Path, framework: str = "pt", remedy: str = "copy or download it again"
) -> Iterator[Any]:
    """Yield the opened file (`keys`, `get_tensor`, `metadata`); its tensors are read one by one.

    Args:
        framework: type of the tensors, "pt" for torch or "np" for NumPy.
        remedy: next step, for the message.
    Raises:
        FileNotFoundError: no such file.
        UserError: it is damaged, not a safetensors file, or no regular file.
    """
    check_regular(path)
    try:
        with safe_open(path, framework) as file:
            yield file
    except (SafetensorError, AttributeError, KeyError) as error:  # the last two: a type that the framework lacks
        raise UserError(f"{path} is damaged or not a safetensors file ({error}); {remedy}") from error


def read_fact(file: Any, key: str, path: str | Path) -> Any:
    """Return the value, in JSON types, of a key in the metadata of an opened file; None if there is none.

    Raises:
        UserError: it is no JSON.
    """
    text = (file.metadata() or {}).get(key)
    return None if text is None else parse_json(text, f"{path}: {key}")
