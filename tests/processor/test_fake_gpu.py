"""Flows of training and embedding on a GPU without a driver: no tensor on the wrong device, no wait for the CPU, no slip of type."""

import pytest
import torch
from fake_gpu import empty, fake_gpu, moved
from torch import nn

from vitreid.configs import make_config
from vitreid.datasets import Batch, Preprocess
from vitreid.evaluation.retrieval import SCORES
from vitreid.loss import HEADS, METRICS, build_loss
from vitreid.model import ModelSpec, ReidModel
from vitreid.processor import TrainingModule
from vitreid.processor.embedding.extract import EmbedSettings, embed_images
from vitreid.processor.training import micro_batches
from vitreid.processor.training.micro_batches import MicroBatches
from vitreid.processor.training.nonfinite import FiniteWatch
from vitreid.processor.training.progress import RunningMeans

GPU, HALF = torch.device("cuda"), torch.bfloat16
SMALL = {"img_size": (64, 32), "embed_dim": 16, "depth": 2, "num_heads": 2, "cameras": ("a", "b")}
SIE = {"sie_camera": True, "sie_dropout": 0.5}
SPECS = {
    "vit": ModelSpec("vit_tiny_patch16_224", **SMALL),
    "vit-sie-jpm": ModelSpec("vit_tiny_patch16_224", **SIE, jpm=True, num_parts=2, shift_num=1, **SMALL),
    "vit-drops": ModelSpec("vit_tiny_patch16_224", drop_path=0.5, drop_out=0.2, att_drop_rate=0.2, pool="avg", **SMALL),
    "dinov2": ModelSpec("vit_small_patch14_dinov2", **{**SMALL, "img_size": (56, 28), "stride": (14, 14)}),
    "t2t": ModelSpec("t2t_vit_7", img_size=(64, 32), depth=1),
    "cnn": ModelSpec("mobilenetv3_small_050", img_size=(64, 64)),
    "cnn-sie": ModelSpec("mobilenetv3_small_050", img_size=(64, 64), cameras=("a", "b"), **SIE),
    "osnet": ModelSpec("osnet_x0_25", img_size=(64, 32)),
}
FLOAT32_INSIDE = {"t2t"}  # the Performer's exponentials of squares overflow 16 bits
IDS, COUNT = 6, 12


@pytest.fixture
def gpu(monkeypatch):
    with fake_gpu(monkeypatch) as calls:
        yield calls


def build(spec, teacher=None, **options):
    """A training module with values, on the CPU: initialisation draws numbers, which a GPU without a driver cannot."""
    model = ReidModel(spec)
    return TrainingModule(
        model, build_loss(make_config(options), IDS, model.embed_dim, model.num_branches, teacher)
    ).train()


def numbers():
    return torch.empty(COUNT, dtype=torch.int64, device=GPU)


def make_batch(spec):
    return Batch(torch.empty(COUNT, 3, *spec.img_size, device=GPU), *(numbers() for _ in range(4)))


def step(calls, module, batch, precision=HALF):
    """The forward pass of a training step; returns its terms."""
    with torch.autocast("cuda", precision):
        calls.phase = "backbone"
        before = module.embed(batch)
        calls.phase = "loss"
        return module.score(before, batch.labels, batch.index)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", SPECS)
def test_a_backbone_computes_in_half_precision_and_its_loss_in_float32(name, precision, monkeypatch):
    module = build(SPECS[name], **{"LOSS.CENTER_WEIGHT": 0.01})
    with fake_gpu(monkeypatch) as calls:
        terms, stats = step(calls, moved(module), make_batch(SPECS[name]), precision)
        assert {value.device.type for value in (*terms.values(), *stats.values())} == {"cuda"}
        assert {value.dtype for value in terms.values()} == {torch.float32}
        inside = {precision, torch.float32} if name in FLOAT32_INSIDE else {precision}
        assert calls.types == {"backbone": inside, "loss": {torch.float32}}
        assert calls.to_cpu == []


