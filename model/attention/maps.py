"""Attention of the last block and of the jigsaw's parts, and cosine similarities of patches, positions and cameras."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...common.errors import UserError
from ..backbones.vit import ViTBackbone
from ..parts.jigsaw import Jigsaw
from ..reid_model import ReidModel
from .rollout import attention_weights, patch_shares


@torch.inference_mode()
def last_block_attention(
    model: ReidModel, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None
) -> Tensor:
    """Return the weight of each patch in the last block's attention, the mean of its heads: (B, h, w), each sums to 1.

    The weights are those of the class token, or the mean over the patches where these are pooled.

    Args:
        images, camids, viewids: as for the model, which is in evaluation mode and passes `has_attention`.
    """
    net = _net(model)
    weights = attention_weights(net.blocks[-1], _before_last(model, images, camids, viewids))
    return patch_shares(weights.float().mean(1), model).unflatten(1, _grid(net))


@torch.inference_mode()
def part_attention(
    model: ReidModel, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None
) -> Tensor:
    """Return the attention of each part in the jigsaw's block: (B, P, h, w), NaN for patches outside the part.

    Raises:
        ValueError: the model has no jigsaw module.
    """
    net, jigsaw = _net(model), has_parts(model) and cast(Jigsaw, model.backbone.jigsaw)
    if not isinstance(jigsaw, Jigsaw):
        raise UserError(f"MODEL.JPM: {model.spec.name} was built without the jigsaw module, so it has no parts to show")
    tokens = _before_last(model, images, camids, viewids)
    prefix, patches = tokens[:, : jigsaw.num_prefix], tokens[:, jigsaw.num_prefix :]
    maps = tokens.new_full((len(tokens), len(jigsaw.parts), patches.shape[1]), torch.nan)
    for number, part in enumerate(jigsaw.parts):
        weights = attention_weights(jigsaw.block, torch.cat([prefix, patches[:, part]], dim=1))
        maps[:, number, part] = patch_shares(weights.float().mean(1), model)
    return maps.unflatten(2, _grid(net))


@torch.inference_mode()
def patch_similarity(
    model: ReidModel, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None
) -> Tensor:
    """Return the cosine between the patch in the middle and each patch, after the last block: (B, h, w)."""
    net = _net(model)
    tokens = net.norm(net.blocks[-1](_before_last(model, images, camids, viewids)))
    patches = normalize(tokens[:, net.num_prefix_tokens :].float(), dim=2).unflatten(1, _grid(net))
    middle = patches[:, patches.shape[1] // 2, patches.shape[2] // 2]
    return torch.einsum("bhwd,bd->bhw", patches, middle)


@torch.inference_mode()
def position_similarity(model: ReidModel) -> Tensor | None:
    """Return the cosine between the position embeddings of any two patches, (h, w, h, w); None if there are none."""
    embedding = getattr(getattr(model.backbone, "net", None), "pos_embed", None)
    if not isinstance(model.backbone, ViTBackbone) or embedding is None:
        return None
    height, width = _grid(_net(model))
    places = normalize(embedding[0, -height * width :].float(), dim=1)
    return (places @ places.T).view(height, width, height, width)


@torch.inference_mode()
def camera_similarity(model: ReidModel) -> Tensor | None:
    """Return the cosine between the cameras' rows of the side information, their mean taken out, (C, C); None without them."""
    side = getattr(model.backbone, "sie", None)
    if side is None or side.num_cameras < 2:
        return None
    rows = side.table.view(side.num_cameras, -1, side.table.shape[-1]).mean(1)
    rows = normalize((rows - rows.mean(0)).float(), dim=1)
    return rows @ rows.T


def has_parts(model: ReidModel) -> bool:
    """Return whether the model has the jigsaw module."""
    return getattr(model.backbone, "jigsaw", None) is not None


def _net(model: ReidModel) -> Any:
    return cast(ViTBackbone, model.backbone).net


def _grid(net: Any) -> tuple[int, int]:
    height, width = net.patch_embed.grid_size
    return height, width


def _before_last(model: ReidModel, images: Tensor, camids: Tensor | None, viewids: Tensor | None) -> Tensor:
    """Return the input (B, N, D) of the last block."""
    backbone = cast(ViTBackbone, model.backbone)
    tokens = backbone.embed_tokens(images, camids, viewids)
    for block in list(_net(model).blocks)[:-1]:
        tokens = block(tokens)
    return tokens
