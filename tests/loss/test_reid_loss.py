"""The training loss: terms, branch weights, center loss, every ID loss with every number of branches."""

from __future__ import annotations

import pytest
import torch
from helpers import GOLDEN
from safetensors.torch import load_file
from torch.nn import functional as F

from vitreid.configs import get_defaults
from vitreid.loss import HEADS, CenterLoss, TripletLoss, build_loss

LOSSES = load_file(GOLDEN / "losses.safetensors")


def make_loss(num_branches=1, **options):
    torch.manual_seed(0)
    cfg = get_defaults()
    cfg.LOSS.update(options)
    return build_loss(cfg, num_classes=5, embed_dim=16, num_branches=num_branches)


def make_batch(num_branches=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    before, after = (torch.randn(12, num_branches, 16, generator=generator).requires_grad_() for _ in range(2))
    return before, after, torch.arange(12) // 3 % 5


def test_default_terms_are_those_of_the_original():
    """ID loss on the embedding after the neck, triplet loss on the one before."""
    loss, (before, after, labels) = make_loss(), make_batch()
    terms, stats = loss(before, after, labels)
    assert list(terms) == ["id", "triplet"]
    assert list(stats) == ["accuracy"]
    torch.testing.assert_close(terms["id"], F.cross_entropy(after[:, 0] @ loss.heads[0].weight.T, labels))
    torch.testing.assert_close(terms["triplet"], TripletLoss()(before[:, 0], labels))


def test_global_branch_weighs_as_much_as_all_local_ones():
    loss, (before, after, labels) = make_loss(num_branches=5), make_batch(5)
    terms, _ = loss(before, after, labels)
    id_losses = [F.cross_entropy(head(after[:, i], labels), labels) for i, head in enumerate(loss.heads)]
    triplets = [TripletLoss()(before[:, i], labels) for i in range(5)]
    for term, parts in ((terms["id"], id_losses), (terms["triplet"], triplets)):
        torch.testing.assert_close(term, 0.5 * parts[0] + 0.5 * sum(parts[1:]) / 4)


@pytest.mark.parametrize("name", sorted(HEADS))
@pytest.mark.parametrize("num_branches", [1, 3])
def test_every_id_loss_trains_every_branch(name, num_branches):
    loss, (before, after, labels) = make_loss(num_branches, ID=name, LABEL_SMOOTH=0.1), make_batch(num_branches)
    sum(loss(before, after, labels)[0].values()).backward()
    assert (before.grad.abs().sum((0, 2)) > 0).all()
    assert (after.grad.abs().sum((0, 2)) > 0).all()
    assert all(head.weight.grad.abs().sum() > 0 for head in loss.heads)


def test_weights_scale_their_terms():
    batch = make_batch()
    plain, weighted = make_loss()(*batch)[0], make_loss(ID_WEIGHT=0.25, METRIC_WEIGHT=3.0)(*batch)[0]
    torch.testing.assert_close(weighted["id"], 0.25 * plain["id"])
    torch.testing.assert_close(weighted["triplet"], 3 * plain["triplet"])


def test_label_smoothing_is_that_of_the_original():
    loss = make_loss(LABEL_SMOOTH=0.1)
    loss.heads[0].scores = lambda features: features[:, :5]
    after = F.pad(LOSSES["logits"], (0, 11))[:, None]
    torch.testing.assert_close(
        loss(after, after, LOSSES["pid"])[0]["id"], LOSSES["label_smooth.0.1.loss"].squeeze(), rtol=1e-6, atol=1e-6
    )


def test_soft_margin_switch_and_margin_reach_the_triplet_loss():
    batch = make_batch()
    terms = make_loss(SOFT_MARGIN=False, MARGIN=0.7)(*batch)[0]
    torch.testing.assert_close(terms["triplet"], TripletLoss(0.7)(batch[0][:, 0], batch[2]))


def test_terms_can_be_switched_off():
    batch = make_batch()
    terms, stats = make_loss(ID="none")(*batch)
    assert (list(terms), list(stats)) == (["triplet"], [])
    assert list(make_loss(METRIC="none")(*batch)[0]) == ["id"]


def test_accuracy_is_that_of_the_global_branch_without_the_margin():
    """A margin of 2 makes the right class lose in the logits of the loss; the accuracy does not see it."""
    loss = make_loss(2, ID="cosface", ID_MARGIN=2.0)
    after = torch.stack([loss.heads[0].weight.detach(), -loss.heads[1].weight.detach()], 1)
    _, stats = loss(after, after, torch.arange(5))
    assert stats["accuracy"] == 1
    assert not stats["accuracy"].requires_grad


@pytest.mark.parametrize("option", ["ID", "METRIC"])
def test_unknown_loss_is_an_error_with_the_choices(option):
    with pytest.raises(ValueError, match=rf"LOSS\.{option}.*'tripplet'.*none"):
        make_loss(**{option: "tripplet"})


def test_center_loss_equals_the_original():
    loss = CenterLoss(5, 16)
    loss.centers.data = LOSSES["center.centers"].clone()
    features = LOSSES["feat"].clone().requires_grad_()
    value = loss(features, LOSSES["pid"])
    value.backward()
    torch.testing.assert_close(value, LOSSES["center.loss"].squeeze(), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(features.grad, LOSSES["center.grad_feat"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss.centers.grad, LOSSES["center.grad_centers"], rtol=1e-5, atol=1e-6)


def test_center_weight_scales_value_and_features_but_not_the_step_of_the_centers():
    loss = make_loss(CENTER_WEIGHT=0.01)
    loss.center.centers.data = LOSSES["center.centers"].clone()
    features = LOSSES["feat"][:, None].clone().requires_grad_()
    value = loss(features, features.detach(), LOSSES["pid"])[0]["center"]
    value.backward()
    torch.testing.assert_close(value, 0.01 * LOSSES["center.loss"].squeeze(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(features.grad[:, 0], 0.01 * LOSSES["center.grad_feat"], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(loss.center.centers.grad, LOSSES["center.grad_centers"], rtol=1e-5, atol=1e-6)


def test_centers_reach_the_mean_of_their_class():
    loss, labels = CenterLoss(2, 3, weight=0.0005), torch.tensor([0, 0, 1, 1])
    features = torch.tensor([[1.0, 2, 3], [3, 4, 5], [-1, 0, 1], [-3, 0, 3]])
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        loss(features, labels).backward()
        optimizer.step()
    torch.testing.assert_close(loss.centers.data, torch.tensor([[2.0, 3, 4], [-2, 0, 2]]))


def test_bf16_autocast_changes_no_digit_of_float32_embeddings():
    loss, batch = make_loss(ID="arcface", CENTER_WEIGHT=0.1), make_batch()
    plain = loss(*batch)[0]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(*batch)[0]
    assert all(torch.equal(mixed[name], plain[name]) for name in ("id", "triplet", "center"))


def test_parameter_names_let_the_solver_find_heads_and_centers():
    names = [name for name, _ in make_loss(2, CENTER_WEIGHT=0.1).named_parameters()]
    assert names == ["heads.0.weight", "heads.1.weight", "center.centers"]
