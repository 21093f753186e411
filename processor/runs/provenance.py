"""Where a checkpoint comes from: data sets and their terms, code, commands, and the weights it started from with their SHA-256."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import try_to_load_from_cache
from yacs.config import CfgNode

from ...common.files import digest
from ...datasets.data_builders import build_source_names
from ...datasets.dataset_terms import terms_of
from ...datasets.readers.dataset_registry import resolve_names
from ...model.weights.hub import fetch_model, is_hub_name
from ...model.weights.model_folder import weight_files

ROOT = Path(__file__).resolve().parents[2]
GIT_SECONDS = 10
CHUNK = 2**20  # bytes


def build_provenance(cfg: CfgNode, earlier: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the block `provenance` of a checkpoint's metadata, in plain types.

    Args:
        earlier: the block in the checkpoint that a run continues from; its start stays, the command is added.
    """
    if earlier:
        return {**earlier, "commands": [*earlier.get("commands", ()), this_command()], "commit": commit()}
    names = [*resolve_names(cfg.DATASETS.NAMES, "DATASETS.NAMES"), *build_source_names(cfg)]
    return provenance_of(build_parents(cfg), [{"name": name, "terms": terms_of(name)} for name in names])


def provenance_of(parents: Sequence[Mapping[str, str]], data: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """Return the block for weights that this command makes from others.

    Args:
        parents: name and SHA-256 of each file.
        data: name and terms of each data set.
    """
    return {"data": list(data), "commit": commit(), "commands": [this_command()], "parents": list(parents)}


def build_parents(cfg: CfgNode) -> list[dict[str, str]]:
    """Return name and SHA-256 of each file of initial weights, and of the teacher; empty if timm's file is not in the cache."""
    choice, path, name = cfg.MODEL.PRETRAIN_CHOICE, cfg.MODEL.PRETRAIN_PATH, cfg.MODEL.NAME
    teacher = parents_of(cfg.LOSS.DISTILL) if cfg.LOSS.DISTILL else []
    taught_by = [{**parent, "name": f"teacher {parent['name']}"} for parent in teacher]
    if choice == "none":
        return taught_by
    return [*(parents_of(path) if path else [_of_timm(name)]), *taught_by]


def parents_of(source: str | Path) -> list[dict[str, str]]:
    """Return name and SHA-256 of each file of weights at `source`: a file, a folder or a name of the hub."""
    folder = fetch_model(str(source)) if is_hub_name(source) else Path(source)
    prefix = f"{source}/" if is_hub_name(source) else ""
    return [{"name": f"{prefix}{file.name}", "sha256": sha256(file)} for file in weight_files(folder)]


def _of_timm(name: str) -> dict[str, str]:
    cfg = timm.get_pretrained_cfg(name)
    repo = getattr(cfg, "hf_hub_id", None) or ""
    found = try_to_load_from_cache(repo, "model.safetensors") if repo else None
    return {"name": f"timm's {name}", "sha256": sha256(Path(found)) if isinstance(found, str) else ""}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return digest(iter(lambda: file.read(CHUNK), b"")).removeprefix("sha256:")


def this_command() -> str:
    """Return the command line of this process, with `~` for the user's folder."""
    return shlex.join(sys.argv).replace(str(Path.home()), "~")


def commit() -> str:
    """Return the commit of vitreid's own checkout, with `+` if files of it have changed; empty for an installed package."""
    if not (ROOT / ".git").exists():
        return ""
    head, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return f"{head}+" if head and changes else head


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )  # nosec B607 - the git in PATH is the user's own
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def provenance_lines(provenance: Mapping[str, Any]) -> list[str]:
    """Return the block as lines of text; it may come from a stranger's file, so any part may be missing."""
    lines = [
        *(f"data: {one.get('name', '')} ({one.get('terms', '')})" for one in _dicts(provenance.get("data"))),
        *(
            f"started from: {one.get('name', '')} (SHA-256 {one.get('sha256') or 'unknown'})"
            for one in _dicts(provenance.get("parents"))
        ),
        *([f"commit of vitreid: {provenance['commit']}"] if provenance.get("commit") else []),
        *(f"command: {one}" for one in provenance.get("commands") or () if isinstance(one, str)),
    ]
    return lines or ["no provenance: written by an earlier version, or by another program"]


def _dicts(value: object) -> Sequence[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, (list, tuple)) else []
