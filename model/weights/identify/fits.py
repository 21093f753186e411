"""Whether the tensors of a file are those of a model, compared by names and shapes without memory for the model."""

from __future__ import annotations

import re

import torch
from torch import nn

from ...backbones.registry import OWN, VITS, create_net
from ...backbones.vit import create_vit
from ...model_spec import ModelSpec
from ..heads import is_head
from ..naming.key_names import State

RESIZED = ("pos_embed", "relative_position_bias_table")  # they depend on the size of the image


def create_empty(name: str) -> nn.Module:
    """Return the network of that name without a classifier and without memory for its tensors."""
    with torch.device("meta"):
        if name in OWN and name in VITS:
            return create_vit(ModelSpec(name))
        return create_net(name, num_classes=0)


def create_empty_vit(spec: ModelSpec) -> nn.Module:
    """Return the ViT of the spec without memory for its tensors."""
    with torch.device("meta"):
        return create_vit(spec)


def fits(net: nn.Module, state: State) -> bool:
    """Return whether each tensor of the network is in the file with the same shape, and the file has no others but heads."""
    target, state = _one_norm(net.state_dict()), _one_norm(state)
    wanted = {name for name in target if not name.endswith("num_batches_tracked")}
    extra = [name for name in state.keys() - target.keys() if not is_head(net, name, state[name])]
    return not extra and all(name in state and _same_shape(name, target[name], state[name]) for name in wanted)


def _one_norm(state: State) -> State:
    """Return the tensors with the last norm under one name, whether it is in front of pooling or behind it."""
    if "norm.weight" in state or "fc_norm.weight" not in state:
        return state
    return {re.sub(r"^fc_norm\.", "norm.", name): value for name, value in state.items()}


def _same_shape(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    if name.endswith(RESIZED):
        return ours.shape[-1] == theirs.shape[-1]
    return ours.shape == theirs.shape or (name.endswith("proj.weight") and ours.numel() == theirs.numel())
