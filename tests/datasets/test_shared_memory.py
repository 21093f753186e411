"""One copy of the decoded images for all ranks of a machine: each decodes a part, and nothing is left behind."""

import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from weakref import WeakSet

import cv2
import numpy as np
import pytest

from vitreid.datasets import CorruptImageError, Preprocess, SharingError
from vitreid.datasets.loading import image_cache as store_module
from vitreid.datasets.loading import shared_memory as shared
from vitreid.datasets.loading.image_cache import CachedImages, StreamedImages, decode_all, open_images
from vitreid.datasets.loading.shared_memory import share_array
from vitreid.processor import RankFailed

SHAPE = (10, 4)


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    """The test's own memory folder and temporary folder."""
    memory, temporary = tmp_path / "memory", tmp_path / "temporary"
    memory.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(shared, "MEMORY", str(memory))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield memory, temporary
    assert [*memory.iterdir(), *temporary.iterdir()] == []  # nothing is left behind, in any test


@pytest.fixture
def full(monkeypatch):
    """Make as many folders full, one after the other, as the test says."""
    reserve, asked = os.posix_fallocate, []

    def set_full(count):
        def allocate(handle, offset, size):
            asked.append(size)
            if len(asked) <= count:
                raise OSError(28, "No space left on device")
            reserve(handle, offset, size)

        monkeypatch.setattr(os, "posix_fallocate", allocate)

    return set_full


class Gone(Exception):
    """Another rank has failed before a meeting."""


class Threads:
    """Ranks of one machine that are threads."""

    def __init__(self, rank, size, shared):
        self.rank, self.size, self.shared = rank, size, shared

    def wait(self):
        """Return once every rank has met as often as this one; raise Gone if one has failed before."""
        with self.shared.changed:
            self.shared.met[self.rank] += 1
            number = self.shared.met[self.rank]
            self.shared.changed.notify_all()
            while (
                late := {k for k, met in enumerate(self.shared.met) if met < number}
            ) and not late & self.shared.failed:
                assert self.shared.changed.wait(20)
            if late:
                raise Gone

    def from_first(self, make):
        self.wait()
        if self.rank == 0:
            self.shared.value = make()
        self.wait()
        return self.shared.value

    def fail(self):
        with self.shared.changed:
            self.shared.failed.add(self.rank)
            self.shared.changed.notify_all()


def everywhere(call, size=3):
    """Call on every rank at the same time; return what each returned or raised."""
    shared = SimpleNamespace(met=[0] * size, failed=set(), value=None, changed=threading.Condition())

    def guarded(rank):
        place = Threads(rank, size, shared)
        try:
            return call(place)
        except Exception as error:
            place.fail()
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(guarded, range(size)))


def numbers(array, rows):
    for row in rows:
        array[row] = row


def share(local, fill=numbers, why=""):
    return share_array(SHAPE, local, fill, lambda: why)


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


def test_the_file_has_no_name_and_no_bytes_that_a_killed_rank_could_leave(folders):
    """What SIGKILL leaves at the worst moment, between creating and unlinking, takes no memory."""
    seen = []

    def look(local):
        real = local.wait
        local.wait = lambda: (seen.extend(path.stat().st_size for path in folders[0].iterdir()), real())[1]
        return share(local, lambda array, rows: seen.extend(folders[0].iterdir()))

    everywhere(look)
    assert set(seen) == {0}


def test_one_that_fails_raises_its_reason():
    """The process group reports it to the others, see test_distributed.py."""

    def fill(array, rows):
        if 1 in rows:
            raise CorruptImageError("a.jpg: the image is empty")

    found = everywhere(lambda local: share(local, fill))
    assert isinstance(found[1], CorruptImageError)
    assert all(isinstance(found[k], Gone) for k in (0, 2))


def test_one_that_fails_to_open_the_file_leaves_no_name(monkeypatch):
    real = os.open

    def open_new(path, flags, *mode, **options):
        if not flags & os.O_CREAT:
            raise OSError(24, "Too many open files")
        return real(path, flags, *mode, **options)

    monkeypatch.setattr(os, "open", open_new)
    assert all(isinstance(found, (OSError, Gone)) for found in everywhere(share))


def test_the_first_rank_refuses_for_all():
    assert everywhere(lambda local: share(local, why="too large" if local.rank == 0 else "")) == ["too large"] * 3


def test_without_room_all_get_the_same_reason(full):
    full(2)
    found = everywhere(share)
    assert len(set(found)) == 1
    assert "memory has no room for 0 MB (No space left on device" in found[0] and "raise --shm-size" in found[0]
    assert found[0].count("no room") == 2


def test_without_a_memory_folder_the_temporary_one_serves(monkeypatch, folders):
    monkeypatch.setattr(shared, "MEMORY", "nowhere")
    assert all(isinstance(array, np.ndarray) for array in everywhere(share))


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


def test_ranks_stream_together_if_the_images_do_not_fit(paths, caplog):
    stores = everywhere(lambda local: open_images(paths, Preprocess((20, 10)), "auto", 0.0, local=local), size=2)
    assert all(isinstance(store, StreamedImages) for store in stores)
    assert "7 images decoded as needed: 0 MB are more than DATALOADER.CACHE_SHARE 0" in caplog.text


def test_separate_copies_share_the_memory(paths, monkeypatch):
    """Eight processes that each keep a part of the test images get one share of the memory together."""
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


def test_images_to_be_kept_for_all_that_find_no_room_are_an_error(paths, full):
    full(2)
    for problem in everywhere(lambda local: open_images(paths, Preprocess((20, 10)), "on", local=local), size=2):
        assert isinstance(problem, OSError) and "DATALOADER.CACHE on: " in str(problem) and "no room" in str(problem)


def test_images_on_a_disk_are_logged(folders, full, caplog):
    full(1)
    assert all(isinstance(array, np.ndarray) for array in everywhere(share))
    assert "memory has no room for 0 MB (No space left on device; in a container, raise --shm-size)" in caplog.text
    assert f"kept in a file in {folders[1]}" in caplog.text


def test_a_corrupt_file_is_named_by_the_rank_that_met_it(paths):
    Path(paths[3]).write_bytes(b"nothing")
    found = everywhere(lambda local: open_images(paths, Preprocess((20, 10)), "on", local=local), size=2)
    assert isinstance(found[0], Gone)
    assert isinstance(found[1], CorruptImageError) and "3.png" in str(found[1])


def test_except_clauses_of_earlier_versions_still_catch_the_failure_of_another_rank():
    assert issubclass(RankFailed, SharingError)
