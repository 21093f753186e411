"""An embedder in other processes: what is pickled of it, and how it is opened there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...common.errors import UserError

JSON = "json"  # the option that names a file


@dataclass(frozen=True)
class Origin:
    """What an embedder was opened with.

    Args:
        source: the argument, perhaps the name of a model on the hub.
        path: the weight file, absolute.
        device, precision: as asked for, so that "auto" is what the other machine has.
        options: of a finished model.
        backend: what runs it here, so that it is not measured again; None = as the file is.
    """

    source: str
    path: Path
    device: str
    precision: str
    options: dict[str, Any] | None
    backend: str | None = None


def absolute_json(options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the options with an absolute path of the JSON file: other processes may work in another folder."""
    if not options:
        return None
    return {key: str(Path(value).absolute()) if key == JSON and value else value for key, value in options.items()}


def reopened(kind: Callable[..., Any], origin: Origin, fingerprint: str, changed: Mapping[str, Any]) -> Any:
    """Return a pickled embedder, opened from its file, or from the hub where this machine has no such file.

    Raises:
        UserError: the file is that of another model by now; and what `Embedder` raises.
    """
    source = str(origin.path) if origin.path.exists() else origin.source
    given = {"backend": origin.backend} if origin.backend else {}
    embedder = kind(source, device=origin.device, precision=origin.precision, options=origin.options, **given)
    if embedder.fingerprint != fingerprint:
        raise UserError(
            f"{source} has changed since the embedder was sent to this process: its embeddings would not be comparable; make a "
            "new Embedder, and send that"
        )
    for key, value in changed.items():
        setattr(embedder, key, value)
    return embedder


def in_fork(device: str) -> str:
    """Return the message for an embedder on a GPU in a child of `fork`."""
    return (
        f"the embedder was opened on {device} before `fork`, and a forked process cannot use a GPU of its parent; start processes with "
        "multiprocessing.get_context('spawn'), or make the Embedder in the child"
    )
