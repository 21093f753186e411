"""Checks that all ranks hold equal settings and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ...common.errors import UserError
from .process_group import Ranks


def check_same(module: nn.Module, ranks: Ranks) -> None:
    """Check that the weights are equal on all ranks; otherwise raise UserError on all, naming the first difference."""
    check_agreed(lambda: {name: fingerprint(value) for name, value in module.state_dict().items()}, ranks, "weights")


def check_agreed(values: Callable[[], Mapping[str, object]], ranks: Ranks, what: str) -> None:
    """Check that named values are equal on all ranks; otherwise raise UserError on all, naming the first difference and both values.

    Args:
        values: returns the values, compared and shown as text; not called for a single rank.
        what: what the values are, for the message, e.g. "settings".
    """
    if ranks.size == 1:
        return
    sides = ranks.gather_objects({name: str(value) for name, value in values().items()})
    for rank, other in enumerate(sides):
        if different := [name for name in {**sides[0], **other} if sides[0].get(name) != other.get(name)]:
            name = different[0]
            raise UserError(
                f"processes 0 and {rank} begin with other {what} ({name}, {len(different)} in all): {sides[0].get(name)} and "
                f"{other.get(name)}; give all machines the same config, data, MODEL.PRETRAIN_PATH, run folder, and versions of "
                "vitreid, torch and timm"
            )


BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def fingerprint(tensor: Tensor) -> int:
    """Return the sum of a tensor's bits read as integers: exact, so independent of the order of addition."""
    return int(tensor.detach().contiguous().view(BITS[tensor.element_size()]).sum(dtype=torch.int64))
