"""Past embeddings in the metric loss, the circle loss of pairs, and every combination of losses."""

from __future__ import annotations

import pytest
import torch
from pytorch_metric_learning import losses

from vitreid.configs import OPTIONS, load_config, make_config
from vitreid.datasets import Batch
from vitreid.loss import METRICS, CircleLoss, CrossBatchMemory, TripletLoss, build_loss
from vitreid.model import ModelSpec, ReidModel
from vitreid.processor import TrainingModule
from vitreid.solver import build_optimizers


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_memory_keeps_the_newest_embeddings():
    memory = CrossBatchMemory(size=5, num_branches=1, embed_dim=1)
    for start in (0, 3, 6):  # batches of three: 0-2, 3-5, 6-8
        values = torch.arange(start, start + 3)
        memory.add(values.float()[None, :, None], values)
    features, labels = memory.read()
    assert sorted(labels.tolist()) == [4, 5, 6, 7, 8]
    assert torch.equal(features[0, :, 0], labels.float())


def test_batch_larger_than_the_memory_leaves_its_last_images():
    memory = CrossBatchMemory(size=2, num_branches=1, embed_dim=1)
    memory.add(torch.arange(5.0)[None, :, None], torch.arange(5))
    assert sorted(memory.read()[1].tolist()) == [3, 4]


def test_memory_is_filled_but_not_read_before_its_start():
    memory, counts = CrossBatchMemory(size=4, num_branches=1, embed_dim=1, start=2), []
    for _ in range(4):
        counts.append(int((memory.read()[1] >= 0).sum()))
        memory.add(torch.zeros(1, 1, 1), torch.zeros(1, dtype=torch.long))
    assert counts == [0, 0, 2, 3]


@pytest.mark.parametrize("metric", [TripletLoss(), TripletLoss(0.3), CircleLoss()], ids=["soft", "margin", "circle"])
def test_empty_memory_changes_nothing(metric):
    features, labels = draw(2, 8, 4), torch.arange(8) // 2
    empty = CrossBatchMemory(16, 2, 4).read()
    torch.testing.assert_close(metric(features, labels, *empty), metric(features, labels))


def test_hardest_images_are_mined_in_the_memory_too():
    """On a line: anchors of label 0 at 0 and 1; memory: a positive at 5, a negative at 2, an empty place at 0.5."""
    features, labels = torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([0, 0, 1])
    past, past_labels = torch.tensor([[5.0], [2.0], [0.5]]), torch.tensor([0, 1, -1])
    gaps = [5 - 2, 4 - 1, 7 - 4]  # farthest positive minus nearest negative; label 1 has its positive at 2
    expected = sum(gap + 0.3 for gap in gaps) / 3
    assert float(TripletLoss(0.3)(features, labels, past, past_labels)) == pytest.approx(expected)


@pytest.mark.parametrize("metric", [TripletLoss(), CircleLoss()], ids=["triplet", "circle"])
def test_memory_is_compared_with_as_one_large_batch_of_which_only_the_new_images_are_anchors(metric):
    features, labels = draw(12, 4), torch.arange(12) % 3
    whole = features.clone().requires_grad_()
    metric(whole[:6], labels[:6], whole[6:].detach(), labels[6:]).backward()
    each = []
    for i in range(6):  # one anchor at a time: it first, everybody else as past
        rest = [j for j in range(12) if j != i]
        each.append(metric(features[[i]], labels[[i]], features[rest], labels[rest]))
    torch.testing.assert_close(torch.stack(each).mean(), metric(features[:6], labels[:6], features[6:], labels[6:]))
    assert whole.grad[:6].abs().sum() > 0
    assert whole.grad[6:].abs().sum() == 0


def make_loss(num_branches=1, **options):
    torch.manual_seed(0)
    keys = {f"LOSS.{key}": value for key, value in options.items()}
    return build_loss(make_config(keys), num_classes=4, embed_dim=8, num_branches=num_branches)


