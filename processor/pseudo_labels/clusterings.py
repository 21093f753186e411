"""Embeddings of the training images -> clusters. To add a clustering: its function, and its line in CLUSTERINGS."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from yacs.config import CfgNode

from ...common.errors import choose
from ...datasets import Record
from ...evaluation import normalise_cameras
from ...evaluation.clustering.average_linkage import Constraints, average_linkage
from ...evaluation.clustering.cannot_links import parted, unless_similar
from ...evaluation.clustering.density_clusters import density_clusters, without_small
from ...evaluation.clustering.jaccard_graph import REACH, SimilarPairs, jaccard_pairs
from ...evaluation.clustering.person_pairs import LEAST, person_pairs
from ...evaluation.clustering.transit_times import NearImages, Sightings
from ...evaluation.postprocess.whitening import whiten
from ...evaluation.reranking.neighbour_lists import nearest_neighbours
from ...labels.camera_norm import FULL, LEAST_IMAGES, OFF, check_counts
from .tracklet_links import sightings_of, tracklet_links

logger = logging.getLogger(__name__)
EPS = 0.6  # Jaccard distance of DBSCAN's neighbours (Dai et al., arXiv:2103.11568, on Market-1501)
AUTO = "auto"
PER_FEATURE = 10  # fewest images per feature for whitening: below, it would amplify axes of noise


class Clusters(NamedTuple):
    """Clusters (N,) of images, 0, 1, …, -1 = outlier; and the similar pairs that they were made from."""

    groups: np.ndarray
    pairs: SimilarPairs


class PriorKnowledge(NamedTuple):
    """What is known of the training images before they are compared.

    Args:
        constraints: pairs that are one person, and pairs that are two, such as those of tracklets.
        is_single: (N,) bool: images of no tracklet.
        sightings: when and where they were taken; None = time does not count.
        time_weight: of the time, as for `NearImages`.
    """

    constraints: Constraints
    is_single: np.ndarray
    sightings: Sightings | None = None
    time_weight: float = 0.0

    @classmethod
    def nothing(cls, count: int) -> PriorKnowledge:
        """Return that nothing is known of `count` images."""
        return cls(Constraints.none(count), np.ones(count, bool))

    def near(self, features: Tensor) -> NearImages:
        """Return the search for neighbours among embeddings (N, D) of the images."""
        return NearImages(features, partial(nearest_neighbours, features), self.sightings, self.time_weight)

    def constraints_on(self, near: NearImages, k1: int) -> Constraints:
        """Return the constraints, given the neighbours that were found, see `unless_similar`."""
        apart = self.constraints.apart
        if not len(apart):
            return self.constraints
        return replace(self.constraints, apart=unless_similar(apart, near.nearest_by_looks(REACH * k1), self.is_single))


Clustering = Callable[[Tensor], Clusters]  # embeddings (N, D) of all training images -> their clusters
InformedClustering = Callable[[Tensor, PriorKnowledge], Clusters]  # the same with what is known of the images


def cluster_by_density(
    features: Tensor, known: PriorKnowledge, k1: int, k2: int, eps: float, min_samples: int
) -> Clusters:
    """Return the clusters of DBSCAN by k-reciprocal Jaccard distance; eps 0 = EPS.

    DBSCAN knows no rows that cannot be together: clusters that have some are taken apart after it, see `parted`.
    """
    most = len(features) - 1
    k1, k2 = min(k1, most), min(k2, most)
    near = known.near(features)
    pairs = jaccard_pairs(features, k1, k2, neighbours=near.find(max(min(REACH * k1, most) + 1, k2)))
    groups = density_clusters(len(features), pairs, eps or EPS, min_samples, known.constraints.together)
    return Clusters(parted(groups, pairs, known.constraints_on(near, k1)), pairs)


def cluster_by_linkage(features: Tensor, known: PriorKnowledge, k1: int, k2: int, eps: float) -> Clusters:
    """Return the groups that `vitreid identities` makes: average linkage, up to the distance eps; 0 = 1 - LEAST."""
    near, least = known.near(features), 1 - eps if eps else LEAST
    pairs = person_pairs(features, k1, k2, near.find)
    return Clusters(average_linkage(len(features), pairs, least, known.constraints_on(near, k1)), pairs)


# UNSUPERVISED.CLUSTERING -> a clustering from the config
CLUSTERINGS: dict[str, Callable[[CfgNode], InformedClustering]] = {
    "dbscan": lambda cfg: partial(
        cluster_by_density,
        k1=cfg.UNSUPERVISED.K1,
        k2=cfg.UNSUPERVISED.K2,
        eps=cfg.UNSUPERVISED.EPS,
        min_samples=cfg.UNSUPERVISED.MIN_SAMPLES,
    ),
    "linkage": lambda cfg: partial(
        cluster_by_linkage, k1=cfg.UNSUPERVISED.K1, k2=cfg.UNSUPERVISED.K2, eps=cfg.UNSUPERVISED.EPS
    ),
}


def build_clustering(
    cfg: CfgNode, records: Sequence[Record], camera_names: Sequence[str], device: torch.device
) -> Clustering:
    """Return the clustering of images: normalised by camera and whitened, under the constraints of tracklets, without small clusters.

    Args:
        device: where neighbours are found if it is a GPU; elsewhere on the CPU.
    Raises:
        ValueError: an unknown clustering; or UNSUPERVISED.CAMERA_NORM, and a camera with too few images.
    """
    options = cfg.UNSUPERVISED
    cluster = choose("UNSUPERVISED.CLUSTERING", options.CLUSTERING, CLUSTERINGS)(cfg)
    cameras = np.array([camera_names[record.camid] for record in records])
    known = build_knowledge(cfg, records)
    return partial(
        cluster_images,
        cluster=lambda features: cluster(features, known),
        cameras=cameras,
        camera_norm=camera_norm_for(cameras, options.CAMERA_NORM),
        whitening=options.WHITEN,
        min_size=options.MIN_SIZE,
        device=device if device.type == "cuda" else torch.device("cpu"),
    )


def build_knowledge(cfg: CfgNode, records: Sequence[Record]) -> PriorKnowledge:
    """Return what tracklets and times say of the images, and log how much that is."""
    options = cfg.UNSUPERVISED
    constraints = tracklet_links(records, options.TRACKLETS, options.CANNOT_LINKS)
    if len(constraints.apart):
        logger.info(
            "%d pairs of tracklets or images were seen at once: two people, unless two images look similar",
            len(constraints.apart),
        )
    sightings = sightings_of(records) if options.TIME_WEIGHT else None
    if sightings is not None:
        logger.info("times of %d images count for the clusters (UNSUPERVISED.TIME_WEIGHT)", sightings.num_known)
    is_single = np.array([record.tracklet < 0 for record in records])
    return PriorKnowledge(constraints, is_single, sightings, options.TIME_WEIGHT)


def camera_norm_for(cameras: np.ndarray, mode: str) -> str:
    """Return the camera normalisation of images with cameras (N,); "auto" is full if there are several with enough images.

    Raises:
        UserError: one that was asked for, and a camera has too few images for its statistics.
    """
    counts = Counter(cameras.tolist())
    if mode not in (AUTO, OFF):
        check_counts(counts.items(), "UNSUPERVISED.CAMERA_NORM")
    if mode != AUTO:
        return mode
    return FULL if len(counts) > 1 and min(counts.values()) >= LEAST_IMAGES else OFF


def cluster_images(
    features: Tensor,
    cluster: Clustering,
    cameras: np.ndarray,
    camera_norm: str,
    whitening: float,
    min_size: int,
    device: torch.device,
) -> Clusters:
    """Return the clusters of embeddings (N, D), normalised by their cameras (N,); those with fewer than `min_size` are outliers.

    Args:
        whitening: power of `whitened`.
    """
    features = features.to(device)
    if camera_norm != OFF:
        features = normalise_cameras(features[:1], features, cameras[:1], cameras, camera_norm)[1]
    groups, pairs = cluster(whitened(features, whitening))
    return Clusters(without_small(groups, min_size), pairs)


def whitened(features: Tensor, power: float) -> Tensor:
    """Return embeddings (N, D) whitened as by `whiten`; unchanged for power 0, or with fewer than PER_FEATURE images per feature."""
    return whiten(features, power) if power and len(features) >= PER_FEATURE * features.shape[1] else features
