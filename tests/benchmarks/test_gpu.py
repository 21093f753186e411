"""The command for GPUs, on a CPU: every part that runs there, failures of parts, its times, and bounds that catch what they are for."""

import json
import os
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from vitreid.benchmarks import gpu
from vitreid.benchmarks.common.measurement import Measurement
from vitreid.benchmarks.device import (
    agreement,
    device_speed,
    half_precision,
    memory_use,
    one_rank,
    small_training,
    stream_copies,
)
from vitreid.benchmarks.device.findings import AGREEMENT, AIM, DeviceFinding, DeviceJob, not_measured
from vitreid.benchmarks.device.part_runner import DONE, FAILED, LEFT_OUT, SKIPPED, Part, run_parts
from vitreid.benchmarks.workers.device_worker import find

QUICK = DeviceJob("cpu", quick=True)
SLOW_IMPORTS = 300  # seconds; the parts below take milliseconds
PARTS = """
import os, sys, time
from vitreid.benchmarks.device.findings import DeviceFinding, agreement, aim

def good(job):
    print("a library prints")
    yield DeviceFinding("speed", 3.0, "images/s")
    yield agreement("loss, difference", 0.0, 1e-4)

def wrong(job):
    yield agreement("loss, difference", 0.5, 1e-4)
    yield aim("times the original", 2.0, least=3)

def raises(job):
    yield DeviceFinding("before", 1.0)
    raise RuntimeError("CUDA error: an illegal memory access\\nmore")

def dies(job):
    sys.stderr.write("out of luck\\n")
    os._exit(3)
    yield

def hangs(job):
    yield DeviceFinding("before", 1.0)
    time.sleep(600)
"""


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Make a part of the module PARTS by the name of its function."""
    (tmp_path / "parts_of_a_test.py").write_text(PARTS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    def make(name, **changes):
        return replace(Part(name, f"parts_of_a_test:{name}", 0, SLOW_IMPORTS), **changes)

    return make


def run(parts, job=QUICK, seconds=SLOW_IMPORTS):
    said = []
    return list(run_parts(parts, job, seconds, said.append)), "\n".join(said)


def test_a_part_that_fails_is_reported_and_the_others_run(parts):
    results, said = run([parts(name) for name in ("good", "raises", "dies", "good")])
    assert [result.status for result in results] == [DONE, FAILED, FAILED, DONE]
    assert results[1].reason == "RuntimeError: CUDA error: an illegal memory access"
    assert [finding.what for finding in results[1].findings] == ["before"]  # what it found earlier stays
    assert "in raises" in results[1].trace and "out of luck" in results[2].trace
    assert results[2].reason == "its process ended with status 3: out of luck"
    assert "\nraises\n  before: 1\n  failed in" in said and "a library prints" not in said


def test_a_part_that_hangs_is_stopped_at_its_limit(parts):
    results, _ = run([parts("hangs", limit=0.5), parts("good")], DeviceJob("cpu"))
    assert [result.status for result in results] == [FAILED, DONE]
    assert results[0].reason.startswith("stopped: it took over") and results[0].findings[0].value == 1


def test_a_part_is_stopped_when_the_time_of_all_is_over_and_the_rest_is_left_out(parts):
    results, said = run([parts("hangs"), parts("good", expected=7)], DeviceJob("cpu"), seconds=4)
    assert [result.status for result in results] == [FAILED, LEFT_OUT]
    assert results[0].reason == "stopped: the time is over (--minutes)"
    assert "good: left out, takes about 7 s, 0 s are left (--minutes)" in said


def test_a_part_for_gpus_is_skipped_on_a_cpu(parts):
    results, said = run([parts("good", needs_cuda="it has streams")])
    assert results[0].status == SKIPPED and "good: skipped, needs cuda: it has streams" in said


@pytest.mark.parametrize(("names", "status"), [(["good"], 0), (["good", "wrong"], 1), (["raises", "good"], 1)])
def test_the_status_says_whether_something_failed_or_was_missed(names, status, parts, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu, "PARTS", [parts(name) for name in names])
    assert gpu.main(["--device", "cpu", "--quick", "--json", str(tmp_path / "gpu.json")]) == status
    report, said = json.loads((tmp_path / "gpu.json").read_text()), capsys.readouterr().out
    assert [part["part"] for part in report["parts"]] == names and report["hardware"]["torch"] == torch.__version__
    missed = ["wrong: agreement: loss, difference, at most 0.0001: 0.5, missed"]
    missed += ["wrong: aim: times the original, at least 3: 2, missed"]
    assert report["missed"] == (missed if "wrong" in names else [])
    assert all(f"missed: {line}" in said for line in report["missed"])
    assert ("failed: raises: RuntimeError: CUDA error" in said) == ("raises" in names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "cpu"], "--device cpu: the sizes are those of a GPU; add --quick"),
        (["--minutes", "0"], "--minutes: 0"),
        (["--parts", "forward,nonsense"], "unknown part 'nonsense'; choose from forward,"),
        (["--transreid", "nowhere"], "--transreid: nowhere holds no model/backbones/vit_pytorch.py"),
        (["--json", "nowhere/gpu.json"], "--json: nowhere/gpu.json"),
    ],
)
def test_bad_arguments_are_errors(words, message, capsys):
    assert gpu.main(words) == 2
    assert message in capsys.readouterr().err


def test_the_parts_of_the_command_exist_and_fit_its_time():
    assert all(callable(find(part.work)) and part.expected < part.limit for part in gpu.PARTS)
    assert len({part.name for part in gpu.PARTS}) == len(gpu.PARTS)
    assert sum(part.expected for part in gpu.PARTS) < 60 * gpu.get_parser().get_default("minutes")


@pytest.mark.parametrize(
    ("finding", "missed"),
    [
        (DeviceFinding("x", 1.0, kind=AGREEMENT, most=1), False),
        (DeviceFinding("x", float("nan"), kind=AGREEMENT, most=1), True),
        (DeviceFinding("x", 2.9, kind=AIM, least=3), True),
        (DeviceFinding("x", 12, kind=AGREEMENT, least=1, most=11), True),
        (DeviceFinding("x", 1e9), False),
        (not_measured("x", "no checkout"), False),
    ],
)
def test_what_is_missed(finding, missed):
    assert finding.is_missed is missed
    assert json.loads(json.dumps(finding.plain()))["what"] == "x"


# --- the parts themselves -------------------------------------------------------------------------------------------

ON_A_CPU = [part for part in gpu.PARTS if not part.needs_cuda]


@pytest.mark.slow
@pytest.mark.parametrize("part", ON_A_CPU, ids=lambda part: part.name)
def test_every_part_runs_on_a_cpu_and_agrees_with_itself(part):
    findings = list(find(part.work)(QUICK))
    assert findings and [finding.line() for finding in findings if finding.is_missed] == []
    assert not torch.are_deterministic_algorithms_enabled() and not torch.distributed.is_initialized()


def rounded(tensor):
    """Return float32 as TF32 reads it: with 10 bits of mantissa."""
    return (tensor.detach().view(torch.int32) & ~0x1FFF).view(torch.float32)


def test_the_bounds_of_float32_catch_tf32(monkeypatch):
    job = DeviceJob("cpu", quick=True)
    batch = small_training.make_batches(job, 1, 16)[0]
    exact = agreement.gradients_on("cpu", job, batch, [])

    def in_tf32(*arguments):
        trainer = small_training.make_trainer(*arguments)
        for parameter in trainer.module.parameters():
            parameter.data = rounded(parameter)
        return trainer

    monkeypatch.setattr(agreement, "make_trainer", in_tf32)
    found = agreement.gradients_on("cpu", job, batch, [])
    assert small_training.length_difference(found.values(), exact.values()) > 2 * agreement.ROUNDING


def test_wrong_pixels_and_labels_are_counted():
    """Two images of a batch change places; another batch is of another epoch; a pixel is not a number."""
    stress = stream_copies.Stress(QUICK, 1)
    first, second, *others = stress.training_batches(0)
    first.images[[0, 1]] = first.images[[1, 0]]
    second.labels[3] += 1
    others[0].images[2, 0, 0, 0] = float("nan")
    assert stress.wrong_images(iter([first, second, *others])) == (4, stream_copies.NUM_IMAGES)


def test_differences_see_what_is_not_finite():
    ones, bad = torch.ones(2), torch.tensor([1.0, float("nan")])
    assert small_training.difference(bad, ones) == float("inf")
    assert small_training.terms_difference([{"id": float("nan")}], [{"id": 1.0}]) == float("inf")
    assert small_training.difference(ones * 1.5, ones) == 0.5
    assert small_training.length_difference([ones, 3 * ones], [ones, ones]) == pytest.approx(1.4142, abs=1e-4)


def test_a_step_that_should_be_skipped_and_is_not_is_found(monkeypatch):
    """The scaler's checks are taken away, so that the step is made with gradients that overflow."""
    monkeypatch.setattr(torch.amp.GradScaler, "step", lambda self, optimizer: optimizer.step())
    monkeypatch.setattr(torch.amp.GradScaler, "update", lambda self: None)
    missed = [finding.what for finding in half_precision.scaling(QUICK) if finding.is_missed]
    assert any("not finite" in what for what in missed)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_a_gradient_that_the_ranks_lose_is_found(monkeypatch):
    monkeypatch.setattr(one_rank.ReplicatedBackbone, "gather", lambda self, tensor: tensor.detach())
    missed = [finding.what for finding in one_rank.replicas(QUICK) if finding.is_missed]
    assert any("DDP" in what for what in missed)


