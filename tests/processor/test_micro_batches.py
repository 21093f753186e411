"""Micro-batches: the gradients, draws and statistics of the whole batch."""

from __future__ import annotations

import copy
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

from vitreid.configs import make_config
from vitreid.datasets import Batch
from vitreid.loss import build_loss
from vitreid.model import ModelSpec, ReidModel
from vitreid.processor import TrainingModule
from vitreid.processor.training.micro_batches import MicroBatches, split

VIT = ModelSpec(
    "vit_tiny_patch16_224", img_size=(64, 32), embed_dim=16, depth=3, num_heads=2, cameras=("a", "b"), sie_camera=True
)
DRAWS = {"drop_path": 0.5, "drop_out": 0.2, "att_drop_rate": 0.2, "sie_dropout": 0.5}
CNN = ModelSpec("mobilenetv3_small_050", img_size=(64, 64))


def build(spec: ModelSpec, **options: object) -> TrainingModule:
    torch.manual_seed(0)
    model = ReidModel(spec)
    cfg = make_config({"LOSS.CENTER_WEIGHT": 0.01, **options})
    return TrainingModule(model, build_loss(cfg, 6, model.embed_dim, model.num_branches)).train()


def make_batch(spec: ModelSpec = VIT, num_images: int = 12) -> Batch:
    images = torch.randn(num_images, 3, *spec.img_size, generator=torch.Generator().manual_seed(1))
    index = torch.arange(num_images)
    return Batch(images, index // 2 % 6, index % 2, torch.full_like(index, -1), index)


def unscaled(loss: torch.Tensor) -> torch.Tensor:
    return loss


def back_propagate(module, passes, batch, autocast=nullcontext, scale=unscaled):
    """What the trainer's step does with the passes."""
    embeddings, carry_on = passes.embed(module, batch, autocast)
    with autocast():
        terms, stats = module.score(embeddings, batch.labels, batch.index)
    scale(torch.stack(list(terms.values())).sum()).backward()
    carry_on()
    return terms, stats


def run(module, passes, batch, autocast=nullcontext, scale=unscaled, seed=3):
    """Return terms, stats, gradients by name."""
    module.zero_grad()
    torch.manual_seed(seed)
    terms, stats = back_propagate(module, passes, batch, autocast, scale)
    return terms, stats, {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def assert_equal_gradients(ours, expected, tolerance=1e-5):
    assert ours.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(
            ours[name], gradient, rtol=1e-4, atol=tolerance, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("size", [1, 4, 5, 12, 100])
@pytest.mark.parametrize("jpm", [False, True], ids=["global", "jpm"])
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_gradients_are_those_of_the_whole_batch(size, jpm, pool):
    whole = build(replace(VIT, jpm=jpm, pool=pool))
    micro = copy.deepcopy(whole)
    expected_terms, expected_stats, expected = run(whole, MicroBatches(0), make_batch())
    terms, stats, gradients = run(micro, MicroBatches(size), make_batch())
    assert terms.keys() == {"id", "triplet", "center"}
    torch.testing.assert_close(terms, expected_terms)
    torch.testing.assert_close(stats, expected_stats)
    assert_equal_gradients(gradients, expected)
    torch.testing.assert_close(micro.state_dict(), whole.state_dict())  # the neck's statistics moved once


def test_gradients_add_up_over_batches():
    """Accumulation: the second batch adds to the first one's gradients."""
    module, passes = build(VIT), MicroBatches(5)
    _, _, once = run(module, passes, make_batch())
    back_propagate(module, passes, make_batch())
    assert_equal_gradients(
        {n: p.grad for n, p in module.named_parameters() if p.grad is not None}, {n: 2 * g for n, g in once.items()}
    )


def watch_masks(module: nn.Module) -> list[torch.Tensor]:
    """Collect the outputs of the first block's dropouts and stochastic depth for inputs of ones, pass by pass."""
    seen: list[torch.Tensor] = []
    module.model.backbone.pos_drop.register_forward_hook(lambda m, args, out: seen.append((out == 0).float()))
    last = module.model.backbone.net.blocks[-1]
    last.drop_path1.register_forward_hook(lambda m, args, out: seen.append((out == 0).float()))
    module.model.backbone.sie.register_forward_hook(lambda m, args, out: seen.append(out.detach()))
    return seen


def test_both_passes_draw_the_same_dropout_stochastic_depth_and_hidden_cameras():
    module = build(replace(VIT, **DRAWS))
    seen = watch_masks(module)
    run(module, MicroBatches(5), make_batch())
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert len(first) == 3 * 3
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[3])  # each micro-batch has its own draws
    assert any(mask.any() for mask in first)


class OwnDraws:
    """What micro-batches must equal with dropout: each piece embedded once, with graph, one after the other."""

    def __init__(self, size):
        self.size = size

    def embed(self, module, batch, autocast):
        with autocast():
            return torch.cat([module.embed(piece) for piece in split(batch, self.size)]), lambda: None


@pytest.mark.parametrize("jpm", [False, True], ids=["global", "jpm"])
def test_gradients_with_dropout_are_those_of_one_graph_with_the_same_draws(jpm):
    module = build(replace(VIT, jpm=jpm, **DRAWS))
    expected_terms, _, expected = run(copy.deepcopy(module), OwnDraws(5), make_batch())
    terms, _, gradients = run(module, MicroBatches(5), make_batch())
    torch.testing.assert_close(terms, expected_terms)
    assert_equal_gradients(gradients, expected)


def test_draws_after_the_batch_do_not_depend_on_what_was_drawn_twice():
    """The generator ends where one pass over the pieces leaves it, so that resuming and comparing runs stay simple."""
    module, ends = build(replace(VIT, **DRAWS)), []
    for passes in (OwnDraws(5), MicroBatches(5)):
        run(module, passes, make_batch())
        ends.append(torch.rand(3))
    assert torch.equal(*ends)


def bf16():
    return torch.autocast("cpu", torch.bfloat16)


def test_under_autocast_gradients_agree_to_its_rounding():
    whole = build(VIT)
    _, _, expected = run(copy.deepcopy(whole), MicroBatches(0), make_batch(), autocast=bf16)
    _, _, gradients = run(whole, MicroBatches(5), make_batch(), autocast=bf16)
    for name, gradient in expected.items():
        assert gradients[name].dtype == torch.float32
        assert (gradients[name] - gradient).norm() <= 0.05 * gradient.norm() + 1e-4, name


def test_scaled_losses_give_scaled_gradients():
    """As with the fp16 scaler: the cached gradients carry the scale on."""
    module = build(VIT)
    _, _, plain = run(module, MicroBatches(5), make_batch())
    _, _, scaled = run(module, MicroBatches(5), make_batch(), scale=lambda loss: loss * 1024)
    assert_equal_gradients({name: gradient / 1024 for name, gradient in scaled.items()}, plain)


def test_frozen_backbone_is_embedded_once():
    module = build(VIT)
    module.model.backbone.requires_grad_(False)
    calls = []
    module.model.backbone.register_forward_hook(lambda m, args, out: calls.append(len(out)))
    _, _, gradients = run(module, MicroBatches(5), make_batch())
    assert calls == [5, 5, 2]
    assert set(gradients) == {"model.neck.weight", "loss.heads.0.weight", "loss.center.centers"}


def test_ranks_are_in_step_at_the_last_micro_batch_only():
    module, log = build(VIT), []

    @contextmanager
    def no_sync():
        log.append("quiet")
        yield
        log.append("end")

    module.no_sync = no_sync
    module.model.backbone.net.norm.weight.register_hook(lambda gradient: log.append("backward"))
    run(module, MicroBatches(5), make_batch())
    assert log == ["quiet", "backward", "end"] * 2 + ["backward"]


# --- batch norms inside the backbone --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [6, 5], ids=["even", "uneven"])
def test_running_statistics_move_once_by_the_mean_of_the_micro_batches(size):
    module, batch = build(CNN), make_batch(CNN)
    norm = module.model.backbone.net.bn1
    norm.running_mean.fill_(3.0)
    seen = []
    module.model.backbone.net.conv_stem.register_forward_hook(
        lambda m, args, out: seen.append(out.detach().mean((0, 2, 3)))
    )
    run(module, MicroBatches(size), batch)
    sizes = [len(piece) for piece in split(batch, size)]
    mean = sum(share * value for share, value in zip(sizes, seen[: len(sizes)], strict=True)) / 12
    torch.testing.assert_close(norm.running_mean, (1 - norm.momentum) * 3.0 + norm.momentum * mean)
    assert norm.num_batches_tracked == 1
    assert norm.track_running_stats
    assert norm.momentum == 0.1


def test_backbone_with_batch_norms_warns_once(caplog):
    module, passes = build(CNN), MicroBatches(6)
    for _ in range(2):
        run(module, passes, make_batch(CNN))
    assert len([r for r in caplog.records if "SOLVER.MICRO_BATCH: the backbone has batch norms" in r.message]) == 1


def test_transformer_does_not_warn(caplog):
    run(build(VIT), MicroBatches(6), make_batch())
    assert not caplog.records
