"""State dicts of Hugging Face's transformers, made by it: our model computes the same features."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from library_models import feature_of, imported, pictures, shaken, size_words
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor

from vitreid.model import ModelSpec, ReidModel, load_weights
from vitreid.model.backbones.registry import CNNS

transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 320,
    "image_size": 64,
    "patch_size": 16,
}
DINO: dict[str, Any] = {key: value for key, value in SIZES.items() if key != "intermediate_size"}
TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 99}
TEXT |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def class_token(model: Any, images: Tensor) -> Tensor:
    return model(images).last_hidden_state[:, 0]


def of_base(model: Any, images: Tensor) -> Tensor:
    return class_token(model.base_model, images)


def pooled(model: Any, images: Tensor) -> Tensor:
    return model(images).pooler_output


def vision_pooled(model: Any, images: Tensor) -> Tensor:
    return model.vision_model(images).pooler_output


def mean_of_patches(model: Any, images: Tensor) -> Tensor:
    return model(images).last_hidden_state.mean(1)


def unmasked(model: Any, images: Tensor) -> Tensor:
    order = torch.arange(16.0).expand(len(images), -1)  # the masked autoencoder shuffles patches by this noise
    return model.vit(images, noise=order).last_hidden_state[:, 0]


def make(name: str, config: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return shaken(getattr(transformers, name)(getattr(transformers, config)(**options)))


VITS: dict[str, tuple[Any, Any, str, str]] = {  # model, feature, MODEL.NAME, project
    "ViT": (lambda: make("ViTModel", "ViTConfig", **SIZES), class_token, "vit_base_patch16_224", "Hugging Face ViT"),
    "ViT of patches of 8": (
        lambda: make("ViTModel", "ViTConfig", **{**SIZES, "patch_size": 8}),
        class_token,
        "vit_base_patch16_224",
        "Hugging Face ViT",
    ),
    "ViT classifier": (
        lambda: make("ViTForImageClassification", "ViTConfig", **SIZES, num_labels=3),
        of_base,
        "vit_base_patch16_224",
        "Hugging Face ViT",
    ),
    "DeiT": (
        lambda: make("DeiTForImageClassificationWithTeacher", "DeiTConfig", **SIZES),
        of_base,
        "deit_base_distilled_patch16_224",
        "Hugging Face ViT",
    ),
    "DINOv2": (
        lambda: make("Dinov2Model", "Dinov2Config", **DINO),
        class_token,
        "vit_base_patch14_dinov2",
        "Hugging Face ViT",
    ),
    "DINOv2 with gated MLPs": (
        lambda: make("Dinov2ForImageClassification", "Dinov2Config", **DINO, use_swiglu_ffn=True),
        of_base,
        "vit_giant_patch14_dinov2",
        "Hugging Face ViT",
    ),
    "DINOv2 with registers": (
        lambda: make("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", **DINO),
        class_token,
        "vit_base_patch14_reg4_dinov2",
        "Hugging Face ViT",
    ),
    "MAE": (
        lambda: make(
            "ViTMAEForPreTraining",
            "ViTMAEConfig",
            **SIZES,
            mask_ratio=0.0,
            decoder_hidden_size=32,
            decoder_num_hidden_layers=1,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=32,
        ),
        unmasked,
        "vit_base_patch16_224",
        "Hugging Face MAE",
    ),
    "CLIP": (
        lambda: make("CLIPVisionModelWithProjection", "CLIPVisionConfig", **SIZES),
        vision_pooled,
        "vit_base_patch16_clip_quickgelu_224",
        "Hugging Face CLIP",
    ),
    "CLIP with its texts": (
        lambda: make("CLIPModel", "CLIPConfig", vision_config=SIZES, text_config=TEXT),
        vision_pooled,
        "vit_base_patch16_clip_quickgelu_224",
        "Hugging Face CLIP",
    ),
    "SigLIP": (
        lambda: make("SiglipVisionModel", "SiglipVisionConfig", **SIZES),
        mean_of_patches,
        "vit_base_patch16_siglip_224",
        "Hugging Face SigLIP",
    ),
}


@pytest.mark.parametrize("kind", ["state dict", "folder"])
@pytest.mark.parametrize("case", VITS)
def test_a_vit_computes_the_same_features(case: str, kind: str, tmp_path: Path):
    """Without naming the model: name and sizes are read off the tensors, heads and activation from config.json."""
    make_model, feature, name, project = VITS[case]
    theirs, images = make_model(), pictures()
    if kind == "folder":
        theirs.save_pretrained(tmp_path)  # the names of version 4, as on the hub
    else:
        torch.save(theirs.state_dict(), tmp_path / "model.pth")
    model, report = imported(tmp_path if kind == "folder" else tmp_path / "model.pth", *size_words())
    assert (model.spec.name, report.project, report.coverage) == (name, project, 1.0)
    with torch.inference_mode():
        wanted = feature(theirs, images)
    torch.testing.assert_close(feature_of(model, images), wanted, rtol=1e-5, atol=1e-5)


# --- networks of timm with other names, here with small sizes -----------------------------------------------------------


def small(name: str, **options: Any) -> Any:
    """Return a constructor of timm's network with these sizes."""
    return partial(timm.create_model, name, **options)


EVA = {"embed_dim": 128, "depth": 2, "num_heads": 2, "mlp_ratio": 2.5}
BEIT = {**EVA, "img_size": 64}
STAGES: dict[str, Any] = {"image_size": 64, "embed_dim": 32, "depths": [2, 2], "num_heads": [1, 2], "window_size": 4}
SWIN = {"img_size": 64, "embed_dim": 32, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4}
BIAS = {"use_relative_position_bias": True, "layer_norm_eps": 1e-6}
SHARED = {"use_shared_relative_position_bias": True, "use_mask_token": True, "layer_norm_eps": 1e-6}


