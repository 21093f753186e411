"""Side information, jigsaw, stems and the model around them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from vitreid.configs import load_config, make_config
from vitreid.model import ModelSpec, ReidModel, build_model, set_fused_attention
from vitreid.model.backbones.stems import STEMS
from vitreid.model.parts.blocks import can_stop_at_first
from vitreid.model.parts.jigsaw import Jigsaw, patch_order
from vitreid.model.parts.sie import SideInformation
from vitreid.processor.training.memory_estimate import kept_bytes

TINY = ModelSpec(
    "vit_tiny_patch16_224",
    img_size=(64, 32),
    embed_dim=16,
    depth=2,
    num_heads=2,
    cameras=("a", "b", "c"),
    views=("front", "back"),
)
IMAGES = torch.rand(3, 3, 64, 32, generator=torch.Generator().manual_seed(0))


def build(**changes: object) -> ReidModel:
    torch.manual_seed(0)
    return ReidModel(replace(TINY, **changes)).eval()  # type: ignore[arg-type]


# --- side information ---------------------------------------------------------------------------------------------


def test_row_of_camera_and_view_is_camera_times_views_plus_view():
    sie = SideInformation(num_cameras=3, num_views=2, dim=4, coe=2.0)
    offset = sie(2, torch.tensor([2, 0]), torch.tensor([1, 0]))
    assert torch.equal(offset[:, 0], 2.0 * sie.table[[5, 0]])


@pytest.mark.parametrize("unknown", [None, torch.tensor([-1, -1]), torch.tensor([3, 99])])
def test_unknown_camera_gets_the_mean_of_the_trained_rows(unknown: torch.Tensor | None):
    sie = SideInformation(num_cameras=3, num_views=0, dim=4, coe=1.0)
    offset = sie(2, unknown, None)
    torch.testing.assert_close(offset, sie.table.mean(0).expand(2, 1, 4))


def test_known_camera_with_unknown_view_gets_the_mean_of_its_views():
    sie = SideInformation(num_cameras=3, num_views=2, dim=4, coe=1.0)
    offset = sie(1, torch.tensor([1]), None)
    torch.testing.assert_close(offset[0, 0], (sie.table[2] + sie.table[3]) / 2)


@pytest.mark.parametrize("num_views", [0, 2])
def test_unknown_row_of_its_own_is_used_only_where_nothing_is_known(num_views: int):
    sie = SideInformation(num_cameras=3, num_views=num_views, dim=4, coe=1.0, fallback="unknown")
    nn.init.constant_(sie.unknown, 7.0)
    offset = sie(2, torch.tensor([-1, 1]), torch.tensor([-1, -1]))
    assert (offset[0] == 7.0).all()
    assert not (offset[1] == 7.0).any()


def test_one_camera_is_enough_for_a_table():
    sie = SideInformation(num_cameras=1, num_views=0, dim=4, coe=1.0)
    assert torch.equal(sie(1, torch.tensor([0]), None)[0], sie.table)


def test_hidden_cameras_in_training_train_the_unknown_row():
    sie = SideInformation(num_cameras=3, num_views=0, dim=4, coe=1.0, fallback="unknown", dropout=1.0)
    sie(5, torch.tensor([0, 1, 2, 0, 1]), None).sum().backward()
    assert (sie.unknown.grad == 5).all()
    assert not sie.table.grad.any()


def test_cameras_are_never_hidden_at_test_time():
    sie = SideInformation(num_cameras=3, num_views=0, dim=4, coe=1.0, dropout=1.0).eval()
    assert torch.equal(sie(1, torch.tensor([2]), None)[0, 0], sie.table[2])


def test_model_with_cameras_also_works_without_them():
    model = build(sie_camera=True)
    known, absent = model.embed(IMAGES, torch.tensor([0, 1, 2])), model.embed(IMAGES)
    assert known.shape == absent.shape == (3, 16)
    assert not torch.allclose(known, absent)


# --- jigsaw -------------------------------------------------------------------------------------------------------


def test_patches_are_shifted_then_dealt_out_in_groups():
    assert patch_order(8, shift=3, groups=2).tolist() == [2, 6, 3, 7, 4, 0, 5, 1]


def test_last_but_one_patch_is_repeated_when_groups_do_not_fill_up():
    assert patch_order(5, shift=1, groups=2).tolist() == [0, 3, 1, 4, 2, 3]
    assert patch_order(7, shift=1, groups=3).tolist() == [0, 3, 6, 1, 4, 5, 2, 5, 5]


def test_parts_through_one_call_equal_parts_one_by_one():
    block, norm = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), nn.LayerNorm(8)
    jigsaw = Jigsaw(block, norm, num_prefix=1, num_patches=10, num_parts=3, shift=5, groups=2, rearrange=True)
    tokens = torch.randn(2, 11, 8)
    order = patch_order(10, 5, 2)
    one_by_one = [norm(block(torch.cat([tokens[:, :1], tokens[:, 1:][:, order[i : i + 3]]], dim=1))) for i in (0, 3, 6)]
    torch.testing.assert_close(jigsaw(tokens).unflatten(0, (2, 3)), torch.stack(one_by_one, dim=1))


@pytest.mark.parametrize("num_parts", [1, 2, 3, 6])
def test_any_number_of_parts_gives_that_many_local_branches(num_parts: int):
    model = build(jpm=True, num_parts=num_parts)
    before, after = model(IMAGES)
    assert before.shape == after.shape == (3, 1 + num_parts, 16)
    assert model.num_branches == 1 + num_parts


def test_more_parts_than_patches_is_an_error():
    with pytest.raises(ValueError, match=r"MODEL\.NUM_PARTS.*\b9 .*\b8\b"):
        build(jpm=True, num_parts=9)


def test_local_branches_start_as_copies_of_the_last_block():
    model = build(jpm=True)
    ours, theirs = model.backbone.jigsaw.block.state_dict(), model.backbone.net.blocks[-1].state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


# --- embeddings ---------------------------------------------------------------------------------------------------


def test_test_embedding_is_the_global_branch_then_local_branches_over_their_number():
    model = build(jpm=True)
    before = model(IMAGES).before
    embedding = model.embed(IMAGES)
    assert torch.equal(embedding[:, :16], before[:, 0])
    torch.testing.assert_close(embedding[:, 32:48], before[:, 2] / 4)


def test_global_only_embedding_is_five_times_smaller():
    model = build(jpm=True)
    assert model.embed(IMAGES).shape == (3, 80)
    assert torch.equal(model.embed(IMAGES, global_only=True), model.embed(IMAGES)[:, :16])


def test_one_norm_over_all_branches_is_one_norm_per_branch():
    model = build(jpm=True).train()
    before, after = model(IMAGES)
    norm = nn.BatchNorm1d(16).train()
    for branch in range(5):
        torch.testing.assert_close(after[:, branch], norm(before[:, branch]))


def test_neck_has_a_frozen_zero_bias():
    neck = build().neck
    assert not neck.bias.requires_grad
    assert not neck.bias.any()
    assert (neck.weight == 1).all()


def test_without_neck_both_embeddings_are_the_same():
    before, after = build(neck="no")(IMAGES)
    assert torch.equal(before, after)


def test_embeddings_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        before, after = build(jpm=True)(IMAGES)
    assert before.dtype == after.dtype == torch.float32


def test_every_trained_parameter_gets_a_gradient():
    """No dead last block, norm or ImageNet classifier, so DDP needs no search for unused parameters."""
    model = build(jpm=True, sie_camera=True, sie_view=True, sie_fallback="unknown").train()
    model(IMAGES, torch.tensor([0, 1, -1]), torch.tensor([0, 1, -1])).after.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_dropout_rates_reach_every_branch():
    model = build(jpm=True, drop_out=0.2, att_drop_rate=0.3, drop_path=0.1)
    for block in (model.backbone.net.blocks[-1], model.backbone.jigsaw.block):
        assert (block.attn.proj_drop.p, block.attn.attn_drop.p) == (0.2, 0.3)
        assert block.drop_path1.drop_prob == pytest.approx(0.1)
    assert model.backbone.pos_drop.p == 0.2


def test_same_seed_builds_the_same_weights():
    first, second = build(jpm=True, sie_camera=True).state_dict(), build(jpm=True, sie_camera=True).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_fused_attention_changes_speed_only():
    model = build()
    set_fused_attention(model, True)
    fused = model.embed(IMAGES)
    set_fused_attention(model, False)
    torch.testing.assert_close(model.embed(IMAGES), fused, rtol=1e-4, atol=1e-5)


# --- stems --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["token", "avg"])
@pytest.mark.parametrize("stem", sorted(STEMS))
def test_every_stem_makes_the_tokens_it_promises(stem: str, pool: str):
    model = build(stem=stem, pool=pool)
    assert model.backbone.net.patch_embed(IMAGES).shape == (3, 8, 16)
    assert model.embed(IMAGES).shape == (3, 16)


@pytest.mark.parametrize(
    ("stem", "stride", "size", "grid"),
    [
        ("patch", (12, 12), (256, 128), (21, 10)),
        ("patch", (16, 8), (256, 128), (16, 15)),
        ("resconv", (8, 8), (100, 60), (13, 8)),
    ],
)
def test_stride_and_size_set_the_grid(stem: str, stride: tuple[int, int], size: tuple[int, int], grid: tuple[int, int]):
    patches = STEMS[stem](size, 16, stride, embed_dim=16)
    assert patches.grid_size == grid
    assert patches(torch.zeros(1, 3, *size)).shape == (1, grid[0] * grid[1], 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": (20, 16)}, r"MODEL\.STRIDE_SIZE.*\(20, 16\).*\(16, 16\)"),
        ({"img_size": (12, 32)}, r"INPUT\.SIZE_TRAIN.*\(12, 32\).*one patch"),
        ({"stem": "conv", "stride": (12, 12)}, r"MODEL\.STRIDE_SIZE.*MODEL\.STEM .*\(12, 12\)"),
        ({"embed_dim": 15}, r"MODEL\.EMBED_DIM 15, MODEL\.NUM_HEADS 2"),
        ({"name": "deit_tiny_distilled_patch16_224", "pool": "avg"}, r"MODEL\.POOL 'avg'"),
        ({"sie_camera": True, "cameras": ()}, r"MODEL\.SIE_CAMERA.*no cameras"),
        ({"sie_view": True, "views": ()}, r"MODEL\.SIE_VIEW.*no viewpoints"),
        ({"cameras": ("a", "b", "a")}, r"cameras: .*\ba\b.*more than once"),
    ],
)
def test_impossible_options_name_the_key(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_image_of_another_size_is_an_error_with_both_sizes():
    with pytest.raises(ValueError, match=r"\(64, 32\).*\(32, 64\)"):
        build()(torch.zeros(1, 3, 32, 64))


# --- activation checkpointing -------------------------------------------------------------------------------------


def gradients(model: ReidModel, seed: int = 5) -> dict[str, torch.Tensor]:
    model.train().zero_grad()
    torch.manual_seed(seed)
    before, after = model(IMAGES, torch.tensor([0, 1, 2]))
    (before.square().sum() + after.sin().sum()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("jpm", [False, True], ids=["global", "jpm"])
def test_recomputed_blocks_give_the_same_gradients_with_the_same_draws(jpm: bool):
    model = build(jpm=jpm, sie_camera=True, depth=3, drop_path=0.5, drop_out=0.2, att_drop_rate=0.2)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    expected = gradients(model)
    model.load_state_dict(state)
    model.backbone.checkpoint_blocks()
    torch.testing.assert_close(gradients(model), expected, rtol=0, atol=0)


@pytest.mark.parametrize("jpm", [False, True], ids=["global", "jpm"])
def test_recomputed_blocks_run_twice_and_keep_less(jpm: bool):
    model, runs = build(jpm=jpm, depth=6), []
    blocks = [*model.backbone.net.blocks, *([model.backbone.jigsaw.block] if jpm else [])]
    for block in blocks:
        block.norm1.register_forward_hook(lambda *_: runs.append(1))
    before = kept_bytes(model.backbone, 4, (64, 32), torch.float32)
    model.backbone.checkpoint_blocks()
    runs.clear()
    gradients(model)
    assert len(runs) == 2 * len(blocks)
    assert kept_bytes(model.backbone, 4, (64, 32), torch.float32) < 0.6 * before


def test_recomputing_costs_nothing_without_gradients():
    model, runs = build(), []
    model.backbone.checkpoint_blocks()
    model.backbone.net.blocks[0].register_forward_hook(lambda *_: runs.append(1))
    with torch.no_grad():
        model.embed(IMAGES)
    assert runs == [1]


def test_backbone_with_batch_norms_refuses_to_compute_blocks_again():
    with pytest.raises(ValueError, match=r"MODEL\.CHECKPOINT_BLOCKS.*batch norms"):
        ReidModel(ModelSpec("resnet10t", (64, 32))).backbone.checkpoint_blocks()


def test_other_backbones_compute_their_blocks_again_the_way_timm_does():
    torch.manual_seed(0)
    model = ReidModel(ModelSpec("convnext_atto", (64, 32)))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    expected = gradients(model)
    model.load_state_dict(state)
    model.backbone.checkpoint_blocks()
    torch.testing.assert_close(gradients(model), expected, rtol=0, atol=0)


def test_option_reaches_the_backbone():
    options = {"MODEL.CHECKPOINT_BLOCKS": True, "MODEL.PRETRAIN_CHOICE": "none", "MODEL.NAME": "vit_tiny_patch16_224"}
    assert build_model(
        make_config({**options, "MODEL.DEPTH": 1, "MODEL.EMBED_DIM": 8, "MODEL.NUM_HEADS": 1}), ()
    ).backbone.recompute


# --- last block ---------------------------------------------------------------------------------------------------


def whole_blocks(model: ReidModel) -> ReidModel:
    """The same model with all tokens computed in its last blocks."""
    model.backbone.only_first = False
    if model.backbone.jigsaw is not None:
        model.backbone.jigsaw.only_first = False
    return model


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
@pytest.mark.parametrize("jpm", [False, True], ids=["global", "jpm"])
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_stopping_at_the_first_token_changes_no_embedding_and_no_gradient(name: str, jpm: bool, fused: bool):
    short, full = (build(name=name, jpm=jpm, sie_camera=True, drop_path=0.3) for _ in range(2))
    whole_blocks(full)
    assert short.backbone.only_first
    for model in (short, full):
        set_fused_attention(model, fused)
    outputs = []
    for model in (short, full):
        torch.manual_seed(1)  # stochastic depth
        outputs.append(model.double().train().backbone(IMAGES.double(), torch.tensor([0, 1, 2])))
        outputs[-1].pow(3).sum().backward()
    torch.testing.assert_close(*outputs)
    ours, expected = ({key: p.grad for key, p in model.backbone.named_parameters()} for model in (short, full))
    torch.testing.assert_close(ours, expected)


def test_last_block_without_a_class_token_is_whole():
    assert not build(pool="avg").backbone.only_first
    assert build(pool="avg")(IMAGES).before.shape == (3, 1, 16)


def test_names_of_the_weights_are_those_of_timm():
    names = set(build().backbone.net.blocks[0].state_dict())
    assert set(build().backbone.net.blocks[-1].state_dict()) == names


def test_last_block_still_gives_all_tokens_where_they_are_asked_for():
    model = build()
    block, tokens = model.backbone.net.blocks[-1], torch.randn(2, 9, 16)
    torch.testing.assert_close(block(tokens, only_first=True), block(tokens)[:, :1])


def test_blocks_of_another_make_are_left_as_they_are():
    net = build().backbone.net
    assert can_stop_at_first(net.blocks[0])
    net.blocks[0].attn.gate = nn.Linear(16, 16)
    assert not can_stop_at_first(net.blocks[0])
    assert not can_stop_at_first(nn.Identity())


def test_side_information_is_not_lost_where_blocks_would_be_computed_again():
    """A stage's hook that adds it is passed by, or runs twice: another model would be trained."""
    words = ["MODEL.NAME", "convnext_atto", "MODEL.PRETRAIN_CHOICE", "none", "MODEL.CHECKPOINT_BLOCKS", "True"]
    build_model(load_config(None, words), ("c1", "c2"))
    with pytest.raises(ValueError, match=r"MODEL\.CHECKPOINT_BLOCKS.*side information"):
        build_model(load_config(None, [*words, "MODEL.SIE_CAMERA", "True"]), ("c1", "c2"))
