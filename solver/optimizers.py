"""Parameters -> groups with their own rate and weight decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

EMBEDDINGS = {"pos_embed", "cls_token", "dist_token", "reg_token"}


@dataclass(frozen=True)
class GroupRules:
    """How a parameter's name and shape decide its rate and weight decay.

    Args:
        base_lr: learning rate at factor 1.
        weight_decay, bias_weight_decay: weight decay of weights and of biases.
        bias_lr_factor, head_lr_factor: rate factor of biases and of the ID classifiers.
        no_decay: no weight decay on norms, biases and the position, class and side-information embeddings.
        lr_scales: factor of the whole schedule, start and end included, by name; 1 for other names. Layer-wise decay.
        head_epochs: number of first epochs without training of the backbone.
    """

    base_lr: float
    weight_decay: float = 0.0
    bias_weight_decay: float = 0.0
    bias_lr_factor: float = 1.0
    head_lr_factor: float = 1.0
    no_decay: bool = False
    lr_scales: Mapping[str, float] = field(default_factory=dict)
    head_epochs: int = 0

    def lr_factor(self, name: str) -> float:
        """Return the rate of the parameter `name` over the base rate."""
        if name.startswith("heads."):  # the ID classifiers
            return self.head_lr_factor
        return self.bias_lr_factor if is_bias(name) else 1.0

    def options(self, name: str, parameter: Tensor) -> dict[str, Any]:
        """Return the options of the group that the parameter belongs to."""
        factor, scale = self.lr_factor(name), self.lr_scales.get(name, 1.0)
        options = {
            "lr": self.base_lr * factor * scale,
            "lr_factor": factor,
            "weight_decay": self.decay(name, parameter),
        }
        if self.lr_scales:
            options["lr_scale"] = scale
        if self.head_epochs:
            options["frozen_epochs"] = self.head_epochs if name.startswith("backbone.") else 0
        return options

    def decay(self, name: str, parameter: Tensor) -> float:
        """Return the weight decay of the parameter `name`."""
        if self.no_decay and (parameter.ndim <= 1 or is_embedding(name)):
            return 0.0
        return self.bias_weight_decay if is_bias(name) else self.weight_decay


def is_bias(name: str) -> bool:
    """Return whether `name` is the bias of a layer; Swin's `relative_position_bias_table` is not."""
    return name.rsplit(".", 1)[-1] == "bias"


def is_embedding(name: str) -> bool:
    """Return whether `name` is a position, class or side-information embedding."""
    return name.rsplit(".", 1)[-1] in EMBEDDINGS or any(part.startswith("sie") for part in name.split("."))


def group_parameters(named: Iterable[tuple[str, nn.Parameter]], rules: GroupRules) -> list[dict[str, Any]]:
    """Return optimizer groups, one per distinct set of options; frozen parameters are left out.

    Groups and their parameters keep the order of `named`, so that an optimizer's state fits again on resume.
    """
    groups: dict[tuple[float, ...], dict[str, Any]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            options = rules.options(name, parameter)
            groups.setdefault(tuple(options.values()), {"params": [], **options})["params"].append(parameter)
    return list(groups.values())
