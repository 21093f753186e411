"""SmoothQuant: move large activations of a ViT into the weights behind them (Xiao et al., ICML 2023, arXiv:2211.10438)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

LEAST, MOST = 1e-3, 1e3  # of a channel's factor
TINY = 1e-5
PARTS = ("norm1", "attn", "norm2", "mlp")


@torch.no_grad()
def smooth(network: nn.Module, batches: Iterable[tuple[Tensor, ...]], strength: float = 0.5) -> int:
    """Divide channels with large activations by a factor and multiply the weights that read them by it; return how many times.

    The network computes the same up to rounding. In each ViT block three products are smoothed: qkv behind its layer norm, the
    projection behind the values, and the MLP's first layer behind its layer norm. Behind GELU there is no exact way.

    Args:
        network: changed in place; without blocks of timm's ViT nothing happens.
        batches: inputs of the network, to measure the largest activation of each channel.
        strength: 0 = activations stay, 1 = all of their differences move into the weights.
    """
    blocks: list[Any] = [part for part in network.modules() if is_vit_block(part)]
    if not blocks:
        return 0
    peaks = _peaks(network, blocks, batches)
    for block in blocks:
        for norm, layer in ((block.norm1, block.attn.qkv), (block.norm2, block.mlp.fc1)):
            factor = _factor(peaks[norm], layer.weight, strength)
            norm.weight /= factor
            norm.bias /= factor
            layer.weight *= factor
        _smooth_values(block.attn, peaks[block.attn.proj], strength)
    return 3 * len(blocks)


def is_vit_block(part: Any) -> bool:
    """Return whether a module is a ViT block whose parts can be smoothed: affine layer norms, one qkv layer, a plain MLP."""
    if not all(hasattr(part, name) for name in PARTS):
        return False
    layers: list[Any] = [
        getattr(part.attn, "qkv", None),
        getattr(part.attn, "proj", None),
        getattr(part.mlp, "fc1", None),
    ]
    norms = [part.norm1, part.norm2]
    return (
        all(isinstance(layer, nn.Linear) for layer in layers)
        and all(isinstance(norm, nn.LayerNorm) and norm.bias is not None for norm in norms)
        and layers[0].out_features == 3 * layers[1].in_features
        and isinstance(getattr(part.attn, "norm", nn.Identity()), nn.Identity)
    )


def _smooth_values(attention: Any, peak: Tensor, strength: float) -> None:
    """Move factors from the input of the projection, a weighted mean of values, into the rows of qkv that give the values."""
    factor = _factor(peak, attention.proj.weight, strength)
    attention.qkv.weight[-len(factor) :] /= factor[:, None]
    if attention.qkv.bias is not None:
        attention.qkv.bias[-len(factor) :] /= factor
    attention.proj.weight *= factor


def _factor(peak: Tensor, weight: Tensor, strength: float) -> Tensor:
    """Return the factor (D,) of each input channel of a layer with weight (out, D), 1 for the median channel."""
    factor = peak.clamp(min=TINY) ** strength / weight.abs().amax(0).clamp(min=TINY) ** (1 - strength)
    return (factor / factor.median()).clamp(LEAST, MOST)


def _peaks(network: nn.Module, blocks: list[Any], batches: Iterable[tuple[Tensor, ...]]) -> dict[nn.Module, Tensor]:
    """Return the largest absolute activation (D,) behind each layer norm and in front of each projection."""
    peaks: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, values: Tensor) -> None:
        largest = values.abs().flatten(0, -2).amax(0)
        peaks[module] = torch.maximum(peaks[module], largest) if module in peaks else largest

    def output_of(module: nn.Module) -> Any:
        hook: Callable[..., None] = lambda _module, _inputs, output: keep(module, output)  # noqa: E731
        return module.register_forward_hook(hook)

    def input_of(module: nn.Module) -> Any:
        hook: Callable[..., None] = lambda _module, inputs: keep(module, inputs[0])  # noqa: E731
        return module.register_forward_pre_hook(hook)

    hooks = [watch for block in blocks for watch in (output_of(block.norm1), output_of(block.norm2))]
    hooks += [input_of(block.attn.proj) for block in blocks]
    try:
        for batch in batches:
            network(*batch)
    finally:
        for hook in hooks:
            hook.remove()
    return peaks
