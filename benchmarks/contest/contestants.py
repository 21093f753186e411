"""The contestants of each task, and what they need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vitreid.benchmarks.common.checkouts import Checkout
from vitreid.benchmarks.common.measurement import OURS
from vitreid.benchmarks.contest import ours, peers
from vitreid.benchmarks.contest.cases import FLOOR
from vitreid.evaluation import RetrievalData


@dataclass(frozen=True)
class Contestant:
    """One evaluation to be timed.

    Args:
        run: takes the data and a checkout, evaluates, and returns the mAP; None if the task has none.
        peer: name in PEERS of the project it needs a checkout of; empty = none.
        cython: whether it needs the peer's compiled part.
        bytes_per_pair: peak memory above the inputs, in bytes per pair of a query and a gallery image (of two crops in
            re-ranking), from reading its code; 0 = bounded.
        max_pairs: skip larger problems, which would take hours.
    """

    run: Callable[[RetrievalData, Checkout | None], float | None]
    peer: str = ""
    cython: bool = False
    bytes_per_pair: int = 0
    max_pairs: int | None = None


PEERS = {  # option: a file by which the project's checkout is recognised
    "transreid": "utils/reranking.py",
    "fastreid": "fastreid/evaluation/rank.py",
    "torchreid": "torchreid/metrics/rank.py",
    "oml": "oml/functional/metrics.py",
}
CYTHON = {
    name: f"{name}/{folder}/rank_cylib/rank_cy.pyx"
    for name, folder in (("fastreid", "evaluation"), ("torchreid", "metrics"))
}


def _alone(run: Callable[[RetrievalData], float | None]) -> Callable[[RetrievalData, Checkout | None], float | None]:
    return lambda data, checkout: run(data)


def _peer(run: Callable[..., float], **options: bool) -> Callable[[RetrievalData, Checkout | None], float | None]:
    return lambda data, checkout: run(data, checkout, **options)


_PYTHON = 100_000_000  # pairs: Market-1501 has 54 million and takes a minute

CONTESTANTS: dict[str, dict[str, Contestant]] = {
    "ranking": {
        FLOOR: Contestant(_alone(ours.product_of_ranking)),
        OURS: Contestant(_alone(ours.rank)),
        "TransReID": Contestant(_peer(peers.transreid_rank), "transreid", bytes_per_pair=21),
        "fast-reid Cython": Contestant(_peer(peers.fastreid_rank, use_cython=True), "fastreid", True, 12),
        "fast-reid": Contestant(_peer(peers.fastreid_rank, use_cython=False), "fastreid", False, 12, _PYTHON),
        "torchreid Cython": Contestant(_peer(peers.torchreid_rank, use_cython=True), "torchreid", True, 20),
        "torchreid": Contestant(_peer(peers.torchreid_rank, use_cython=False), "torchreid", False, 21, _PYTHON),
        "OML": Contestant(_peer(peers.oml_rank), "oml", bytes_per_pair=20),
    },
    "reranking": {
        FLOOR: Contestant(_alone(ours.product_of_reranking)),
        OURS: Contestant(_alone(ours.rerank)),
        "TransReID": Contestant(_peer(peers.transreid_rerank), "transreid", bytes_per_pair=22),
        "fast-reid": Contestant(_peer(peers.fastreid_rerank), "fastreid", bytes_per_pair=24),
        "fast-reid jaccard": Contestant(_peer(peers.fastreid_jaccard), "fastreid", bytes_per_pair=9),
        "torchreid": Contestant(_peer(peers.torchreid_rerank), "torchreid", bytes_per_pair=24),
    },
}
