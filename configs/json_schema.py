"""The options as JSON Schema, with which editors complete and check recipes."""

from __future__ import annotations

from typing import Any

from .defaults import OPTIONS
from .options import Option

DRAFT = "https://json-schema.org/draft/2020-12/schema"
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
BASE = {"type": "string", "description": "the recipe that this one builds on: a file, or the name of a shipped one"}


def json_schema() -> dict[str, Any]:
    """Return the schema of a recipe (JSON Schema, draft 2020-12): the sections with their options, nothing else."""
    properties: dict[str, Any] = {"_BASE_": BASE}
    for key, option in OPTIONS.items():
        section, _, name = key.rpartition(".")
        if section:
            place = properties.setdefault(section, {"type": "object", "additionalProperties": False, "properties": {}})
            place["properties"][name] = option_schema(option)
        else:
            properties[name] = option_schema(option)
    return {
        "$schema": DRAFT,
        "title": "vitreid recipe",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def option_schema(option: Option) -> dict[str, Any]:
    """Return the schema of one option: its type, bounds and choices, default and meaning.

    >>> option_schema(Option(0.1, "a share", at_least=0, at_most=1))
    {'type': 'number', 'minimum': 0, 'maximum': 1, 'default': 0.1, 'description': 'a share'}
    """
    about = {"default": option.default, "description": option.help}
    if not isinstance(option.default, tuple):
        return {**_value_schema(option, type(option.default)), **about}
    kind = type(option.default[0]) if option.default else str
    items: dict[str, Any] = {"type": "array", "items": _value_schema(option, kind)}
    if option.length is not None:
        items |= {"minItems": option.length, "maxItems": option.length}
    return {**items, **about, "default": list(option.default)}


def _value_schema(option: Option, kind: type) -> dict[str, Any]:
    found: dict[str, Any] = {"type": TYPES[kind]}
    if option.at_least is not None:
        found["minimum"] = option.at_least
    if option.at_most is not None:
        found["maximum"] = option.at_most
    if option.choices is not None:
        found["examples" if option.is_open else "enum"] = list(option.choices)
    return found
