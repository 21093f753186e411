"""Queries, keys and values of separate layers -> timm's one layer; position biases that blocks share -> one per block."""

from __future__ import annotations

import re

import torch

from .key_names import State

PARTS = ("q", "k", "v")
SHARED_BIAS = "rel_pos_bias.relative_position_bias_table"  # timm's and the original BEiT's name
LAYER = re.compile(r"(.*\.attn\.)q\.weight")


def merged_qkv(state: State, split_bias: bool = False) -> State:
    """Return the tensors with `attn.q`, `attn.k` and `attn.v` as one `attn.qkv`, in place of the queries.

    A layer without a bias of the keys gets zeros there: they add the same number to all scores of a query, so they change nothing.

    Args:
        split_bias: the model has no bias of the keys; those of queries and values are `attn.q_bias` and `attn.v_bias`.
    """
    result: State = {}
    for name, value in state.items():
        match = LAYER.fullmatch(name)
        if match:
            result.update(_one_layer(state, match[1], split_bias))
        elif not re.search(r"\.attn\.[qkv]\.(weight|bias)$", name):
            result[name] = value
    return result


def _one_layer(state: State, layer: str, split_bias: bool) -> State:
    parts = {part: state.get(f"{layer}{part}.weight") for part in PARTS}
    found: State = {part: value for part, value in parts.items() if value is not None}
    if len(found) < len(PARTS):  # the report then lists what there is
        return {f"{layer}{part}.weight": value for part, value in found.items()}
    merged: State = {f"{layer}qkv.weight": torch.cat([found[part] for part in PARTS])}
    biases: State = {part: state[f"{layer}{part}.bias"] for part in PARTS if f"{layer}{part}.bias" in state}
    if split_bias and "k" not in biases:
        return {**merged, **{f"{layer}{part}_bias": value for part, value in biases.items()}}
    if biases:
        absent = torch.zeros_like(next(iter(biases.values())))
        merged[f"{layer}qkv.bias"] = torch.cat([biases.get(part, absent) for part in PARTS])
    return merged


def split_qkv_bias(state: State) -> State:
    """Return the tensors with `attn.qkv.bias` (3 D,) as `attn.q_bias` and `attn.v_bias`, without the keys' third, which is zero."""
    result: State = {}
    for name, value in state.items():
        if name.endswith(".attn.qkv.bias"):
            query, _, rest = value.chunk(3)
            result.update({name.replace("qkv.bias", "q_bias"): query, name.replace("qkv.bias", "v_bias"): rest})
        else:
            result[name] = value
    return result


def spread_position_bias(state: State) -> State:
    """Return the tensors with a copy of a position bias that all blocks share for each block, as a finetuned BEiT has them."""
    if SHARED_BIAS not in state:
        return state
    numbers = sorted({int(name.split(".")[1]) for name in state if name.startswith("blocks.")})
    copies = {f"blocks.{number}.attn.relative_position_bias_table": state[SHARED_BIAS].clone() for number in numbers}
    return {**{name: value for name, value in state.items() if name != SHARED_BIAS}, **copies}


def class_position_in_token(state: State) -> State:
    """Return the tensors of a ViT with registers with the class token's position added to the token, as timm's models have it."""
    positions, token = state.get("pos_embed"), state.get("cls_token")
    if "reg_token" not in state or positions is None or token is None:
        return state
    return {**state, "cls_token": token + positions[:, :1], "pos_embed": positions[:, 1:]}


def without_zero_biases(state: State) -> tuple[State, tuple[str, ...]]:
    """Return the tensors without the biases of queries and values if all are zero, as in DINOv3's small models, and their names."""
    biases = tuple(name for name in state if re.search(r"\.attn\.[qv]_bias$", name))
    if any(state[name].is_meta or state[name].any() for name in biases):
        return state, ()
    return {name: value for name, value in state.items() if name not in biases}, biases
