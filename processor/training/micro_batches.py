"""Embeddings of one batch: all images at once, or in micro-batches with the gradients of the whole batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...datasets.loading.batch import Batch
from .training_module import TrainingModule

logger = logging.getLogger(__name__)
Autocast = Callable[[], AbstractContextManager]
Embedded = tuple[Tensor, Callable[[], None]]


class MicroBatches:
    """The gradients of the whole batch in the memory of `size` images (gradient caching, Gao et al., RepL4NLP 2021).

    `embed` embeds all micro-batches without a graph; the loss sees the embeddings of the whole batch, so that mining and the
    neck's statistics are those of the whole batch. The function that it returns embeds each micro-batch again, with the
    same random draws (dropout, stochastic depth, hidden cameras), and back-propagates the gradient at its embeddings into
    the weights. That costs one more forward pass.

    A batch of `size` images or fewer is embedded at once. Batch norms *inside the backbone* (convolutional stems, CNNs) are
    the exception: each micro-batch is normalised by its own statistics, so the gradients are not those of the whole batch. Their
    running statistics move once per batch, by the mean of the micro-batches' statistics.

    Args:
        size: images embedded at once; 0 = the whole batch.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._has_warned = False

    def embed(self, module: TrainingModule, batch: Batch, autocast: Autocast) -> Embedded:
        """Return the embeddings before the neck (B, K, D), and a function to call after the backward pass of the loss.

        Args:
            autocast: makes the context of the forward passes.
        """
        if not self.size or len(batch) <= self.size:
            with autocast():
                return module.embed(batch), lambda: None  # the backward pass of the loss reaches the weights
        pieces = split(batch, self.size)
        self._warn_of_batch_norms(module.model.backbone)
        embeddings, draws = embed_without_graph(module, pieces, autocast)
        return embeddings, lambda: embed_again(module, pieces, draws, embeddings, autocast)

    def _warn_of_batch_norms(self, backbone: nn.Module) -> None:
        if not self._has_warned and batch_norms(backbone):
            logger.warning(
                "SOLVER.MICRO_BATCH: the backbone has batch norms, which see %d images at a time instead of the whole batch; "
                "gradients differ from those without micro-batches",
                self.size,
            )
        self._has_warned = True


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


def embed_again(
    module: TrainingModule, pieces: list[Batch], draws: list[dict[str, Tensor]], embeddings: Tensor, autocast: Autocast
) -> None:
    """Embed each piece with a graph and back-propagate the gradient at its embeddings (B_i, K, D).

    Ranks exchange gradients at the last piece.
    """
    backbone, device = module.model.backbone, pieces[0].images.device
    if embeddings.grad is None or not any(parameter.requires_grad for parameter in backbone.parameters()):
        return
    end = random_draws(device)
    gradients = embeddings.grad.split(len(pieces[0]))
    shares = [len(piece) / len(embeddings) for piece in pieces]
    with batch_norm_shares(backbone) as set_share:
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


def random_draws(device: torch.device) -> dict[str, Tensor]:
    """Return the state of the generators that a forward pass on `device` draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_draws(device: torch.device, states: dict[str, Tensor]) -> None:
    """Restore `random_draws(device)`."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    if "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def batch_norms(backbone: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms in training mode, which normalise by the batch."""
    return [norm for norm in backbone.modules() if isinstance(norm, _BatchNorm) and norm.training]


@contextmanager
def fixed_statistics(backbone: nn.Module) -> Iterator[None]:
    """Leave running statistics as they are; batches are normalised by their own statistics as before."""
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

    `set_share` sets the momentum of a pass over `share` of the batch, with `later` of it still to come, so that all passes
    together keep 1 - m of the old statistics and add m times the mean of the new, weighted by the shares.
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
    """Return the weight of the next batch in the running statistics; `norm.momentum` None = the mean of all batches."""
    if norm.momentum is not None:
        return norm.momentum
    return 1 / (int(norm.num_batches_tracked) + 1) if norm.num_batches_tracked is not None else 1.0
