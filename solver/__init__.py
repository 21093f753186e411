"""Parameters -> optimizer, learning-rate schedule, averaged weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from yacs.config import CfgNode

from ..common.errors import choose
from .ema import EMA, SWA, Average
from .optimizers import GroupRules, group_parameters
from .schedule import Schedule, cosine, multistep

__all__ = [
    "EMA",
    "OPTIMIZERS",
    "SCHEDULES",
    "SWA",
    "Average",
    "GroupRules",
    "Schedule",
    "build_average",
    "build_optimizers",
    "build_schedule",
    "cosine",
    "group_parameters",
    "multistep",
]

OPTIMIZERS: dict[str, Callable[[CfgNode, list, bool | None], Optimizer]] = {
    "SGD": lambda cfg, groups, fused: torch.optim.SGD(groups, cfg.SOLVER.BASE_LR, cfg.SOLVER.MOMENTUM, fused=fused),
    "Adam": lambda cfg, groups, fused: torch.optim.Adam(groups, lr=cfg.SOLVER.BASE_LR, fused=fused),
    "AdamW": lambda cfg, groups, fused: torch.optim.AdamW(groups, lr=cfg.SOLVER.BASE_LR, fused=fused),
}
SCHEDULES: dict[str, Callable[[CfgNode], Callable[[float], float]]] = {
    "cosine": lambda cfg: cosine(cfg.SOLVER.MAX_EPOCHS),
    "multistep": lambda cfg: multistep(cfg.SOLVER.STEPS, cfg.SOLVER.GAMMA),
}


def build_optimizers(cfg: CfgNode, model: nn.Module, loss: nn.Module, scaled: bool = False) -> list[Optimizer]:
    """Return [main], or [main, centres] if the loss has centres (parameters called `center.*`).

    The centres have their own SGD with a constant rate: its groups have no `lr_factor`, so `Schedule.apply` skips them.

    Args:
        scaled: a gradient scaler may skip steps (float16).
    """
    make = choose("SOLVER.OPTIMIZER_NAME", cfg.SOLVER.OPTIMIZER_NAME, OPTIMIZERS)
    of_loss = dict(loss.named_parameters())
    centers = [of_loss.pop(name) for name in list(of_loss) if name.startswith("center.")]
    named = [*model.named_parameters(), *of_loss.items()]
    rules = build_group_rules(cfg, layer_scales(model, cfg.SOLVER.LAYER_DECAY))
    optimizers = [make(cfg, group_parameters(named, rules), fused_or_none(p for _, p in named))]
    if scaled and cfg.SOLVER.OPTIMIZER_NAME == "SGD":
        optimizers[0].register_step_pre_hook(begin_momentum)
    if centers:
        fused = fused_or_none(centers) if scaled else None  # unfused, the scaler waits for the device at each step
        optimizers.append(torch.optim.SGD(centers, lr=cfg.SOLVER.CENTER_LR, fused=fused))
    return optimizers


def begin_momentum(optimizer: Optimizer, *_: object) -> None:
    """Start missing momentum buffers at 0, which leads to the same steps.

    torch's fused SGD allocates the buffer in its first step without writing it if the gradient scaler skips that step, and
    reads it in the next.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            if parameter.grad is not None and optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter.grad)


def fused_or_none(parameters: Iterable[Tensor]) -> bool | None:
    """Return True where torch has one kernel for a whole step, else None: torch chooses. The results agree to rounding.

    There is none for parameters sharded over ranks (DTensor).
    """
    kinds = {"parts" if hasattr(parameter, "full_tensor") else parameter.device.type for parameter in parameters}
    return True if kinds <= {"cpu", "cuda"} else None


def layer_scales(model: Any, decay: float) -> dict[str, float]:
    """Return the rate factor of each of the model's parameters: `decay` to the power of the layers above its own.

    Args:
        model: `layer_numbers()` returns the layer of each parameter by name, 0 = the embeddings.
    """
    if decay == 1:
        return {}
    numbers: dict[str, int] = model.layer_numbers()
    top = max(numbers.values())
    return {name: decay ** (top - number) for name, number in numbers.items()}


def build_group_rules(cfg: CfgNode, lr_scales: dict[str, float]) -> GroupRules:
    """Return the rules for learning rates and weight decays."""
    solver = cfg.SOLVER
    decays, factors = (solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_BIAS), (solver.BIAS_LR_FACTOR, solver.HEAD_LR_FACTOR)
    return GroupRules(solver.BASE_LR, *decays, *factors, solver.NO_DECAY, lr_scales, solver.HEAD_EPOCHS)


def build_average(cfg: CfgNode, model: nn.Module) -> Average | None:
    """Return the averaged weights to evaluate, on the model's device; None = evaluate the weights being trained."""
    if cfg.SOLVER.SWA_START:
        return SWA(model, cfg.SOLVER.SWA_START)
    return EMA(model, cfg.SOLVER.EMA) if cfg.SOLVER.EMA else None


def build_schedule(cfg: CfgNode, iters_per_epoch: int) -> Schedule:
    """Return the learning-rate schedule."""
    make_decay = choose("SOLVER.SCHEDULE", cfg.SOLVER.SCHEDULE, SCHEDULES)
    return Schedule(
        base_lr=cfg.SOLVER.BASE_LR,
        decay=make_decay(cfg),
        warmup_epochs=cfg.SOLVER.WARMUP_EPOCHS,
        warmup_lr=cfg.SOLVER.BASE_LR * cfg.SOLVER.WARMUP_FACTOR,
        min_lr=cfg.SOLVER.BASE_LR * cfg.SOLVER.MIN_LR_FACTOR if cfg.SOLVER.SCHEDULE == "cosine" else 0.0,
        iters_per_epoch=iters_per_epoch if cfg.SOLVER.PER_ITERATION else None,
    )
