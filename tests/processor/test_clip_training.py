"""Training on clips: embeddings pooled before the losses, micro-batches, exact resume, attention."""

from contextlib import nullcontext

import pytest
import torch
from conftest import TINY
from published_trees import draw_tree

from vitreid.configs import load_config
from vitreid.datasets import Batch
from vitreid.loss import build_loss
from vitreid.model import ReidModel, build_model, build_spec, load_deploy
from vitreid.model.parts.frame_pool import FrameAttention, pool_frames
from vitreid.processor import train
from vitreid.processor.runs.run_folder import RunFolder
from vitreid.processor.runs.signals import Stopped
from vitreid.processor.training.micro_batches import MicroBatches
from vitreid.processor.training.run import build_run
from vitreid.processor.training.trainer import Trainer
from vitreid.processor.training.training_module import TrainingModule
from vitreid.tools import test as test_tool

CLIPS = ["DATALOADER.CLIP_FRAMES", "3", "SOLVER.MAX_EPOCHS", "1"]


@pytest.fixture
def mars(tmp_path):
    """Command-line options of a training on clips of a made-up MARS."""
    draw_tree(tmp_path, "mars")
    return [*TINY, *CLIPS, "DATASETS.NAMES", "mars", "DATASETS.ROOT_DIR", str(tmp_path), "MODEL.SIE_CAMERA", "True"]


def config(*words):
    return load_config(None, [*TINY, *CLIPS, *words])


def clip_batch(clips=4, frames=3, people=2):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(clips * frames, 3, 64, 32, generator=generator)
    labels = (torch.arange(clips) % people).repeat_interleave(frames)
    return Batch(images, labels, labels * 0, labels * 0 - 1, torch.arange(clips).repeat_interleave(frames))


def module_of(*words, frames=3):
    cfg = config(*words)
    torch.manual_seed(0)
    model = build_model(cfg, ["c1"])
    return TrainingModule(model, build_loss(cfg, 2, model.embed_dim, model.num_branches), frames).train()


@pytest.mark.parametrize("words", [(), ("MODEL.JPM", "True")])
def test_the_loss_sees_the_mean_of_the_frames_of_each_clip(words):
    module, batch = module_of(*words, "MODEL.DROP_PATH", "0"), clip_batch()
    terms, _ = module(batch)
    frames = module.model.backbone(batch.images, batch.camids, batch.viewids)
    pooled = torch.stack([sum(frames[3 * clip : 3 * clip + 3]) / 3 for clip in range(4)])
    expected, _ = module.loss(pooled, module.model.behind_neck(pooled), torch.tensor([0, 1, 0, 1]), torch.arange(4))
    assert terms.keys() == expected.keys()
    for name, term in terms.items():
        torch.testing.assert_close(term, expected[name])


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_micro_batches_of_frames_give_the_gradients_of_the_whole_batch(pool):
    """A piece may end inside a clip."""
    gradients = []
    for size in (0, 5):
        module, batch = module_of("MODEL.CLIP_POOL", pool, "MODEL.DROP_PATH", "0"), clip_batch()
        embeddings, carry_on = MicroBatches(size).embed(module, batch, nullcontext)
        terms, _ = module.score(embeddings, batch.labels, batch.index)
        sum(terms.values()).backward()
        carry_on()
        gradients.append({name: p.grad for name, p in module.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert any("frame_scores" in name for name in gradients[0]) == (pool == "attention")
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-5, msg=name)


def test_attention_starts_as_the_mean_and_learns_to_prefer_frames():
    attention = FrameAttention(8)
    frames = torch.randn(6, 4, 2, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(pool_frames(frames, attention(frames)), frames.mean(1))
    optimizer = torch.optim.Adam(attention.parameters(), lr=0.05)
    frames[:, 2, 0, 0] += 6  # the frame to prefer shows it in its global branch
    for _ in range(60):
        optimizer.zero_grad()
        (pool_frames(frames, attention(frames)) - frames[:, 2]).square().mean().backward()
        optimizer.step()
    weights = attention(frames).softmax(1)
    assert (weights.argmax(1) == 2).all() and weights[:, 2].min() > 0.6
    by_hand = (weights[..., None, None] * frames).sum(1)
    torch.testing.assert_close(pool_frames(frames, attention(frames)), by_hand)


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_a_run_on_clips_trains_tests_and_keeps_its_pooling(mars, tmp_path, pool, capsys):
    run = str(tmp_path / "run")
    result = train(load_config(None, [*mars, "MODEL.CLIP_POOL", pool, "OUTPUT_DIR", run]))
    model, _ = load_deploy(tmp_path / "run" / "best.safetensors")
    assert model.spec.clip_pool == pool
    assert any(name.startswith("frame_scores.") for name in model.state_dict()) == (pool == "attention")
    if pool == "attention":
        assert model.frame_scores.score.weight.abs().max() > 0  # it was trained
    weights = ["--weights", f"{run}/best.safetensors", "DATASETS.ROOT_DIR", str(tmp_path)]
    assert test_tool.main(weights) == 0
    printed = capsys.readouterr().out
    assert f"{100 * result.mAP:.2f}" in printed and "mars as its authors" in printed
    assert test_tool.main([*weights, "TEST.CLIP_FRAMES", "2", "TEST.FLIP", "True"]) == 0


def test_a_resume_inside_an_epoch_gives_the_same_weights(mars, tmp_path, monkeypatch):
    words = [*mars, "SOLVER.MAX_EPOCHS", "2", "MODEL.CLIP_POOL", "attention", "SOLVER.CHECKPOINT_STEPS", "1"]
    train(load_config(None, [*words, "OUTPUT_DIR", str(tmp_path / "whole")]))
    options = load_config(None, [*words, "OUTPUT_DIR", str(tmp_path / "parts")])
    step, done = Trainer.step, []

    def stop_after_three(self, *args, **named):
        found = step(self, *args, **named)
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Trainer, "step", stop_after_three)
    with pytest.raises((KeyboardInterrupt, Stopped)):
        train(options)
    monkeypatch.setattr(Trainer, "step", step)
    train(options, resume="auto")
    whole, parts = (load_deploy(tmp_path / name / "best.safetensors")[0].state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_every_number_of_a_run_counts_clips_and_frames(mars, tmp_path):
    cfg = load_config(None, [*mars, "OUTPUT_DIR", str(tmp_path / "run")])
    folder = RunFolder(cfg.OUTPUT_DIR)
    run = build_run(cfg, folder)
    try:
        assert run.session.batch_size == 16 * 3  # frames, for the estimate of memory
        batch = next(iter(run.trainer.loader))
        terms, _ = run.trainer.step(batch)
        assert run.trainer.progress.images == 48 and all(torch.isfinite(term) for term in terms.values())
    finally:
        folder.close()


def test_attention_has_the_rate_of_the_neck_and_a_place_in_a_file(tmp_path):
    model = ReidModel(build_spec(config("MODEL.CLIP_POOL", "attention"), ["c1"]))
    numbers = model.layer_numbers()
    assert numbers["frame_scores.score.weight"] == numbers["neck.weight"] == max(numbers.values())
    assert set(numbers) == {name for name, _ in model.named_parameters()}


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match=r"MODEL\.CLIP_POOL.*'median'.*mean, attention|attention, mean"):
        config("MODEL.CLIP_POOL", "median")
