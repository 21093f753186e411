"""Injected faults: checkpoints stay sound, and a resumed run gives the same result as an uninterrupted one.

More kills than the default of 20: VITREID_KILLS=200 python -m pytest tests/end_to_end/test_faults.py -k killed_at_random
"""

import itertools
import json
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import zipfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch
from helpers import at, rows, run

from vitreid.common import locks
from vitreid.configs import load_config
from vitreid.datasets.loading.decode import PlaneReader
from vitreid.processor import NonFiniteLoss, Stopped, profile
from vitreid.processor.runs import run_lock as lock_module
from vitreid.processor.runs.checkpoint import load_last, random_state, restore_random_state, rotated
from vitreid.processor.runs.run_folder import RunFolder
from vitreid.processor.runs.run_lock import FolderLock
from vitreid.processor.runs.signals import StopSignals
from vitreid.processor.scoring import evaluator
from vitreid.processor.training import epoch_loop
from vitreid.processor.training.epoch_loop import Run, compile_backbone
from vitreid.processor.training.nonfinite import FiniteWatch, TrainedBatch
from vitreid.processor.training.run import build_session
from vitreid.processor.training.trainer import Trainer
from vitreid.tools import train as train_tool

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("VITREID_KILLS", "20"))
HARD = ["MODEL.DROP_OUT", "0.1", "SOLVER.EMA", "0.9", "LOSS.CENTER_WEIGHT", "0.0005", "SOLVER.EVAL_PERIOD", "2"]
SMALL = ["SOLVER.IMS_PER_BATCH", "8", "SOLVER.MAX_EPOCHS", "4"]  # 8 iterations per epoch
WHEN = ["SOLVER.CHECKPOINT_STEPS", "1"]


def course(folder: Path) -> list[dict]:
    """The numbers of every epoch without those that depend on the speed of the machine."""
    clock = {"seconds", "images_per_second"}
    return [{name: value for name, value in row.items() if name not in clock} for row in rows(folder)]


def leaves(value, name="") -> dict:
    """Every tensor and plain value of a state, by its path."""
    if isinstance(value, (dict, list, tuple)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {path: leaf for key, item in items for path, leaf in leaves(item, f"{name}.{key}").items()}
    return {name: value}


def assert_same_end(folder: Path, whole: Path) -> None:
    """Every number of every epoch, and weights, momentum, averages and random states, to the last bit."""
    assert course(folder) == course(whole)
    ours, theirs = (load_last(path / "last.pth")["trainer"] for path in (folder, whole))
    for state in (ours, theirs):
        del state["progress"]["counts"]["seconds"]
    mine, expected = leaves(ours), leaves(theirs)
    assert mine.keys() == expected.keys()
    equal = {
        k: torch.equal(v, expected[k]) if isinstance(v, torch.Tensor) else v == expected[k] for k, v in mine.items()
    }
    assert [name for name, is_equal in equal.items() if not is_equal] == []


@pytest.fixture(scope="module")
def whole(people, tmp_path_factory):
    """Uninterrupted runs, by their arguments; each is trained once."""
    finished = {}

    def get(arguments: list[str]) -> Path:
        key = tuple(arguments)
        if key not in finished:
            finished[key] = tmp_path_factory.mktemp("whole") / "run"
            run([*arguments, *at(finished[key])])
        return finished[key]

    return get


def arguments_of(tiny: list[str], *options: str) -> list[str]:
    """The arguments of a run of 4 x 8 iterations, without its folder."""
    return [*tiny[:-2], *SMALL, *HARD, *options]


class Cut(Exception):
    """The end of a run within a step."""


@contextmanager
def cut_after(monkeypatch, steps: int, action=None):
    """Do `action` (by default: raise) at the start of the step after `steps` steps of training."""
    real, seen = Trainer.step, []

    def step(self, *args, **options):
        seen.append(None)
        if len(seen) == steps + 1:
            if action is None:
                raise Cut
            action()
        return real(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        yield


# --- exact resume in the middle of an epoch ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (["DATALOADER.CACHE", "on"], 9),
        (["DATALOADER.CACHE", "off"], 19),
        (["SOLVER.ACCUMULATE", "2"], 11),  # in the middle of a group: one step back
        (["SOLVER.ACCUMULATE", "3"], 13),  # the last group of an epoch is short
        (["SOLVER.SWA_START", "2", "SOLVER.EMA", "0.0"], 19),
        (["SOLVER.MICRO_BATCH", "3"], 13),
        (["LOSS.MEMORY", "32", "LOSS.MEMORY_START", "2"], 13),
        (["SOLVER.HEAD_EPOCHS", "1"], 5),
        (["SOLVER.HEAD_EPOCHS", "1"], 13),
        (["SOLVER.MICRO_BATCH", "3", "LOSS.MEMORY", "32", "LOSS.MEMORY_START", "2"], 13),
    ],
    ids=["cached", "streamed", "group", "short group", "SWA", "micro-batch", "memory", "heads", "after heads", "both"],
)
def test_a_run_cut_inside_an_epoch_resumes_to_the_same_bits(tiny, whole, tmp_path, monkeypatch, options, steps):
    arguments = arguments_of(tiny, *options)
    with cut_after(monkeypatch, steps), pytest.raises(Cut):
        run([*arguments, *WHEN, *at(tmp_path / "cut")])
    random.seed(99), torch.manual_seed(99)  # nothing may depend on what this process did before
    assert load_last(tmp_path / "cut" / "last.pth")["trainer"]["progress"]["counts"]["batches"] % 8, "inside an epoch"
    run([*arguments, *at(tmp_path / "cut")], resume="auto")
    assert_same_end(tmp_path / "cut", whole(arguments))


