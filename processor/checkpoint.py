"""last.pth: everything a run needs to go on exactly where it was."""

from __future__ import annotations

import pickle
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..model.files import write_atomically

FORMAT = "vitreid-last-1"
NOT_OURS = (
    "is not a last.pth of vitreid; to start from other weights set MODEL.PRETRAIN_CHOICE self and MODEL.PRETRAIN_PATH"
)


class NotOurs(ValueError):
    """A sound file, but no last.pth of vitreid."""


def save_last(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` (tensors and plain types only) atomically.

    Raises:
        OSError: it cannot be written; the earlier file is intact.
    """
    write_atomically(path, lambda temporary: torch.save({"format": FORMAT, **state}, temporary))


def load_last(path: str | Path) -> dict[str, Any]:
    """Return the state in a last.pth, on the CPU; nothing in the file is executed (`weights_only`).

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated or damaged; NotOurs: not a last.pth.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"--resume: {path} does not exist; leave out --resume to start anew")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # objects other than tensors and plain types
        raise NotOurs(f"{path} {NOT_OURS} ({_first_line(error)})") from error
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} is damaged or not a checkpoint ({_first_line(error)}); resume from another file or start anew"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise NotOurs(f"{path} {NOT_OURS}")
    return state


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def random_state() -> dict[str, Any]:
    """Return the state of the random generators that a training step draws from."""
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put the random generators back to `state`."""
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state.get("cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def seed_everything(seed: int) -> None:
    """Seed every global random generator."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what other libraries use
    torch.manual_seed(seed)
