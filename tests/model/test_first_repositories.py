"""Files of the repositories in which models first appeared give the tensors that timm's own loaders give."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from vitreid.model.weights.naming.key_names import NET
from vitreid.model.weights.naming.recognise_project import translate

State = dict[str, Tensor]
VIT: dict[str, Any] = {"img_size": 64, "embed_dim": 32, "depth": 4, "num_heads": 2, "num_classes": 3}


def rewritten(state: State, *patterns: tuple[str, Any]) -> State:
    result = {}
    for name, value in state.items():
        for pattern, new in patterns:
            name = re.sub(pattern, new, name)
        result[name] = value
    return result


def swin(net: nn.Module) -> State:
    state = rewritten(
        net.state_dict(),
        (r"^layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) - 1}.downsample"),
        (r"^head\.fc", "head"),
    )
    buffers = {"layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16)}
    return {**state, **buffers, "layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.long)}


def convnext(net: nn.Module) -> State:
    return rewritten(
        net.state_dict(),
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"^stages\.(\d)\.blocks\.", r"stages.\1."),
        (r"\.conv_dw\.", ".dwconv."),
        (r"\.mlp\.fc(\d)\.", r".pwconv\1."),
        (r"\.mlp\.grn\.weight$", ".grn.gamma"),
        (r"\.mlp\.grn\.bias$", ".grn.beta"),
        (r"^head\.norm\.", "norm."),
        (r"^head\.fc\.", "head."),
    )


def dinov2(net: nn.Module) -> State:
    """With registers and gated MLPs."""
    state = rewritten(
        net.state_dict(),
        (r"^reg_token$", "register_tokens"),
        (r"\.mlp\.fc1\.", ".mlp.w12."),
        (r"\.mlp\.fc2\.", ".mlp.w3."),
    )
    positions = torch.cat([torch.full((1, 1, 32), 0.5), state["pos_embed"]], dim=1)
    return {**state, "pos_embed": positions, "mask_token": torch.zeros(1, 32)}


def dinov3(net: nn.Module) -> State:
    state = rewritten(
        net.state_dict(),
        (r"^reg_token$", "storage_tokens"),
        (r"\.gamma_(\d)$", r".ls\1.gamma"),
        (r"\.mlp\.fc1_g\.", ".mlp.w1."),
        (r"\.mlp\.fc1_x\.", ".mlp.w2."),
        (r"\.mlp\.fc2\.", ".mlp.w3."),
    )
    for name in [name for name in state if name.endswith("q_bias")]:
        query, value = state.pop(name), state.pop(name.replace("q_bias", "v_bias"))
        state[name.replace("q_bias", "qkv.bias")] = torch.cat([query, torch.zeros(32), value])
        state[name.replace("q_bias", "qkv.bias_mask")] = torch.ones(96)
    return {**state, "rope_embed.periods": torch.zeros(4), "mask_token": torch.zeros(1, 1, 32)}


CASES: dict[
    str, tuple[str, dict[str, Any], Callable[[nn.Module], State], str]
] = {  # timm's model, options, names, module
    "Swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 64, "embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4},
        swin,
        "swin_transformer",
    ),
    "ConvNeXt": ("convnext_tiny", {"depths": (2, 1, 1, 1), "dims": (16, 32, 64, 64)}, convnext, "convnext"),
    "ConvNeXt V2": ("convnextv2_tiny", {"depths": (2, 1, 1, 1), "dims": (16, 32, 64, 64)}, convnext, "convnext"),
    "DINOv2": ("vit_giant_patch14_reg4_dinov2", {**VIT, "img_size": 56}, dinov2, "vision_transformer"),
    "DINOv3": ("vit_small_plus_patch16_dinov3_qkvb", VIT, dinov3, "eva"),
}


@pytest.mark.parametrize("project", CASES)
def test_the_tensors_are_those_of_timms_loader(project: str):
    name, options, original, module = CASES[project]
    torch.manual_seed(0)
    net = timm.create_model(name, **options)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    state = original(net)
    ours = translate(state)
    load: Any = import_module(f"timm.models.{module}").checkpoint_filter_fn
    wanted = {key: value for key, value in load(dict(state), net).items() if key in net.state_dict()}
    found = {key.removeprefix(NET): value for key, value in ours.state.items()}
    assert ours.project == project.removesuffix(" V2")
    backbone = [key for key in wanted if not key.startswith("head.") or key.startswith("head.norm")]
    assert len(backbone) > 20
    for key in backbone:
        torch.testing.assert_close(found[key].reshape(wanted[key].shape), wanted[key], msg=key)


def test_blocks_in_chunks_for_fsdp_are_numbered_through():
    """As DINOv2's training stores them: blocks.1.2 is the third block, in the second chunk of two."""
    state = dinov2(timm.create_model("vit_giant_patch14_reg4_dinov2", **{**VIT, "img_size": 56}))
    chunks = rewritten(state, (r"^blocks\.(\d)\.", lambda match: f"blocks.{int(match[1]) // 2}.{match[1]}."))
    wanted, found = translate(state).state, translate(chunks).state
    assert wanted.keys() == found.keys() and all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_a_bias_that_all_blocks_of_beit_share_is_copied_to_each():
    net = timm.create_model("beit_base_patch16_224", **VIT)
    state = {name: value for name, value in net.state_dict().items() if "relative_position" not in name}
    shared = torch.rand(7 * 7 + 3, 2)
    ours = translate({**state, "rel_pos_bias.relative_position_bias_table": shared})
    assert ours.project == "BEiT"
    for number in range(4):
        assert torch.equal(ours.state[f"{NET}blocks.{number}.attn.relative_position_bias_table"], shared)


def test_biases_that_are_all_zero_are_left_out_of_dinov3():
    """The published small models have none that count; timm has both kinds."""
    state = dinov3(timm.create_model("vit_small_plus_patch16_dinov3_qkvb", **VIT))
    zero = {name: torch.zeros_like(value) if name.endswith("qkv.bias") else value for name, value in state.items()}
    ours = translate(zero)
    assert not any(name.endswith("q_bias") for name in ours.state)
    assert "blocks.3.attn.q_bias" in ours.left_out
