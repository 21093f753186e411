"""A failure reaches the other ranks with its cause; a stop of all ranks does not count as one."""

import os
import threading
from datetime import timedelta

import pytest
from torch import distributed as dist

from vitreid.processor.distributed import process_group as ranks
from vitreid.processor.distributed.failures import Alarm, RankFailed
from vitreid.processor.distributed.process_group import agree_on_token, fresh_stores
from vitreid.processor.runs.signals import Stopped

NCCL = "NCCL error in: ProcessGroupNCCL.cpp:94, {}, NCCL version 2.27.5\n{}\nLast error:\n{}"
TWO_ON_ONE_GPU = dist.DistBackendError(
    NCCL.format("invalid usage", "ncclInvalidUsage: This usually reflects invalid usage.", "Duplicate GPU detected")
)
SMALL_SHM = dist.DistBackendError(NCCL.format("unhandled system error", "ncclSystemError", "No space left on device"))
PEER_OF_NCCL = dist.DistBackendError(
    NCCL.format("remote error", "ncclRemoteError: A remote process exiting prematurely.", "socket: gone")
    + "\nException raised from checkForNCCLErrors at NCCLUtils.cpp:1"
)
PEER_OF_GLOO = RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:5")
NO_INTERFACE = RuntimeError("[third_party/gloo/gloo/transport/tcp/device.cc:92] Unable to find address for: eth7")
OTHER = "process 0 of 2 failed: ValueError: the first has had enough"


def together(size, call):
    """Return `call(rank)` of each rank, all called at once."""
    results = {}
    threads = [threading.Thread(target=lambda r=rank: results.update({r: call(r)})) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [results[rank] for rank in range(size)]


@pytest.mark.parametrize(
    ("error", "rings"),
    [
        (Stopped(15), False),
        (ValueError("the second has had enough"), True),
        (TWO_ON_ONE_GPU, True),
        (SMALL_SHM, True),
        (NO_INTERFACE, True),
    ],
)
def test_only_a_failure_rings(error, rings):
    """The first process may save for minutes after the others have stopped; a ring would end it within seconds."""
    store = dist.HashStore()
    with pytest.raises(type(error)) as raised, Alarm(store, 1, 1).armed():
        raise error
    assert raised.value is error
    assert store.check(["failed"]) is rings
    assert not rings or str(error) in store.get("failed").decode()


@pytest.mark.parametrize(
    ("error", "noticed"),
    [(PEER_OF_GLOO, r"Connection closed by peer \[127.0.0.1\]:5;"), (PEER_OF_NCCL, "Last error: socket: gone;")],
)
def test_a_lost_connection_is_reported_with_its_symptom(error, noticed):
    """A third rank may wait where it notices no broken connection, so it gets the message too."""
    store = dist.HashStore()
    with pytest.raises(RankFailed, match=rf"^another process .*{noticed}"), Alarm(store, 1, 1).armed():
        raise error
    assert store.get("failed").decode().startswith("process 1 of 1 failed: another process of this run is gone")


@pytest.mark.parametrize("error", [PEER_OF_GLOO, NO_INTERFACE])
@pytest.mark.slow
def test_what_follows_from_anothers_failure_ends_with_its_message(error):
    store = dist.HashStore()
    store.set("failed", OTHER)
    with pytest.raises(RankFailed, match=f"^{OTHER}$"), Alarm(store, 1, 1).armed():
        raise error
    assert store.get("failed").decode() == OTHER


def test_ones_own_failure_stays_what_it_is_after_anothers():
    store = dist.HashStore()
    store.set("failed", OTHER)
    with pytest.raises(ValueError, match="another reason"), Alarm(store, 1, 1).armed():
        raise ValueError("another reason")


@pytest.mark.slow
def test_a_failure_reaches_a_rank_that_waits_within_seconds(capfd, monkeypatch):
    """Its main thread waits where no exception arrives, so the process is ended with the message of the first."""
    store, ended = dist.HashStore(), threading.Event()
    monkeypatch.setattr(os, "_exit", lambda status: ended.set())

    def rank(number):
        if number == 1:
            with pytest.raises(ValueError), Alarm(store, 1, 2).armed():
                raise ValueError("enough")
            return True
        with Alarm(store, 0, 2, grace=0.1).armed():
            return ended.wait(5)

    assert together(2, rank) == [True, True]
    assert "process 1 of 2 failed: ValueError: enough" in capfd.readouterr().err


def test_nothing_is_left_of_an_earlier_attempt(monkeypatch):
    """torchrun --max-restarts keeps the store."""
    store, place, checked = dist.HashStore(), threading.local(), threading.Barrier(2)
    monkeypatch.setattr(dist, "rendezvous", lambda *_, **__: iter([(store, place.rank, 2)]))

    def attempt(rank):
        place.rank = rank
        number, alarm_store, group_store = fresh_stores(timedelta(seconds=60))
        assert number == rank
        assert not group_store.check([f"address {rank}"]) and not alarm_store.check(["failed"])
        checked.wait(10)
        group_store.set(f"address {rank}", "")
        with pytest.raises(ValueError), Alarm(alarm_store, rank, 1).armed():
            raise ValueError("this attempt has had enough")
        return alarm_store.get("failed")

    for _ in range(2):
        first, second = together(2, attempt)
        assert first == second, "both ranks reach the same store"


def test_ranks_agree_on_a_token_that_is_new_every_time():
    store = dist.HashStore()
    attempts = [together(3, lambda rank: agree_on_token(store, rank, 3, timedelta(seconds=60))) for _ in range(3)]
    assert [len(set(tokens)) for tokens in attempts] == [1, 1, 1]
    assert len({tokens[0] for tokens in attempts}) == 3


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_does_not_start_is_not_waited_for_forever(rank):
    with pytest.raises(RankFailed, match=r"\b2 processes.*0:00:00"):
        agree_on_token(dist.HashStore(), rank, 2, timedelta(0))


def test_a_failure_while_the_processes_connect_rings(monkeypatch):
    store, failed = dist.HashStore(), threading.Event()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(ranks.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(ranks, "fresh_stores", lambda timeout: (1, store, dist.HashStore()))

    def connect(*_, **__):
        raise NO_INTERFACE

    monkeypatch.setattr(dist, "init_process_group", connect)

    def rank(number):
        if number == 0:
            with Alarm(store, 0, 2).armed():
                return failed.wait(10)
        with pytest.raises(RuntimeError, match="eth7"), ranks.joined_ranks():
            pass
        return failed.set()

    together(2, rank)
    assert store.get("failed").decode().endswith("Unable to find address for: eth7")
