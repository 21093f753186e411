"""The lock of a run folder against runs of earlier versions, whose lock file was not locked."""

import json
import os
import threading
import time

import pytest

from vitreid.processor.runs import run_lock as lock_module
from vitreid.processor.runs.run_lock import FolderLock


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """The lock file of an earlier version on this machine, without a heartbeat."""
    monkeypatch.setattr(lock_module, "BEAT", 0.05)
    monkeypatch.setattr(lock_module, "PATIENCE", 0.3)
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"pid": 7, "host": "here", "boot": lock_module._boot(), "space": "", "ticks": 1}))
    return path


def test_a_live_run_of_an_earlier_version_keeps_its_folder(earlier):
    ended = threading.Event()

    def beat():
        while not ended.wait(0.02):
            os.utime(earlier, (time.time(),) * 2)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(FileExistsError, match="in use by process 7"):
            FolderLock(earlier).acquire()
    finally:
        ended.set()
        thread.join()


def test_the_folder_of_a_dead_run_of_an_earlier_version_is_free(earlier):
    lock = FolderLock(earlier)
    lock.acquire()
    lock.release()
    assert not earlier.exists()
