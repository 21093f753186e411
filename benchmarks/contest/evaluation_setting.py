"""A case of the evaluation: the job of each contestant, or the reason why it cannot run here."""

from __future__ import annotations

from dataclasses import dataclass

from vitreid.benchmarks.common.checkouts import Checkout
from vitreid.benchmarks.common.measurement import OURS
from vitreid.benchmarks.contest.cases import FLOOR
from vitreid.benchmarks.contest.contestants import CONTESTANTS, Contestant
from vitreid.benchmarks.contest.evaluation_worker import EvaluationJob
from vitreid.benchmarks.contest.problems import DIM
from vitreid.common.memory_limits import available_memory

RESERVE = 0.95  # share of the available memory that a contestant may take


@dataclass(frozen=True)
class EvaluationSetting:
    """The settings shared by all measurements of a run.

    Args:
        device: "cpu" or "cuda".
        checkouts: peer -> its checkout, for the peers with one.
        not_compiled: peer -> reason why its Cython part is missing.
        only: the contestants to measure in addition to floor and vitreid; None = all.
    """

    device: str
    checkouts: dict[str, Checkout]
    not_compiled: dict[str, str]
    only: frozenset[str] | None = None

    def contestants(self, task: str, size: tuple[int, int], has_peers: bool = True) -> dict[str, str]:
        """Return the contestants of a task with the reason to skip each; empty = it can run.

        Args:
            size: number of queries and of gallery images.
        """
        pairs = size[0] * size[1] if task == "ranking" else sum(size) ** 2  # re-ranking: all crops with all crops
        return {
            name: reason_to_skip(one, self, pairs, sum(size))
            for name, one in CONTESTANTS[task].items()
            if name in (FLOOR, OURS) or (has_peers and (self.only is None or name in self.only))
        }

    def job(self, name: str, task: str, folder: str, gallery: int | None) -> EvaluationJob:
        """Return the job of a contestant on the problem in the folder."""
        checkout = self.checkouts.get(CONTESTANTS[task][name].peer)
        available = available_memory()
        limit = int(RESERVE * available) if available and self.device == "cpu" else None
        folder_of_peer = str(checkout.folder) if checkout else None
        compiled = str(checkout.compiled) if checkout and checkout.compiled else None
        return EvaluationJob(task, name, folder, gallery, self.device, folder_of_peer, compiled, limit)


def reason_to_skip(contestant: Contestant, setting: EvaluationSetting, pairs: int, crops: int) -> str:
    """Return the reason why a contestant cannot run here; empty = it can."""
    if contestant.peer and contestant.peer not in setting.checkouts:
        return f"no checkout given (--{contestant.peer})"
    if contestant.cython and setting.checkouts[contestant.peer].compiled is None:
        return setting.not_compiled.get(contestant.peer, "not compiled")
    if contestant.max_pairs is not None and pairs > contestant.max_pairs:
        return f"left out above {contestant.max_pairs / 1e6:,.0f} million pairs: it would take hours"
    needed, available = contestant.bytes_per_pair * pairs + crops * DIM * 4, available_memory()
    if contestant.bytes_per_pair and available and needed > RESERVE * available:
        return f"would not fit: needs {needed / 2**30:,.0f} GiB, {available / 2**30:,.0f} GiB are available"
    return ""
