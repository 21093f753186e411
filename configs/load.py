"""Recipe (YAML file) + command-line overrides -> a checked config."""

from __future__ import annotations

import ast
import difflib
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from ..common.errors import UserError
from ..common.inputs.regular_files import CONFIG_BYTES, read_text
from ..common.inputs.yaml_text import parse_yaml
from ..common.signature import is_own, sign
from .cross_checks import check_config
from .defaults import OPTIONS
from .options import Option
from .other_projects import FAST_REID, listed
from .transreid_keys import translate

logger = logging.getLogger(__name__)
BASE_KEY = "_BASE_"
_MARK = "# written by this user: "  # before the mark, see `common.signature`
SHIPPED = Path(__file__).parent  # recipes of the package: <data set>/<name>.yml


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> CfgNode:
    """Return the frozen config of a recipe, with overrides applied.

    Args:
        path: YAML file, or the name of a shipped recipe (`market/vit_base`). `_BASE_: other.yml` in it names the recipe that it
            builds on, relative to the file, or a shipped one. None = the defaults.
        overrides: `KEY VALUE` pairs as typed on a command line, e.g. `["SOLVER.MAX_EPOCHS", "20"]`.
    Raises:
        ValueError: unknown key, wrong type, impossible value; the message names the key and what is accepted.
        FileNotFoundError: the recipe, or the `_BASE_` it names, does not exist.
    """
    return make_config(_read_recipe(find_recipe(path)) if path else {}, _parse_overrides(overrides))


def shipped_recipes() -> list[tuple[str, str]]:
    """Return name and first line of comment of each recipe of the package, e.g. ("market/vit_base", "TransReID's baseline")."""
    files = sorted(SHIPPED.glob("*/*.yml"))
    names = [file.relative_to(SHIPPED).with_suffix("").as_posix() for file in files]
    return [(name, read_text(file, CONFIG_BYTES).partition("\n")[0].lstrip("# ")) for name, file in zip(names, files)]


def find_recipe(name: str | Path, folder: str | Path = "", needed_by: str = "") -> Path:
    """Return the file of a recipe: an existing path, or else a shipped recipe, from any working directory.

    Args:
        name: a path, or a shipped recipe as `market/vit_base`, `market/vit_base.yml` or `configs/market/vit_base.yml`.
        folder: where a relative path starts.
        needed_by: the file that names it, for the error.
    Raises:
        FileNotFoundError: there is neither; lists the shipped recipes of the closest names.
    """
    path = Path(folder, name)
    if path.exists():
        return path.resolve()
    if path.suffix not in (".yml", ".yaml") and (file := path.with_name(f"{path.name}.yml")).is_file():
        return file.resolve()
    names = [known for known, _ in shipped_recipes()]
    wanted = Path(name).as_posix().removeprefix("configs/").removesuffix(".yml")
    if wanted in names:
        return SHIPPED / f"{wanted}.yml"
    near = difflib.get_close_matches(wanted, names, n=3)
    where = f" ({BASE_KEY} of {needed_by})" if needed_by else ""
    hint = f"did you mean {', '.join(near)}?" if near else f"the shipped recipes are {', '.join(names)}"
    raise FileNotFoundError(f"config file {path}{where} does not exist; {hint}")


def make_config(*layers: Mapping[str, Any]) -> CfgNode:
    """Return the frozen, checked config that differs from the defaults by `layers` (`{"SOLVER.BASE_LR": 0.01}`); later ones win."""
    cfg, wrong = get_defaults(), []
    for number, layer in enumerate(layers):
        values, notices, refused = translate(dict(layer), is_file=number == 0)
        wrong += refused
        for notice in notices:
            logger.warning("original TransReID key: %s", notice)
        for key, value in values.items():
            try:
                _set(cfg, key, _option(key).accept(key, value))
            except UserError as error:
                wrong.append(str(error))
    if wrong:
        raise UserError(listed(wrong, [key for layer in layers for key in layer]))
    _shorten_warmup(cfg, layers)
    check_config(cfg)
    cfg.freeze()
    return cfg