def test_the_steps_between_writes_are_kept(tiny, tmp_path, monkeypatch):
    with cut_after(monkeypatch, 14), pytest.raises(Cut):
        run([*arguments_of(tiny), "SOLVER.CHECKPOINT_STEPS", "4", *at(tmp_path / "run")])
    counts = load_last(tmp_path / "run" / "last.pth")["trainer"]["progress"]["counts"]
    assert (counts["epoch"], counts["batches"]) == (2, 4)


def test_all_random_generators_are_restored():
    import numpy as np

    state = random_state()
    draw = lambda: (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: E731, NPY002
    first = draw()
    restore_random_state(state)
    assert draw() == first


def test_the_random_generator_of_an_apple_gpu_is_restored(monkeypatch):
    here = {"state": torch.tensor([1], dtype=torch.uint8)}
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: here["state"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: here.update(state=state))
    state = random_state()
    here["state"] = later = torch.tensor([2], dtype=torch.uint8)
    restore_random_state({name: value for name, value in state.items() if name != "mps"})  # a file of before
    assert here["state"] is later
    restore_random_state(state)
    assert here["state"].item() == 1


def test_a_half_done_epoch_of_another_length_is_refused(tiny, tmp_path, monkeypatch):
    arguments = arguments_of(tiny)
    with cut_after(monkeypatch, 5), pytest.raises(Cut):
        run([*arguments, *WHEN, *at(tmp_path / "run")])
    with pytest.raises(ValueError, match=r"\b5 batches.*\b3 .*SOLVER\.IMS_PER_BATCH"):
        run([*arguments, *at(tmp_path / "run"), "SOLVER.IMS_PER_BATCH", "24"], resume="auto")


# --- signals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_saves_the_step_and_resume_goes_on_from_there(tiny, whole, tmp_path, monkeypatch, caplog, number):
    arguments, folder = arguments_of(tiny), tmp_path / "run"
    with cut_after(monkeypatch, 10, lambda: os.kill(os.getpid(), number)):
        assert train_tool.main([*arguments, *at(folder)]) == 128 + number
    assert (
        f"stopped by {number.name} in epoch 2, after 3 of 8 iterations; saved in {folder / 'last.pth'}" in caplog.text
    )
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "and the handlers are as before"
    run([*arguments, *at(folder)], resume="auto")
    assert_same_end(folder, whole(arguments))


def test_a_signal_inside_a_group_of_batches_waits_for_its_step(tiny, whole, tmp_path, monkeypatch):
    arguments, folder = arguments_of(tiny, "SOLVER.ACCUMULATE", "2"), tmp_path / "run"
    with cut_after(monkeypatch, 10, lambda: os.kill(os.getpid(), signal.SIGTERM)), pytest.raises(Stopped):
        run([*arguments, *at(folder)])
    assert load_last(folder / "last.pth")["trainer"]["progress"]["counts"]["batches"] == 4
    run([*arguments, *at(folder)], resume="auto")
    assert_same_end(folder, whole(arguments))


@pytest.mark.parametrize("period", ["1", "4"])
def test_a_signal_in_the_evaluation_loses_no_epoch(tiny, whole, tmp_path, monkeypatch, period):
    """Saved before the evaluation or not: the epoch is not trained again, only evaluated."""
    arguments, folder = [*arguments_of(tiny), "SOLVER.CHECKPOINT_PERIOD", period], tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(
            evaluator,
            "extract",
            lambda *args, **options: os.kill(os.getpid(), signal.SIGTERM),
        )
        with pytest.raises(Stopped):
            run([*arguments, *at(folder)])
    assert (load_last(folder / "last.pth")["epoch"], len(rows(folder))) == (2, 1)
    with cut_after(monkeypatch, 16):  # 16 steps are all that is left
        run([*arguments, *at(folder)], resume="auto")
    assert_same_end(folder, whole(arguments_of(tiny)))


def test_a_run_that_ends_in_its_last_evaluation_is_saved_again_as_it_was(tiny, whole, tmp_path, monkeypatch):
    """Nothing is left to train then, so that no step sets the learning rate that stands in the file."""
    arguments, folder = arguments_of(tiny), tmp_path / "run"
    real, evaluations = Run._evaluate, []

    def evaluate(self, *args):
        evaluations.append(None)
        if len(evaluations) == 2:
            raise Cut
        return real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_evaluate", evaluate)
        with pytest.raises(Cut):
            run([*arguments, *at(folder)])
    run([*arguments, *at(folder)], resume="auto")
    assert_same_end(folder, whole(arguments))


def test_a_second_signal_stops_at_once_but_an_echo_of_the_first_does_not(monkeypatch):
    """At a Ctrl-C the terminal and torchrun both send a signal."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
    with ExitStack() as restored, StopSignals() as signals:
        restored.callback(signal.signal, signal.SIGINT, before)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.asked
        now[0] += 3
        with pytest.raises(KeyboardInterrupt) as raised:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert not isinstance(raised.value, Stopped)


def test_a_thread_of_another_program_may_train(tiny, tmp_path):
    """Only the main thread can handle signals."""
    thread = threading.Thread(target=run, args=([*tiny, "SOLVER.MAX_EPOCHS", "1"],))
    thread.start()
    thread.join()
    assert len(rows(tmp_path / "run")) == 1


# --- kill -9 -----------------------------------------------------------------------------------------------------------


@contextmanager
def another_process(action):
    """Do `action` in a copy of this process; yields its pid. It is killed at the end, should it still be there."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        ended.append(os.waitpid(child, 0)[1])


ended: list[int] = []  # exit statuses


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.005)


