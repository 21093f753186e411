"""One copy of the decoded images for all processes of a machine: filled by all, given back at the end, whatever ends."""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import WeakSet

import cv2
import numpy as np
import pytest
from vitreid.datasets import CorruptImageError, Preprocess
from vitreid.datasets.loading import image_cache as store_module
from vitreid.datasets.loading import shared_memory as shared
from vitreid.datasets.loading.image_cache import CachedImages, StreamedImages, decode_all, open_images
from vitreid.datasets.loading.shared_memory import Local, SharingError, find_local, share_array

SHAPE = (10, 4)
_allocate, _reserve = shared._allocate, shared._reserve


def _reserve_second(handle, size, seen):
    """Have no room in the first folder that is asked."""
    seen.append(size)
    if len(seen) == 1:
        raise OSError(28, "full")
    _reserve(handle, size)


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    """A memory folder and a temporary folder of the test's own."""
    memory, temporary = tmp_path / "memory", tmp_path / "temporary"
    memory.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(shared, "MEMORY", str(memory))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield memory, temporary
    assert [*memory.iterdir(), *temporary.iterdir()] == []  # nothing is left behind, in any test


def everywhere(call, size=3):
    """Call with each process's place at the same time; return what each returned or raised."""

    def guarded(rank):
        try:
            return call(Local(rank, size, "job"))
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(guarded, range(size)))


def numbers(array, rows):
    for row in rows:
        array[row] = row


def share(local, fill=numbers, why=""):
    return share_array(SHAPE, local, "content", fill, lambda: why)


def test_all_see_what_each_filled_in_the_same_memory():
    asked = []

    def fill(array, rows):
        asked.append(list(rows))
        numbers(array, rows)

    arrays = everywhere(lambda local: share(local, fill))
    assert sorted(row for rows in asked for row in rows) == list(range(10))
    assert sorted(map(len, asked)) == [3, 3, 4]
    for array in arrays:
        assert (array == np.arange(10)[:, None]).all()
    arrays[0][3] = 77
    assert (arrays[2][3] == 77).all()


def test_a_second_array_of_the_same_job_is_another():
    first, second = everywhere(share), everywhere(share)
    first[0][0] = 9
    assert (second[0][0] == 0).all()


def test_one_that_fails_tells_its_reason_and_stops_the_others():
    def fill(array, rows):
        if 1 in rows:
            raise CorruptImageError("a.jpg: the image is empty")

    found = everywhere(lambda local: share(local, fill))
    assert isinstance(found[1], CorruptImageError)
    assert all(
        isinstance(found[k], SharingError) and "process 1 of this machine could not decode" in str(found[k])
        for k in (0, 2)
    )


def test_the_first_process_refuses_for_all():
    assert everywhere(lambda local: share(local, why="too large" if local.rank == 0 else "")) == ["too large"] * 3


def test_no_room_is_told_the_same_to_all(monkeypatch):
    reserve = shared._reserve

    def full(handle, size):
        if size > 4096:
            raise OSError(28, "No space left on device")
        reserve(handle, size)

    monkeypatch.setattr(shared, "_reserve", full)
    found = everywhere(share)
    assert len(set(found)) == 1
    assert "memory has no room for 0 MB (No space left on device" in found[0] and "raise --shm-size" in found[0]


def test_without_a_memory_folder_the_temporary_one_serves(monkeypatch, folders):
    monkeypatch.setattr(shared, "MEMORY", "nowhere")
    assert all(isinstance(array, np.ndarray) for array in everywhere(share))


def test_one_that_does_not_come_is_missed(monkeypatch):
    monkeypatch.setattr(shared, "PATIENCE", 0.1)
    with pytest.raises(SharingError, match="process 1 of this machine did not come within"):
        share(Local(0, 2, "job"))
    with pytest.raises(SharingError, match="the first process of this machine made no room"):
        share(Local(1, 2, "job"))


CHILD = """
import sys, os, signal, tempfile
from vitreid.datasets import shared
shared.MEMORY, tempfile.tempdir = sys.argv[1:3]
def fill(array, rows): os.kill(os.getpid(), signal.SIGKILL)
shared.share_array((10, 4), shared.Local(int(sys.argv[3]), 2, "job"), "content", fill, lambda: "")
"""


def start(folders, rank):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", CHILD, *map(str, folders), str(rank)], env=environment)


def test_one_that_is_killed_while_filling_is_missed_by_the_others(folders):
    child = start(folders, 1)
    with ThreadPoolExecutor(1) as pool:  # a child that is not waited for would still count as living
        gone = pool.submit(child.wait)
        with pytest.raises(SharingError, match=r"process 1 of this machine \(pid \d+\) ended while .* out of memory"):
            share(Local(0, 2, "job"))
        assert gone.result() == -9