def step(loss, seed):
    features = draw(8, len(loss.heads), 8, seed=seed)
    return loss(features, features, torch.arange(8) // 2)[0]


def test_memory_resumes_exactly():
    first = make_loss(num_branches=3, MEMORY=20, MEMORY_START=2).train()
    for seed in range(4):
        step(first, seed)
    second = make_loss(num_branches=3, MEMORY=20, MEMORY_START=2).train()
    second.load_state_dict(first.state_dict())
    for seed in range(4, 8):
        torch.testing.assert_close(step(first, seed), step(second, seed), rtol=0, atol=0)


def test_memory_makes_the_triplets_harder_from_its_start_on():
    plain, helped = make_loss(), make_loss(MEMORY=32, MEMORY_START=2).train()
    pairs = [(step(plain, seed)["triplet"], step(helped, seed)["triplet"]) for seed in range(4)]
    assert [bool(b > a) for a, b in pairs] == [False, False, True, True]


def test_evaluation_mode_leaves_the_memory_alone():
    loss = make_loss(MEMORY=32).eval()
    step(loss, 0)
    assert (loss.memory.labels == -1).all()


def test_memory_without_a_metric_loss_is_an_error():
    with pytest.raises(ValueError, match=r"LOSS\.MEMORY.*\b64 .*LOSS\.METRIC.*none"):
        load_config(None, ["LOSS.MEMORY", "64", "LOSS.METRIC", "none"])


# --- circle loss of pairs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("margin", "scale"), [(0.25, 128.0), (0.4, 16.0)])
def test_circle_loss_equals_pytorch_metric_learning(margin, scale):
    features, labels = draw(12, 8), torch.arange(12) // 3
    ours, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
    value = CircleLoss(margin, scale)(ours, labels)
    expected = losses.CircleLoss(m=margin, gamma=scale)(theirs, labels)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 1, 2]], ids=["no pair", "no other", "lone"])
def test_circle_loss_without_pairs_is_0_and_its_gradient_finite(labels):
    features = draw(4, 8).requires_grad_()
    value = CircleLoss()(features, torch.tensor(labels))
    value.backward()
    assert torch.isfinite(features.grad).all()
    assert (value == 0) == (labels != [0, 0, 1, 2])


def test_circle_loss_reads_its_own_options():
    metric = make_loss(METRIC="circle", PAIR_MARGIN=0.1, PAIR_SCALE=7.0).metric
    assert (metric.margin, metric.scale) == (0.1, 7.0)


# --- together -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [0, 24])
@pytest.mark.parametrize("center", [0.0, 0.0005])
@pytest.mark.parametrize("metric", [*METRICS, "none"])
@pytest.mark.parametrize("name", OPTIONS["LOSS.ID"].choices)
def test_every_combination_of_losses_takes_a_step_with_jpm(name, metric, center, memory):
    if metric == "none" and (name == "none" or memory):
        pytest.skip("nothing to train on, or nothing that reads the memory: refused by the config")
    options = {"LOSS.ID": name, "LOSS.METRIC": metric, "LOSS.CENTER_WEIGHT": center, "LOSS.MEMORY": memory}
    cfg = make_config({**options, "LOSS.MEMORY_START": 0})
    torch.manual_seed(0)
    model = ReidModel(
        ModelSpec("vit_tiny_patch16_224", (32, 32), embed_dim=8, depth=1, num_heads=1, jpm=True, num_parts=2)
    )
    module = TrainingModule(model, build_loss(cfg, 4, 8, 3)).train()
    optimizers = build_optimizers(cfg, model, module.loss)
    index = torch.arange(8)
    for seed in range(2):
        terms, _ = module(Batch(draw(8, 3, 32, 32, seed=seed), index // 2, index, index, index))
        sum(terms.values()).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert set(terms) == ({"id"} if name != "none" else set()) | ({metric} - {"none"}) | (
        {"center"} if center else set()
    )
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
