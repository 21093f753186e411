"""Small models of other libraries with random weights, and their own features, for tests of the importers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from helpers import seeded
from torch import Tensor, nn

from vitreid.configs import load_config
from vitreid.model import ReidModel, build_spec
from vitreid.model.weights.load_report import LoadReport
from vitreid.model.weights.load_weights import load_state
from vitreid.model.weights.read import read_weights
from vitreid.processor.embedding.convert_weights import recognise

Feature = Callable[[nn.Module, Tensor], Tensor]


def shaken(model: nn.Module) -> nn.Module:
    """Give every tensor random values: fresh norms, scales and zero biases would hide a mistake."""
    generator = seeded(3)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point and not name.endswith("relative_coords_table"):
                noise = torch.rand(value.shape, generator=generator)
                width = (
                    2 if "token" in name or "position" in name or "class" in name else 0.1
                )  # 2: norms' eps are negligible
                value.copy_(
                    noise + 0.5 if name.endswith(("running_var", "logit_scale")) else value + width * (noise - 0.5)
                )
    return model.eval()


def pictures(height: int = 64, width: int = 64, count: int = 2) -> Tensor:
    return torch.randn(count, 3, height, width, generator=seeded(5))


def imported(path: Path, *words: str) -> tuple[ReidModel, LoadReport]:
    """Return the model that the file says it holds, filled from it, as `vitreid convert` does without a config."""
    file = read_weights(path)
    cfg = load_config(None, [*recognise(file).words(), *words])
    model = ReidModel(build_spec(cfg, ()))
    report = load_state(model, file)
    return model.eval(), report


def size_words(height: int = 64, width: int = 64) -> list[str]:
    return ["INPUT.SIZE_TRAIN", f"({height}, {width})", "INPUT.SIZE_TEST", f"({height}, {width})"]


@torch.inference_mode()
def feature_of(model: ReidModel, images: Tensor) -> Tensor:
    """The feature of the backbone, (B, D)."""
    return model.backbone(images)[:, 0]
