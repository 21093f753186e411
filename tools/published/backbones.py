"""Write the table of backbones from the models themselves.

Examples:
    vitreid backbones
    vitreid backbones --output docs/backbones.md
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from vitreid.model import ModelSpec, ReidModel, has_attention
from vitreid.model.backbones.registry import has_own_stem
from vitreid.model.backbones.vit import ViTBackbone
from vitreid.processor.model_summary import count
from vitreid.tools.cli.parser import command, new_parser
from vitreid.tools.published.weight_namings import chapter

TIMM, OTHERS = "timm hub", "timm hub, timm / DeiT / MAE / DINO / Hugging Face files"
DINO = "timm hub, timm / DINO / Hugging Face files"
CLIP = "timm hub, timm / open_clip / Hugging Face files"
LIBRARIES = "timm hub, timm / Hugging Face / torchvision files"
TRANSREID = f"{OTHERS}, Google's .npz, TransReID, TransReID-SSL, PersonViT"
PARITY = "## Weights of other projects\n"  # headline of the chapter that benchmarks/parity.py writes
INTRODUCTION = """# Backbones

Written by `vitreid backbones --output docs/backbones.md`; do not edit. `MODEL.NAME` also accepts any other timm model; the table lists the
tested ones.

GMACs are 10^9 multiply-adds of matrix products, convolutions and attention for one crop of the given size, without the
jigsaw module. SIE and JPM are the parts of TransReID. Stride means overlapping patches with `MODEL.STRIDE_SIZE`. Attention means the maps
in the report and on the gallery page. `vitreid convert …` and `MODEL.PRETRAIN_PATH` load the files in the last column; the names and shapes
in a file identify its project; [the namings](#namings-of-weight-files) are listed below.

| `MODEL.NAME` | crop | parameters (M) | GMACs | embedding | SIE | JPM | stride | attention | weights |
|---|---|---:|---:|---:|---|---|---|---|---|
"""


class Entry(NamedTuple):
    """A backbone of the table: its name, where weights come from, crop and step between patches (height, width) in pixels,
    and what becomes its feature."""

    name: str
    weights: str
    size: tuple[int, int] = (256, 128)
    stride: tuple[int, int] = (16, 16)
    pool: str = "token"


ENTRIES = (
    Entry("vit_tiny_patch16_224", OTHERS),
    Entry("vit_small_patch16_224", TRANSREID),
    Entry("vit_base_patch16_224", TRANSREID),
    Entry("vit_large_patch16_224", OTHERS),
    Entry("deit_tiny_patch16_224", OTHERS),
    Entry("deit_small_patch16_224", f"{OTHERS}, TransReID"),
    Entry("deit_base_patch16_224", f"{OTHERS}, TransReID"),
    Entry("deit_tiny_distilled_patch16_224", OTHERS),
    Entry("deit_base_distilled_patch16_224", OTHERS),
    Entry("deit3_small_patch16_224", OTHERS),
    Entry("deit3_base_patch16_224", OTHERS),
    Entry("vit_small_patch14_dinov2", DINO, (252, 126), (14, 14)),
    Entry("vit_base_patch14_reg4_dinov2", DINO, (252, 126), (14, 14)),
    Entry("vit_small_patch16_dinov3", DINO),
    Entry("eva02_small_patch14_224", TIMM, (252, 126)),
    Entry("vit_base_patch16_siglip_224", f"{CLIP} (with MODEL.POOL avg)", pool="avg"),
    Entry("vit_base_patch16_clip_224", CLIP),
    Entry(
        "vit_base_patch16_clip_quickgelu_224",
        f"{CLIP}, OpenAI, CLIP-ReID (MODEL.PROJECTION 512, MODEL.SIE_TOKENS class)",
    ),
    Entry("vit_base_r50_s16_224", "timm hub, Google's .npz"),
    Entry("transreid_vit_small", "TransReID"),
    Entry("pass_vit_small", "PASS (its backbone)"),
    Entry("pass_vit_base", "PASS (its backbone)"),
    Entry("t2t_vit_7", "T2T-ViT"),
    Entry("t2t_vit_10", "T2T-ViT"),
    Entry("t2t_vit_12", "T2T-ViT"),
    Entry("t2t_vit_14", "T2T-ViT"),
    Entry("t2t_vit_19", "T2T-ViT"),
    Entry("t2t_vit_24", "T2T-ViT"),
    Entry("t2t_vit_t_14", "T2T-ViT"),
    Entry("t2t_vit_t_19", "T2T-ViT"),
    Entry("t2t_vit_t_24", "T2T-ViT"),
    Entry("swin_tiny_patch4_window7_224", LIBRARIES),
    Entry("swinv2_tiny_window8_256", LIBRARIES),
    Entry("solider_swin_tiny", "SOLIDER, SOLIDER-REID"),
    Entry("solider_swin_small", "SOLIDER, SOLIDER-REID"),
    Entry("solider_swin_base", "SOLIDER, SOLIDER-REID"),
    Entry("beit_base_patch16_224", "timm hub, timm / Hugging Face / first files"),
    Entry("convnext_tiny", "timm hub, timm / torchvision / first files"),
    Entry("mobilenetv2_100", "timm hub, torchvision"),
    Entry("mobilenetv3_large_100", "timm hub, torchvision"),
    Entry("efficientnet_b0", "timm hub, torchvision"),
    Entry("tf_efficientnet_lite0", "timm hub, EfficientNet-Lite-PyTorch"),
    Entry("resnet50", "timm hub, torchvision, torchreid"),
    Entry("resnet50_stride1", "timm, torchvision, BoT"),
    Entry("resnet50_ibn_stride1", "IBN-Net"),
    Entry("resnet50_fastreid", "fast-reid"),
    Entry("resnet50_ibn_fastreid", "fast-reid"),
    Entry("resnet50_fastreid_sbs", "fast-reid"),
    Entry("resnet50_ibn_fastreid_sbs", "fast-reid"),
    Entry("resnet50_fc512", "torchreid"),
    Entry("osnet_x1_0", "torchreid; trains from scratch"),
    Entry("osnet_x0_75", "torchreid; trains from scratch"),
    Entry("osnet_x0_5", "torchreid; trains from scratch"),
    Entry("osnet_x0_25", "torchreid; trains from scratch"),
)


def row(entry: Entry) -> str:
    """Return a line of the table, from the model itself."""
    model = ReidModel(ModelSpec(entry.name, entry.size, entry.stride, pool=entry.pool))
    is_vit = isinstance(model.backbone, ViTBackbone)
    _, total = count(model)
    supports = (True, is_vit, is_vit and not has_own_stem(entry.name), has_attention(model))
    numbers = (f"{total.parameters / 1e6:.1f}", f"{total.macs / 1e9:.2f}", f"{model.embed_dim}")
    answers = ("yes" if can else "" for can in supports)
    cells = (f"`{entry.name}`", f"{entry.size[0]}x{entry.size[1]}", *numbers, *answers)
    return f"| {' | '.join(cells)} | {entry.weights} |"


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    parser.add_argument("--output", metavar="FILE", type=Path, help="page for the table, e.g. docs/backbones.md")
    return parser


def listing() -> str:
    """Return a line per backbone: its name and where its weights come from."""
    width = max(len(entry.name) for entry in ENTRIES)
    return "\n".join(f"{entry.name:<{width}}  {entry.weights}" for entry in ENTRIES)


def write_or_list(args: argparse.Namespace) -> str:
    """Write the page if --output names one; otherwise return the list."""
    return _write(args.output) if args.output else listing()


def _write(output: Path) -> str:
    """Write the table; the chapter of benchmarks/parity.py, if the page has it, stays."""
    _, headline, text = (output.read_text(encoding="utf-8") if output.is_file() else "").partition(PARITY)
    table = INTRODUCTION + "".join(f"{row(entry)}\n" for entry in ENTRIES) + f"\n{chapter()}"
    output.write_text(table + (f"\n{headline}{text}" if headline else ""), encoding="utf-8")
    return f"{output}: {len(ENTRIES)} backbones"


main = command(get_parser, write_or_list)

if __name__ == "__main__":
    sys.exit(main())