def test_what_a_killed_job_left_is_swept_by_the_next(folders):
    child = start(folders, 0)
    while not list(folders[0].glob("*.json")):
        time.sleep(0.02)
    child.kill()
    child.wait()
    assert list(folders[0].iterdir())  # nobody came, so the names are still there
    share(Local(0, 1, "another job"))


def test_torchrun_says_who_is_here(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert find_local() is None
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "2")
    first = find_local()
    assert first is not None and (first.rank, first.size) == (2, 4)
    monkeypatch.setenv("MASTER_PORT", "1234")
    assert find_local().job != first.job


@pytest.fixture
def paths(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(7):
        cv2.imwrite(str(tmp_path / f"{k}.png"), rng.integers(0, 256, (40, 20, 3), dtype=np.uint8))
    return [str(tmp_path / f"{k}.png") for k in range(7)]


def test_shared_images_are_those_of_a_single_process(paths, caplog):
    preprocess = Preprocess((20, 10))
    stores = everywhere(lambda local: open_images(paths, preprocess, "on", local=local), size=2)
    for store in stores:
        assert isinstance(store, CachedImages)
        np.testing.assert_array_equal(store.read(np.arange(7)).numpy(), decode_all(paths, preprocess))
    assert "7 images decoded into memory (0 MB) for 2 processes" in caplog.text


def test_processes_stream_together_if_the_images_do_not_fit(paths, caplog):
    stores = everywhere(lambda local: open_images(paths, Preprocess((20, 10)), "auto", 0.0, local=local), size=2)
    assert all(isinstance(store, StreamedImages) for store in stores)
    assert "7 images decoded as needed: 0 MB are more than DATALOADER.CACHE_SHARE 0" in caplog.text


def test_copies_of_their_own_share_the_memory(paths, monkeypatch):
    """Eight processes that each keep a part of the test images have one share of the memory together."""
    monkeypatch.setattr(store_module, "available_memory", lambda: 7 * 3 * 20 * 10)
    for processes, kind in (("1", CachedImages), ("8", StreamedImages)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        assert isinstance(open_images(paths, Preprocess((20, 10)), "auto", 1.0), kind)


def test_the_images_kept_have_one_share_together(paths, monkeypatch):
    """Training, query and gallery images are asked for one after the other."""
    one = 7 * 3 * 20 * 10
    monkeypatch.setattr(
        store_module, "available_memory", lambda: 2.5 * one - sum(i.num_bytes for i in store_module._kept)
    )
    monkeypatch.setattr(store_module, "_kept", WeakSet())
    kept = [open_images(paths, Preprocess((20, 10)), "auto", 0.9) for _ in range(3)]
    assert [type(images) for images in kept] == [CachedImages, CachedImages, StreamedImages]
    del kept[0]
    assert isinstance(open_images(paths, Preprocess((20, 10)), "auto", 0.9), CachedImages)


def test_images_to_be_kept_for_all_that_find_no_room_are_an_error(paths, monkeypatch):
    monkeypatch.setattr(shared, "_allocate", lambda size: ("", "no room") if size > 4096 else _allocate(size))
    for problem in everywhere(lambda local: open_images(paths, Preprocess((20, 10)), "on", local=local), size=2):
        assert isinstance(problem, OSError) and "DATALOADER.CACHE on: no room; make room" in str(problem)


def test_images_on_a_disk_are_told_of(folders, monkeypatch, caplog):
    monkeypatch.setattr(shared, "_reserve", lambda handle, size, seen=[]: _reserve_second(handle, size, seen))
    assert all(isinstance(array, np.ndarray) for array in everywhere(share))
    assert (
        f"memory has no room for 0 MB (full; in a container, raise --shm-size); decoded images are kept in a file in {folders[1]}"
        in caplog.text
    )


def test_processes_of_a_job_find_each_other_whoever_started_them(monkeypatch):
    for name, value in {"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "job"}.items():
        monkeypatch.setenv(name, value)
    jobs = set()
    for parent in (1, 2):  # a shell for each
        monkeypatch.setattr(os, "getppid", lambda parent=parent: parent)
        jobs.add(find_local().job)
    assert len(jobs) == 1


def test_a_corrupt_file_is_named_by_the_process_that_met_it(paths):
    Path(paths[3]).write_bytes(b"nothing")
    found = everywhere(lambda local: open_images(paths, Preprocess((20, 10)), "on", local=local), size=2)
    assert isinstance(found[0], SharingError) and isinstance(found[1], CorruptImageError) and "3.png" in str(found[1])
