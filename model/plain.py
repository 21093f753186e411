"""Any other timm model, used as it is: images -> its pooled feature."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from .spec import ModelSpec

VIT_ONLY = {  # what only the ViT family has: config key -> the spec's field
    "MODEL.JPM": "jpm",
    "MODEL.SIE_CAMERA": "sie_camera",
    "MODEL.SIE_VIEW": "sie_view",
    "MODEL.STRIDE_SIZE": "stride",
    "MODEL.STEM": "stem",
    "MODEL.EMBED_DIM": "embed_dim",
    "MODEL.DEPTH": "depth",
    "MODEL.NUM_HEADS": "num_heads",
    "MODEL.MLP_RATIO": "mlp_ratio",
}
RATES = {"drop_path_rate": "MODEL.DROP_PATH", "drop_rate": "MODEL.DROP_OUT", "attn_drop_rate": "MODEL.ATT_DROP_RATE"}


class PlainBackbone(nn.Module):
    """Images -> (B, 1, D); camera and view are not used.

    Raises:
        ValueError: the spec asks for a part of the ViT family, for a rate that the model does not have, or for an
            image size that does not fit; names the config key.
    """

    sie: None = None
    jigsaw: None = None

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        _check(spec)
        self.net: Any = _create(spec)
        self.num_features = self._measure(spec)

    def _measure(self, spec: ModelSpec) -> int:
        """Return D, from one empty image; timm's attribute for it differs between families."""
        self.net.eval()
        try:
            with torch.no_grad():
                feature = self.net(torch.zeros(1, 3, *spec.img_size))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ValueError(
                f"INPUT.SIZE_TRAIN: {spec.name} does not take images of {spec.img_size} pixels (height, width): {error}"
            ) from error
        self.net.train()
        if feature.ndim != 2:
            raise ValueError(
                f"MODEL.NAME: {spec.name} returns {tuple(feature.shape)} instead of one feature per image; choose another backbone"
            )
        return feature.shape[1]

    def forward(self, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None) -> Tensor:
        """Return features (B, 1, D) of images (B, 3, H, W)."""
        return self.net(images).unsqueeze(1)


def _check(spec: ModelSpec) -> None:
    usual = ModelSpec(spec.name)
    asked = [key for key, field in VIT_ONLY.items() if getattr(spec, field) != getattr(usual, field)]
    if asked:
        raise ValueError(
            f"{', '.join(asked)}: only for backbones of timm's VisionTransformer family, {spec.name} is none; leave the default or choose a vit_* or deit_* model"
        )


def _create(spec: ModelSpec) -> nn.Module:
    options: dict[str, Any] = {
        "drop_path_rate": spec.drop_path,
        "drop_rate": spec.drop_out,
        "attn_drop_rate": spec.att_drop_rate,
    }
    options = {key: value for key, value in options.items() if value}
    if getattr(timm.models.get_pretrained_cfg(spec.name), "fixed_input_size", False):
        options["img_size"] = spec.img_size
    try:
        return timm.create_model(spec.name, pretrained=False, num_classes=0, **options)
    except TypeError as error:
        refused = [key for option, key in RATES.items() if option in str(error)]
        if not refused:
            raise
        raise ValueError(f"{refused[0]}: {spec.name} has no such rate; set {refused[0]} 0.0") from error
