"""torch.compile, where it pays: on the backbone."""

from __future__ import annotations

from ...model import ReidModel


def compile_backbone(model: ReidModel, backend: str = "inductor") -> None:
    """Let torch compile the backbone when it is first called.

    In place: the names in its state dict stay as they are, and so do copies made of it (EMA), which are not compiled.
    """
    model.backbone.compile(backend=backend)


def compile_failure(error: Exception) -> str:
    """Return what to tell the user if `error` comes from torch.compile, else an empty text."""
    if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return ""
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"SOLVER.COMPILE: torch.compile cannot compile this model here ({reason[:300]}); set SOLVER.COMPILE False to train "
        "without it"
    )
