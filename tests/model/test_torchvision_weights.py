"""State dicts of torchvision, made by it: our model computes the same features."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from library_models import feature_of, imported, pictures, shaken, size_words
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

from vitreid.model import ModelSpec, ReidModel, load_weights
from vitreid.model.backbones.registry import CNNS
from vitreid.model.weights.identify.identify import identify
from vitreid.model.weights.naming.recognise_project import translate


def without_head(head: str, kept: int = 0) -> Callable[[Any, Tensor], Tensor]:
    """Return the features in front of the last linear layer; of a list of layers the first `kept` count."""

    def feature(model: Any, images: Tensor) -> Tensor:
        layers = list(getattr(model, head))[:kept] if kept else []
        setattr(model, head, nn.Sequential(*layers))
        return model(images).flatten(1)

    return feature


def make(name: str) -> Any:
    torch.manual_seed(0)
    return shaken(getattr(models, name)())


NETWORKS: dict[str, tuple[Any, str]] = {  # torchvision's name -> feature, MODEL.NAME
    "resnet18": (without_head("fc"), "resnet18"),
    "mobilenet_v2": (without_head("classifier"), "mobilenetv2_100"),
    "mobilenet_v3_small": (without_head("classifier", 2), "mobilenetv3_small_100"),
    "mobilenet_v3_large": (without_head("classifier", 2), "mobilenetv3_large_100"),
    "efficientnet_b0": (without_head("classifier"), "efficientnet_b0"),
    "efficientnet_b1": (without_head("classifier"), "efficientnet_b1"),
    "efficientnet_v2_s": (without_head("classifier"), "efficientnetv2_s"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_convolutional_network_computes_the_same_features(name: str, tmp_path: Path):
    """Without naming the model; MobileNetV3's and EfficientNetV2's norms add more to the variance than timm's."""
    feature, ours = NETWORKS[name]
    theirs, images = make(name), pictures()
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    model, report = imported(tmp_path / "net.pth", *size_words())
    assert (model.spec.name, report.coverage > 0.999) == (ours, True)
    with torch.inference_mode():
        wanted = feature(theirs, images)
    torch.testing.assert_close(feature_of(model, images), wanted, rtol=1e-5, atol=1e-5)


def vit() -> nn.Module:
    return models.VisionTransformer(
        image_size=64, patch_size=16, num_layers=2, num_heads=2, hidden_dim=128, mlp_dim=256
    )


def test_a_vit_computes_the_same_features(tmp_path: Path):
    theirs, images = shaken(vit()), pictures()
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    model, report = imported(tmp_path / "vit.pth", *size_words())
    assert (model.spec.title, report.project) == (
        "vit_base_patch16_224 (depth 2, width 128, heads 2, MLP ratio 2)",
        "torchvision ViT",
    )
    with torch.inference_mode():
        wanted = without_head("heads")(theirs, images)
    torch.testing.assert_close(feature_of(model, images), wanted, rtol=1e-5, atol=1e-5)


STAGES: dict[str, Any] = {
    "patch_size": [4, 4],
    "embed_dim": 32,
    "depths": [2, 2],
    "num_heads": [1, 2],
    "window_size": [4, 4],
}
SWIN = {"img_size": 64, "embed_dim": 32, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4}
BLOCKS = [CNBlockConfig(16, 32, 2), CNBlockConfig(32, 64, 1), CNBlockConfig(64, 64, 1), CNBlockConfig(64, None, 1)]
WITH_STAGES: dict[str, tuple[Any, str, int, Any]] = {  # network, its head, layers of the head kept, timm's network
    "torchvision Swin": (
        lambda: SwinTransformer(**STAGES),
        "head",
        0,
        partial(timm.create_model, "swin_tiny_patch4_window7_224", **SWIN),
    ),
    "torchvision SwinV2": (
        lambda: SwinTransformer(**STAGES, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2),
        "head",
        0,
        partial(timm.create_model, "swinv2_tiny_window8_256", **SWIN),
    ),
    "torchvision ConvNeXt": (
        lambda: ConvNeXt(BLOCKS),
        "classifier",
        1,
        partial(timm.create_model, "convnext_tiny", depths=(2, 1, 1, 1), dims=(16, 32, 64, 64)),
    ),
}


@pytest.mark.parametrize("project", WITH_STAGES)
def test_a_network_in_stages_computes_the_same_features(project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_net, head, kept, network = WITH_STAGES[project]
    monkeypatch.setitem(CNNS, "small", network)
    theirs, images = shaken(make_net()), pictures()
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    model = ReidModel(ModelSpec("small", (64, 64))).eval()
    report = load_weights(model, tmp_path / "net.pth", strict=False)
    assert (report.project, report.coverage) == (project, 1.0)
    with torch.inference_mode():
        wanted = without_head(head, kept)(theirs, images)
    torch.testing.assert_close(feature_of(model, images), wanted, rtol=1e-5, atol=1e-5)


NAMES = {  # torchvision -> MODEL.NAME
    "resnet50": "resnet50",
    "wide_resnet50_2": "wide_resnet50_2",
    "resnext50_32x4d": "resnext50_32x4d",
    "efficientnet_b5": "efficientnet_b5",
    "efficientnet_v2_m": "efficientnetv2_m",
    "vit_b_16": "vit_base_patch16_224",
    "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224",
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_v2_t": "swinv2_tiny_window8_256",
    "convnext_tiny": "convnext_tiny",
    "convnext_large": "convnext_large",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_published_network_is_recognised_by_its_shapes(name: str):
    with torch.device("meta"):
        state = getattr(models, name)().state_dict()
    found = identify(translate(state), {}, whole_family=True)
    assert found is not None
    assert {key: value for key, value in found.options.items() if key.startswith("MODEL.")} == {
        "MODEL.NAME": NAMES[name],
        **({"MODEL.STRIDE_SIZE": (32, 32)} if name == "vit_b_32" else {}),
    }