def test_a_run_killed_at_random_again_and_again_ends_the_same(tiny, whole, tmp_path):
    """SIGKILL at any moment of training, evaluating or saving, then --resume; the last process finishes the run."""
    arguments, folder, dice = arguments_of(tiny, "DATALOADER.CACHE", "off"), tmp_path / "run", random.Random(0)
    run_arguments = [*arguments, *WHEN, "SOLVER.KEEP_LAST", "2", *at(folder)]
    for _ in range(KILLS):
        (folder / "config.yml").unlink(missing_ok=True)  # written when everything is built
        with another_process(lambda: run(run_arguments, resume="auto")):
            wait_for(folder / "config.yml")
            time.sleep(dice.uniform(0, 0.15))
    ends = ended[-KILLS:]
    assert all(os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0 for status in ends), "none failed to start"
    assert os.WIFSIGNALED(ends[0]), "the first was killed while it worked"
    run(run_arguments, resume="auto")
    assert_same_end(folder, whole(arguments))


def test_a_checkpoint_killed_in_the_middle_of_its_write(tiny, whole, tmp_path):
    """A real SIGKILL while bytes of the new file are on disk: the earlier one is what loads."""
    arguments, folder = arguments_of(tiny), tmp_path / "run"
    child = os.fork()
    if child == 0:
        writes, real = [], os.fsync

        def die(descriptor):
            writes.append(None)
            if len(writes) == 12:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            real(descriptor)

        os.fsync = die
        try:
            run([*arguments, *WHEN, *at(folder)])
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert list(folder.glob(".*.tmp")), "half a file is there"
    load_last(folder / "last.pth")
    run([*arguments, *at(folder)], resume="auto")
    assert_same_end(folder, whole(arguments))
    assert not list(folder.glob(".*.tmp"))


