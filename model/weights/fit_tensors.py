"""Fits tensors of a weight file to the model: position embeddings, side information, necks, branches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from timm.layers.patch_embed import resample_patch_embed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..backbones.registry import has_own_stem
from ..backbones.stems import STEMS
from ..backbones.vit import create_vit
from ..model_spec import ModelSpec
from ..parts.pos_embed import Grid, resize_bias_table, resize_pos_embed
from ..parts.sie import build_side_information
from ..reid_model import ReidModel, is_vit
from .naming.key_names import NET, SIE_TABLE, State

JIGSAW, UNKNOWN = "backbone.jigsaw.", "backbone.sie.unknown"
PREFIX_TOKENS = ("cls_token", "dist_token", "reg_token")


def fit(
    model: ReidModel, name: str, found: State, target: Tensor, source: ModelSpec | None, strict: bool
) -> tuple[Tensor, str]:
    """Return `found[name]` fitted to the model, and a description of the change (empty = none); the shape may still differ.

    Args:
        target: the model's tensor of that name.
        source: the spec in the file's metadata, if any.
        strict: whether the neck must have the same branches.
    """
    value = found[name]
    if name == NET + "pos_embed":
        return _fit_pos_embed(model, found, target, source)
    if name == SIE_TABLE and value.shape[1] == target.shape[1]:
        return _fit_side_information(value, target, source, model.spec)
    if name.startswith("neck.") and not strict:
        return _fit_neck(value, target)
    if name.endswith("patch_embed.proj.weight"):
        return _fit_patches(value, target, strict)
    if name.endswith("relative_position_bias_table") and value.shape[0] != target.shape[0]:
        return _fit_bias_table(model, name, value)
    return value, ""


def _fit_patches(value: Tensor, target: Tensor, strict: bool) -> tuple[Tensor, str]:
    """Return the projection of patches, for initial weights also of patches of another size [Beyer et al., CVPR 2023]."""
    if value.numel() == target.numel():
        return value.reshape(target.shape), ""  # older files store it as a matrix
    if strict or value.ndim != 4 or value.shape[:2] != target.shape[:2]:
        return value, ""
    old, new = tuple(value.shape[2:]), (target.shape[2], target.shape[3])
    fitted = resample_patch_embed(value, [*new])
    return fitted, f"{old[0]}x{old[1]} -> {new[0]}x{new[1]} pixels per patch"


def _fit_bias_table(model: ReidModel, name: str, value: Tensor) -> tuple[Tensor, str]:
    layer: Any = model.get_submodule(name.rpartition(".")[0])
    grid: Grid = layer.window_size
    fitted, old = resize_bias_table(value, grid)
    return fitted, f"{old[0]}x{old[1]} -> {grid[0]}x{grid[1]} tokens"


def _fit_pos_embed(model: ReidModel, found: State, target: Tensor, source: ModelSpec | None) -> tuple[Tensor, str]:
    net: Any = model.backbone.net
    value = found[NET + "pos_embed"]
    if value.ndim != 3 or target.ndim != 3 or value.shape[2] != target.shape[2]:
        return value, ""
    grid: Grid = net.patch_embed.grid_size
    source_grid = _source_grid(found, source)
    if value.shape == target.shape and source_grid in (None, grid):
        return value, ""
    source_prefix = sum(found[NET + token].shape[1] for token in PREFIX_TOKENS if NET + token in found)
    num_prefix = target.shape[1] - grid[0] * grid[1]
    fitted, old = resize_pos_embed(value, grid, num_prefix, source_prefix, source_grid)
    return fitted, f"{old[0]}x{old[1]} -> {grid[0]}x{grid[1]} patches"


def _source_grid(found: State, source: ModelSpec | None) -> Grid | None:
    if source is None:
        return None
    if has_own_stem(source.name):
        return create_vit(source).patch_embed.grid_size
    patch = found[NET + "patch_embed.proj.weight"].shape[2:]
    stride = source.stride if is_vit(source.name) else patch  # MODEL.STRIDE_SIZE is for the ViT family only
    return STEMS[source.stem].grid(source.img_size, (patch[0], patch[1]), (stride[0], stride[1]))


def _fit_side_information(
    value: Tensor, target: Tensor, source: ModelSpec | None, model: ModelSpec
) -> tuple[Tensor, str]:
    """Return a row for each camera and view of the model: by name, else by position, else the mean row."""
    if source is None and value.shape == target.shape:
        return value, ""
    if source is None:
        mean = value.mean(0).expand_as(target)
        return mean, f"mean of {len(value)} rows, repeated for the {len(target)} of the model"
    cameras = _positions(source.cameras if source.sie_camera else (), model.cameras if model.sie_camera else ())
    views = _positions(source.views if source.sie_view else (), model.views if model.sie_view else ())
    fitted = _rows(value, source)[cameras][:, views].flatten(0, 1)
    if fitted.shape == value.shape and torch.equal(fitted, value):
        return value, ""
    return fitted, f"{len(value)} rows -> {len(fitted)} by name; the mean where the file has no such name"


def _rows(table: Tensor, source: ModelSpec) -> Tensor:
    """Return (C + 1, V + 1, D): the table with mean rows for unknown cameras and views."""
    sie = build_side_information(replace(source, sie_fallback="mean"), table.shape[1])
    sie.table.data = table
    return sie.rows().detach()


def _positions(source: tuple[str, ...], names: tuple[str, ...]) -> list[int]:
    """Return the row of each name in `source`, or the row for unknown; one row if the model uses no names."""
    unknown = max(len(source), 1)
    return [source.index(name) if name in source else unknown for name in names] or [unknown]


def _fit_neck(value: Tensor, target: Tensor) -> tuple[Tensor, str]:
    """Return the branches of the file, and the model's own values for further branches."""
    if value.shape == target.shape:
        return value, ""
    count = min(len(value), len(target))
    return torch.cat([value[:count], target[count:]]), f"the first {count} of {len(value)} features"