def _shorten_warmup(cfg: CfgNode, layers: Sequence[Mapping[str, Any]]) -> None:
    """Fit a warm-up that nobody chose for this length into a short run: the last layer that sets the epochs leaves it out."""
    epochs, warmup = "SOLVER.MAX_EPOCHS", "SOLVER.WARMUP_EPOCHS"
    setting = [layer for layer in layers if epochs in layer]
    if setting and warmup not in setting[-1] and 0 < cfg.SOLVER.MAX_EPOCHS <= cfg.SOLVER.WARMUP_EPOCHS:
        shorter = cfg.SOLVER.MAX_EPOCHS // 4
        logger.warning(
            "%s %d -> %d, as %s is %d; set both for another",
            warmup,
            cfg.SOLVER.WARMUP_EPOCHS,
            shorter,
            epochs,
            cfg.SOLVER.MAX_EPOCHS,
        )
        cfg.SOLVER.WARMUP_EPOCHS = shorter


def parse_config(text: str, overrides: Sequence[str] = (), source: str = "the stored config") -> CfgNode:
    """Return the config stored as YAML text, as in a run folder's config.yml or inside a checkpoint, with overrides.

    Args:
        source: where the text comes from, for errors.
    Raises:
        ValueError: as `load_config`; also text that is no YAML, with its line.
    """
    return make_config(dict(_flatten(_parse_yaml(text, source))), _parse_overrides(overrides))


def marked_config(cfg: CfgNode) -> str:
    """Return `dump_config` with the user's mark at its end, for `parse_stored_config`."""
    text = dump_config(cfg)
    mark = sign(text)
    return f"{text}{_MARK}{mark}\n" if mark else text


def parse_stored_config(text: str, overrides: Sequence[str] = (), source: str = "the stored config") -> CfgNode:
    """Return the config as `parse_config`; the files and folders that a stranger's file names are left aside, with a warning.

    A file must not choose what is read on this machine: its paths count only if the text ends with this user's mark.
    """
    values, given = dict(_flatten(_parse_yaml(text, source))), _parse_overrides(overrides)
    own, _, mark = text.rpartition(_MARK)
    if not is_own(own, mark.strip()):
        left = {key: values.pop(key) for key in list(values) if key in OPTIONS and OPTIONS[key].is_path}
        if values.get("MODEL.PRETRAIN_CHOICE") == "self":
            values |= {"MODEL.PRETRAIN_CHOICE": "none", "MODEL.PRETRAIN_CLASSIFIERS": False}
        _warn_of_left({key: value for key, value in left.items() if key not in given}, source)
    return make_config(values, given)


def _warn_of_left(left: Mapping[str, Any], source: str) -> None:
    """Name the data that the file asked for, and how to allow it."""
    asked = {key: value for key, value in left.items() if key.startswith("DATASETS.") and value != OPTIONS[key].default}
    if asked:
        words = " ".join(f"{key} {shlex.quote(str(value))}" for key, value in asked.items())
        logger.warning(
            "%s was not written by you on this machine, so it chooses no files: if you trust it, add %s", source, words
        )


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
    if key in FAST_REID:
        near = [FAST_REID[key]]
    hint = f"did you mean {', '.join(near)}?" if near else "docs/options.md lists all keys"
    raise UserError(f"{key}: unknown config key; {hint}")


def _set(cfg: CfgNode, key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        cfg = cfg[section]
    cfg[name] = value


def _read_recipe(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the flat `{key: value}` of a recipe, its `_BASE_` included; the file's own values win."""
    if path in seen:
        raise UserError(
            f"{path}: {BASE_KEY} leads back to the file itself: {' -> '.join(p.name for p in (*seen, path))}"
        )
    content = _read_yaml(path)
    base = content.pop(BASE_KEY, None)
    values = _read_recipe(find_recipe(base, path.parent, str(path)), (*seen, path)) if base else {}
    values.update(_flatten(content))
    return values


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path, CONFIG_BYTES)
    except IsADirectoryError:
        raise UserError(f"config file {path} is a folder; name one of the .yml files in it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"config file {path} is not readable YAML: {error}") from None
    return _parse_yaml(text, f"config file {path}")


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    """Return the sections in YAML text; raise ValueError naming source and line."""
    content = parse_yaml(text, source)
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
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: nested too deeply
        return value


def _parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    if len(overrides) % 2:
        raise UserError(f"overrides come as KEY VALUE pairs; {overrides[-1]!r} has no value")
    return {key: _literal(value) for key, value in zip(overrides[::2], overrides[1::2])}


def _plain(node: Any) -> Any:
    if isinstance(node, CfgNode):
        return {name: _plain(value) for name, value in node.items()}
    return list(node) if isinstance(node, tuple) else node