# --- disks -------------------------------------------------------------------------------------------------------------


def test_a_full_disk_keeps_the_last_checkpoint(tiny, whole, tmp_path, request):
    """A real one, of a size that holds one checkpoint and a half."""
    arguments, folder = arguments_of(tiny), tmp_path / "small"
    folder.mkdir()
    size = (whole(arguments) / "last.pth").stat().st_size
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={int(1.9 * size)}", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    ).returncode:
        pytest.skip("mounting a file system is not allowed here")
    request.addfinalizer(lambda: subprocess.run(["umount", "-l", str(folder)], check=True))
    with pytest.raises(OSError, match=r"last\.pth.*space.*last\.pth.*intact"):
        run([*arguments, *WHEN, *at(folder)])
    assert load_last(folder / "last.pth")["trainer"]["progress"]["counts"]["batches"] == 1
    assert not list(folder.glob(".*.tmp"))
    shutil.copytree(folder, tmp_path / "larger")
    run([*arguments, *at(tmp_path / "larger")], resume="auto")
    assert_same_end(tmp_path / "larger", whole(arguments))


def test_a_file_size_limit_is_reported_like_a_full_disk(tiny, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"last\.pth.*space"):
            run(tiny)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_with_a_changed_byte_is_damaged(tiny, tmp_path):
    """A faulty disk: torch itself loads the file without an error."""
    run([*tiny, "SOLVER.MAX_EPOCHS", "1"])
    spoil(tmp_path / "run" / "last.pth")
    torch.load(tmp_path / "run" / "last.pth", weights_only=True)
    with pytest.raises(ValueError, match=r"last\.pth.*damaged.*changed.*SOLVER\.KEEP_LAST"):
        run(tiny, resume="auto")


