"""Which tensors of a weight file an embedder does not use: classifiers, poolers, decoders, tokens that the model does not have."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

HEADS = (
    "head.",
    "head_dist.",
    "fc.",
    "classifier.",
    "pre_logits.",
    "pooler.",
    "lm_head.",
    "attn_pool.",
    "decoder_",
    "cls_token",
    "dist_token",
    "mask_token",
)


def is_head(net: nn.Module, name: str, value: Tensor) -> bool:
    """Return whether a tensor under timm's name that the network does not have belongs to a head, see above, or is a counter."""
    if value.ndim == 0 and not value.is_floating_point():
        return True
    cfg: Any = getattr(net, "pretrained_cfg", None) or {}
    own = cfg.get("classifier") or ()
    own = (own,) if isinstance(own, str) else tuple(own)
    return name.startswith((*HEADS, *(f"{layer}." for layer in own)))