def test_record_stream_is_put_back():
    before = stream_copies.Batch.record_stream
    with stream_copies.without_record_stream():
        assert stream_copies.Batch.record_stream is not before
    assert stream_copies.Batch.record_stream is before


# --- what only a GPU does, with torch's calls replaced: their order and the code around them -------------------------


@pytest.fixture
def as_gpu(monkeypatch):
    """A job on the CPU that takes every way of a GPU; returns the calls to torch.cuda."""
    calls = []

    def call(name, value=None):
        def made(*arguments):
            calls.append(name)
            return value

        return made

    monkeypatch.setattr(DeviceJob, "is_gpu", property(lambda self: True))
    for name, value in {
        **dict.fromkeys(("_sleep", "synchronize", "empty_cache", "reset_peak_memory_stats", "set_device")),
        "memory_allocated": 1_000_000,
        "max_memory_allocated": 3_000_000,
        "max_memory_reserved": 4_000_000,
    }.items():
        monkeypatch.setattr(torch.cuda, name, call(name, value))
    return calls


def test_memory_is_the_peak_of_steps_after_the_first(as_gpu, monkeypatch):
    """The peak is reset behind the first step, and what was allocated earlier and the batch are not counted."""
    steps = memory_use.make_trainer

    def counted(*arguments, **options):
        trainer = steps(*arguments, **options)
        step = trainer.step
        trainer.step = lambda batch: (as_gpu.append("step"), step(batch))
        return trainer

    monkeypatch.setattr(memory_use, "make_trainer", counted)
    _, measured, reserved = memory_use.step_memory(QUICK, 8, ("MODEL.NAME", "vit_tiny_patch16_224"))
    own = 8 * 3 * 64 * 32 * 4 + 4 * 8 * 8
    assert (measured, reserved) == (2_000_000 - own, 4_000_000)
    order = [name for name in as_gpu if name in ("step", "reset_peak_memory_stats", "max_memory_allocated")]
    assert order == ["step", "reset_peak_memory_stats", "step", "step", "max_memory_allocated"]


