"""Batch-hard triplet loss: the original's values, pytorch-metric-learning's, and batches the original cannot take."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import GOLDEN
from pytorch_metric_learning import distances, losses, miners, reducers
from safetensors.torch import load_file
from torch.nn import functional as F

from vitreid.loss import TripletLoss

LOSSES = load_file(GOLDEN / "losses.safetensors")
SOFT, HARD = TripletLoss(), TripletLoss(0.3)


@pytest.mark.parametrize(
    ("case", "loss", "normalise"),
    [("triplet.soft", SOFT, False), ("triplet.m0.3", HARD, False), ("triplet.m0.3.normalized", HARD, True)],
)
def test_triplet_loss_equals_the_original(case, loss, normalise):
    features = LOSSES["feat"].clone().requires_grad_()
    value = loss(F.normalize(features) if normalise else features, LOSSES["pid"])
    value.backward()
    torch.testing.assert_close(value, LOSSES[f"{case}.loss"].squeeze(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(features.grad, LOSSES[f"{case}.grad_feat"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("margin", [None, 0.3], ids=["soft", "margin"])
def test_triplet_loss_equals_pytorch_metric_learning_on_an_irregular_batch(margin):
    features = torch.randn(30, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0] * 11 + [1] * 7 + [2] * 2 + [3] + [4] * 9)  # label 3 has no second image
    euclidean = distances.LpDistance(normalize_embeddings=False)
    other = losses.TripletMarginLoss(
        margin or 0.0, smooth_loss=margin is None, distance=euclidean, reducer=reducers.MeanReducer()
    )
    triplets = miners.BatchHardMiner(distance=euclidean)(features, labels)
    torch.testing.assert_close(
        TripletLoss(margin)(features, labels), other(features, labels, triplets), rtol=1e-5, atol=1e-5
    )


def test_farthest_positive_and_nearest_negative_are_taken():
    """On a line: anchor 0 of label a has positives at 1 and 3, negatives at 4 and 10."""
    features, labels = torch.tensor([[0.0], [1.0], [3.0], [4.0], [10.0]]), torch.tensor([0, 0, 0, 1, 1])
    gaps = [3 - 4, 2 - 3, 3 - 1, 6 - 1, 6 - 7]  # farthest positive minus nearest negative, image by image
    expected = sum(max(0.0, gap + 0.3) for gap in gaps) / 5
    assert float(HARD(features, labels)) == pytest.approx(expected)
    assert float(SOFT(features, labels)) == pytest.approx(sum(math.log1p(math.exp(gap)) for gap in gaps) / 5)


def test_an_identity_with_one_image_is_a_negative_but_no_anchor():
    features, labels = torch.tensor([[0.0], [2.0], [3.0]]), torch.tensor([0, 0, 1])
    assert float(TripletLoss(0.5)(features, labels)) == pytest.approx(((2 - 3 + 0.5 > 0) * 0 + (2 - 1 + 0.5)) / 2)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 0, 0]], ids=["no positives", "no negatives"])
@pytest.mark.parametrize("loss", [SOFT, HARD], ids=["soft", "margin"])
def test_batch_without_any_triplet_has_loss_0_and_gradient_0(loss, labels):
    features = torch.randn(4, 8).requires_grad_()
    value = loss(features, torch.tensor(labels))
    value.backward()
    assert value == 0
    assert (features.grad == 0).all()


@pytest.mark.parametrize("loss", [SOFT, HARD], ids=["soft", "margin"])
def test_gradient_is_finite_where_images_coincide(loss):
    features = torch.ones(8, 4).requires_grad_()
    loss(features, torch.arange(8) // 2).backward()
    assert torch.isfinite(features.grad).all()


def test_branches_are_losses_of_their_own():
    features, labels = torch.randn(3, 12, 16, generator=torch.Generator().manual_seed(2)), LOSSES["pid"]
    torch.testing.assert_close(SOFT(features, labels), torch.stack([SOFT(branch, labels) for branch in features]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_far_from_the_origin_keep_their_distances(dtype):
    """In fp16 the squared lengths would overflow (65504), in bf16 the differences would vanish."""
    features = (torch.tensor([[0.0], [2.0], [4.0], [8.0]]) + 256 * torch.ones(16)).to(
        dtype
    )  # distances 8, 16, 32 apart
    with torch.autocast("cpu", torch.bfloat16):
        value = TripletLoss(100.0)(features, torch.tensor([0, 0, 1, 1]))
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(100 + ((8 - 16) + (8 - 8) + (16 - 8) + (16 - 24)) / 4, abs=1e-3)


def test_gradient_equals_the_numerical_one():
    features = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: SOFT(x, torch.arange(9) // 3), features)
