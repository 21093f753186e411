"""States of the global random generators: save, restore, seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch

from .checkpoint import logger


def random_state() -> dict[str, Any]:
    """Return the state of the global random generators, as tensors and plain types."""
    kind, keys, *rest = cast(tuple, np.random.get_state())  # noqa: NPY002 - the global generator is what other libraries use
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put the random generators back to `state`."""
    torch.set_rng_state(state["torch"])
    if "numpy" in state:  # not in checkpoints of before
        kind, keys, *rest = state["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
        random.setstate(state["python"])
    if torch.backends.mps.is_available() and "mps" in state:  # not in checkpoints of before
        torch.mps.set_rng_state(state["mps"])
    if not torch.cuda.is_available():
        return
    if len(state.get("cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    else:
        logger.info(
            "saved with %d GPUs, now there are others: dropout and the like draw anew", len(state.get("cuda", ()))
        )


def seed_everything(seed: int) -> None:
    """Seed every global random generator."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what other libraries use
    torch.manual_seed(seed)