def spoil(path: Path) -> None:
    """Flip the bits of a byte in the middle of the largest tensor."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
    content = bytearray(path.read_bytes())
    lengths = content[
        largest.header_offset + 26 : largest.header_offset + 30
    ]  # lengths of the name and the extra field before it
    start = largest.header_offset + 30 + sum(struct.unpack("<HH", lengths))
    content[start + largest.file_size // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("what", ["damaged", "lost"])
def test_a_lost_last_pth_is_replaced_by_the_epoch_before(tiny, whole, tmp_path, monkeypatch, caplog, what):
    arguments, folder = arguments_of(tiny), tmp_path / "run"
    with cut_after(monkeypatch, 27), pytest.raises(Cut):
        run([*arguments, "SOLVER.KEEP_LAST", "2", *at(folder)])
    assert [path.name for path in rotated(folder)] == ["last_epoch_003.pth", "last_epoch_002.pth"]
    if what == "damaged":
        spoil(folder / "last.pth")  # and last_epoch_003.pth, which is the same file
    else:
        (folder / "last.pth").unlink(), (folder / "last_epoch_003.pth").unlink()
    run([*arguments, "SOLVER.KEEP_LAST", "2", *at(folder)], resume="auto")
    assert f"going on from {folder / 'last_epoch_002.pth'} instead" in caplog.text
    assert_same_end(folder, whole(arguments))
    assert [path.name for path in rotated(folder)] == ["last_epoch_004.pth", "last_epoch_003.pth"]


def test_a_kept_epoch_can_be_gone_on_from(tiny, whole, tmp_path):
    """Its folder is the run's own, so the later epochs are trained again."""
    arguments, folder = arguments_of(tiny), tmp_path / "run"
    run([*arguments, "SOLVER.KEEP_LAST", "3", *at(folder)])
    run([*arguments, *at(folder)], resume=str(folder / "last_epoch_002.pth"))
    assert_same_end(folder, whole(arguments))
    assert rotated(folder) == [], "KEEP_LAST 1 keeps none"


def test_the_newest_checkpoints_are_kept_however_many_epochs_lie_between(tiny, tmp_path):
    run([*arguments_of(tiny), "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.KEEP_LAST", "2", *at(tmp_path / "run")])
    assert [path.name for path in rotated(tmp_path / "run")] == ["last_epoch_004.pth", "last_epoch_002.pth"]


def test_the_best_so_far_of_another_folder_does_not_keep_this_one_empty(tiny, tmp_path, monkeypatch):
    """With validation people best.safetensors is written when it is better than the best, which may lie elsewhere."""
    arguments = [*arguments_of(tiny), "DATASETS.VAL_IDS", "3"]
    with cut_after(monkeypatch, 9), pytest.raises(Cut):
        run([*arguments, *at(tmp_path / "first")])
    state = torch.load(tmp_path / "first" / "last.pth", weights_only=True)
    torch.save({**state, "best": 2.0}, tmp_path / "first" / "last.pth")  # nothing will be better
    run([*arguments, *at(tmp_path / "second")], resume=str(tmp_path / "first" / "last.pth"))
    assert (tmp_path / "second" / "best.safetensors").exists()


# --- images ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "the image .*replace or delete"),
        (lambda path: path.unlink(), "gone now.*--resume"),
    ],
    ids=["cut short", "deleted"],
)
def test_an_image_lost_while_training_is_named_and_put_back(tiny, people, whole, tmp_path, monkeypatch, harm, message):
    root = shutil.copytree(people / "synthetic", tmp_path / "data")
    victim = sorted((root / "bounding_box_train").glob("*.jpg"))[3]
    content = victim.read_bytes()
    arguments = arguments_of(tiny, "DATALOADER.CACHE", "off")
    mine = [*arguments, "DATASETS.ROOT_DIR", str(root), *at(tmp_path / "run")]
    with cut_after(monkeypatch, 8, lambda: harm(victim)), pytest.raises((OSError, ValueError)) as error:
        run([*mine, *WHEN])
    error.match(rf"(?s)^{victim}: .*{message}")
    victim.write_bytes(content)
    run(mine, resume="auto")
    assert_same_end(tmp_path / "run", whole(arguments))


def test_a_thread_that_dies_ends_the_run_with_its_error(tiny, tmp_path, monkeypatch):
    """An error in a worker must neither hang the run nor be lost."""

    def no_memory(*args):
        raise MemoryError("4 GB for one image")

    with (
        cut_after(
            monkeypatch,
            3,
            lambda: monkeypatch.setattr(PlaneReader, "read", no_memory),
        ),
        pytest.raises(MemoryError, match="4 GB"),
    ):
        run(
            [
                *arguments_of(tiny),
                *WHEN,
                "DATALOADER.CACHE",
                "off",
                "DATALOADER.NUM_WORKERS",
                "2",
                *at(tmp_path / "run"),
            ]
        )
    assert load_last(tmp_path / "run" / "last.pth")["trainer"]["progress"]["counts"]["batches"] >= 3


