"""The alarm between processes: a failure reaches the others with its cause, a stop that all share does not count as one."""

import threading
from datetime import timedelta

import pytest
from torch import distributed as dist
from vitreid.processor.distributed import process_group as ranks
from vitreid.processor.distributed.failures import Alarm, RankFailed
from vitreid.processor.distributed.process_group import agree, fresh_stores
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
def test_a_lost_connection_is_told_with_what_was_noticed(error, noticed):
    """The third process may wait where no broken connection is noticed, so it is told, too."""
    store = dist.HashStore()
    alarm = Alarm(store, 1, 1)
    alarm._heard.set()  # else it listens for 5 seconds
    with pytest.raises(RankFailed, match=rf"^another process .* is gone without a word .*{noticed}"), alarm.armed():
        raise error
    assert store.get("failed").decode().startswith("process 1 of 1 failed: another process of this run is gone")


@pytest.mark.parametrize("error", [PEER_OF_GLOO, NO_INTERFACE])
def test_what_follows_from_anothers_failure_ends_with_its_message(error):
    store = dist.HashStore()
    store.set("failed", OTHER)
    with pytest.raises(RankFailed, match=f"^{OTHER}$"), Alarm(store, 1, 2).armed():
        raise error
    assert store.get("failed").decode() == OTHER


def test_ones_own_failure_stays_what_it_is_after_anothers():
    store = dist.HashStore()
    store.set("failed", OTHER)
    store.add("heard", 1)
    with pytest.raises(ValueError, match="of its own"), Alarm(store, 1, 2).armed():
        raise ValueError("of its own")


def test_nothing_is_left_of_an_earlier_attempt(monkeypatch):
    """torchrun --max-restarts keeps the store."""
    store, place = dist.HashStore(), threading.local()
    monkeypatch.setattr(dist, "rendezvous", lambda *_, **__: iter([(store, place.rank, 2)]))

    def attempt(rank):
        place.rank = rank
        number, of_alarm, of_group = fresh_stores(timedelta(seconds=60))
        assert number == rank
        assert not of_group.check([f"address {rank}"])
        of_group.set(f"address {rank}", "")
        return Alarm(of_alarm, rank, 2)

    first = together(2, attempt)
    first[1]._store.add("heard", 1)
    first[1]._ring("ValueError: the first attempt has had enough")
    assert first[0]._store.check(["failed"])
    second = together(2, attempt)
    assert not any(alarm._store.check(["failed"]) for alarm in second)
    assert second[0]._store.add("heard", 0) == 0
    second[0]._store.set("same", "")
    assert second[1]._store.check(["same"])


def test_processes_agree_on_a_word_that_is_new_every_time():
    store = dist.HashStore()
    attempts = [together(3, lambda rank: agree(store, rank, 3, timedelta(seconds=60))) for _ in range(3)]
    assert [len(set(words)) for words in attempts] == [1, 1, 1]
    assert len({words[0] for words in attempts}) == 3


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_does_not_start_is_not_waited_for_forever(rank):
    with pytest.raises(RankFailed, match="not all of the 2 processes started within 0:00:00"):
        agree(dist.HashStore(), rank, 2, timedelta(0))


def test_a_failure_while_the_processes_connect_rings(monkeypatch):
    told = dist.HashStore()
    told.add("heard", 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(ranks.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(ranks, "fresh_stores", lambda patience: (1, told, dist.HashStore()))

    def connect(*_, **__):
        raise NO_INTERFACE

    monkeypatch.setattr(dist, "init_process_group", connect)
    with pytest.raises(RuntimeError, match="eth7"), ranks.joined_ranks():
        pass
    assert told.get("failed").decode().endswith("Unable to find address for: eth7")
