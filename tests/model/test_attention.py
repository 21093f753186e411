"""Attention rollout: against the weights that the blocks really use, and by eye."""

from __future__ import annotations

import pytest
import torch

from vitreid.model import ModelSpec, ReidModel, attention_rollout, has_attention, set_fused_attention

IMAGES = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))


def build(**changes):
    torch.manual_seed(0)
    options = {"img_size": (64, 32), "embed_dim": 16, "depth": 3, "num_heads": 2, "cameras": ("a", "b"), **changes}
    model = ReidModel(ModelSpec("vit_tiny_patch16_224", **options)).eval()
    for block in model.backbone.net.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight)  # uneven attention
    return model


@pytest.mark.parametrize("changes", [{}, {"pool": "avg"}, {"sie_camera": True}, {"jpm": True, "num_parts": 2}])
def test_rollout_equals_that_of_the_weights_the_blocks_use(changes):
    """Dropout on the attention sees the weights; the product of their means with the identity is the rollout."""
    model, seen = build(**changes), []
    set_fused_attention(model, False)
    for block in model.backbone.net.blocks:
        block.attn.attn_drop.register_forward_hook(lambda module, given, result: seen.append(given[0].detach()))
    camids = torch.tensor([1, 0])
    model(IMAGES, camids)
    size = seen[0].shape[-1]
    total = torch.eye(size)
    for weights in seen[:3]:  # of the global branch
        total = (weights.mean(1) + torch.eye(size)) / 2 @ total
    first = model.backbone.net.num_prefix_tokens
    row = (total[:, 0] if first else total.mean(1))[:, first:]
    expected = (row / row.sum(1, keepdim=True)).view(2, 4, 2)
    torch.testing.assert_close(attention_rollout(model, IMAGES, camids), expected)


def test_each_image_sums_to_one_on_its_grid_of_overlapping_patches():
    weights = attention_rollout(build(stride=(8, 8)), IMAGES)
    assert weights.shape == (2, 7, 3)
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(2))


def test_a_model_without_attention_over_patches_says_so():
    model = ReidModel(ModelSpec("resnet18", img_size=(64, 32))).eval()
    assert not has_attention(model)
    with pytest.raises(ValueError, match=r"MODEL\.NAME.*resnet18"):
        attention_rollout(model, IMAGES)
