"""Weight files of other projects: tensors with exactly their names and shapes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vitreid.model import ModelSpec

SIZE = (64, 32)
CLIP = ModelSpec("vit_base_patch16_clip_quickgelu_224", SIZE, embed_dim=16, depth=2, num_heads=2, projection=8)
Shapes = dict[str, tuple[int, ...]]


def filled(shapes: Shapes) -> dict[str, Tensor]:
    """Random tensors; variances are positive."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator) * 0.2 + 0.1 for name, shape in shapes.items()}


def saved(path: Path, state: dict[str, Tensor], container: str = "state_dict") -> Path:
    torch.save({container: {f"module.{name}": value for name, value in state.items()}}, path)
    return path


def norm(name: str, width: int, batch: bool = True) -> Shapes:
    kinds = ("weight", "bias", *(("running_mean", "running_var") if batch else ()))
    return {f"{name}.{kind}": (width,) for kind in kinds}


def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), **({f"{name}.bias": (outputs,)} if bias else {})}


def torchreid_osnet(width: float = 0.25) -> Shapes:
    """torchreid/models/osnet.py, class OSNet."""
    c = [int(width * count) for count in (64, 256, 384, 512)]

    def conv(name: str, outputs: int, inputs: int, kernel: int = 1) -> Shapes:
        return {f"{name}.conv.weight": (outputs, inputs, kernel, kernel), **norm(f"{name}.bn", outputs)}

    def light(name: str, m: int) -> Shapes:
        return {f"{name}.conv1.weight": (m, m, 1, 1), f"{name}.conv2.weight": (m, 1, 3, 3), **norm(f"{name}.bn", m)}

    shapes = conv("conv1", c[0], 3, 7)
    for stage in (2, 3, 4):
        for index, inputs in enumerate((c[stage - 2], c[stage - 1])):
            block, outputs, m = f"conv{stage}.{index}", c[stage - 1], c[stage - 1] // 4
            shapes |= {**conv(f"{block}.conv1", m, inputs), **light(f"{block}.conv2a", m)}
            for letter, depth in (("b", 2), ("c", 3), ("d", 4)):
                for i in range(depth):
                    shapes |= light(f"{block}.conv2{letter}.{i}", m)
            shapes |= {f"{block}.gate.fc1.weight": (m // 16, m, 1, 1), f"{block}.gate.fc1.bias": (m // 16,)}
            shapes |= {f"{block}.gate.fc2.weight": (m, m // 16, 1, 1), f"{block}.gate.fc2.bias": (m,)}
            shapes |= conv(f"{block}.conv3", outputs, m)
            if inputs != outputs:
                shapes |= conv(f"{block}.downsample", outputs, inputs)
        if stage < 4:
            shapes |= conv(f"conv{stage}.2.0", c[stage - 1], c[stage - 1])
    return {
        **shapes,
        **conv("conv5", c[3], c[3]),
        **linear("fc.0", 512, c[3]),
        **norm("fc.1", 512),
        **linear("classifier", 5, 512),
    }


def clip_reid(dim: int = 16, projection: int = 8, depth: int = 2) -> Shapes:
    """CLIP-ReID's build_transformer with ViT-B-16, at 64x32 pixels."""
    tower: Shapes = {"conv1.weight": (dim, 3, 16, 16), "class_embedding": (dim,), "positional_embedding": (9, dim)}
    tower |= {**norm("ln_pre", dim, False), **norm("ln_post", dim, False), "proj": (dim, projection)}
    for i in range(depth):
        block = f"transformer.resblocks.{i}"
        tower |= {f"{block}.attn.in_proj_weight": (3 * dim, dim), f"{block}.attn.in_proj_bias": (3 * dim,)}
        tower |= {**linear(f"{block}.attn.out_proj", dim, dim), **norm(f"{block}.ln_1", dim, False)}
        tower |= {**linear(f"{block}.mlp.c_fc", 4 * dim, dim), **linear(f"{block}.mlp.c_proj", dim, 4 * dim)}
        tower |= norm(f"{block}.ln_2", dim, False)
    return {
        **{f"image_encoder.{name}": shape for name, shape in tower.items()},
        "classifier.weight": (5, dim),
        "classifier_proj.weight": (5, projection),
        "cv_embed": (2, dim),
        **norm("bottleneck", dim),
        **norm("bottleneck_proj", projection),
        "prompt_learner.cls_ctx": (5, 4, 8),
        "text_encoder.ln_final.weight": (8,),
    }
