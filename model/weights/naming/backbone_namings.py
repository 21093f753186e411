"""Backbones of other libraries: how their weight files are recognised and renamed, the dict `NAMINGS`.

To add one: a rule in the file of its family, and a line here.
"""

from __future__ import annotations

from .clip import huggingface_clip, huggingface_siglip, openai_clip, openai_clip_resnet
from .first_repositories import first_beit, first_convnext, first_dinov2, first_dinov3, first_swin
from .huggingface import (
    huggingface_beit,
    huggingface_convnext,
    huggingface_dinov3,
    huggingface_mae,
    huggingface_masked_beit,
    huggingface_resnet,
    huggingface_swin,
    huggingface_swin_v2,
    huggingface_vit,
)
from .inverted_residuals import lukemelas_efficientnet, torchvision_efficientnet, torchvision_mobilenet
from .key_names import Project
from .torchvision_stages import torchvision_convnext, torchvision_swin, torchvision_swin_v2, torchvision_vit

PATCHES = r"embeddings\.patch_embeddings\.projection\.weight$"  # transformers
BLOCK = r"(encoder\.)?layers?\.0\."

NAMINGS: dict[str, Project] = {  # the first match counts
    "Hugging Face BEiT, masked": Project(
        (r"beit\." + PATCHES, r"layernorm\.", r"lm_head\."), huggingface_masked_beit, r"(?!beit\.|layernorm\.)"
    ),
    "Hugging Face BEiT": Project((PATCHES, BLOCK + "lambda_1$"), huggingface_beit),
    "Hugging Face SwinV2": Project((PATCHES, r"encoder\.layers\.0\.blocks\.0\..*logit_scale$"), huggingface_swin_v2),
    "Hugging Face Swin": Project((PATCHES, r"encoder\.layers\.0\.blocks\."), huggingface_swin),
    "Hugging Face MAE": Project((r"vit\." + PATCHES, r"decoder\.decoder_pos_embed$"), huggingface_mae, r"(?!vit\.)"),
    "Hugging Face ViT": Project((PATCHES, BLOCK), huggingface_vit),
    "Hugging Face DINOv3": Project(
        (r"embeddings\.patch_embeddings\.weight$", r"(model\.)?layer\.0\."), huggingface_dinov3
    ),
    "Hugging Face CLIP": Project(
        (r"embeddings\.class_embedding$", r"encoder\.layers\.0\.self_attn\."), huggingface_clip
    ),
    "Hugging Face SigLIP": Project(
        (r"embeddings\.patch_embedding\.bias$", r"encoder\.layers\.0\.self_attn\."), huggingface_siglip
    ),
    "Hugging Face ConvNeXt": Project(
        (r"((encoder|model)\.)?stages\.0\.layers\.0\.(dwconv|depthwise_conv)\.",), huggingface_convnext
    ),
    "Hugging Face ResNet": Project((r"embedder\.embedder\.convolution\.",), huggingface_resnet),
    "CLIP": Project((r"class_embedding$", r"transformer\.resblocks\.0\.", r"conv1\."), openai_clip),
    "CLIP ResNet": Project((r"attnpool\.positional_embedding$", r"layer1\.0\."), openai_clip_resnet),
    "torchvision ViT": Project((r"conv_proj\.", r"encoder\.layers\.encoder_layer_0\."), torchvision_vit),
    "torchvision SwinV2": Project((r"features\.1\.0\.attn\.logit_scale$",), torchvision_swin_v2),
    "torchvision Swin": Project((r"features\.1\.0\.attn\.qkv\.",), torchvision_swin),
    "torchvision ConvNeXt": Project((r"features\.1\.0\.layer_scale$",), torchvision_convnext),
    "torchvision EfficientNet": Project((r"features\.1\.0\.block\.0\.0\.weight$",), torchvision_efficientnet),
    "torchvision MobileNet": Project((r"features\.1\.(conv|block)\.0\.",), torchvision_mobilenet),
    "lukemelas' EfficientNet": Project((r"_conv_stem\.weight$", r"_blocks\.0\."), lukemelas_efficientnet),
    "Swin": Project((r"layers\.0\.downsample\.reduction\.", r"layers\.0\.blocks\.0\.attn\.qkv\."), first_swin),
    "ConvNeXt": Project((r"downsample_layers\.0\.0\.", r"stages\.0\.0\.dwconv\."), first_convnext),
    "BEiT": Project((r"rel_pos_bias\.relative_position_bias_table$", r"blocks\.0\."), first_beit),
    "DINOv3": Project((r"storage_tokens$", r"blocks\.0\."), first_dinov3),
    "DINOv2": Project((r"blocks\.0\.(\d+\.)?ls1\.gamma$", r"(register_tokens|mask_token)$"), first_dinov2),
}