def test_an_estimate_that_is_off_misses_its_aim(as_gpu, monkeypatch):
    monkeypatch.setattr(memory_use, "step_memory", lambda *_: (116, 100, 120))
    findings = list(memory_use.estimates(DeviceJob("cuda")))
    assert [finding.is_missed for finding in findings] == [False, False, True] * len(memory_use.CASES)


@pytest.mark.parametrize("name", ["prefetch", "streams"])
def test_the_training_stream_is_kept_behind(name, as_gpu, monkeypatch):
    read = stream_copies.CachedImages.read
    monkeypatch.setattr(stream_copies.CachedImages, "read", lambda self, positions, pinned=False: read(self, positions))
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda self: True)
    findings = list(getattr(stream_copies, name)(QUICK))
    assert not [finding.line() for finding in findings if finding.is_missed]
    assert as_gpu.count("_sleep") >= 64


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize("name", ["replicas", "batch_norms"])
def test_a_group_of_one_on_a_gpu_joins_nccl_and_gloo(name, as_gpu, monkeypatch):
    join, backends = torch.distributed.init_process_group, []
    monkeypatch.setattr(one_rank, "sync_batch_norms", lambda backbone, device: None)

    def join_gloo(backend, **options):
        backends.append(backend)
        join("gloo", **options)

    def apply(images, weight, bias, mean, variance, eps, momentum, group, size):
        return F.batch_norm(images, mean, variance, weight, bias, True, momentum, eps)

    monkeypatch.setattr(torch.distributed, "init_process_group", join_gloo)
    monkeypatch.setattr("torch.nn.modules._functions.SyncBatchNorm.apply", apply)
    findings = list(getattr(one_rank, name)(QUICK))
    assert backends == ["cpu:gloo,cuda:nccl"] and not [finding for finding in findings if finding.is_missed]


def test_aims_of_speed_are_those_of_batch_64(monkeypatch):
    """Ours at 100 images/s and 50 %, the original at 40: only the factor of 3 is missed."""
    ours = {"speed": 100.0, "utilisation": 0.5, "gpu_mb": 2000.0}
    monkeypatch.setattr(device_speed, "measure", lambda job: ours)
    monkeypatch.setattr(device_speed, "matrix_speed", lambda device, precision: 7e14)
    monkeypatch.setattr(device_speed, "pick_precision", lambda name, device: torch.bfloat16)
    asked = []

    def ask(worker, job, limit):
        asked.append((job.contestant, job.precision, job.batch, job.steps, job.size))
        return Measurement({"speed": 40.0, "gpu_mb": None})

    monkeypatch.setattr(device_speed, "ask", ask)
    findings = list(device_speed.training_speed(DeviceJob("cuda", transreid="somewhere")))
    sizes = [("original", kind, batch, 20, (256, 128)) for batch in (64, 256) for kind in ("fp16", "bf16")]
    assert asked == sizes
    aims = {finding.what: finding.is_missed for finding in findings if finding.kind == AIM}
    assert aims == {
        "batch 64, vitreid: share of the matrix rate": False,
        "batch 64, vitreid / original, as written, float16": True,
    }
