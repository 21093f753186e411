"""Learning rates as the original's, parameter groups, averaged weights."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import GOLDEN
from torch import nn

from vitreid.configs import get_defaults, load_config, make_config
from vitreid.model import build_model
from vitreid.model.layer_depth import freeze
from vitreid.processor.training.trainer import load_optimizer
from vitreid.solver import (
    EMA,
    OPTIMIZERS,
    SCHEDULES,
    SWA,
    build_average,
    build_group_rules,
    build_optimizers,
    build_schedule,
    group_parameters,
)

COSINE = json.loads((GOLDEN / "cosine_schedule.json").read_text())


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


@pytest.mark.parametrize("case", sorted(COSINE))
def test_cosine_schedule_equals_the_original(case):
    golden = COSINE[case]
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


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_a_first_step_left_out_by_the_scaler_leaves_no_trace(name):
    """fp16 begins with a scale that overflows."""
    (optimizer, _) = build_optimizers(make_cfg(OPTIMIZER_NAME=name, BASE_LR=0.1), Model(), Loss(), scaled=True)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in parameters]
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.zeros(()))  # makes it ready
    for gradient in (torch.inf, 0.0):  # an overflow, then a step that asks for no change but weight decay
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, gradient)
        scaler.step(optimizer)
        scaler.update()
    assert all(
        (p - old).abs().max() <= 0.01 * old.abs().max() + 1e-6 for p, old in zip(parameters, before, strict=True)
    )


def scaled_steps(optimizers, parameters, losses):
    """Step with a scaler; a loss of inf overflows."""
    scaler = torch.amp.GradScaler("cpu")
    for factor in losses:
        scaler.scale(sum((p * p.detach().cos()).sum() for p in parameters) * factor).backward()
        for optimizer in optimizers:
            scaler.step(optimizer)
        scaler.update()
        for parameter in parameters:
            parameter.grad = None
    return [p.detach().clone() for p in parameters]


@pytest.mark.parametrize("losses", [(1.0, 2.0, -1.0), (torch.inf, 1.0, torch.inf, 2.0, -1.0)])
@pytest.mark.parametrize("resumed", [False, True])
def test_scaled_sgd_takes_torchs_plain_steps_in_one_kernel(losses, resumed):
    """Also from a checkpoint of frozen weights, which have no momentum yet; in one kernel the scaler need not be read."""
    torch.manual_seed(0)
    model, loss = Model(), Loss()
    nn.init.normal_(loss.center.centers)
    optimizers = build_optimizers(make_cfg(BASE_LR=0.01, CENTER_LR=0.01), model, loss, scaled=True)
    parameters = [p for p in (*model.parameters(), *loss.parameters()) if p.requires_grad]
    plain = [
        torch.optim.SGD([dict(group, fused=False) for group in optimizer.param_groups], lr=0.01)
        for optimizer in optimizers
    ]
    if resumed:
        load_optimizer(optimizers[0], plain[0].state_dict())
    start = [p.detach().clone() for p in parameters]
    found = scaled_steps(optimizers, parameters, losses)
    with torch.no_grad():
        for parameter, value in zip(parameters, start, strict=True):
            parameter.copy_(value)
    torch.testing.assert_close(found, scaled_steps(plain, parameters, losses))
    assert [group["fused"] for optimizer in optimizers for group in optimizer.param_groups] == [True] * 3


@pytest.mark.parametrize(("saved", "own", "device"), [(True, None, "cpu"), (None, True, "meta")])
def test_adams_count_of_steps_lies_where_the_kernel_of_now_looks_for_it(saved, own, device):
    """A sharded run, which has no fused kernel, resumes with replicas, or the other way round; `meta` stands for a GPU."""
    parameter = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([{"params": [parameter], "tag": 1}], lr=0.5)
    parameter.grad = torch.ones(2)
    optimizer.step()
    state = optimizer.state_dict()
    state["param_groups"][0]["fused"] = saved
    on_gpu = nn.Parameter(torch.ones(2, device="meta"))
    fresh = torch.optim.Adam([on_gpu], lr=0.1)
    fresh.param_groups[0]["fused"] = own
    load_optimizer(fresh, state)
    assert fresh.state[on_gpu]["step"].device.type == device
    assert [fresh.param_groups[0][name] for name in ("fused", "lr", "tag")] == [own, 0.1, 1]
    assert state["param_groups"][0]["fused"] is saved


@pytest.mark.parametrize(("saved", "own"), [(1, 2), (2, 1)])
def test_a_state_of_other_groups_is_refused(saved, own):
    optimizers = [torch.optim.Adam([{"params": [nn.Parameter(torch.ones(1))]} for _ in range(n)]) for n in (saved, own)]
    with pytest.raises(ValueError, match="parameter groups"):
        load_optimizer(optimizers[1], optimizers[0].state_dict())


def test_centers_have_their_own_constant_rate():
    cfg, loss = make_cfg(CENTER_LR=0.5), Loss()
    main, centers = build_optimizers(cfg, Model(), loss)
    build_schedule(cfg, 10).apply([main, centers], 60, 0)
    assert centers.param_groups[0]["params"] == [loss.center.centers]
    assert centers.param_groups[0]["lr"] == 0.5
    assert all(parameter is not loss.center.centers for group in main.param_groups for parameter in group["params"])
    assert main.param_groups[0]["lr"] == pytest.approx(COSINE["transreid_120"]["lr_at_epoch"][59])


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
    with pytest.raises(ValueError, match=rf"SOLVER\.{key}.*'sdg'"):
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


# --- layer-wise decay, frozen layers, head warm-up ------------------------------------------------------------------


def tiny_model(**options):
    """A ViT of three blocks with all re-ID parts, as the config builds it."""
    sizes = {"EMBED_DIM": 8, "DEPTH": 3, "NUM_HEADS": 1, "DROP_OUT": 0.1, "SIE_CAMERA": True, "JPM": True}
    base = {"NAME": "vit_tiny_patch16_224", "PRETRAIN_CHOICE": "none", **sizes, "NUM_PARTS": 2}
    keys = {f"MODEL.{key}": value for key, value in {**base, **options}.items()}
    torch.manual_seed(0)
    return build_model(make_config({**keys, "INPUT.SIZE_TRAIN": (32, 32), "INPUT.SIZE_TEST": (32, 32)}), ("a", "b"))


def cnn():
    return tiny_model(
        NAME="resnet10t",
        EMBED_DIM=0,
        DEPTH=0,
        NUM_HEADS=0,
        DROP_OUT=0.0,
        SIE_CAMERA=False,
        JPM=False,
        DROP_PATH=0.0,
        NUM_PARTS=4,
    )


def group_of(optimizers, parameter):
    (group,) = (g for o in optimizers for g in o.param_groups if any(p is parameter for p in g["params"]))
    return group


def test_layer_decay_multiplies_rates_from_the_heads_down():
    model, loss = tiny_model(), Loss()
    optimizers = build_optimizers(make_cfg(LAYER_DECAY=0.5, BASE_LR=1.0), model, loss)
    named = dict(model.named_parameters())
    found = {
        name: group_of(optimizers, named[name])["lr"]
        for name in (
            *("neck.weight", "backbone.net.norm.weight", "backbone.net.blocks.2.norm1.weight"),
            *("backbone.jigsaw.block.norm1.weight", "backbone.net.blocks.0.norm1.weight"),
            *("backbone.net.pos_embed", "backbone.net.patch_embed.proj.weight", "backbone.sie.table"),
        )
    }
    assert list(found.values()) == [1, 1, 1 / 2, 1 / 2, 1 / 8, 1 / 16, 1 / 16, 1 / 16]
    assert group_of(optimizers, loss.heads[0].weight)["lr"] == 1
    assert group_of(optimizers, named["backbone.net.blocks.0.norm1.bias"])["lr"] == 2 / 8


def test_layer_decay_scales_warm_up_and_minimum_too():
    """The ends of the schedule are absolute; unscaled, the lowest layers would start above their own peak."""
    model, cfg = tiny_model(), make_cfg(LAYER_DECAY=0.1, BASE_LR=1.0, WARMUP_FACTOR=0.1, MIN_LR_FACTOR=0.02)
    optimizers, schedule = build_optimizers(cfg, model, Loss()), build_schedule(cfg, 1)
    low = group_of(optimizers, model.backbone.net.pos_embed)
    for epoch in (1, 5, 60, 120):
        schedule.apply(optimizers, epoch, 0)
        assert low["lr"] == pytest.approx(1e-4 * group_of(optimizers, model.neck.weight)["lr"])


def test_layers_of_other_models_are_those_of_timm():
    model = cnn()
    numbers = model.layer_numbers()
    assert set(numbers) == {name for name, _ in model.named_parameters()}
    stem, first, last = (
        numbers[f"backbone.net.{n}"] for n in ("conv1.0.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight")
    )
    assert stem == 0 < first < last < numbers["neck.weight"]
    assert group_of(build_optimizers(make_cfg(LAYER_DECAY=0.5), model, Loss()), model.neck.weight)["lr"] == 0.008


def test_without_layer_decay_groups_are_as_before():
    (main, _) = build_optimizers(make_cfg(), tiny_model(), Loss())
    assert [set(group) & {"lr_scale", "frozen_epochs"} for group in main.param_groups] == [set()] * 2


def frozen(model):
    return {name.removeprefix("backbone.net.") for name, p in model.named_parameters() if not p.requires_grad} - {
        "neck.bias"
    }


def test_frozen_stem_is_what_lies_before_the_first_block_but_not_side_information():
    names = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert frozen(tiny_model(FREEZE_STEM=True)) == names


def test_frozen_blocks_are_the_first_ones():
    assert {".".join(name.split(".")[:2]) for name in frozen(tiny_model(FREEZE_BLOCKS=2))} == {"blocks.0", "blocks.1"}
    assert not any(name.startswith("backbone.jigsaw") for name in frozen(tiny_model(FREEZE_BLOCKS=3)))


def test_frozen_blocks_of_a_cnn_keep_their_statistics():
    model = cnn()
    freeze(model.backbone, stem=True, num_blocks=1)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items() if "running_mean" in name}
    model(torch.rand(4, 3, 32, 32) + 5)
    moved = {name for name, value in before.items() if not torch.equal(model.state_dict()[name], value)}
    assert "backbone.net.bn1.running_mean" not in moved
    assert "backbone.net.layer1.0.bn1.running_mean" not in moved
    assert "backbone.net.layer2.0.bn1.running_mean" in moved


def test_frozen_parts_have_no_dropout_in_training():
    model = tiny_model(FREEZE_BLOCKS=2).train()
    assert [block.training for block in model.backbone.net.blocks] == [False, False, True]
    assert not model.backbone.net.blocks[1].mlp.drop1.training
    assert model.backbone.pos_drop.training
    assert model.neck.training


def test_frozen_weights_get_no_update_and_no_decay():
    model, loss = tiny_model(FREEZE_STEM=True, FREEZE_BLOCKS=1), Loss()
    before = {name: value.clone() for name, value in model.named_parameters()}
    (main, _) = build_optimizers(make_cfg(WEIGHT_DECAY=0.5, BASE_LR=1.0), model, loss)
    model.train()(torch.rand(4, 3, 32, 32)).after.square().sum().backward()
    main.step()
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert not changed & {f"backbone.net.{name}" for name in frozen(model)}
    assert "backbone.net.blocks.1.norm1.weight" in changed


def test_more_blocks_than_there_are_is_an_error():
    with pytest.raises(ValueError, match=r"MODEL\.FREEZE_BLOCKS.*\b4 .*\b3\b"):
        tiny_model(FREEZE_BLOCKS=4)


def test_head_epochs_train_the_neck_and_the_heads_first():
    cfg, model, loss = make_cfg(HEAD_EPOCHS=2, WARMUP_EPOCHS=0, BASE_LR=0.1), tiny_model(FREEZE_BLOCKS=1), Loss()
    optimizers, schedule = build_optimizers(cfg, model, loss), build_schedule(cfg, 1)
    trained = []
    for epoch in (1, 2, 3):
        before = {name: value.clone() for name, value in (*model.named_parameters(), *loss.named_parameters())}
        schedule.apply(optimizers, epoch, 0)
        model.train()
        after = model(torch.rand(4, 3, 32, 32)).after
        assert model.backbone.net.blocks[2].training == (epoch == 3)
        (after.square().sum() + loss.heads[0](after[..., :4]).square().sum()).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        after_step = dict((*model.named_parameters(), *loss.named_parameters()))
        trained.append(
            {name.split(".")[0] for name, value in before.items() if not torch.equal(after_step[name], value)}
        )
    assert trained == [{"neck", "heads"}, {"neck", "heads"}, {"backbone", "neck", "heads"}]
    assert not model.backbone.net.blocks[0].norm1.weight.requires_grad  # FREEZE_BLOCKS stays


def test_head_epochs_leave_the_backbone_out_of_the_backward_pass():
    cfg, model = make_cfg(HEAD_EPOCHS=1), tiny_model()
    build_schedule(cfg, 1).apply(build_optimizers(cfg, model, Loss()), 1, 0)
    assert model(torch.rand(2, 3, 32, 32)).before.grad_fn is None


@pytest.mark.parametrize(("key", "value"), [("SWA_START", 121), ("HEAD_EPOCHS", 120)])
def test_epochs_beyond_the_end_are_errors(key, value):
    with pytest.raises(ValueError, match=rf"SOLVER\.{key}.*{value}.*SOLVER\.MAX_EPOCHS 120"):
        load_config(None, [f"SOLVER.{key}", str(value)])


# --- kernels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_one_kernel_per_step_computes_what_torchs_plain_loop_does(name):
    ends = []
    for fused in (True, None):
        torch.manual_seed(0)
        model = tiny_model()
        rules = build_group_rules(make_cfg(), {})
        optimizer = OPTIMIZERS[name](make_cfg(BASE_LR=0.01), group_parameters(model.named_parameters(), rules), fused)
        for _ in range(5):
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-6)


def test_one_kernel_per_step_is_used_on_the_cpu():
    (main, _) = build_optimizers(make_cfg(), Model(), Loss())
    assert main.defaults["fused"] is True


# --- equal averages -------------------------------------------------------------------------------------------------


def follow(average, model, values, epochs):
    for value, epoch in zip(values, epochs, strict=True):
        average.start_epoch(epoch)
        model.weight.data.fill_(value)
        average.update()


def test_swa_is_the_plain_mean_from_its_epoch_on():
    model = nn.Linear(1, 1, bias=False)
    swa = SWA(model, start=3)
    follow(swa, model, [100.0, 50.0], [1, 2])
    assert swa.model.weight.item() == 50.0  # before: the present weights
    follow(swa, model, [1.0, 2.0, 6.0], [3, 3, 4])
    assert swa.model.weight.item() == pytest.approx(3.0)
    assert model.weight.item() == 6.0


def test_swa_averages_running_statistics():
    norm = nn.BatchNorm1d(1)
    swa = SWA(norm, start=1)
    swa.start_epoch(1)
    for mean in (2.0, 4.0):
        norm.running_mean.fill_(mean)
        norm.num_batches_tracked += 1
        swa.update()
    assert swa.model.running_mean.item() == 3.0
    assert swa.model.num_batches_tracked == 2
    assert not swa.model.training


def test_swa_resumes_exactly():
    model = nn.Linear(1, 1, bias=False)
    first, second = SWA(model, 1), SWA(model, 1)
    follow(first, model, [1.0, 5.0], [1, 1])
    second.load_state_dict(first.state_dict())
    for swa in (first, second):
        follow(swa, model, [9.0], [2])
    assert first.model.weight.item() == second.model.weight.item() == pytest.approx(5.0)


@pytest.mark.parametrize(("options", "kind"), [({}, type(None)), ({"EMA": 0.99}, EMA), ({"SWA_START": 80}, SWA)])
def test_config_chooses_the_average(options, kind):
    assert type(build_average(make_cfg(**options), Model())) is kind


def test_two_ways_to_average_are_an_error():
    with pytest.raises(ValueError, match=r"SOLVER\.SWA_START.*\b80 .*SOLVER\.EMA 0\.999"):
        load_config(None, ["SOLVER.SWA_START", "80", "SOLVER.EMA", "0.999"])
