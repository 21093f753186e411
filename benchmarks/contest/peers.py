"""Other projects' evaluations, called as in their own code; each returns its mAP.

Ranking: features -> distances of all queries to the whole gallery -> their evaluation. Re-ranking adds their re-ranking
between the two. The time covers every step of one evaluation, for them as for ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitreid.benchmarks.common.checkouts import Checkout
from vitreid.benchmarks.contest.cases import K1, K2, LAM
from vitreid.evaluation import RetrievalData

MAX_RANK = 50
Distance = Callable[[Tensor, Tensor], np.ndarray]


def transreid_rank(data: RetrievalData, checkout: Checkout) -> float:
    metrics = checkout.load("utils.metrics")
    return metrics.eval_func(metrics.euclidean_distance(data.query, data.gallery), *data.labels)[1]


def transreid_rerank(data: RetrievalData, checkout: Checkout) -> float:
    metrics = checkout.load("utils.metrics")
    return metrics.eval_func(metrics.re_ranking(data.query, data.gallery, K1, K2, LAM), *data.labels)[1]


def fastreid_rank(data: RetrievalData, checkout: Checkout, use_cython: bool) -> float:
    return _fastreid_map(_fastreid_distance(checkout)(data.query, data.gallery), data, checkout, use_cython)


def fastreid_rerank(data: RetrievalData, checkout: Checkout) -> float:
    distances = _three(_fastreid_distance(checkout), data)
    distances = checkout.load("fastreid.evaluation.rerank").re_ranking(*distances, K1, K2, LAM)
    return _fastreid_map(distances, data, checkout, checkout.compiled is not None)


def fastreid_jaccard(data: RetrievalData, checkout: Checkout) -> float:
    """Evaluate the variant that its evaluator uses: neighbours from faiss on the CPU, no normalisation."""
    module = checkout.load("fastreid.utils.compute_dist")
    crops = torch.cat([data.query, data.gallery]).cpu()
    jaccard = module.compute_jaccard_distance(crops, K1, K2, search_option=3)
    distances = module.compute_euclidean_distance(data.query, data.gallery)
    num_queries = len(data.query)
    distances = jaccard[:num_queries, num_queries:] * (1 - LAM) + distances * LAM
    return _fastreid_map(distances, data, checkout, checkout.compiled is not None)


def _fastreid_distance(checkout: Checkout) -> Distance:
    return checkout.load("fastreid.utils.compute_dist", stubs=("faiss",)).compute_euclidean_distance


def _fastreid_map(distances: np.ndarray, data: RetrievalData, checkout: Checkout, use_cython: bool) -> float:
    return float(np.mean(_evaluate("fastreid.evaluation", distances, data, checkout, use_cython)))


def torchreid_rank(data: RetrievalData, checkout: Checkout, use_cython: bool) -> float:
    distances = _torchreid_distance(checkout)(data.query, data.gallery)
    return float(_evaluate("torchreid.metrics", distances, data, checkout, use_cython))


def torchreid_rerank(data: RetrievalData, checkout: Checkout) -> float:
    distances = _three(_torchreid_distance(checkout), data)
    distances = checkout.load("torchreid.utils.rerank").re_ranking(*distances, K1, K2, LAM)
    return float(_evaluate("torchreid.metrics", distances, data, checkout, checkout.compiled is not None))


def _torchreid_distance(checkout: Checkout) -> Distance:
    module = checkout.load("torchreid.metrics.distance")
    return lambda left, right: module.compute_distance_matrix(left, right).cpu().numpy()


def _evaluate(package: str, distances: np.ndarray, data: RetrievalData, checkout: Checkout, use_cython: bool) -> Any:
    """Return the second result of the `evaluate_rank` of fast-reid (an AP per query) or torchreid (the mAP).

    Raises:
        RuntimeError: the project fell back to Python without a message; the figure would have the wrong name.
    """
    with warnings.catch_warnings():  # its import warns without the compiled part
        warnings.simplefilter("ignore")
        module = checkout.load(f"{package}.rank", compiled=f"{package}.rank_cylib")
    if use_cython and not module.IS_CYTHON_AVAI:
        raise RuntimeError("its compiled part does not load")
    return module.evaluate_rank(distances, *data.labels, MAX_RANK, use_cython=use_cython)[1]


def _three(distance: Distance, data: RetrievalData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distances (Q, G), (Q, Q) and (G, G) that two of the re-rankings take."""
    query, gallery = data.query, data.gallery
    return distance(query, gallery), distance(query, query), distance(gallery, gallery)


def oml_rank(data: RetrievalData, checkout: Checkout) -> float:
    """Evaluate with one "sequence", which its neighbour search ignores, per person and camera."""
    stubs = ("omegaconf", "matplotlib", "matplotlib.pyplot", "cv2", "pandas")
    checkout.load("oml.utils.misc", stubs=stubs)  # first: its package's __init__ would load the whole project
    search = checkout.load("oml.functional.knn", stubs=stubs)
    metrics = checkout.load("oml.functional.metrics", stubs=stubs)
    q_pids, g_pids, q_camids, g_camids = (torch.from_numpy(column) for column in data.labels)
    num_cameras = int(max(q_camids.max(), g_camids.max())) + 1
    _, retrieved, relevant = search.batched_knn_qg(
        data.query.cpu(),
        data.gallery.cpu(),
        top_n=len(g_pids),
        labels_query=q_pids,
        labels_gallery=g_pids,
        sequence_ids_query=_pairs(q_pids, q_camids, num_cameras),
        sequence_ids_gallery=_pairs(g_pids, g_camids, num_cameras),
    )
    top = (len(g_pids),)
    found = metrics.calc_retrieval_metrics(
        retrieved, relevant, cmc_top_k=(1, 5, 10), precision_top_k=(), map_top_k=top, verbose=False
    )
    return float(found["map"][len(g_pids)])


def _pairs(pids: Tensor, camids: Tensor, num_cameras: int) -> Tensor:
    return pids * num_cameras + camids