def mean_behind_registers(model: Any, images: Tensor) -> Tensor:
    return model(images).last_hidden_state[:, 5:].mean(1)


CHANNELS: dict[str, Any] = {"hidden_sizes": [16, 32, 64, 64], "depths": [2, 1, 1, 1]}
CONVNEXT = {"dims": (16, 32, 64, 64), "depths": (2, 1, 1, 1)}
BLOCKS: dict[str, Any] = {"embedding_size": 64, "hidden_sizes": [64, 128, 256, 256], "depths": [2, 1, 1, 1]}


def resnet(num_classes: int) -> Any:
    return ResNet(Bottleneck, (2, 1, 1, 1), num_classes=num_classes, channels=(16, 32, 64, 64))


def flat_pooled(model: Any, images: Tensor) -> Tensor:
    return model.base_model(images).pooler_output.flatten(1)


OTHERS: dict[str, tuple[Any, Any, Any, str]] = {  # model, feature, timm's network, project
    "BEiT": (
        lambda: make("BeitModel", "BeitConfig", **SIZES, **BIAS),
        pooled,
        small("beit_base_patch16_224", **BEIT),
        "Hugging Face BEiT",
    ),
    "BEiT with a shared bias": (
        lambda: make("BeitModel", "BeitConfig", **SIZES, **SHARED),
        pooled,
        small("beit_base_patch16_224", **BEIT),
        "Hugging Face BEiT",
    ),
    "DINOv3": (
        lambda: make("DINOv3ViTModel", "DINOv3ViTConfig", **SIZES, num_register_tokens=4),
        mean_behind_registers,
        small("vit_small_patch16_dinov3_qkvb", **EVA),
        "Hugging Face DINOv3",
    ),
    "DINOv3 with gated MLPs": (
        lambda: make(
            "DINOv3ViTModel", "DINOv3ViTConfig", **SIZES, num_register_tokens=4, use_gated_mlp=True, hidden_act="silu"
        ),
        mean_behind_registers,
        small("vit_small_plus_patch16_dinov3_qkvb", **EVA),
        "Hugging Face DINOv3",
    ),
    "Swin": (
        lambda: make("SwinForImageClassification", "SwinConfig", **STAGES),
        lambda model, images: model.swin(images).pooler_output,
        small("swin_tiny_patch4_window7_224", **SWIN),
        "Hugging Face Swin",
    ),
    "ConvNeXt": (
        lambda: make("ConvNextForImageClassification", "ConvNextConfig", **CHANNELS),
        flat_pooled,
        small("convnext_tiny", **CONVNEXT),
        "Hugging Face ConvNeXt",
    ),
    "ConvNeXt V2": (
        lambda: make("ConvNextV2Model", "ConvNextV2Config", **CHANNELS),
        flat_pooled,
        small("convnextv2_tiny", **CONVNEXT),
        "Hugging Face ConvNeXt",
    ),
    "DINOv3's ConvNeXt": (
        lambda: make("DINOv3ConvNextModel", "DINOv3ConvNextConfig", **CHANNELS),
        pooled,
        small("convnext_tiny", **CONVNEXT),
        "Hugging Face ConvNeXt",
    ),
    "ResNet": (
        lambda: make("ResNetForImageClassification", "ResNetConfig", **BLOCKS),
        flat_pooled,
        resnet,
        "Hugging Face ResNet",
    ),
    "SwinV2": (
        lambda: make("Swinv2ForImageClassification", "Swinv2Config", **STAGES),
        lambda model, images: model.swinv2(images).pooler_output,
        small("swinv2_tiny_window8_256", **SWIN),
        "Hugging Face SwinV2",
    ),
}


def test_beit_before_finetuning_gets_its_norm_behind_the_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The norm of its pretraining's head; timm's BEiT has one behind the mean of the patches only, and the report says so."""
    monkeypatch.setitem(CNNS, "small", small("beit_base_patch16_224", **BEIT))
    theirs = make("BeitForMaskedImageModeling", "BeitConfig", **SIZES, **SHARED, vocab_size=11)
    torch.save(theirs.state_dict(), tmp_path / "beit.pth")
    model = ReidModel(ModelSpec("small", (64, 64)))
    report = load_weights(model, tmp_path / "beit.pth", strict=False)
    assert report.coverage == 1.0 and "behind it" in report.resized["the last norm"]
    assert torch.equal(model.backbone.net.fc_norm.weight, theirs.layernorm.weight)


@pytest.mark.parametrize("kind", ["state dict", "folder"])
@pytest.mark.parametrize("case", OTHERS)
def test_another_network_computes_the_same_features(
    case: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_model, feature, network, project = OTHERS[case]
    monkeypatch.setitem(CNNS, "small", network)
    theirs, images = make_model(), pictures()
    if kind == "folder":
        theirs.save_pretrained(tmp_path)
    else:
        torch.save(theirs.state_dict(), tmp_path / "model.pth")
    model = ReidModel(ModelSpec("small", (64, 64))).eval()
    report = load_weights(model, tmp_path if kind == "folder" else tmp_path / "model.pth", strict=False)
    assert (report.project, report.coverage) == (project, 1.0)
    with torch.inference_mode():
        wanted = feature(theirs, images)
    torch.testing.assert_close(feature_of(model, images), wanted, rtol=1e-5, atol=1e-5)
