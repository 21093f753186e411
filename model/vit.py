"""A timm vision transformer with the re-ID parts around it: stem, side information, jigsaw."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from .jigsaw import Jigsaw
from .sie import SideInformation
from .spec import ModelSpec
from .stems import STEMS


class ViTBackbone(nn.Module):
    """Images, camera and view -> one feature per branch.

    Raises:
        ValueError: the spec asks for what the named model cannot do; names the config key.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.net = create_vit(spec)
        self.num_features: int = self.net.embed_dim
        self.pos_drop = nn.Dropout(spec.drop_out)
        self.sie = self._side_information(spec) if spec.sie_camera or spec.sie_view else None
        self.jigsaw = self._jigsaw(spec) if spec.jpm else None

    def _side_information(self, spec: ModelSpec) -> SideInformation:
        num_cameras = len(spec.cameras) if spec.sie_camera else 0
        num_views = len(spec.views) if spec.sie_view else 0
        return SideInformation(
            num_cameras, num_views, self.num_features, spec.sie_coe, spec.sie_fallback, spec.sie_dropout
        )

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
        )

    def forward(self, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None) -> Tensor:
        """Return features (B, K, D) of images (B, 3, H, W); camids and viewids (B,), None or -1 = unknown."""
        net = self.net
        tokens = self.embed_tokens(images, camids, viewids)
        for block in list(net.blocks)[:-1]:
            tokens = block(tokens)
        branches = [net.pool(net.norm(net.blocks[-1](tokens))).unsqueeze(1)]  # (B, 1, D)
        if self.jigsaw is not None:
            branches.append(
                net.pool(self.jigsaw(tokens)).unflatten(0, (len(images), -1))
            )  # (B * parts, D) -> (B, parts, D)
        return torch.cat(branches, dim=1)

    def embed_tokens(self, images: Tensor, camids: Tensor | None, viewids: Tensor | None) -> Tensor:
        """Return the input of the first block, (B, prefix + N, D)."""
        net = self.net
        tokens = net._pos_embed(net.patch_embed(images))  # adds the class token and the position embedding
        if self.sie is not None:
            tokens = tokens + self.sie(len(images), camids, viewids)
        return net.norm_pre(self.pos_drop(tokens))


def create_vit(spec: ModelSpec) -> VisionTransformer:
    """Return timm's model of that name, without weights and without a classifier."""
    try:
        return cast(VisionTransformer, timm.create_model(spec.name, pretrained=False, **_vit_options(spec)))
    except AssertionError as error:
        raise ValueError(
            f"MODEL.POOL {spec.pool!r}, MODEL.EMBED_DIM {spec.embed_dim}, MODEL.NUM_HEADS {spec.num_heads}: not possible "
            f"with {spec.name}: {error} (0 = as in the named model)"
        ) from error


def _vit_options(spec: ModelSpec) -> dict[str, Any]:
    given = {"embed_dim": spec.embed_dim, "depth": spec.depth, "num_heads": spec.num_heads, "mlp_ratio": spec.mlp_ratio}
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
        "embed_layer": partial(STEMS[spec.stem], stride=spec.stride),
    }


def set_fused_attention(model: nn.Module, fused: bool) -> None:
    """Choose torch's fused attention kernel or plain matrix products; the results are the same to rounding.

    On a CPU, training in bfloat16 is faster with the plain products; elsewhere fused is faster and smaller.
    """
    module: Any
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
