"""ReidModel: backbone and BN-neck; images (+ camera, view) -> embeddings before and after the neck."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import timm
import torch
from torch import Tensor, nn

from ..common.errors import UserError, choose
from ..common.files import digest
from .backbones.pooled import PooledBackbone
from .backbones.registry import OWN, VITS
from .backbones.vit import ViTBackbone
from .layer_depth import layer_numbers, still_frozen_parts
from .model_spec import ModelSpec
from .parts.frame_pool import FRAME_POOLS, pool_frames

Settings = TypeVar("Settings")
VIT_MODULES = ("vision_transformer", "vision_transformer_hybrid", "deit")  # timm's modules of VisionTransformer models


class Embeddings(NamedTuple):
    """float32 embeddings, each (B, K, D): `before` for the metric loss, `after` for the ID loss; [:, 0] is global."""

    before: Tensor
    after: Tensor


class ReidModel(nn.Module):
    """Backbone and BN-neck; a ValueError names the config key of an option that the backbone does not support.

    It has the members that `processor.embedding.embedding_model` asks of every model that embeds images.
    """

    mirrors_inside = False
    devices = ("cuda", "mps", "cpu")
    precisions = ("bf16", "fp16", "fp32")

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = build_backbone(spec)
        self.neck = build_neck(spec, self.num_branches * self.embed_dim)
        self.frame_scores = choose("MODEL.CLIP_POOL", spec.clip_pool, FRAME_POOLS)(self.embed_dim)

    @property
    def network(self) -> ReidModel:
        """The layers: this model."""
        return self

    @property
    def title(self) -> str:
        """The readable name."""
        return self.spec.title

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the rows of the side-information table; empty without it."""
        return self.spec.cameras if self.spec.sie_camera else ()

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the viewpoints of the table; empty without them."""
        return self.spec.views if self.spec.sie_view else ()

    @property
    def embed_dim(self) -> int:
        """D, the width of one branch's embedding."""
        return self.backbone.num_features

    @property
    def num_branches(self) -> int:
        """K: the global branch, and with JPM one per part."""
        return self.spec.num_branches

    def width(self, global_only: bool) -> int:
        """Return the width of the test embedding, see `embed`."""
        return self.embed_dim * (1 if global_only else self.num_branches)

    def settle(self, asked: Settings) -> Settings:
        """Return the settings of the test embedding that the model can follow: all."""
        return asked

    def fingerprint(self, preprocess: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
        """Return "sha256:…" of architecture, tensors, preprocessing and settings of the test embedding."""

        def parts() -> Iterator[bytes | memoryview]:
            yield json.dumps([self.spec.identity(), preprocess, settings], sort_keys=True).encode()
            for name, value in sorted(self.state_dict().items()):
                yield f"{name} {value.dtype} {tuple(value.shape)}".encode()
                yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data

        return digest(parts())

    def train(self, mode: bool = True) -> ReidModel:
        """Switch to training mode; frozen parts of the backbone stay in evaluation mode."""
        super().train(mode)
        if mode:
            still_frozen_parts(self.backbone)
        return self

    def layer_numbers(self) -> dict[str, int]:
        """Return the layer index of each parameter by name: 0 = before the first block; the neck and a ViT's norm are last."""
        numbers = {f"backbone.{name}": number for name, number in layer_numbers(self.backbone).items()}
        last = max(numbers.values()) + (0 if isinstance(self.backbone, ViTBackbone) else 1)
        top = (("neck", self.neck), ("frame_scores", self.frame_scores))
        return {**numbers, **{f"{part}.{name}": last for part, m in top for name, _ in m.named_parameters()}}

    def forward(self, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None) -> Embeddings:
        """Return the embeddings of images (B, 3, H, W); camids and viewids (B,) are rows of the tables, None or -1 = unknown."""
        before = self.backbone(images, camids, viewids)
        before = before.to(torch.promote_types(before.dtype, torch.float32))  # of half types; float64 stays
        return Embeddings(before, self.behind_neck(before))

    def behind_neck(self, before: Tensor) -> Tensor:
        """Apply the neck to float32 embeddings (B, K, D)."""
        with torch.autocast(before.device.type, enabled=False):
            return self.neck(before.flatten(1)).view_as(before)

    def pool_frames(self, before: Tensor) -> Tensor:
        """Return the embeddings (B, K, D) of clips from those of their T frames, float32 (B, T, K, D), all before the neck."""
        return pool_frames(before, self.frame_scores(before))

    def embed(
        self,
        images: Tensor,
        camids: Tensor | None = None,
        viewids: Tensor | None = None,
        neck: str = "before",
        global_only: bool = False,
    ) -> Tensor:
        """Return the test embedding (B, K * D): the global one, then each local one divided by the number of local ones.

        Args:
            neck: `before` or `after`.
            global_only: only the global branch, (B, D).
        """
        return self._joined(getattr(self(images, camids, viewids), neck), global_only)

    def embed_frames(
        self, images: Tensor, camids: Tensor | None, viewids: Tensor | None, neck: str, global_only: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the test embeddings of frames, as `embed`, and their scores (B,), by which a tracklet weighs them."""
        found = self(images, camids, viewids)
        return self._joined(getattr(found, neck), global_only), self.frame_scores(found.before)

    def _joined(self, branches: Tensor, global_only: bool) -> Tensor:
        """Return the branches (B, K, D) as one embedding."""
        if global_only or self.num_branches == 1:
            return branches[:, 0]
        return torch.cat([branches[:, :1], branches[:, 1:] / (self.num_branches - 1)], dim=1).flatten(1)


def build_backbone(spec: ModelSpec) -> ViTBackbone | PooledBackbone:
    """Return the backbone of that name; errors as `check_name`."""
    if spec.name not in OWN:
        check_name(spec.name)
    return ViTBackbone(spec) if is_vit(spec.name) else PooledBackbone(spec)


def is_vit(name: str) -> bool:
    """Return whether the backbone of that name is a timm VisionTransformer."""
    if name in OWN:
        return name in VITS
    return timm.models.model_entrypoint(name.split(".")[0]).__module__.rsplit(".", 1)[-1] in VIT_MODULES


def check_name(name: str) -> None:
    """Raise ValueError, with the nearest names, if timm has no model `name` (architecture or architecture.tag)."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, [*OWN, *timm.list_models()], n=3)
        raise UserError(
            f"MODEL.NAME: timm {timm.__version__} has no model {architecture!r}; "
            + (f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists all")
        )
    known = [full.partition(".")[2] for full in timm.list_models(architecture + ".*", pretrained=True)]
    if tag and tag not in known:
        raise UserError(
            f"MODEL.NAME: {architecture} has no weights {tag!r}; choose from {', '.join(known) or 'none: leave the tag out'}"
        )


def build_neck(spec: ModelSpec, width: int) -> nn.Module:
    """Return a batch norm with a frozen zero bias [Luo et al., CVPRW 2019] over all branches at once, or nothing.

    One norm over K * D features is K norms over D features, in one call.
    """
    if spec.neck == "no":
        return nn.Identity()
    neck = nn.BatchNorm1d(width)
    neck.bias.requires_grad_(False)
    return neck
