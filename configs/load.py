"""YAML file + command-line overrides -> a checked config."""

from __future__ import annotations

import ast
import difflib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from ..common.errors import UserError
from .cross_checks import check_config
from .defaults import OPTIONS
from .options import Option
from .transreid_keys import translate

logger = logging.getLogger(__name__)
BASE_KEY = "_BASE_"


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> CfgNode:
    """Return the frozen config of a recipe, with overrides applied.

    Args:
        path: YAML recipe; `_BASE_: other.yml` (relative to the file) names what it builds on. None = the defaults.
        overrides: `KEY VALUE` pairs as typed on a command line, e.g. `["SOLVER.MAX_EPOCHS", "20"]`.
    Raises:
        ValueError: unknown key, wrong type, impossible value; the message names the key and what is accepted.
        FileNotFoundError: the recipe, or the `_BASE_` it names, does not exist.
    """
    return make_config(_read_recipe(Path(path)) if path else {}, _parse_overrides(overrides))


def make_config(*layers: Mapping[str, Any]) -> CfgNode:
    """Return the frozen, checked config that differs from the defaults by `layers` (`{"SOLVER.BASE_LR": 0.01}`); later ones win."""
    cfg = get_defaults()
    for number, layer in enumerate(layers):
        values, notices = translate(dict(layer), is_file=number == 0)
        for notice in notices:
            logger.warning("original TransReID key: %s", notice)
        for key, value in values.items():
            _set(cfg, key, _option(key).accept(key, value))
    check_config(cfg)
    cfg.freeze()
    return cfg


def parse_config(text: str, overrides: Sequence[str] = (), source: str = "the stored config") -> CfgNode:
    """Return the config stored as YAML text, as in a run folder's config.yml or inside a checkpoint, with overrides.

    Args:
        source: where the text comes from, for errors.
    Raises:
        ValueError: as `load_config`; also text that is no YAML, with its line.
    """
    return make_config(dict(_flatten(_parse_yaml(text, source))), _parse_overrides(overrides))


def get_defaults() -> CfgNode:
    """Return a fresh config with every option at its default."""
    cfg = CfgNode()
    for key, option in OPTIONS.items():
        *sections, name = key.split(".")
        node = cfg
        for section in sections:
            node = node.setdefault(section, CfgNode())
        node[name] = option.default
    return cfg


def flatten_config(cfg: CfgNode) -> dict[str, Any]:
    """Return `{"SOLVER.BASE_LR": 0.008, …}`, every option of `cfg`."""
    return dict(_flatten(cfg))


def dump_config(cfg: CfgNode) -> str:
    """Return `cfg` as YAML text that `parse_config` reads back."""
    return yaml.safe_dump(_plain(cfg), sort_keys=True)


def _option(key: str) -> Option:
    if key in OPTIONS:
        return OPTIONS[key]
    near = difflib.get_close_matches(key, OPTIONS, n=3) or [
        k for k in OPTIONS if k.rsplit(".")[-1] == key.rsplit(".")[-1]
    ]
    hint = f"did you mean {', '.join(near)}?" if near else "configs/defaults.py lists all keys"
    raise UserError(f"{key}: unknown config key; {hint}")


def _set(cfg: CfgNode, key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        cfg = cfg[section]
    cfg[name] = value


def _read_recipe(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the flat `{key: value}` of a recipe, its `_BASE_` included; the file's own values win."""
    path = path.resolve()
    if path in seen:
        raise UserError(
            f"{path}: {BASE_KEY} leads back to the file itself: {' -> '.join(p.name for p in (*seen, path))}"
        )
    content = _read_yaml(path, needed_by=seen[-1] if seen else None)
    base = content.pop(BASE_KEY, None)
    values = _read_recipe(path.parent / base, (*seen, path)) if base else {}
    values.update(_flatten(content))
    return values


def _read_yaml(path: Path, needed_by: Path | None) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        where = f" ({BASE_KEY} of {needed_by})" if needed_by else ""
        raise FileNotFoundError(
            f"config file {path}{where} does not exist; the shipped recipes are in configs/*/*.yml"
        ) from None
    except IsADirectoryError:
        raise UserError(f"config file {path} is a folder; name one of the .yml files in it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"config file {path} is not readable YAML: {error}") from None
    return _parse_yaml(text, f"config file {path}")


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    """Return the sections in YAML text; raise ValueError naming source and line."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(
            f"{source} is not readable YAML: {where}{getattr(error, 'problem', None) or error}; correct it there, or restore the file"
        ) from None
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{source}: expected sections such as 'MODEL:', found {type(content).__name__}")
    return content or {}


def _flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _literal(value)


def _literal(value: Any) -> Any:
    """Return what Python would read in a text value, as yacs does: `('a', 'b')` is a tuple, `True` a bool, `abc` itself."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    if len(overrides) % 2:
        raise UserError(f"overrides come as KEY VALUE pairs; {overrides[-1]!r} has no value")
    return {key: _literal(value) for key, value in zip(overrides[::2], overrides[1::2])}


def _plain(node: Any) -> Any:
    if isinstance(node, CfgNode):
        return {name: _plain(value) for name, value in node.items()}
    return list(node) if isinstance(node, tuple) else node
