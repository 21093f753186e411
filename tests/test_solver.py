"""Learning rates as the original's, parameter groups, averaged weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from vitreid.configs import get_defaults
from vitreid.solver import EMA, OPTIMIZERS, SCHEDULES, build_optimizers, build_schedule

GOLDEN = json.loads((Path(__file__).parent / "golden" / "cosine_schedule.json").read_text())


def make_cfg(**options):
    cfg = get_defaults()
    cfg.SOLVER.update(options)
    return cfg


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 3, 4))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.sie = nn.Embedding(5, 4)
        self.fc = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.neck = nn.BatchNorm1d(4)
        self.neck.bias.requires_grad_(False)


class Loss(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(4, 6, bias=False)])
        self.center = nn.Module()
        self.center.centers = nn.Parameter(torch.zeros(6, 4))


def rates(cfg, parameters):
    """Return (lr, weight decay) per parameter name."""
    model, loss = Model(), Loss()
    named = {**dict(model.named_parameters()), **dict(loss.named_parameters())}
    groups = [group for optimizer in build_optimizers(cfg, model, loss) for group in optimizer.param_groups]
    found = {id(parameter): (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    return {name: found.get(id(named[name])) for name in parameters}


@pytest.mark.parametrize("case", sorted(GOLDEN))
def test_cosine_schedule_equals_the_original(case):
    golden = GOLDEN[case]
    cfg = make_cfg(MAX_EPOCHS=golden["max_epochs"], WARMUP_EPOCHS=golden["warmup_epochs"], BASE_LR=golden["base_lr"])
    cfg.SOLVER.update(WARMUP_FACTOR=golden["warmup_lr_factor"], MIN_LR_FACTOR=golden["lr_min_factor"])
    schedule = build_schedule(cfg, iters_per_epoch=100)
    assert [schedule.lr(epoch) for epoch in range(1, golden["max_epochs"] + 1)] == pytest.approx(
        golden["lr_at_epoch"], rel=1e-9
    )


def test_warm_up_and_minimum_are_the_same_rate_for_all_groups_as_in_the_original():
    """TransReID passes timm's scheduler one absolute start and one absolute minimum; only the peak is a group's own."""
    schedule = build_schedule(
        make_cfg(BASE_LR=1.0, WARMUP_EPOCHS=4, MAX_EPOCHS=8, WARMUP_FACTOR=0.1, MIN_LR_FACTOR=0.02), 10
    )
    assert schedule.lr(0, 2.0) == schedule.lr(0, 1.0) == pytest.approx(0.1)
    assert schedule.lr(1, 2.0) == pytest.approx(0.1 + (2.0 - 0.1) / 4)
    assert schedule.lr(4, 2.0) == pytest.approx(0.02 + (2.0 - 0.02) / 2)
    assert schedule.lr(8, 2.0) == schedule.lr(8, 1.0) == pytest.approx(0.02)


def test_per_iteration_schedule_meets_the_per_epoch_one_at_the_end_of_each_epoch():
    per_epoch, per_iteration = (
        build_schedule(make_cfg(PER_ITERATION=flag), iters_per_epoch=7) for flag in (False, True)
    )
    optimizers = [
        torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr_factor": 2.0}], lr=1.0) for _ in range(2)
    ]
    for epoch in range(1, 121):
        per_epoch.apply(optimizers[:1], epoch, 6)
        per_iteration.apply(optimizers[1:], epoch, 6)
        assert optimizers[0].param_groups[0]["lr"] == pytest.approx(optimizers[1].param_groups[0]["lr"], rel=1e-12)


def test_per_iteration_warm_up_rises_within_an_epoch():
    schedule = build_schedule(make_cfg(PER_ITERATION=True), iters_per_epoch=4)
    first_epoch = [schedule.lr(schedule.progress(1, iteration)) for iteration in range(4)]
    assert first_epoch == pytest.approx([0.00008 + (0.008 - 0.00008) * i / 20 for i in (1, 2, 3, 4)])


def test_per_epoch_rate_is_constant_within_an_epoch():
    schedule = build_schedule(make_cfg(), iters_per_epoch=4)
    assert schedule.progress(3, 0) == schedule.progress(3, 3) == 3


def test_multistep_schedule_drops_after_the_epochs_named():
    schedule = build_schedule(make_cfg(SCHEDULE="multistep", STEPS=(2, 4), GAMMA=0.1, WARMUP_EPOCHS=0, BASE_LR=1.0), 10)
    assert [schedule.lr(epoch) for epoch in (1, 2, 3, 4, 5)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert schedule.lr(2.05) == pytest.approx(0.1)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_every_schedule_without_warm_up_starts_near_the_peak(name):
    schedule = build_schedule(make_cfg(SCHEDULE=name, WARMUP_EPOCHS=0, BASE_LR=1.0), 10)
    assert schedule.lr(0) == 1.0


def test_default_groups_are_those_of_the_original():
    cfg = make_cfg(BASE_LR=0.01, WEIGHT_DECAY=1e-4, WEIGHT_DECAY_BIAS=5e-5, BIAS_LR_FACTOR=2.0)
    expected = dict.fromkeys(
        ("pos_embed", "cls_token", "sie.weight", "fc.weight", "norm.weight", "heads.0.weight"), (0.01, 0.0001)
    )
    expected |= {"fc.bias": (0.02, 5e-5), "norm.bias": (0.02, 5e-5), "neck.bias": None}
    assert rates(cfg, expected) == expected


def test_no_decay_spares_norms_biases_and_embeddings():
    names = (
        "pos_embed",
        "cls_token",
        "sie.weight",
        "norm.weight",
        "norm.bias",
        "fc.bias",
        "fc.weight",
        "heads.0.weight",
    )
    decays = {name: rate[1] for name, rate in rates(make_cfg(NO_DECAY=True, WEIGHT_DECAY=0.1), names).items()}
    assert {name for name, decay in decays.items() if decay} == {"fc.weight", "heads.0.weight"}


def test_head_factor_reaches_the_classifiers_alone():
    found = rates(make_cfg(BASE_LR=0.01, HEAD_LR_FACTOR=5.0), ["heads.0.weight", "fc.weight"])
    assert (found["heads.0.weight"][0], found["fc.weight"][0]) == (0.05, 0.01)


def test_one_group_per_rate_and_decay_not_one_per_tensor():
    (main, _) = build_optimizers(make_cfg(), Model(), Loss())
    assert len(main.param_groups) == 2


def test_centers_have_their_own_constant_rate():
    cfg, loss = make_cfg(CENTER_LR=0.5), Loss()
    main, centers = build_optimizers(cfg, Model(), loss)
    build_schedule(cfg, 10).apply([main, centers], 60, 0)
    assert centers.param_groups[0]["params"] == [loss.center.centers]
    assert centers.param_groups[0]["lr"] == 0.5
    assert all(parameter is not loss.center.centers for group in main.param_groups for parameter in group["params"])
    assert main.param_groups[0]["lr"] == pytest.approx(GOLDEN["transreid_120"]["lr_at_epoch"][59])


def test_without_centers_there_is_one_optimizer():
    loss = Loss()
    del loss.center
    assert len(build_optimizers(make_cfg(), Model(), loss)) == 1


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_takes_a_step_and_resumes_with_its_groups(name):
    cfg, model, loss = make_cfg(OPTIMIZER_NAME=name, BASE_LR=0.1), Model(), Loss()
    (optimizer, _) = build_optimizers(cfg, model, loss)
    before = model.fc.weight.detach().clone()
    model.fc(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    assert not torch.equal(model.fc.weight, before)
    fresh = build_optimizers(cfg, model, loss)[0]
    fresh.load_state_dict(optimizer.state_dict())
    assert [group["lr_factor"] for group in fresh.param_groups] == [
        group["lr_factor"] for group in optimizer.param_groups
    ]


@pytest.mark.parametrize(
    ("key", "build"),
    [
        ("OPTIMIZER_NAME", lambda cfg: build_optimizers(cfg, Model(), Loss())),
        ("SCHEDULE", lambda cfg: build_schedule(cfg, 1)),
    ],
)
def test_unknown_names_are_errors_with_the_choices(key, build):
    with pytest.raises(ValueError, match=rf"SOLVER.{key}: unknown value 'sdg'; choose from "):
        build(make_cfg(**{key: "sdg"}))


def test_ema_is_the_weighted_mean_of_the_past():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    ema = EMA(model, decay=0.9)
    ema.updates, expected = 1000, 0.0  # past the start, where the decay is smaller
    for value in (1.0, 2.0, 5.0):
        model.weight.data.fill_(value)
        ema.update()
        expected = 0.9 * expected + 0.1 * value
    assert ema.model.weight.item() == pytest.approx(expected)


def test_ema_forgets_the_initial_weights_soon():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1000.0)
    ema = EMA(model, decay=0.9999)
    model.weight.data.fill_(1.0)
    for _ in range(100):
        ema.update()
    assert ema.model.weight.item() == pytest.approx(1.0, abs=1e-3)


def test_ema_averages_running_statistics_and_leaves_the_model_alone():
    model = nn.BatchNorm1d(3)
    ema = EMA(model, decay=0.5)
    model(torch.randn(8, 3) + 10)
    ema.update()
    assert not ema.model.training
    assert model.training
    assert ema.model.num_batches_tracked == 1
    assert (ema.model.running_mean > 0).all()
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
    assert model.weight.requires_grad


def test_ema_resumes_exactly():
    model = nn.Linear(2, 2)
    first = EMA(model, 0.99)
    first.update()
    second = EMA(nn.Linear(2, 2), 0.99)
    second.source = model
    second.load_state_dict(first.state_dict())
    model.weight.data += 1
    first.update()
    second.update()
    assert torch.equal(first.model.weight, second.model.weight)
