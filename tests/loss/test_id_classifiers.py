"""ID classifiers: the original's logits, losses and gradients; pytorch-metric-learning's; their edges."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import GOLDEN
from pytorch_metric_learning import losses as outside
from safetensors.torch import load_file
from torch.nn import functional as F

from vitreid.loss import AMSoftmax, ArcFace, Circle, CosFace, SoftmaxHead

LOSSES = load_file(GOLDEN / "losses.safetensors")
CASES = sorted(key.removesuffix(".logits") for key in LOSSES if key.endswith(".logits"))  # e.g. arcface.s30.m0.5
CLASSES = {"arcface": ArcFace, "cosface": CosFace, "amsoftmax": AMSoftmax, "circle": Circle}


def golden_head(case: str) -> torch.nn.Module:
    name, scale, margin = case.split(".", 2)
    head = CLASSES[name](16, 5, float(scale[1:]), float(margin[1:]))
    head.weight.data = LOSSES[f"{case}.weight"]
    return head


def test_golden_file_holds_every_margin_loss():
    assert {case.split(".")[0] for case in CASES} == set(CLASSES)


@pytest.mark.parametrize("case", CASES)
def test_margin_head_equals_the_original(case):
    features = LOSSES["feat"].clone().requires_grad_()
    logits = golden_head(case)(features, LOSSES["pid"])
    loss = F.cross_entropy(logits, LOSSES["pid"])
    loss.backward()
    torch.testing.assert_close(logits, LOSSES[f"{case}.logits"], rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(loss, LOSSES[f"{case}.loss"].squeeze(), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(features.grad, LOSSES[f"{case}.grad_feat"], rtol=1e-5, atol=1e-6)


def test_label_smoothing_equals_the_original():
    logits = LOSSES["logits"].clone().requires_grad_()
    loss = F.cross_entropy(logits, LOSSES["pid"], label_smoothing=0.1)
    loss.backward()
    torch.testing.assert_close(loss, LOSSES["label_smooth.0.1.loss"].squeeze(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(logits.grad, LOSSES["label_smooth.0.1.grad_logits"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("head", "other"),
    [
        (ArcFace(16, 5, 30.0, 0.5), outside.ArcFaceLoss(5, 16, margin=math.degrees(0.5), scale=30)),
        (CosFace(16, 5, 64.0, 0.35), outside.CosFaceLoss(5, 16, margin=0.35, scale=64)),
    ],
    ids=["arcface", "cosface"],
)
def test_margin_head_equals_pytorch_metric_learning(head, other):
    other.W.data = head.weight.data.T.clone()
    features, labels = torch.randn(40, 16, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 5
    torch.testing.assert_close(
        F.cross_entropy(head(features, labels), labels), other(features, labels), rtol=1e-5, atol=1e-5
    )


def test_arcface_turns_the_angle_by_the_margin():
    """Right class at 60 degrees, margin 30 degrees: its logit is that of a right angle; the other class keeps its own."""
    head = ArcFace(2, 2, scale=10.0, margin=math.radians(30))
    head.weight.data = torch.eye(2)
    feature = torch.tensor([[math.cos(math.radians(60)), math.sin(math.radians(60))]])
    torch.testing.assert_close(
        head(feature, torch.tensor([0])), torch.tensor([[0.0, 10 * math.cos(math.radians(30))]]), atol=1e-5, rtol=0
    )


def test_arcface_never_rewards_a_larger_angle():
    head = ArcFace(2, 2, scale=1.0, margin=0.5)
    head.weight.data = torch.eye(2)
    angles = torch.linspace(0, math.pi, 200)
    logits = head(torch.stack([angles.cos(), angles.sin()], 1), torch.zeros(200, dtype=torch.long))[:, 0]
    assert (logits.diff() < 1e-6).all()


@pytest.mark.parametrize("head_class", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("sign", [1, -1], ids=["same", "opposite"])
def test_gradient_is_finite_where_feature_and_class_point_alike(head_class, sign):
    head = head_class(4, 3, 30.0, 0.5)
    features = (sign * head.weight.detach()[:1] * 7).requires_grad_()
    F.cross_entropy(head(features, torch.tensor([0])), torch.tensor([0])).backward()
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("head_class", [ArcFace, CosFace, AMSoftmax])
def test_margin_lowers_the_logit_of_the_right_class_alone(head_class):
    easy, hard = head_class(16, 5, 1.0, 0.0), head_class(16, 5, 1.0, 0.3)
    hard.load_state_dict(easy.state_dict())
    features, labels = LOSSES["feat"], LOSSES["pid"]
    is_right = F.one_hot(labels, 5).bool()
    before, after = easy(features, labels), hard(features, labels)
    assert (after[is_right] < before[is_right]).all()
    torch.testing.assert_close(after[~is_right], before[~is_right])


def test_circle_weighs_each_logit_by_its_distance_from_the_optimum():
    """m = 0.25: the right cosine 0.5 is 0.75 from 1.25, the wrong cosine 0.2 is 0.45 from -0.25."""
    head = Circle(2, 2, scale=2.0, margin=0.25)
    logits = head.penalise(torch.tensor([[0.5, 0.2]]), torch.tensor([0]))
    torch.testing.assert_close(logits, 2 * torch.tensor([[0.75 * (0.5 - 0.75), 0.45 * (0.2 - 0.25)]]))


@pytest.mark.parametrize("head_class", CLASSES.values(), ids=CLASSES)
def test_length_of_a_feature_does_not_matter_to_a_cosine_head(head_class):
    head = head_class(16, 5, 30.0, 0.3)
    torch.testing.assert_close(
        head(LOSSES["feat"], LOSSES["pid"]), head(9 * LOSSES["feat"], LOSSES["pid"]), atol=1e-4, rtol=1e-5
    )


def test_heads_work_in_float32_under_autocast():
    head = ArcFace(16, 5, 30.0, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(LOSSES["feat"].bfloat16(), LOSSES["pid"])
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, head(LOSSES["feat"].bfloat16().float(), LOSSES["pid"]))


def test_softmax_head_is_a_linear_layer_with_small_weights():
    torch.manual_seed(0)
    head = SoftmaxHead(64, 100)
    assert [name for name, _ in head.named_parameters()] == ["weight"]
    assert head.weight.std().item() == pytest.approx(0.001, rel=0.05)
    features = torch.ones(1, 64)
    torch.testing.assert_close(head(features, torch.tensor([3])), features @ head.weight.T)
