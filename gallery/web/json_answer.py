"""Responses in JSON."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from pydantic_core import to_json


def as_json(value: dict[str, Any]) -> Response:
    """Return a JSON response: NumPy values as lists and numbers, NaN and infinity as null, dates as ISO 8601."""
    content = to_json(value, inf_nan_mode="null", bytes_mode="base64", fallback=_from_numpy)
    return Response(content, media_type="application/json")


def _from_numpy(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
