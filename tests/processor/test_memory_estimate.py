"""The memory of a training step, estimated before the first one."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from vitreid.configs import make_config
from vitreid.loss import build_loss
from vitreid.model import ModelSpec, ReidModel
from vitreid.processor import StepOptions, Trainer, TrainingModule
from vitreid.processor.distributed.ddp import sync_batch_norms
from vitreid.processor.training import memory_estimate as memory
from vitreid.processor.training.memory_estimate import StepMemory, kept_bytes, measure_step, report_memory
from vitreid.solver import EMA, OPTIMIZERS, GroupRules, build_optimizers, group_parameters

SIZE = (64, 32)
VIT = ModelSpec("vit_tiny_patch16_224", SIZE, embed_dim=32, depth=4, num_heads=2)
STEP = StepMemory(weights=100, gradients=90, optimizer=180, average=100, fixed=30, per_image=7)


def build(spec: ModelSpec = VIT, **options: object) -> TrainingModule:
    torch.manual_seed(0)
    model = ReidModel(spec)
    return TrainingModule(model, build_loss(make_config(options), 6, model.embed_dim, model.num_branches)).train()


def make_trainer(module: TrainingModule, average: object = None, **options: object) -> Trainer:
    optimizers = build_optimizers(make_config({"SOLVER.OPTIMIZER_NAME": "AdamW"}), module.model, module.loss)
    step = StepOptions(**{"device": torch.device("cpu"), **options})
    return Trainer(module, optimizers, None, [], step, average=average)


def test_peak_is_the_sum_of_its_parts():
    assert STEP.peak(10) == 100 + 90 + 180 + 100 + 30 + 10 * 7


@pytest.mark.parametrize(
    ("available", "images"), [(0, 0), (506, 0), (507, 1), (513, 1), (514, 2), (500 + 7 * 31, 16), (500 + 7 * 32, 32)]
)
def test_largest_piece_is_a_power_of_two_that_fits(available, images):
    assert STEP.largest_piece(available) == images
    assert images == 0 or STEP.peak(images) <= available < STEP.peak(2 * images)


def count(parameters) -> int:
    return sum(p.numel() for p in parameters)


def test_weights_gradients_and_averages_are_counted():
    module = build()
    optimizers = make_trainer(module).optimizers
    found = measure_step(module, optimizers, EMA(module.model, 0.9).model, SIZE, torch.float32)
    trained = [p for p in module.parameters() if p.requires_grad]
    assert found.gradients == 4 * count(trained)
    assert found.weights == sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    assert found.average == sum(
        t.numel() * t.element_size() for t in (*module.model.parameters(), *module.model.buffers())
    )


FROM_OUTSIDE = {
    "RMSprop": lambda cfg, groups, fused: torch.optim.RMSprop(groups, lr=cfg.SOLVER.BASE_LR, momentum=0.9),
    "Adafactor": lambda cfg, groups, fused: torch.optim.Adafactor(groups, lr=cfg.SOLVER.BASE_LR),  # factored states
    "Adagrad": lambda cfg, groups, fused: torch.optim.Adagrad(groups, lr=cfg.SOLVER.BASE_LR),  # states from the start
}


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("name", sorted({*OPTIMIZERS, *FROM_OUTSIDE}))
def test_optimizer_states_are_those_that_a_step_makes(name, momentum, monkeypatch):
    """The measurement leaves the optimizer, its parameters and the random draws as they are."""
    for outside, make in FROM_OUTSIDE.items():
        monkeypatch.setitem(OPTIMIZERS, outside, make)
    module = build()
    cfg = make_config({"SOLVER.MOMENTUM": momentum})
    named = list(module.named_parameters())
    optimizer = OPTIMIZERS[name](cfg, group_parameters(named, GroupRules(0.1)), None)
    weights = {key: value.clone() for key, value in module.state_dict().items()}
    measured = measure_step(module, [optimizer], None, SIZE, torch.float32).optimizer
    assert not optimizer.state or name == "Adagrad"
    assert all(torch.equal(value, weights[key]) for key, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert measured == sum(
        t.numel() * t.element_size() for s in optimizer.state.values() for t in s.values() if torch.is_tensor(t)
    )


def test_activations_grow_with_the_images():
    backbone = build().model.backbone
    sizes = [kept_bytes(backbone, number, SIZE, torch.float32) for number in (2, 4, 8)]
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0])


def test_autocast_keeps_less_per_image_and_copies_of_the_weights():
    wide, narrow = (measure_step(build(), [], None, SIZE, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert narrow.per_image < 0.8 * wide.per_image
    assert narrow.fixed > wide.fixed


def test_frozen_blocks_keep_nothing():
    module = build()
    everything = measure_step(module, [], None, SIZE, torch.float32)
    module.model.backbone.requires_grad_(False)
    found = measure_step(module, [], None, SIZE, torch.float32)
    assert (found.fixed, found.per_image) == (0, 0)
    assert found.gradients < everything.gradients / 10


@pytest.mark.parametrize("jpm", [False, True], ids=["global", "jpm"])
def test_recomputed_blocks_count_their_inputs_and_the_inside_of_one(jpm):
    backbone = build(replace(VIT, jpm=jpm)).model.backbone
    everything = kept_bytes(backbone, 4, SIZE, torch.float32)
    backbone.checkpoint_blocks()
    assert everything / 5 < kept_bytes(backbone, 4, SIZE, torch.float32) < 0.6 * everything
    assert backbone.recompute


def test_looking_leaves_no_trace():
    """Weights, statistics, random draws and modes are as before."""
    module = build(ModelSpec("mobilenetv3_small_050", SIZE)).eval()
    module.model.neck.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    measure_step(module, [], None, SIZE, torch.float32)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.model.neck.training
    assert not module.model.backbone.training
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize(("micro_batch", "shown"), [(0, 16), (4, 4)], ids=["whole", "micro"])
def test_one_line_says_how_much(micro_batch, shown, caplog):
    module = build()
    report_memory(make_trainer(module, EMA(module.model, 0.9), micro_batch=micro_batch), 16, SIZE)
    (record,) = caplog.records
    assert record.message.startswith(f"memory: about 0.0 GB at micro-batch {shown}: weights")


def test_too_little_memory_is_a_warning_with_a_micro_batch_that_fits(caplog, monkeypatch):
    module = build()
    trainer = make_trainer(module)
    step = measure_step(module, trainer.optimizers, None, SIZE, torch.float32)
    monkeypatch.setattr(memory, "available_memory", lambda: step.peak(9) - step.weights)
    report_memory(trainer, 8, SIZE)
    assert not [r for r in caplog.records if r.levelno == logging.WARNING]
    report_memory(trainer, 16, SIZE)
    assert "set SOLVER.MICRO_BATCH 8, which gives the same gradients" in caplog.text


def test_no_image_fits_is_a_warning_with_another_remedy(caplog, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 1)
    report_memory(make_trainer(build()), 16, SIZE)
    assert "not even one image fits: set MODEL.CHECKPOINT_BLOCKS True" in caplog.text


def test_remedies_that_are_already_taken_or_not_exact_are_not_promised(caplog, monkeypatch):
    recomputing, convolving = make_trainer(build()), make_trainer(build(replace(VIT, stem="resconv")))
    recomputing.module.model.backbone.checkpoint_blocks()
    monkeypatch.setattr(memory, "available_memory", lambda: 1)
    report_memory(recomputing, 16, SIZE)
    assert "not even one image fits" in caplog.text and "CHECKPOINT_BLOCKS" not in caplog.text
    step = measure_step(convolving.module, convolving.optimizers, None, SIZE, torch.float32)
    monkeypatch.setattr(memory, "available_memory", lambda: step.peak(9) - step.weights)
    report_memory(convolving, 16, SIZE)
    assert "set SOLVER.MICRO_BATCH 8" in caplog.text and "same gradients" not in caplog.text


def test_optimizer_states_that_are_there_already_are_not_asked_for_again(caplog, monkeypatch):
    """As after --resume, on a device that the run just filled."""
    trainer = make_trainer(build())
    for parameter in trainer.module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizers[0].step()
    step = measure_step(trainer.module, trainer.optimizers, None, SIZE, torch.float32)
    monkeypatch.setattr(memory, "free_memory", lambda device: step.peak(16) - step.held())
    report_memory(trainer, 16, SIZE)
    assert not [r for r in caplog.records if r.levelno == logging.WARNING]


def test_unknown_memory_is_no_warning(caplog, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    report_memory(make_trainer(build()), 16, SIZE)
    assert not [r for r in caplog.records if r.levelno == logging.WARNING]


@pytest.mark.parametrize("joint", [False, True])
def test_nothing_is_measured_where_the_other_processes_would_wait(joint, monkeypatch, caplog):
    """Norms over all processes' images wait in every layer; one process may run out of memory in the midst of them."""
    module, gpu = build(ModelSpec("mobilenetv3_small_050", SIZE)), torch.device("cuda")
    if joint:
        sync_batch_norms(module.model.backbone, gpu)
    trainer = make_trainer(module, device=gpu)
    monkeypatch.setattr(memory, "measure_peak", lambda *_: 1e9)
    monkeypatch.setattr(memory, "free_memory", lambda _: 0)
    report_memory(trainer, 16, SIZE)
    assert ("; measured" in caplog.text) is not joint