# --- two runs, one folder ----------------------------------------------------------------------------------------------


def test_two_runs_cannot_share_a_folder(tiny, tmp_path):
    run([*tiny, "SOLVER.MAX_EPOCHS", "1"])
    first = RunFolder(tmp_path / "run")
    before = (tmp_path / "run" / "last.pth").read_bytes()
    for flags in ({"resume": "auto"}, {"overwrite": True}, {}):
        with pytest.raises(FileExistsError, match=rf"process {os.getpid()} .*since 20.*\.lock"):
            run(tiny, **flags)
    assert (tmp_path / "run" / "last.pth").read_bytes() == before
    first.close()
    run(tiny, resume="auto")
    assert not (tmp_path / "run" / ".lock").exists()


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path):
    """kill -9 leaves the file; so does a crash of the machine, after which another process may have the number."""
    child = os.fork()
    if child == 0:
        FolderLock(tmp_path / ".lock").acquire()
        os._exit(0)
    os.waitpid(child, 0)
    stale = json.loads((tmp_path / ".lock").read_text())
    assert stale["pid"] == child
    for text in (json.dumps(stale), json.dumps({**stale, "pid": os.getpid()}), '{"pid": 12'):
        (tmp_path / ".lock").write_text(text)
        started = time.monotonic()
        lock = FolderLock(tmp_path / ".lock")
        lock.acquire()
        lock.release()
        assert time.monotonic() - started < 5, "a dead process is not watched for a heartbeat"


@pytest.fixture
def soon(monkeypatch):
    """A heartbeat every 0.05 s, and 0.3 s without one until a process counts as dead."""
    monkeypatch.setattr(lock_module, "BEAT", 0.05)
    monkeypatch.setattr(lock_module, "PATIENCE", 0.3)


@pytest.mark.parametrize("boot", [{"boot": "theirs"}, {}], ids=["machine", "file of an older version"])
def test_the_lock_of_another_machine_is_watched_for_a_heartbeat(boot, tmp_path, soon):
    """A copy of a virtual machine has the same host name; locks do not pass through every network file system."""
    theirs, ours = FolderLock(tmp_path / ".lock"), FolderLock(tmp_path / ".lock")
    theirs.path.write_text(json.dumps({"pid": 7, "host": socket.gethostname(), "started": "2026-01-01", **boot}))
    theirs._thread.start()
    with pytest.raises(FileExistsError, match=r"process 7 .*2026-01-01.*\.lock"):
        ours.acquire()
    theirs._ended.set()  # it dies and leaves its file
    theirs._thread.join()
    ours.acquire()
    ours.release()
    assert not ours.path.exists()


def test_without_file_locks_the_heartbeat_decides(tmp_path, soon, monkeypatch):
    def no_locks(*_, **__):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(locks, "lock_descriptor", no_locks)
    theirs, ours = FolderLock(tmp_path / ".lock"), FolderLock(tmp_path / ".lock")
    theirs.acquire()
    with pytest.raises(FileExistsError, match=f"process {os.getpid()}"):
        ours.acquire()
    theirs.release()
    ours.acquire()
    ours.release()


# --- losses that are not numbers ---------------------------------------------------------------------------------------


@contextmanager
def bad_losses(monkeypatch, batches: set[int]):
    """Make the embeddings of the batches with these numbers (from 0) NaN, and with them loss, gradients and neck."""
    from vitreid.processor import TrainingModule

    real, seen = TrainingModule.embed, []

    def embed(self, batch):
        seen.append(None)
        before = real(self, batch)
        return before * float("nan") if len(seen) - 1 in batches else before

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "embed", embed)
        yield


