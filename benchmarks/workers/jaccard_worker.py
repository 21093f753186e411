"""One clustering of random people: `python benchmarks/workers/jaccard_worker.py JOB` prints one JSON line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cluster import DBSCAN
from torch import Tensor

from vitreid.benchmarks.common.checkouts import Checkout
from vitreid.benchmarks.common.isolated_process import reply
from vitreid.benchmarks.common.peak_memory import peaks, start_memory
from vitreid.benchmarks.galleries.million_crops import K1, K2, MIN_SAMPLES, random_crops
from vitreid.evaluation.clustering.cluster_figures import compare_with_labels
from vitreid.processor.pseudo_labels.clusterings import EPS, PriorKnowledge, cluster_by_density
from vitreid.processor.pseudo_labels.round_figures import singled

CPU_SEARCH = 3  # OpenUnReID's search_option


@dataclass(frozen=True)
class JaccardJob:
    """Settings of one measurement.

    Args:
        rows, dim, images: embeddings, features of each, images of a person on average.
        seed: of the random people.
        checkout: OpenUnReID's folder; empty = ours.
    """

    rows: int
    dim: int
    images: int
    seed: int
    checkout: str = ""


def ours(features: Tensor) -> np.ndarray:
    """Cluster as UNSUPERVISED.CLUSTERING dbscan."""
    return cluster_by_density(features, PriorKnowledge.nothing(len(features)), K1, K2, EPS, MIN_SAMPLES).groups


def open_unreid(checkout: Path) -> Callable[[Tensor], np.ndarray]:
    """Return OpenUnReID's Jaccard distances and DBSCAN, with the settings of Cluster Contrast."""
    distances = Checkout(checkout).load("openunreid.core.utils.compute_dist").compute_jaccard_distance

    def cluster(features: Tensor) -> np.ndarray:
        found = distances(features, k1=K1, k2=K2, search_option=CPU_SEARCH, verbose=False)
        return DBSCAN(eps=EPS, min_samples=MIN_SAMPLES, metric="precomputed", n_jobs=-1).fit_predict(found)

    return cluster


def measure(job: JaccardJob) -> dict[str, Any]:
    """Return seconds, and megabytes above those before, of one clustering, and how well it finds the people."""
    features, people, _ = random_crops(job.rows, job.dim, job.images, job.seed)
    cluster = open_unreid(Path(job.checkout)) if job.checkout else ours
    cluster(features[:200])  # starts threads and libraries
    before, begin = start_memory("cpu"), time.perf_counter()
    groups = cluster(features)
    seconds, memory = time.perf_counter() - begin, peaks(before, "cpu")
    figures = compare_with_labels(people, singled(groups))
    return {"seconds": seconds, **memory, "clusters": int(groups.max()) + 1, "f1": figures.f1}


if __name__ == "__main__":
    sys.exit(reply(JaccardJob, measure))
