"""Other projects' evaluations, called as they call them themselves; each returns its mAP.

Ranking: features -> distances of all queries to the whole gallery -> their evaluation. Re-ranking: the same with their
re-ranking between. Everything that they need for one evaluation is timed, as it is for ours.
"""

from __future__ import annotations

import warnings
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from vitreid.benchmarks.common.checkouts import Checkout
from vitreid.benchmarks.contest.cases import K1, K2, LAM
from vitreid.benchmarks.contest.problems import Arrays

MAX_RANK = 50


def transreid_rank(arrays: Arrays, checkout: Checkout) -> float:
    metrics = checkout.load("utils.metrics")
    return metrics.eval_func(metrics.euclidean_distance(arrays.query, arrays.gallery), *arrays.labels)[1]


def transreid_rerank(arrays: Arrays, checkout: Checkout) -> float:
    metrics = checkout.load("utils.metrics")
    return metrics.eval_func(metrics.re_ranking(arrays.query, arrays.gallery, K1, K2, LAM), *arrays.labels)[1]


def fastreid_rank(arrays: Arrays, checkout: Checkout, use_cython: bool) -> float:
    distances = _fastreid_distances(checkout).compute_euclidean_distance(arrays.query, arrays.gallery)
    return _fastreid_map(distances, arrays, checkout, use_cython)


def fastreid_rerank(arrays: Arrays, checkout: Checkout) -> float:
    distance = _fastreid_distances(checkout).compute_euclidean_distance
    distances = checkout.load("fastreid.evaluation.rerank").re_ranking(*_three(distance, arrays), K1, K2, LAM)
    return _fastreid_map(distances, arrays, checkout, checkout.compiled is not None)


def fastreid_jaccard(arrays: Arrays, checkout: Checkout) -> float:
    """The variant of its evaluator, which takes the neighbours from faiss (on the CPU) and skips the normalisation."""
    module = checkout.load("fastreid.utils.compute_dist")
    crops = torch.cat([arrays.query, arrays.gallery]).cpu()
    jaccard = module.compute_jaccard_distance(crops, K1, K2, search_option=3)
    distances = module.compute_euclidean_distance(arrays.query, arrays.gallery)
    num_queries = len(arrays.query)
    distances = jaccard[:num_queries, num_queries:] * (1 - LAM) + distances * LAM
    return _fastreid_map(distances, arrays, checkout, checkout.compiled is not None)


def _fastreid_distances(checkout: Checkout) -> ModuleType:
    return checkout.load("fastreid.utils.compute_dist", stubs=("faiss",))


def _fastreid_map(distances: np.ndarray, arrays: Arrays, checkout: Checkout, use_cython: bool) -> float:
    with warnings.catch_warnings():  # it warns while it is imported without its compiled part
        warnings.simplefilter("ignore")
        module = checkout.load("fastreid.evaluation.rank", compiled="fastreid.evaluation.rank_cylib")
    _check_compiled(module, use_cython)
    _, average_precisions, _ = module.evaluate_rank(distances, *arrays.labels, MAX_RANK, use_cython=use_cython)
    return float(np.mean(average_precisions))


def torchreid_rank(arrays: Arrays, checkout: Checkout, use_cython: bool) -> float:
    distances = _torchreid_distance(checkout)(arrays.query, arrays.gallery)
    return _torchreid_map(distances, arrays, checkout, use_cython)


def torchreid_rerank(arrays: Arrays, checkout: Checkout) -> float:
    distances = _three(_torchreid_distance(checkout), arrays)
    distances = checkout.load("torchreid.utils.rerank").re_ranking(*distances, K1, K2, LAM)
    return _torchreid_map(distances, arrays, checkout, checkout.compiled is not None)


def _torchreid_distance(checkout: Checkout):
    module = checkout.load("torchreid.metrics.distance")
    return lambda left, right: module.compute_distance_matrix(left, right).cpu().numpy()


def _torchreid_map(distances: np.ndarray, arrays: Arrays, checkout: Checkout, use_cython: bool) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = checkout.load("torchreid.metrics.rank", compiled="torchreid.metrics.rank_cylib")
    _check_compiled(module, use_cython)
    return float(module.evaluate_rank(distances, *arrays.labels, MAX_RANK, use_cython=use_cython)[1])


def _three(distance, arrays: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distances (Q, G), (Q, Q) and (G, G) that two of the re-rankings start from."""
    query, gallery = arrays.query, arrays.gallery
    return distance(query, gallery), distance(query, query), distance(gallery, gallery)


def _check_compiled(module: ModuleType, use_cython: bool) -> None:
    """Both fall back to Python in silence; a figure must not stand under the wrong name."""
    if use_cython and not module.IS_CYTHON_AVAI:
        raise RuntimeError("its compiled part does not load")


def oml_rank(arrays: Arrays, checkout: Checkout) -> float:
    """Its "sequence" is what its neighbour search ignores: here the query's person in the query's camera."""
    stubs = ("omegaconf", "matplotlib", "matplotlib.pyplot", "cv2", "pandas")
    checkout.load("oml.utils.misc", stubs=stubs)  # first: its package's __init__ would load the whole project
    search = checkout.load("oml.functional.knn", stubs=stubs)
    metrics = checkout.load("oml.functional.metrics", stubs=stubs)
    q_pids, g_pids, q_camids, g_camids = (torch.from_numpy(column) for column in arrays.labels)
    num_cameras = int(max(q_camids.max(), g_camids.max())) + 1
    _, retrieved, relevant = search.batched_knn_qg(
        arrays.query.cpu(),
        arrays.gallery.cpu(),
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