def test_batches_that_may_be_left_out_change_nothing(tiny, tmp_path, monkeypatch, caplog):
    """Not weights, not momentum, not the neck's statistics, not the average: only the counts and the random numbers."""
    arguments = [*arguments_of(tiny), "SOLVER.SKIP_NONFINITE", "3", *at(tmp_path / "run")]
    with bad_losses(monkeypatch, {2, 3, 8}), cut_after(monkeypatch, 9), pytest.raises(Cut):
        run([*arguments, *WHEN])
    assert "left out a batch (1 of 3 allowed), its loss is not a number: epoch 1, iteration 3: id nan" in caplog.text
    assert caplog.text.count(".jpg") >= 3 * 8, "all files of the three batches"
    state = load_last(tmp_path / "run" / "last.pth")["trainer"]
    assert state["ema"]["updates"] == 6
    numbers = [leaf for leaf in leaves(state).values() if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]
    assert all(torch.isfinite(leaf).all() for leaf in numbers)
    run(arguments, resume="auto")
    assert [row["skipped"] for row in rows(tmp_path / "run")] == [2, 1, 0, 0]
    assert all(row["loss"] > 0 for row in rows(tmp_path / "run"))


def test_a_step_of_a_bad_batch_leaves_the_whole_state_alone(tiny, tmp_path, monkeypatch):
    states = []
    real = Trainer.step

    def step(self, *args):
        before = self.state_dict()
        states.append(
            [
                leaf.clone()
                for leaf in leaves({k: before[k] for k in ("module", "optimizers", "ema")}).values()
                if isinstance(leaf, torch.Tensor)
            ]
        )
        return real(self, *args)

    monkeypatch.setattr(Trainer, "step", step)
    with bad_losses(monkeypatch, {2}):
        run([*arguments_of(tiny), "SOLVER.MAX_EPOCHS", "1", "SOLVER.SKIP_NONFINITE", "1", *at(tmp_path / "run")])
    same = [all(torch.equal(a, b) for a, b in zip(*pair, strict=True)) for pair in itertools.pairwise(states)]
    assert same == [False, False, True, False, False, False, False], "the third batch is the bad one"


def test_a_bad_batch_costs_its_group_of_batches_the_step(tiny, tmp_path, monkeypatch):
    arguments = [*arguments_of(tiny, "SOLVER.ACCUMULATE", "2"), "SOLVER.MAX_EPOCHS", "1", "SOLVER.SKIP_NONFINITE", "1"]
    with bad_losses(monkeypatch, {2}):
        run([*arguments, *at(tmp_path / "run")])
    assert load_last(tmp_path / "run" / "last.pth")["trainer"]["ema"]["updates"] == 3, "of four groups"


def test_a_bad_loss_is_seen_at_the_next_look_and_never_saved(tiny):
    """A GPU's values are looked at every LOG_PERIOD iterations only; the batch norm keeps what was not a number."""
    cfg = load_config(None, arguments_of(tiny))
    trainer = build_session(cfg).trainer
    trainer.check_weights()
    batch = TrainedBatch(1, 8, {"id": torch.tensor(1.0)}, torch.tensor([3]))
    trainer.watch.remember(batch)
    trainer.watch.check(trainer.progress.means)
    trainer.watch.remember(batch)
    trainer.progress.means.add({"loss": torch.tensor(torch.nan)})
    with pytest.raises(NonFiniteLoss, match=r"means of the epoch .*epoch 1, iteration 8: id 1.*\.jpg"):
        trainer.watch.check(trainer.progress.means)
    trainer.module.model.neck.running_mean[0] = torch.nan
    with pytest.raises(NonFiniteLoss, match="nothing was saved"):
        trainer.check_weights()


