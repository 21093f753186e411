"""Parameters -> optimizer, learning-rate schedule, averaged weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer
from yacs.config import CfgNode

from .ema import EMA
from .optimizers import GroupRules, group_parameters
from .schedule import Schedule, cosine, multistep

__all__ = [
    "EMA",
    "OPTIMIZERS",
    "SCHEDULES",
    "GroupRules",
    "Schedule",
    "build_optimizers",
    "build_schedule",
    "cosine",
    "group_parameters",
    "multistep",
]

OPTIMIZERS: dict[str, Callable[[CfgNode, list], Optimizer]] = {
    "SGD": lambda cfg, groups: torch.optim.SGD(groups, lr=cfg.SOLVER.BASE_LR, momentum=cfg.SOLVER.MOMENTUM),
    "Adam": lambda cfg, groups: torch.optim.Adam(groups, lr=cfg.SOLVER.BASE_LR),
    "AdamW": lambda cfg, groups: torch.optim.AdamW(groups, lr=cfg.SOLVER.BASE_LR),
}
SCHEDULES: dict[str, Callable[[CfgNode], Callable[[float], float]]] = {
    "cosine": lambda cfg: cosine(cfg.SOLVER.MAX_EPOCHS),
    "multistep": lambda cfg: multistep(cfg.SOLVER.STEPS, cfg.SOLVER.GAMMA),
}


def build_optimizers(cfg: CfgNode, model: nn.Module, loss: nn.Module) -> list[Optimizer]:
    """Return [main], or [main, centres] if the loss has centres (parameters called `center.*`).

    The centres have their own SGD with a constant rate: its groups have no `lr_factor`, so that `Schedule.apply` passes them by.

    Raises:
        ValueError: SOLVER.OPTIMIZER_NAME is unknown.
    """
    make = choose("SOLVER.OPTIMIZER_NAME", cfg.SOLVER.OPTIMIZER_NAME, OPTIMIZERS)
    of_loss = dict(loss.named_parameters())
    centers = [of_loss.pop(name) for name in list(of_loss) if name.startswith("center.")]
    optimizers = [make(cfg, group_parameters([*model.named_parameters(), *of_loss.items()], group_rules(cfg)))]
    if centers:
        optimizers.append(torch.optim.SGD(centers, lr=cfg.SOLVER.CENTER_LR))
    return optimizers


def group_rules(cfg: CfgNode) -> GroupRules:
    """Return the rates and weight decays that the config asks for."""
    return GroupRules(
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        bias_weight_decay=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        head_lr_factor=cfg.SOLVER.HEAD_LR_FACTOR,
        no_decay=cfg.SOLVER.NO_DECAY,
    )


def build_schedule(cfg: CfgNode, iters_per_epoch: int) -> Schedule:
    """Return the learning-rate schedule.

    Raises:
        ValueError: SOLVER.SCHEDULE is unknown.
    """
    make_decay = choose("SOLVER.SCHEDULE", cfg.SOLVER.SCHEDULE, SCHEDULES)
    return Schedule(
        base_lr=cfg.SOLVER.BASE_LR,
        decay=make_decay(cfg),
        warmup_epochs=cfg.SOLVER.WARMUP_EPOCHS,
        warmup_lr=cfg.SOLVER.BASE_LR * cfg.SOLVER.WARMUP_FACTOR,
        min_lr=cfg.SOLVER.BASE_LR * cfg.SOLVER.MIN_LR_FACTOR if cfg.SOLVER.SCHEDULE == "cosine" else 0.0,
        iters_per_epoch=iters_per_epoch if cfg.SOLVER.PER_ITERATION else None,
    )


def choose(key: str, name: str, makers: dict[str, Callable]) -> Callable:
    """Return the maker called `name`."""
    if name not in makers:
        raise ValueError(f"{key}: unknown value {name!r}; choose from {', '.join(sorted(makers))}")
    return makers[name]
