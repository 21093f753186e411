"""One batch forward and backward: all at once, or in micro-batches with the gradients of the whole batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from yacs.config import CfgNode

from ...datasets.loading.batch import Batch
from .training_module import Losses, TrainingModule

logger = logging.getLogger(__name__)
Autocast = Callable[[], AbstractContextManager]
Scale = Callable[[Tensor], Tensor]


def build_passes(cfg: CfgNode, num_ranks: int = 1) -> WholeBatch | MicroBatches:
    """Return how a batch goes through the model; SOLVER.MICRO_BATCH is per process, as the memory is."""
    size = cfg.SOLVER.MICRO_BATCH
    return MicroBatches(size) if 0 < size < cfg.SOLVER.IMS_PER_BATCH // num_ranks else WholeBatch()


class WholeBatch:
    """Forward and backward of all images together."""

    def __call__(self, module: TrainingModule, batch: Batch, autocast: Autocast, scale: Scale) -> Losses:
        """Add the gradients of a batch to the parameters; return (terms, stats), detached.

        Args:
            autocast: makes the context of the forward passes.
            scale: the loss () -> what is back-propagated (), e.g. the gradient scaler's.
        """
        with autocast():
            terms, stats = module(batch)
        scale(sum_terms(terms)).backward()
        return detach(terms), detach(stats)


class MicroBatches:
    """The gradients of the whole batch in the memory of `size` images (gradient caching, Gao et al., RepL4NLP 2021).

    All micro-batches are embedded without a graph; the loss sees the embeddings of the whole batch, so that mining and the
    neck's statistics are those of the whole batch; then each micro-batch is embedded again, with the random draws of its first
    time (dropout, stochastic depth, hidden cameras), and the gradient at its embeddings is carried on into the weights. That
    costs one more forward pass.

    With `size` images or fewer it is a `WholeBatch`. Norms over the batch *inside the backbone* (convolutional stems, CNNs) are
    the exception: each micro-batch is normalised by statistics of its own, so the gradients are not those of the whole batch. Their
    running statistics move once per batch, by the mean of the micro-batches' statistics.

    Args:
        size: images embedded at once.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._warned = False

    def __call__(self, module: TrainingModule, batch: Batch, autocast: Autocast, scale: Scale) -> Losses:
        """Add the gradients of a batch to the parameters; return (terms, stats), detached. See `WholeBatch`."""
        if len(batch) <= self.size:
            return WholeBatch()(module, batch, autocast, scale)
        backbone, pieces = module.model.backbone, split(batch, self.size)
        self._warn_of_batch_norms(backbone)
        before, draws = embed_without_graph(module, pieces, autocast)
        with autocast():
            terms, stats = module.score(before, batch.labels)
        scale(sum_terms(terms)).backward()
        if before.grad is not None and any(parameter.requires_grad for parameter in backbone.parameters()):
            carry_on(module, pieces, draws, before.grad.split(self.size), autocast)
        return detach(terms), detach(stats)

    def _warn_of_batch_norms(self, backbone: nn.Module) -> None:
        if not self._warned and batch_norms(backbone):
            logger.warning(
                "SOLVER.MICRO_BATCH: the backbone has batch norms, which see %d images at a time instead of the whole batch; "
                "gradients differ from those without micro-batches",
                self.size,
            )
        self._warned = True


def embed_without_graph(
    module: TrainingModule, pieces: list[Batch], autocast: Autocast
) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Return the embeddings (B, K, D), which collect their gradient, and the random state before each piece."""
    device, draws, parts = pieces[0].images.device, [], []
    with torch.no_grad(), autocast(), fixed_statistics(module.model.backbone):
        for piece in pieces:
            draws.append(random_draws(device))
            parts.append(module.embed(piece))
    return torch.cat(parts).requires_grad_(), draws


def carry_on(
    module: TrainingModule,
    pieces: list[Batch],
    draws: list[dict[str, Tensor]],
    gradients: tuple[Tensor, ...],
    autocast: Autocast,
) -> None:
    """Embed each piece again and back-propagate the gradient (B_i, K, D) at its embeddings; ranks add up at the last one."""
    device = pieces[0].images.device
    end = random_draws(device)
    shares = [len(piece) / sum(map(len, pieces)) for piece in pieces]
    with batch_norm_shares(module.model.backbone) as set_share:
        for i, (piece, draw, gradient) in enumerate(zip(pieces, draws, gradients, strict=True)):
            restore_draws(device, draw)
            set_share(shares[i], sum(shares[i + 1 :]))
            with nullcontext() if i + 1 == len(pieces) else module.no_sync():
                with autocast():
                    embedded = module.embed(piece)
                embedded.backward(gradient)
    restore_draws(device, end)


def split(batch: Batch, size: int) -> list[Batch]:
    """Return the batch in pieces of `size` images; the last may be smaller."""
    columns = [getattr(batch, field.name).split(size) for field in fields(batch)]
    return [type(batch)(*piece) for piece in zip(*columns, strict=True)]


def sum_terms(terms: dict[str, Tensor]) -> Tensor:
    """Return the loss ()."""
    return torch.stack(list(terms.values())).sum()


def detach(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the same scalars without their graphs."""
    return {name: value.detach() for name, value in values.items()}


# --- random draws -----------------------------------------------------------------------------------------------------


def random_draws(device: torch.device) -> dict[str, Tensor]:
    """Return the state of the generators that a forward pass on `device` draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_draws(device: torch.device, states: dict[str, Tensor]) -> None:
    """Go back to `random_draws(device)`."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    if "mps" in states:
        torch.mps.set_rng_state(states["mps"])


# --- batch norms inside the backbone ----------------------------------------------------------------------------------


def batch_norms(backbone: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms that follow the batch, now: those in training mode."""
    return [norm for norm in backbone.modules() if isinstance(norm, _BatchNorm) and norm.training]


@contextmanager
def fixed_statistics(backbone: nn.Module) -> Iterator[None]:
    """Leave running statistics as they are, while batches are still normalised by their own."""
    norms = [norm for norm in batch_norms(backbone) if norm.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@contextmanager
def batch_norm_shares(backbone: nn.Module) -> Iterator[Callable[[float, float], None]]:
    """Make several passes move the running statistics as far as one; yield `set_share(share, later)`.

    A pass over `share` of the batch, with `later` of it still to come, is given the momentum with which all passes together
    keep 1 - m of the old statistics and add m times the mean of theirs, weighted by their shares.
    """
    norms = [norm for norm in batch_norms(backbone) if norm.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked.clone() for norm in norms if norm.num_batches_tracked is not None]
    whole = [_momentum(norm) for norm in norms]

    def set_share(share: float, later: float) -> None:
        for norm, momentum in zip(norms, whole, strict=True):
            norm.momentum = momentum * share / (1 - momentum * later)

    try:
        yield set_share
    finally:
        counted: list[Any] = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for count, before in zip(counted, counts, strict=True):
            count.copy_(before + 1)


def _momentum(norm: _BatchNorm) -> float:
    """Return the share of the next batch in the running statistics; None stands for the mean of all batches."""
    if norm.momentum is not None:
        return norm.momentum
    return 1 / (int(norm.num_batches_tracked) + 1) if norm.num_batches_tracked is not None else 1.0
