"""Backbones other than the ViT family (timm's and ours): images -> one pooled feature."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...common.errors import UserError
from ..model_spec import ModelSpec
from ..parts.sie import SideInformation, build_side_information
from .registry import create_net, has_fixed_size

VIT_ONLY = {  # options of the ViT family only: config key -> field of the spec
    "MODEL.JPM": "jpm",
    "MODEL.STRIDE_SIZE": "stride",
    "MODEL.STEM": "stem",
    "MODEL.EMBED_DIM": "embed_dim",
    "MODEL.DEPTH": "depth",
    "MODEL.NUM_HEADS": "num_heads",
    "MODEL.MLP_RATIO": "mlp_ratio",
    "MODEL.PATCH_SIZE": "patch_size",
    "MODEL.ACTIVATION": "activation",
    "MODEL.PROJECTION": "projection",
    "MODEL.SIE_TOKENS": "sie_tokens",
}
FIRST_STAGES = ("layer1", "layers", "stages", "blocks")  # names of the first stage in timm's and our networks
RATES = {"drop_path_rate": "MODEL.DROP_PATH", "drop_rate": "MODEL.DROP_OUT", "attn_drop_rate": "MODEL.ATT_DROP_RATE"}


class _ForwardState(threading.local):
    """State of the forward pass that runs in this thread; a hook of timm's network takes no further arguments."""

    offset: Tensor | None = None  # (B, 1, width) side information of the images


_forward = _ForwardState()


class PooledBackbone(nn.Module):
    """Images -> (B, 1, D). Side information is added to the input of the first stage, behind the stem.

    Raises:
        ValueError: the spec sets an option of the ViT family, a rate that the model does not have, or an image
            size that does not fit; names the config key.
    """

    jigsaw: None = None

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        _check(spec)
        self.net: Any = _create(spec)
        self.sie: SideInformation | None = None
        if not (spec.sie_camera or spec.sie_view):
            self.num_features = self._measure(spec)
            return
        stage, width = first_stage(self.net, spec.name), []
        handle = stage.register_forward_pre_hook(lambda _, args: width.append(self._width(args[0])))
        self.num_features = self._measure(spec)
        handle.remove()
        self.sie = build_side_information(spec, width[0])
        stage.register_forward_pre_hook(self._add_offset)

    def _width(self, x: Tensor) -> int:
        return x.shape[-1] if self._channels_last(x) else x.shape[1]

    def _channels_last(self, x: Tensor) -> bool:
        return x.ndim == 3 or str(getattr(self.net, "output_fmt", "")) == "NHWC"

    def _add_offset(self, stage: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if _forward.offset is None:
            return None
        x, (batch, _, width) = args[0], _forward.offset.shape
        shape = (batch, *[1] * (x.ndim - 2), width) if self._channels_last(x) else (batch, width, *[1] * (x.ndim - 2))
        return (x + _forward.offset.view(shape), *args[1:])

    def _measure(self, spec: ModelSpec) -> int:
        """Return D, measured with one empty image; timm's attribute for it differs between families."""
        self.net.eval()
        try:
            with torch.no_grad():
                feature = self.net(torch.zeros(1, 3, *spec.img_size))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UserError(
                f"INPUT.SIZE_TRAIN: {spec.name} does not take images of {spec.img_size} pixels (height, width): {error}"
            ) from error
        self.net.train()
        if feature.ndim != 2:
            raise UserError(
                f"MODEL.NAME: {spec.name} returns {tuple(feature.shape)} instead of one feature per image; choose another backbone"
            )
        return feature.shape[1]

    def checkpoint_blocks(self) -> None:
        """Compute the activations inside the blocks again in the backward pass instead of keeping them.

        Raises:
            ValueError: the model does not support it, has batch norms (their statistics would be updated twice), or has side
            information (the second pass runs outside `forward`, without the offset).
        """
        if self.sie is not None:
            raise UserError(
                "MODEL.CHECKPOINT_BLOCKS: this backbone's blocks cannot be computed again with side information; set it, or "
                "MODEL.SIE_CAMERA and MODEL.SIE_VIEW, to False"
            )
        if any(isinstance(module, _BatchNorm) for module in self.modules()):
            raise UserError(
                "MODEL.CHECKPOINT_BLOCKS: this backbone has batch norms; their statistics would be updated twice per batch; set it "
                "to False, and SOLVER.MICRO_BATCH to save memory"
            )
        try:
            self.net.set_grad_checkpointing(True)
        except (AssertionError, AttributeError) as error:
            raise UserError(
                f"MODEL.CHECKPOINT_BLOCKS: timm cannot do that with this backbone ({error}); set it to False"
            ) from error

    def forward(self, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None) -> Tensor:
        """Return features (B, 1, D) of images (B, 3, H, W)."""
        if self.sie is None:
            return self.net(images).unsqueeze(1)
        _forward.offset = self.sie(images.shape[0], camids, viewids)
        try:
            return self.net(images).unsqueeze(1)
        finally:
            _forward.offset = None


def first_stage(net: nn.Module, name: str) -> nn.Module:
    """Return the first stage of the network, behind its stem; a ValueError if no part has a usual name."""
    for part, child in net.named_children():
        if part in FIRST_STAGES:
            return child[0] if isinstance(child, nn.ModuleList) else child
    raise UserError(
        f"MODEL.SIE_CAMERA, MODEL.SIE_VIEW: {name} has no part called {', '.join(FIRST_STAGES)} to add them in front of; set them False"
    )


def _check(spec: ModelSpec) -> None:
    usual = ModelSpec(spec.name)
    asked = [key for key, field in VIT_ONLY.items() if getattr(spec, field) != getattr(usual, field)]
    if asked:
        raise UserError(
            f"{', '.join(asked)}: only for backbones of timm's VisionTransformer family, {spec.name} is none; leave the default or choose a vit_* or deit_* model"
        )


def _create(spec: ModelSpec) -> nn.Module:
    rates = zip(RATES, (spec.drop_path, spec.drop_out, spec.att_drop_rate), strict=True)
    options: dict[str, Any] = {name: rate for name, rate in rates if rate}
    if spec.pool == "gem":
        options["pool"] = "gem"
    if spec.name.startswith("solider_"):
        options["semantic_weight"] = spec.semantic_weight
    if has_fixed_size(spec.name):
        options["img_size"] = spec.img_size
    try:
        return create_net(spec.name, num_classes=0, **options)
    except TypeError as error:
        refused = [key for option, key in RATES.items() if f"'{option}'" in str(error)]
        if "'pool'" in str(error):
            raise UserError(
                f"MODEL.POOL gem: only for our resnet50_* backbones, not {spec.name}; leave it at token"
            ) from error
        if not refused:
            raise
        raise UserError(f"{refused[0]}: {spec.name} has no such rate; set {refused[0]} 0.0") from error
