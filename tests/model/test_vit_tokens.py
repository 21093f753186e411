"""Tokens for pre-training: the backbone's own features, positions resampled as timm does, masked pixels without effect."""

from __future__ import annotations

import pytest
import timm
import torch

from vitreid.common.errors import UserError
from vitreid.model import ModelSpec, ReidModel
from vitreid.model.backbones.vit_tokens import token_features, token_grid

SIZE, SMALL = (64, 32), (32, 32)
TINY = {"name": "vit_tiny_patch16_224", "img_size": SIZE, "embed_dim": 32, "depth": 2, "num_heads": 2}
SPECS = {
    "class token": TINY,
    "mean": {**TINY, "pool": "avg"},
    "overlapping": {**TINY, "stride": (12, 12)},
    "conv": {**TINY, "stem": "conv"},
    "resconv": {**TINY, "stem": "resconv", "pool": "avg"},
    "ics": {**TINY, "stem": "ics"},
    "t2t": {"name": "t2t_vit_7", "img_size": SIZE, "depth": 2},
    "registers": {"name": "pass_vit_small", "img_size": SIZE, "depth": 2},
    "no position of the class token": {"name": "deit3_small_patch16_224", "img_size": SIZE, "depth": 2},
}


def backbone_of(options):
    torch.manual_seed(0)
    backbone = ReidModel(ModelSpec(**options)).backbone.eval()
    for parameter in backbone.parameters():  # positions and tokens start near 0
        parameter.data += 0.02 * torch.randn_like(parameter)
    return backbone


@pytest.mark.parametrize("name", SPECS)
def test_the_pooled_feature_is_the_backbones(name):
    backbone, images = backbone_of(SPECS[name]), torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        features = token_features(backbone, images)
        torch.testing.assert_close(features.pooled, backbone(images)[:, 0], rtol=1e-4, atol=1e-5)
    down, across = token_grid(backbone, SIZE)
    assert features.patches.shape == (2, down * across, features.pooled.shape[1])


@pytest.mark.parametrize("name", SPECS)
def test_crops_of_another_size_have_their_grid(name):
    backbone = backbone_of(SPECS[name])
    down, across = token_grid(backbone, SMALL)
    with torch.no_grad():
        assert token_features(backbone, torch.randn(2, 3, *SMALL)).patches.shape[1] == down * across


def test_positions_of_small_crops_are_resampled_as_timm_does():
    """timm's own model with varying image sizes, given the same weights."""
    backbone, images = backbone_of(TINY), torch.randn(2, 3, *SMALL)
    sizes = {"embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0}
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=SIZE, dynamic_img_size=True, **sizes).eval()
    theirs.load_state_dict(
        {name: value for name, value in backbone.net.state_dict().items() if "patch_embed" not in name}, strict=False
    )
    theirs.patch_embed.proj.load_state_dict(backbone.net.patch_embed.proj.state_dict())
    with torch.no_grad():
        expected, features = theirs.forward_features(images), token_features(backbone, images)
    torch.testing.assert_close(features.pooled, expected[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.patches, expected[:, 1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["class token", "overlapping", "resconv"])
def test_pixels_under_masked_tokens_have_no_effect(name):
    backbone, images = backbone_of(SPECS[name]), torch.randn(2, 3, *SIZE)
    down, across = token_grid(backbone, SIZE)
    mask = torch.zeros(2, down, across, dtype=torch.bool)
    mask[0, 0], token = True, torch.randn(1, 1, 32)
    changed = images.clone()
    changed[0, :, : SIZE[0] // down] = 7.0
    with torch.no_grad():
        first, second = (token_features(backbone, one, mask, token) for one in (images, changed))
        plain = token_features(backbone, images)
    assert torch.equal(first.pooled, second.pooled)
    assert not torch.allclose(first.pooled[0], plain.pooled[0])
    torch.testing.assert_close(first.pooled[1], plain.pooled[1])


def test_a_stem_of_one_size_is_refused():
    backbone = ReidModel(ModelSpec("vit_small_r26_s32_224", img_size=(224, 224), stride=(16, 16))).backbone
    with pytest.raises(UserError, match=r"MODEL\.NAME.*vit_small_patch16_224"):
        token_grid(backbone, SMALL)
