"""The chapter of docs/backbones.md about weight files: which namings are read, and what holds each of them."""

from __future__ import annotations

from typing import NamedTuple

HEADLINE = "## Namings of weight files\n"
TEXT = """
Every file is read in the same way by `vitreid convert FILE OUT.safetensors` and by `MODEL.PRETRAIN_PATH`: a `.pth`, `.safetensors` or `.npz`
file, a folder of Hugging Face (`config.json` and `model.safetensors`, one or in shards with an index), or the index itself.

**The file is asked first.** Its tensors give width, depth, patch, class and register tokens, layer scale, gated MLPs, norms and
biases; `config.json` gives the heads and the activation, `preprocessor_config.json` the pixels. Without a config and `MODEL.NAME`, `vitreid
convert` takes the model that they describe: a published one of timm, or a ViT of timm with other sizes (`MODEL.EMBED_DIM`, `MODEL.DEPTH`,
`MODEL.NUM_HEADS`, `MODEL.MLP_RATIO`, `MODEL.PATCH_SIZE`, `MODEL.ACTIVATION`). If a file does not fit the `MODEL.NAME` of a recipe, the error
names the options that do. What no tensor and no config says is assumed, and the report says so: the heads of a ViT by its
width, CLIP's activation by half precision.

**Wrappings.** The state dict is found under any key and at any depth, and its names behind any prefix (`model.`, `net.`, `encoder.`,
`backbone.`, `module.`, `_orig_mod.`, … in any order). Averaged weights (`ema`, `model_ema`, `state_dict_ema`, `teacher`, …) are preferred,
and the report says which were taken. Optimizers, heads, text towers and decoders are left out, and listed. Weights with NaN or infinite
numbers are refused, with their names. `tests/model/test_wrappings.py` has a test of each.

**Adapted**, and reported: position embeddings and tables of relative positions of another image size; for initial weights also the
patch projection of another patch size; queries, keys and values of separate layers; variances where the norms of the file add another
number than timm's.

Tested means: the library makes a model with random weights, and ours, filled from its file, computes the same feature to 1e-5 for the
same pixels and the same pooling (1e-4 for CLIP's ResNet).

| library | models | recognised as | `MODEL.NAME` | tested with |
|---|---|---|---|---|
"""


class Naming(NamedTuple):
    """A row: where files come from, which models, the name in the report, MODEL.NAME, and what the test compares with."""

    library: str
    models: str
    project: str
    name: str
    test: str


HF, TV, TIMM = "transformers (version 4 and 5)", "torchvision", "timm's own loader"
FIRST = "first repository"
ROWS = (
    Naming(HF, "ViT, ViT-MSN and other plain ViTs", "Hugging Face ViT", "`vit_*_patch*`", "transformers"),
    Naming(HF, "DeiT", "Hugging Face ViT", "`deit_*_distilled_patch16_224`", "transformers"),
    Naming(HF, "DINOv2, gated MLPs too", "Hugging Face ViT", "`vit_*_patch14_dinov2`", "transformers"),
    Naming(HF, "DINOv2 with registers", "Hugging Face ViT", "`vit_*_patch14_reg4_dinov2`", "transformers"),
    Naming(HF, "MAE", "Hugging Face MAE", "`vit_*_patch*`", "transformers"),
    Naming(HF, "BEiT, finetuned or not", "Hugging Face BEiT", "`beit_*`", "transformers"),
    Naming(HF, "DINOv3 ViT, gated MLPs too", "Hugging Face DINOv3", "`vit_*_patch16_dinov3`", "transformers"),
    Naming(HF, "Swin", "Hugging Face Swin", "`swin_*`", "transformers"),
    Naming(HF, "SwinV2", "Hugging Face SwinV2", "`swinv2_*`", "transformers"),
    Naming(HF, "ConvNeXt, V2 and DINOv3's", "Hugging Face ConvNeXt", "`convnext_*`, `convnextv2_*`", "transformers"),
    Naming(HF, "ResNet", "Hugging Face ResNet", "`resnet*`", "transformers"),
    Naming(
        HF,
        "CLIP's vision tower, alone or with the text's",
        "Hugging Face CLIP",
        "`vit_*_clip_quickgelu_224`",
        "transformers",
    ),
    Naming(
        HF, "SigLIP's vision tower (mean of the patches)", "Hugging Face SigLIP", "`vit_*_siglip_*`", "transformers"
    ),
    Naming(TV, "ResNet, ResNeXt, Wide ResNet", "timm", "`resnet*`, `resnext*`, `wide_resnet*`", TV),
    Naming(
        TV,
        "MobileNetV2 (old flat names too), MobileNetV3",
        "torchvision MobileNet",
        "`mobilenetv2_100`, `mobilenetv3_*_100`",
        TV,
    ),
    Naming(TV, "EfficientNet B0 to B7, V2", "torchvision EfficientNet", "`efficientnet_b*`, `efficientnetv2_*`", TV),
    Naming(TV, "ViT", "torchvision ViT", "`vit_*_patch*_224`", TV),
    Naming(TV, "Swin", "torchvision Swin", "`swin_*_patch4_window7_224`", TV),
    Naming(TV, "SwinV2", "torchvision SwinV2", "`swinv2_*_window8_256`", TV),
    Naming(TV, "ConvNeXt", "torchvision ConvNeXt", "`convnext_*`", TV),
    Naming("open_clip, OpenAI", "CLIP's ViT", "CLIP", "`vit_*_clip_224`, `vit_*_clip_quickgelu_224`", "open_clip"),
    Naming("open_clip, OpenAI", "CLIP's ResNet", "CLIP ResNet", "`resnet50_clip`", "open_clip"),
    Naming("open_clip", "towers of timm (SigLIP, EVA, ConvNeXt)", "timm", "that of the tower", "names and shapes"),
    Naming(
        "EfficientNet-PyTorch",
        "EfficientNet B0 to B8",
        "lukemelas' EfficientNet",
        "`tf_efficientnet_b*`",
        "efficientnet_pytorch",
    ),
    Naming(
        "EfficientNet-Lite-PyTorch",
        "EfficientNet-Lite",
        "lukemelas' EfficientNet",
        "`tf_efficientnet_lite*`",
        "published weights",
    ),
    Naming(FIRST, "Swin, SwinV2", "Swin", "`swin_*`, `swinv2_*`", TIMM),
    Naming(FIRST, "ConvNeXt, ConvNeXt V2", "ConvNeXt", "`convnext_*`, `convnextv2_*`", TIMM),
    Naming(FIRST, "BEiT before finetuning", "BEiT", "`beit_*`", "names and shapes"),
    Naming(FIRST, "DINOv2, with registers, in FSDP's chunks", "DINOv2", "`vit_*_dinov2`", TIMM),
    Naming(FIRST, "DINOv3 ViT", "DINOv3", "`vit_*_patch16_dinov3`", TIMM),
    Naming(
        FIRST,
        "DeiT, MAE, DINO, iBOT, MoCo",
        "timm, self-supervised",
        "`vit_*`, `deit_*`, `resnet*`",
        "names and shapes",
    ),
)


def chapter() -> str:
    """Return the chapter as Markdown."""
    return HEADLINE + TEXT + "".join(f"| {' | '.join(one)} |\n" for one in ROWS)
