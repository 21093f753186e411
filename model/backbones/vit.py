"""ViT backbone: timm's VisionTransformer with re-ID's patch stem, side information and jigsaw."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ...common.errors import UserError
from ..model_spec import ModelSpec
from ..parts.blocks import ClassTokenBlock, can_stop_at_first, run_block
from ..parts.jigsaw import Jigsaw
from ..parts.sie import build_side_information
from .registry import create_net, has_own_stem
from .stems import STEMS


class ViTBackbone(nn.Module):
    """Images, camera and view -> one feature per branch.

    Raises:
        ValueError: the named model does not support an option of the spec; names the config key.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.net = create_vit(spec)
        width: int = self.net.embed_dim
        self.projection = nn.Linear(width, spec.projection, bias=False) if spec.projection else None
        self.num_features = width + spec.projection
        self.sie_on_class = spec.sie_tokens == "class"
        if self.sie_on_class and spec.pool != "token":
            raise UserError("MODEL.SIE_TOKENS class: needs MODEL.POOL token, without it there is no class token")
        self.pos_drop = nn.Dropout(spec.drop_out)
        self.sie = build_side_information(spec, width) if spec.sie_camera or spec.sie_view else None
        self.recompute = False
        self.only_first = spec.pool == "token" and can_stop_at_first(self.net.blocks[-1])
        if self.only_first:
            self.net.blocks[-1] = ClassTokenBlock(self.net.blocks[-1])
        self.jigsaw = self._jigsaw(spec) if spec.jpm else None

    def checkpoint_blocks(self) -> None:
        """Compute the activations inside each block again in the backward pass instead of storing them."""
        self.recompute = True
        if self.jigsaw is not None:
            self.jigsaw.recompute = True

    def _jigsaw(self, spec: ModelSpec) -> Jigsaw:
        net = self.net
        return Jigsaw(
            net.blocks[-1],
            net.norm,
            num_prefix=net.num_prefix_tokens,
            num_patches=net.patch_embed.num_patches,
            num_parts=spec.num_parts,
            shift=spec.shift_num,
            groups=spec.shuffle_group,
            rearrange=spec.re_arrange,
            only_first=self.only_first,
        )

    def forward(self, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None) -> Tensor:
        """Return features (B, K, D) of images (B, 3, H, W); camids and viewids (B,), None or -1 = unknown."""
        net = self.net
        tokens = self.embed_tokens(images, camids, viewids)
        for block in list(net.blocks)[:-1]:
            tokens = run_block(block, tokens, self.recompute)
        options = {"only_first": True} if self.only_first else {}
        last = run_block(net.blocks[-1], tokens, self.recompute, **options)
        branches = [net.pool(net.norm(last)).unsqueeze(1)]  # (B, 1, D)
        if self.jigsaw is not None:
            local = net.pool(self.jigsaw(tokens))
            branches.append(local.unflatten(0, (-1, len(self.jigsaw.parts))))  # (B * parts, D) -> (B, parts, D)
        features = torch.cat(branches, dim=1)
        return features if self.projection is None else torch.cat([features, self.projection(features)], dim=2)

    def embed_tokens(self, images: Tensor, camids: Tensor | None, viewids: Tensor | None) -> Tensor:
        """Return the input of the first block, (B, prefix + N, D)."""
        net = self.net
        tokens = net._pos_embed(net.patch_embed(images))  # adds class token and position; private: timm is pinned
        if self.sie is not None:
            offset = self.sie(images.shape[0], camids, viewids)  # len() would fix the batch size in an export
            first, rest = (tokens[:, :1], tokens[:, 1:]) if self.sie_on_class else (tokens, tokens[:, :0])
            tokens = torch.cat([first + offset, rest], dim=1)
        return net.norm_pre(self.pos_drop(tokens))


def create_vit(spec: ModelSpec) -> VisionTransformer:
    """Return the model of that name, without weights and without a classifier."""
    try:
        return cast(VisionTransformer, create_net(spec.name, **_vit_options(spec), **_stem(spec)))
    except AssertionError as error:
        raise UserError(
            f"MODEL.POOL {spec.pool!r}, MODEL.EMBED_DIM {spec.embed_dim}, MODEL.NUM_HEADS {spec.num_heads}: not possible "
            f"with {spec.name}: {error} (0 = as in the named model)"
        ) from error


def _vit_options(spec: ModelSpec) -> dict[str, Any]:
    given = {
        "embed_dim": spec.embed_dim,
        "depth": spec.depth,
        "num_heads": spec.num_heads,
        "mlp_ratio": spec.mlp_ratio,
        "patch_size": spec.patch_size,
        "act_layer": spec.activation,
    }
    options: dict[str, Any] = {key: value for key, value in given.items() if value}
    if spec.pool == "avg":
        options["class_token"] = False
    return {
        **options,
        "img_size": spec.img_size,
        "num_classes": 0,
        "global_pool": spec.pool,
        "fc_norm": False,  # norm before pooling, as TransReID
        "drop_path_rate": spec.drop_path,
        "proj_drop_rate": spec.drop_out,
        "attn_drop_rate": spec.att_drop_rate,
    }


def _stem(spec: ModelSpec) -> dict[str, Any]:
    if not has_own_stem(spec.name):
        return {"embed_layer": partial(STEMS[spec.stem], stride=spec.stride)}
    usual = ModelSpec(spec.name)
    if (spec.stem, spec.stride) != (usual.stem, usual.stride):
        raise UserError(
            f"MODEL.STEM, MODEL.STRIDE_SIZE: {spec.name} has a fixed stem; leave them at {usual.stem} and {usual.stride}"
        )
    return {}


def set_fused_attention(model: nn.Module, fused: bool) -> None:
    """Choose torch's fused attention kernel or plain matrix products; results are equal up to rounding.

    On a CPU bfloat16 is faster with the plain products; elsewhere fused is faster and smaller.
    """
    module: Any
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