@pytest.mark.parametrize("metric", [*METRICS, "none"])
@pytest.mark.parametrize("head", [*HEADS, "none"])
def test_every_loss_stays_on_the_gpu(head, metric, monkeypatch):
    if (head, metric) == ("none", "none"):
        pytest.skip("no loss")
    options = {
        "LOSS.ID": head,
        "LOSS.METRIC": metric,
        "LOSS.CENTER_WEIGHT": 0.01,
        "LOSS.MEMORY": 32 * (metric != "none"),
    }
    module = build(SPECS["cnn"], **options)
    with fake_gpu(monkeypatch) as calls:
        for _ in range(2):  # the second batch finds the first one in the memory
            terms, _ = step(calls, moved(module), make_batch(SPECS["cnn"]))
        assert {value.device.type for value in terms.values()} == {"cuda"}
        assert calls.to_cpu == [] and calls.types["loss"] <= {torch.float32}


def test_distillation_looks_up_its_teacher_on_the_gpu(monkeypatch):
    module = build(
        SPECS["cnn"], torch.randn(50, 8), **{"LOSS.DISTILL": "teacher.safetensors", "LOSS.RELATION_WEIGHT": 1.0}
    )
    with fake_gpu(monkeypatch) as calls:
        terms, _ = step(calls, moved(module), make_batch(SPECS["cnn"]))
        assert {"distill", "relation"} <= terms.keys() and calls.to_cpu == []


def test_micro_batches_embed_on_the_gpu(monkeypatch):
    """The states of the random generators are the driver's, so they are left out here."""
    monkeypatch.setattr(micro_batches, "random_draws", lambda device: {})
    module = build(SPECS["vit-sie-jpm"])
    with fake_gpu(monkeypatch) as calls:
        moved(module)
        embeddings, _ = MicroBatches(5).embed(
            module, make_batch(SPECS["vit-sie-jpm"]), lambda: torch.autocast("cuda", HALF)
        )
        assert embeddings.shape == (COUNT, 3, 16) and embeddings.device.type == "cuda"
        assert calls.to_cpu == []


def test_the_numbers_of_the_log_stay_on_the_gpu_until_they_are_read(gpu):
    means, watch = RunningMeans(), FiniteWatch(nn.Linear(2, 2))
    watch.begin()
    watch.see(torch.empty((), device=GPU, dtype=HALF))
    watch.judge()
    means.add({"id": torch.empty((), device=GPU), "accuracy": torch.empty((), device=GPU)})
    assert gpu.to_cpu == [] and all(total.device.type == "cuda" for total in means.sums())
    with pytest.raises(Exception, match=r"_local_scalar_dense|data-dependent"):
        means.read()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("name", SPECS)
def test_embeddings_leave_the_gpu_once(name, flip, monkeypatch):
    model = ReidModel(SPECS[name]).eval()
    preprocess = Preprocess(SPECS[name].img_size)
    with fake_gpu(monkeypatch) as calls, torch.no_grad():
        moved(model)
        planes = torch.empty(COUNT, 3, *SPECS[name].img_size, dtype=torch.uint8, device=GPU)
        calls.phase = "embed"
        settings = EmbedSettings("after", flip=flip)
        found = embed_images(model, preprocess.normalise(planes), numbers(), numbers(), settings, GPU, HALF)
        assert found.shape[0] == COUNT and found.dtype is torch.float32 and found.device.type == "cpu"
        inside = {HALF, torch.float32} if name in FLOAT32_INSIDE else {HALF}
        assert len(calls.to_cpu) == 1 and calls.types["embed"] == inside


def test_blocks_of_queries_are_scored_on_the_gpu(gpu):
    """By cosine; by distance, the scores of an evaluation start with reading one value."""
    gallery, query = torch.empty(40, 8, device=GPU), torch.empty(5, 8, device=GPU)
    found = SCORES["cosine"](gallery, torch.empty(40, device=GPU))(query, torch.empty(5, 40, device=GPU))
    assert found.shape == (5, 40) and found.device.type == "cuda" and gpu.to_cpu == []


def test_what_waits_for_the_gpu_is_seen(gpu):
    """The instrument itself: a wrong device, a copy, a value that is read, a type."""
    value = torch.empty(3, 3, device=GPU)
    with pytest.raises(RuntimeError, match="device"):
        _ = value @ torch.empty(3, 3)
    gpu.phase = "x"
    _ = (value @ value).cpu()
    assert gpu.to_cpu == ["_to_copy"] and gpu.types["x"] == {torch.float32}
    with pytest.raises(Exception, match=r"_local_scalar_dense|data-dependent"):
        value.sum().item()
    assert empty(torch.ones(2)).device.type == "cuda"
