"""Everything that one step of training needs, and the checks that all ranks start from the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...common.choices import choose
from ...common.files import digest
from ...configs import OPTIONS
from ...datasets import Record, ReidData
from ...loss import HEADS, METRICS
from ...model import ReidModel
from ...solver import OPTIMIZERS, SCHEDULES
from ..distributed.process_group import ALONE, Ranks
from ..scoring.reranking import RANKINGS
from .trainer import Trainer
from .training_module import TrainingModule

REGISTRIES: dict[str, Mapping[str, Any]] = {
    "LOSS.ID": HEADS,
    "LOSS.METRIC": METRICS,
    "SOLVER.OPTIMIZER_NAME": OPTIMIZERS,
    "SOLVER.SCHEDULE": SCHEDULES,
    "TEST.RERANK": RANKINGS,
}


@dataclass(frozen=True)
class TrainingSession:
    """Data, model, loss, optimizers and trainer of one training; `build_session` makes it from a config.

    Args:
        labels: pid -> training class.
        module: model and loss.
        batch_size: images per batch on this rank.
        is_sharded: each rank keeps a part of the weights (FSDP).
        compiles: whether `compile` compiles the backbone.
    """

    data: ReidData
    labels: dict[int, int]
    module: TrainingModule
    trainer: Trainer
    device: torch.device
    precision: torch.dtype
    batch_size: int
    is_sharded: bool = False
    compiles: bool = False
    ranks: Ranks = ALONE

    def compile(self) -> None:
        """Compile the backbone if SOLVER.COMPILE is on. Call it after all other work with the model, before the first step."""
        if self.compiles:
            compile_backbone(self.module.model)


def compile_backbone(model: ReidModel, backend: str = "inductor") -> None:
    """Let torch compile the backbone at its first call.

    In place: names in its state dict stay as they are, and copies of it (EMA) are not compiled.
    """
    model.backbone.compile(backend=backend)


def compile_failure(error: Exception) -> str:
    """Return a message with the remedy if `error` comes from torch.compile, else an empty text."""
    if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return ""
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"SOLVER.COMPILE: torch.compile cannot compile this model here ({reason[:300]}); set SOLVER.COMPILE False to train "
        "without it"
    )


def check_names(options: Mapping[str, Any]) -> None:
    """Raise UserError if an option names no entry of its room's dict; before data are read."""
    for key, registry in REGISTRIES.items():
        is_optional = "none" in (OPTIONS[key].choices or ())
        choose(key, options[key], {"none": None, **registry} if is_optional else registry)


def shared_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that all machines of a run must have in common."""
    return {key: value for key, value in options.items() if not OPTIONS[key].per_machine}


def image_digests(data: ReidData) -> dict[str, str]:
    """Return number and digest of the images of each side, the same in whichever folder they lie."""
    sides = {"training images": data.train, "queries": data.query, "gallery images": data.gallery}
    return {name: f"{len(records)} ({_digest(records)})" for name, records in sides.items()}


def _digest(records: Sequence[Record]) -> str:
    rows = (f"{Path(record.path).name}\n{record.pid} {record.camid} {record.viewid}\n".encode() for record in records)
    return digest(rows).removeprefix("sha256:")[:12]