def last_norm_of_the_model(found: State, target: State) -> tuple[State, str]:
    """Return the tensors with the last norm at the model's place, in front of the mean or behind it, and the change.

    timm has `norm` in front of pooling and `fc_norm` behind it; a file has the one, the model maybe only the other.
    """
    before, behind = f"{NET}norm.", f"{NET}fc_norm."
    old, new = (behind, before) if f"{behind}weight" in found else (before, behind)
    if any(f"{name}weight" in place for name, place in ((new, found), (old, target))) or f"{old}weight" not in found:
        return found, ""
    if f"{new}weight" not in target:
        return found, ""
    moved = {new + name.removeprefix(old) if name.startswith(old) else name: value for name, value in found.items()}
    return moved, "" if new == before else "= the norm in front of pooling, here behind it"


def with_norm_eps(accepted: State, net: nn.Module, eps: float) -> tuple[State, str]:
    """Return running variances for batch norms that add another number to them than those of the file, and the change.

    The sum is the same, and so is the output in evaluation.

    Args:
        eps: what the norms of the file add; 0 = the same as the model's.
    """
    changed: State = {}
    differences = set()
    for layer, module in net.named_modules():
        name = f"{NET}{layer}.running_var"
        if eps and isinstance(module, _BatchNorm) and module.eps != eps and name in accepted:
            changed[name] = accepted[name] + (eps - module.eps)
            differences.add(eps - module.eps)
    return changed, ", ".join(
        f"{difference:+.3g}, which the norms of the file add" for difference in sorted(differences)
    )


def copied_branch(accepted: State, target: State) -> State:
    """Return local branches as copies of the backbone's last block and norm, if the file has none."""
    wanted = [name for name in target if name.startswith(JIGSAW)]
    if not wanted or any(name.startswith(JIGSAW) for name in accepted):
        return {}
    last = max(int(name.split(".")[3]) for name in target if name.startswith(f"{NET}blocks."))
    origin = {
        name: name.replace(f"{JIGSAW}block.", f"{NET}blocks.{last}.").replace(f"{JIGSAW}norm.", f"{NET}norm.")
        for name in wanted
    }
    return {name: accepted[old] for name, old in origin.items() if old in accepted}


def unknown_row(accepted: State, target: State) -> State:
    """Return the row for unknown cameras as the mean of the table, if the file has none."""
    if UNKNOWN not in target or UNKNOWN in accepted or SIE_TABLE not in accepted:
        return {}
    return {UNKNOWN: accepted[SIE_TABLE].mean(0)}
