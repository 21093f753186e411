"""The JSON file next to a model file: what it expects, and the threshold that was calibrated for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....common.errors import UserError
from ....common.files import write_text_atomically
from ....common.inputs.regular_files import CONFIG_BYTES, read_json

THRESHOLDS = (
    "threshold",
    "thresholds",
)  # keys: of embeddings as they are, and of processed ones by their `Postprocess.name`


def sidecar_of(path: Path) -> Path:
    """Return the JSON file of a model file: its name with .json behind it."""
    return path.with_name(f"{path.name}.json")


def read_sidecar(path: Path, required: bool) -> dict[str, Any]:
    """Return the values in the file; nothing if there is none.

    Raises:
        FileNotFoundError: there is none and `required`.
        UserError: it is no regular file, or holds no JSON object; names the line.
    """
    if not path.exists():
        if required:
            raise FileNotFoundError(f"--embedder-json: {path} does not exist; write one, see docs/embedders.md")
        return {}
    values = read_json(path, CONFIG_BYTES)
    if not isinstance(values, dict):
        raise UserError(f'{path}: expected an object such as {{"input": "imagenet"}}, got a {type(values).__name__}')
    return values


def write_sidecar(path: Path, values: Mapping[str, Any]) -> None:
    """Write description and thresholds, one key per line, atomically."""
    lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in values.items())
    write_text_atomically(path, "{\n" + ",\n".join(lines) + "\n}\n")
