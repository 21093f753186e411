"""The pseudo-labels of a training: found in rounds, given to loader and loss, kept in last.pth."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from yacs.config import CfgNode

from ...common.csv_file import path_for_csv, write_csv
from ...common.errors import UserError
from ...datasets import Record, ReidData, TrainLoader, build_plain_loader, label_map
from ...datasets.records import UNLABELLED
from ...loss import CameraProxies, ProxySplit, ReidLoss
from ...loss.camera_proxies import split_by_camera
from ...model import ReidModel
from ..distributed.image_digest import image_digest
from ..distributed.process_group import ALONE, Ranks
from ..embedding.extract import EmbedSettings, extract, join_shares
from ..runs.run_folder import CLUSTERS, ROUNDS
from .clusterings import Clustering, build_clustering
from .round_figures import RoundFigures, best_round, measure_round, silhouettes, write_rounds

logger = logging.getLogger(__name__)
# what the loss against the clusters compares: the global branch behind the neck, at unit length
EMBEDDING = EmbedSettings(neck="after", normalize=True, flip=False, global_only=True)
FEWEST = 2  # clusters that a model can be trained to distinguish

Embed = Callable[
    [nn.Module], "Tensor | None"
]  # a model -> embeddings (N, D) of the training images on rank 0, None elsewhere


class Found(NamedTuple):
    """What a round found.

    Args:
        figures: of the clusters.
        groups, fit: (T,) cluster of each image of the target, -1 = outlier, and its silhouette.
        labels: (N,) class of each image.
        centroids: (C, D) of the classes.
        split: the classes split by camera, where the loss needs it.
    """

    figures: RoundFigures
    groups: np.ndarray
    fit: np.ndarray
    labels: np.ndarray
    centroids: np.ndarray
    split: ProxySplit | None = None


@dataclass(frozen=True)
class RoundOptions:
    """When images are clustered, and what becomes of those in no cluster.

    Args:
        period: epochs between rounds.
        instances: outliers are classes of one image; otherwise they are not used.
        patience: rounds without a better score after which training stops; 0 = never.
    """

    period: int = 1
    instances: bool = False
    patience: int = 0


class PseudoLabels:
    """Clusters of the training images, which are the classes of a training without labels.

    Args:
        data: its training images; their people, where they are known, count for the figures only. Those of a labelled source are
            not clustered: their people are the first classes.
        embed: embeds the training images.
        cluster: clusters the embeddings.
        loader, loss: receive the classes.
        ranks: rank 0 clusters, and broadcasts what it found.

    Attributes:
        groups: (T,) cluster of each image of the target, -1 = outlier; None before the first round.
        rounds: figures of the rounds so far.
    """

    def __init__(
        self,
        data: ReidData,
        embed: Embed,
        cluster: Clustering,
        loader: TrainLoader,
        loss: ReidLoss,
        options: RoundOptions = RoundOptions(),
        ranks: Ranks = ALONE,
    ) -> None:
        self.records: Sequence[Record] = data.target
        self.camera_names = data.camera_names
        self.embed, self.cluster, self.loader, self.loss = embed, cluster, loader, loss
        self.options, self.ranks = options, ranks
        self.groups: np.ndarray | None = None
        self._fit = np.zeros(len(data.target))
        self.rounds: list[RoundFigures] = []
        people = label_map(data.source)
        self._source = np.array([people[record.pid] for record in data.source], np.int64)
        self._num_people = len(people)
        known = [*np.full(len(data.target), UNLABELLED).tolist(), *self._source.tolist()]
        self._images = image_digest([replace(record, pid=pid) for record, pid in zip(data.train, known, strict=True)])
        self._cameras = np.array([record.camid for record in data.train])
        self._pids = np.array([record.pid for record in data.target])

    def is_due(self, epochs: int) -> bool:
        """Return whether the images are to be clustered after so many epochs."""
        return epochs % self.options.period == 0 and not self.is_done(epochs)

    def is_done(self, epochs: int) -> bool:
        """Return whether the last round was after so many epochs."""
        return bool(self.rounds) and self.rounds[-1].epoch == epochs

    def find(self, model: nn.Module, epochs: int) -> Found:
        """Cluster the images by the embeddings of `model`, after so many epochs; nothing is changed. Collective.

        Raises:
            UserError: there are too few clusters to train on.
        """
        start = time.perf_counter()
        features = self.embed(model)
        return self.ranks.from_first(lambda: self._find(features, epochs, start))  # type: ignore[arg-type]  # no None on rank 0

    def _find(self, features: Tensor, epochs: int, start: float) -> Found:
        clusters = self.cluster(features[: len(self.records)])
        groups = clusters.groups
        figures = measure_round(
            clusters,
            self.groups,
            self._cameras[: len(self.records)],
            self._pids,
            number=len(self.rounds) + 1,
            epoch=epochs,
            seconds=time.perf_counter() - start,
        )
        if figures.clusters < FEWEST:
            raise UserError(
                f"UNSUPERVISED.EPS: after {epochs} epochs the {len(groups)} training images make {figures.clusters} clusters, "
                f"{figures.outliers} images are in none; training needs {FEWEST} or more. Raise UNSUPERVISED.EPS if there are many "
                "outliers and lower it if there are none, start from better weights (MODEL.PRETRAIN_PATH), or give more images"
            )
        labels = self._labels(groups)
        split = None
        if isinstance(self.loss.clusters, CameraProxies):
            of_image, classes, cameras = split_by_camera(labels, self._cameras)
            split = ProxySplit(class_means(features, of_image).numpy(), classes, cameras, of_image)
        return Found(figures, groups, silhouettes(clusters), labels, class_means(features, labels).numpy(), split)

    def adopt(self, found: Found, optimizers: Sequence[Optimizer]) -> bool:
        """Train on what a round found; return whether its score is the best so far.

        Args:
            optimizers: they forget what they know of the ID classifiers, which start from the centroids.
        """
        self.groups, self._fit = found.groups, found.fit
        self.rounds.append(found.figures)
        self.loader.relabel(found.labels, found.figures.clusters)
        self.loss.start_classes(torch.from_numpy(found.centroids), found.split)
        for head in self.loss.heads:
            for optimizer in optimizers:
                forget(optimizer, head.weight)  # type: ignore[arg-type]  # a parameter
        logger.info("%s", found.figures.line)
        return best_round(self.rounds) is found.figures

    def has_no_patience(self) -> bool:
        """Return whether the last rounds brought no better score."""
        best = best_round(self.rounds)
        waited = self.rounds[-1].round - best.round if best else 0
        if stops := 0 < self.options.patience <= waited:
            logger.info(
                "stopped early: %d rounds brought no better score than round %d (UNSUPERVISED.PATIENCE %d)",
                *(waited, best.round if best else 0, self.options.patience),
            )
        return stops

    def write(self, folder: Path) -> None:
        """Write the figures of all rounds, and the clusters of the last as a manifest for training with labels; after `adopt`.

        Outliers have the pid -1, which means junk. The manifest has no query and no gallery. `fit` is the silhouette of an image.
        """
        if not self.ranks.is_first or self.groups is None:
            return
        write_rounds(folder / ROUNDS, self.rounds)
        digits = len(str(max(self.rounds[-1].clusters - 1, 0)))
        rows = [
            {
                "path": path_for_csv(Path(record.path), folder),
                "pid": f"cluster {group:0{digits}}" if group >= 0 else "-1",
                "camid": self.camera_names[record.camid],
                "split": "train",
                "fit": f"{fit:.4f}" if group >= 0 else "",
            }
            for record, group, fit in zip(self.records, self.groups.tolist(), self._fit.tolist(), strict=True)
        ]
        write_csv(folder / CLUSTERS, ("path", "pid", "camid", "split", "fit"), rows)

    def summary(self, mean_precisions: Mapping[int, float]) -> str:
        """Return which round was chosen without labels, and how it compares with the best by labels, where there are any.

        Args:
            mean_precisions: mAP on the test set after some epochs.
        """
        best = best_round(self.rounds)
        if best is None:
            return "no round after the first epoch: nothing to choose from"
        parts = [f"chosen without labels: round {best.round} after epoch {best.epoch}, score {best.score:.3f}"]
        judge = best_round(self.rounds, "f1")
        if judge is not None:
            parts.append(
                f"pairwise F {best.f1:.3f}, the best of all rounds is {judge.f1:.3f} after epoch {judge.epoch}"
            )
        if mean_precisions:
            top = max(mean_precisions, key=lambda epoch: mean_precisions[epoch])
            own = mean_precisions.get(best.epoch)
            shown = f"mAP {own:.3f}" if own is not None else "mAP not evaluated after that epoch"
            parts.append(f"{shown}, the best of all evaluations is {mean_precisions[top]:.3f} after epoch {top}")
        return "; ".join(parts)

    def state_dict(self) -> dict[str, Any]:
        """Return clusters and figures, as tensors and plain types; the centroids are buffers of the loss."""
        return {
            "groups": None if self.groups is None else torch.from_numpy(self.groups),
            "rounds": [one.to_dict() for one in self.rounds],
            "images": self._images,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict()`.

        Raises:
            UserError: it is of other training images.
        """
        if state["images"] != self._images:
            raise UserError(
                f"--resume: the checkpoint has clusters of other training images ({state['images']}, here {self._images}); go back "
                "to its DATASETS options"
            )
        self.rounds = [RoundFigures(**one) for one in state["rounds"]]
        self.groups = None if state["groups"] is None else state["groups"].numpy()
        if self.groups is not None:
            labels = self._labels(self.groups)
            self.loader.relabel(labels, self.rounds[-1].clusters)
            self.loss.num_classes = int(labels.max()) + 1

    def _labels(self, groups: np.ndarray) -> np.ndarray:
        """Return the class (N,) of each image: its person in the source, else its cluster (T,); for outliers a class alone, or -1."""
        labels, count = groups.copy(), int(groups.max(initial=-1)) + 1
        if self.options.instances:
            outliers = np.flatnonzero(groups < 0)
            labels[outliers] = count + np.arange(len(outliers))
        return np.concatenate([np.where(labels >= 0, labels + self._num_people, -1), self._source])