def test_one_bad_batch_too_many_stops(tiny, tmp_path, monkeypatch):
    with (
        bad_losses(monkeypatch, {2, 10}),
        pytest.raises(NonFiniteLoss, match=r"2 batches .*SKIP_NONFINITE.* 1.*epoch 2, iteration 3.*\.jpg"),
    ):
        run([*arguments_of(tiny), "SOLVER.SKIP_NONFINITE", "1", *at(tmp_path / "run")])
    assert load_last(tmp_path / "run" / "last.pth")["epoch"] == 1


def test_weights_that_are_no_numbers_are_never_saved(tiny, tmp_path, monkeypatch):
    """On a GPU the loss is read now and then only; a save must not come before."""
    monkeypatch.setattr(FiniteWatch, "check", lambda *args: None)
    with bad_losses(monkeypatch, {2}), pytest.raises(NonFiniteLoss, match="epoch 1, iteration 3.*nothing was saved"):
        run([*arguments_of(tiny), *WHEN, *at(tmp_path / "run")])
    assert load_last(tmp_path / "run" / "last.pth")["trainer"]["progress"]["counts"]["batches"] == 2


# --- compiling and measuring -------------------------------------------------------------------------------------------


def test_a_compiled_model_has_the_same_checkpoint(tiny, whole, tmp_path, monkeypatch):
    """Names and numbers; `eager` compiles nothing, but goes the same way through torch.compile."""
    calls = []

    def eager(graph, inputs):
        calls.append(graph)
        return graph.forward

    monkeypatch.setattr(epoch_loop, "compile_backbone", lambda model: compile_backbone(model, eager))
    arguments = arguments_of(tiny, "MODEL.DROP_OUT", "0.0", "SOLVER.MAX_EPOCHS", "1")
    run([*arguments, "SOLVER.COMPILE", "True", *at(tmp_path / "run")])
    assert calls
    ours, plain = (load_last(path / "last.pth")["trainer"]["module"] for path in (tmp_path / "run", whole(arguments)))
    assert list(ours) == list(plain)
    assert all(torch.allclose(ours[name], plain[name], atol=1e-5) for name in plain)
    run([*arguments, "SOLVER.MAX_EPOCHS", "2", *at(tmp_path / "run")], resume="auto")


def test_a_model_that_cannot_be_compiled_says_so(tiny, monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(epoch_loop, "compile_backbone", lambda model: compile_backbone(model, broken))
    with pytest.raises(ValueError, match=r"SOLVER\.COMPILE.*C\+\+ compiler.*SOLVER\.COMPILE False"):
        run([*tiny, "SOLVER.COMPILE", "True"])


def test_profile_shows_where_a_step_goes_and_leaves_nothing(tiny, tmp_path, capsys):
    assert train_tool.main(["--profile", "3", *tiny, "--traceback"]) == 0
    shown = capsys.readouterr().out
    for name in ("data", "forward", "backward", "optimizer", "rest", "waiting for data", "images/s"):
        assert name in shown
    assert not (tmp_path / "run").exists()
    assert train_tool.main(["--profile", "0", *tiny]) == 2
    assert train_tool.main(["--profile", "3", "--resume", *tiny]) == 2


def test_a_profile_is_of_one_process(tiny, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train_tool.main(["--profile", "3", *tiny]) == 2
    assert "--profile: " in capsys.readouterr().err


def test_the_phases_of_a_profile_add_up(tiny, monkeypatch):
    """A forward pass made slow shows as forward, a loader made slow as waiting."""
    from vitreid.datasets import TrainLoader

    real = TrainLoader.__iter__

    def slow(self):
        for batch in real(self):
            time.sleep(0.2)
            yield batch

    monkeypatch.setattr(TrainLoader, "__iter__", slow)
    measured = profile(load_config(None, tiny), steps=2, warmup=1)
    assert measured.seconds["data"] >= 0.2
    assert measured.waiting > 0.5
    assert set(measured.seconds) == {"data", "forward", "backward", "optimizer", "rest"}
    assert measured.images_per_second < 16 / 0.2
