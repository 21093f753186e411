"""States of the global random generators: save, restore, seed."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch

logger = logging.getLogger(__name__)


def random_state() -> dict[str, Any]:
    """Return the state of the global random generators, as tensors and plain types."""
    kind, keys, *rest = cast(tuple, np.random.get_state())  # noqa: NPY002 - other libraries use the global generator
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
    """Restore the random generators from `state`."""
    torch.set_rng_state(state["torch"])
    if "numpy" in state:  # missing in checkpoints of older versions
        kind, keys, *rest = state["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
        random.setstate(state["python"])
    if torch.backends.mps.is_available() and "mps" in state:  # missing in checkpoints of older versions
        torch.mps.set_rng_state(state["mps"])
    if not torch.cuda.is_available():
        return
    if len(state.get("cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    else:
        logger.info(
            "saved with %d GPUs, now there are others: dropout and stochastic depth draw anew",
            len(state.get("cuda", ())),
        )


def seed_everything(seed: int) -> None:
    """Seed every global random generator."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - other libraries use the global generator
    torch.manual_seed(seed)