def class_means(features: Tensor, labels: np.ndarray) -> Tensor:
    """Return the mean (C, D) of the features (N, D) of each class (N,); -1 = of none."""
    kept = torch.from_numpy(np.flatnonzero(labels >= 0))
    classes = torch.from_numpy(labels)[kept]
    totals = torch.zeros(int(classes.max()) + 1, features.shape[1]).index_add_(0, classes, features[kept])
    return totals / torch.bincount(classes)[:, None]


def forget(optimizer: Optimizer, parameter: Tensor) -> None:
    """Set the momentum, and other averages, of a parameter to 0."""
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value.zero_()


def most_classes(num_images: int, min_size: int, instances: bool) -> int:
    """Return the largest number of classes that a clustering can have."""
    return num_images if instances else max(num_images // min_size, 1)


def build_num_classes(cfg: CfgNode, data: ReidData, num_people: int) -> int:
    """Return the number of rows of the ID classifiers: the people, or without labels those of a source and the most clusters."""
    options = cfg.UNSUPERVISED
    if options.CLUSTERING == "none":
        return num_people
    most = most_classes(len(data.target), options.MIN_SIZE, options.OUTLIERS == "instances")
    return most + len(label_map(data.source))


def build_pseudo_labels(
    cfg: CfgNode,
    data: ReidData,
    loader: TrainLoader,
    model: ReidModel,
    loss: ReidLoss,
    device: torch.device,
    precision: torch.dtype,
    ranks: Ranks = ALONE,
) -> PseudoLabels | None:
    """Return the pseudo-labels of a training without labels; None without UNSUPERVISED.CLUSTERING."""
    options = cfg.UNSUPERVISED
    if options.CLUSTERING == "none":
        return None
    images = build_plain_loader(cfg, data, loader, model.spec.cameras, model.spec.views, device, ranks.rank, ranks.size)

    def embed(model: nn.Module) -> Tensor | None:
        share = extract(model, images, EMBEDDING, device, precision, "embed", ranks.is_first)
        return join_shares(share, len(data.train), ranks)

    cluster = build_clustering(cfg, data.target, data.camera_names, device)
    rounds = RoundOptions(options.PERIOD, options.OUTLIERS == "instances", options.PATIENCE)
    return PseudoLabels(data, embed, cluster, loader, loss, rounds, ranks)
