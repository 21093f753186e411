"""Layer index of each parameter, for layer-wise learning-rate decay and for freezing the first layers."""

from __future__ import annotations

import re
from typing import Any

from timm.models import group_parameters
from torch import nn

from ..common.errors import UserError
from .backbones.vit import ViTBackbone

SIE = "sie."


def layer_numbers(backbone: Any) -> dict[str, int]:
    """Return the layer index of each parameter of the backbone by name: 0 = before the first block, then the blocks.

    A ViT's norm follows its last block; the jigsaw's block and norm have the indices of the backbone's last ones. Other models use
    timm's layer groups.

    Raises:
        ValueError: a model from outside timm that has no such groups.
    """
    if isinstance(backbone, ViTBackbone):
        depth = len(backbone.net.blocks)
        return {name: _layer_of_vit(name, depth) for name, _ in backbone.named_parameters()}
    if not hasattr(backbone.net, "group_matcher"):
        raise UserError(
            f"SOLVER.LAYER_DECAY, MODEL.FREEZE_BLOCKS, MODEL.FREEZE_STEM: {type(backbone.net).__name__} does not say which layers "
            "follow each other (method group_matcher, as timm's models have it); add the method, or leave these options out"
        )
    numbers = group_parameters(backbone.net, backbone.net.group_matcher(coarse=False), reverse=True)
    last = max(numbers.values()) + 1  # index of parts that are not timm's
    return {
        name: 0 if name.startswith(SIE) else numbers.get(name.removeprefix("net."), last)
        for name, _ in backbone.named_parameters()
    }


def _layer_of_vit(name: str, depth: int) -> int:
    block = re.match(r"net\.blocks\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    if name.startswith("jigsaw.block."):
        return depth
    return depth + 1 if name.startswith(("net.norm.", "jigsaw.norm.", "projection.")) else 0


def freeze(backbone: Any, stem: bool, num_blocks: int) -> None:
    """Freeze the stem and the first blocks: no gradients; `still_frozen_parts` keeps their norms and dropout in evaluation mode.

    Args:
        stem: freeze all parameters before the first block, except the side-information embedding, which has no pretrained weights.
        num_blocks: number of blocks to freeze.
    Raises:
        ValueError: the model has fewer blocks.
    """
    numbers = {name: number for name, number in layer_numbers(backbone).items() if not name.startswith(SIE)}
    count = len(backbone.net.blocks) if isinstance(backbone, ViTBackbone) else max(numbers.values())
    if num_blocks > count:
        raise UserError(f"MODEL.FREEZE_BLOCKS: {num_blocks} blocks to freeze, the model has {count}; take fewer")
    frozen = {number for number in numbers.values() if 1 <= number <= num_blocks} | ({0} if stem else set())
    for name, parameter in backbone.named_parameters():
        if numbers.get(name) in frozen and not name.startswith("jigsaw."):
            parameter.requires_grad_(False)


def still_frozen_parts(module: nn.Module) -> None:
    """Put modules with only frozen parameters into evaluation mode: fixed statistics, no dropout."""
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
        return
    for child in module.children():
        still_frozen_parts(child)
