"""Camera-aware proxies: embeddings against one stored embedding per cluster and camera."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .cluster_memory import move_centroids, resize_to_saved
from .float32 import in_float32


class ProxySplit(NamedTuple):
    """Classes split by camera: what a `CameraProxies` starts from.

    Args:
        means: (P, D) mean of the embeddings of each proxy.
        classes, cameras: (P,) class and camera of each proxy.
        of_image: (N,) proxy of each training image; -1 = of none.
    """

    means: np.ndarray
    classes: np.ndarray
    cameras: np.ndarray
    of_image: np.ndarray


class CameraProxies(nn.Module):
    """Intra- and inter-camera contrast with one centroid per cluster and camera (CAP, Wang et al., AAAI 2021, arXiv:2012.10674).

    With the cosines s of an image to all proxies, divided by the temperature: L = L_intra + w L_inter. L_intra is the cross entropy
    of its proxy among those of its camera. L_inter is the mean, over the proxies p of its cluster in other cameras, of
    -log(exp s_p / (sum of exp over these and over the k nearest proxies of other clusters)); an image without such proxies has none.
    Both are means over the images of a camera, summed over the cameras of the batch, as in the authors' code. That code also
    counts the image's own proxy among those of L_inter; here only other cameras count.

    The centroids move as those of `ClusterMemory`; all that is known of the proxies is in buffers.

    Args:
        embed_dim: D.
        num_images: training images, N.
        temperature, momentum, update, weight: as for `ClusterMemory`.
        inter_weight: w.
        negatives: k.
    """

    centroids: Tensor
    classes: Tensor
    cameras: Tensor
    of_image: Tensor

    def __init__(
        self,
        embed_dim: int,
        num_images: int,
        temperature: float = 0.07,
        momentum: float = 0.2,
        update: str = "all",
        weight: float = 1.0,
        inter_weight: float = 0.5,
        negatives: int = 50,
    ) -> None:
        super().__init__()
        self.temperature, self.momentum, self.update, self.weight = temperature, momentum, update, weight
        self.inter_weight, self.negatives = inter_weight, negatives
        self.register_buffer("centroids", torch.zeros(0, embed_dim))
        for name, size in (("classes", 0), ("cameras", 0), ("of_image", num_images)):
            self.register_buffer(name, torch.full((size,), -1))

    def start(self, centroids: Tensor, split: ProxySplit | None = None) -> None:
        """Take the proxies of a new clustering; `centroids` (C, D) of its classes are not used.

        Raises:
            ValueError: there is no split by cameras.
        """
        if split is None:
            raise ValueError("camera proxies start from a split of the classes by camera, got None")
        self.centroids = F.normalize(torch.from_numpy(split.means).to(self.centroids), dim=1)
        for name in ("classes", "cameras", "of_image"):
            setattr(self, name, torch.from_numpy(getattr(split, name)).to(self.classes))

    @in_float32
    def forward(self, features: Tensor, labels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss () of features (B, D), and the share () that is nearest to a proxy of its cluster.

        Args:
            labels: (B,) cluster of each.
            index: (B,) its position among the training images.
        """
        queries, own = F.normalize(features, dim=1), self.of_image[index]
        cosines = queries @ self.centroids.mT  # (B, P)
        scores, cameras = cosines / self.temperature, self.cameras[own]
        shares = 1 / (cameras[:, None] == cameras[None, :]).sum(1)  # of each image in its camera's mean
        in_camera = self.cameras == cameras[:, None]
        intra = F.cross_entropy(scores.masked_fill(~in_camera, -torch.inf), own, reduction="none")
        loss = self.weight * (shares * (intra + self.inter_weight * self._inter(scores, labels, in_camera))).sum()
        nearest = self.classes[cosines.detach().argmax(1)]
        if self.training:
            to_own = cosines.detach().gather(1, own[:, None])[:, 0] if self.update == "hardest" else None
            self.centroids = move_centroids(self.centroids, queries.detach(), own, self.momentum, to_own)
        return loss, (nearest == labels).float().mean()

    def _inter(self, scores: Tensor, labels: Tensor, in_camera: Tensor) -> Tensor:
        """Return the loss (B,) of images across cameras; 0 for a cluster of one camera."""
        of_cluster = self.classes == labels[:, None]  # (B, P)
        positive = of_cluster & ~in_camera
        count = positive.sum(1)
        others = scores.detach().masked_fill(of_cluster, -torch.inf)
        hardest = others.topk(min(self.negatives, scores.shape[1]), dim=1).indices
        compared = positive | (torch.zeros_like(positive).scatter(1, hardest, True) & ~of_cluster)
        has_some = count > 0
        compared = compared | ~has_some[:, None]  # finite where the result is not used
        against = scores.masked_fill(~compared, -torch.inf).logsumexp(1)
        mean = (scores * positive).sum(1) / count.clamp(min=1)
        return torch.where(has_some, against - mean, 0)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **options: Any) -> None:
        """Accept another number of proxies."""
        for name in ("centroids", "classes", "cameras"):
            resize_to_saved(self, name, state_dict.get(f"{prefix}{name}"))
        super()._load_from_state_dict(state_dict, prefix, *args, **options)


def split_by_camera(labels: np.ndarray, cameras: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the proxy (N,) of each image with a class (N,) and a camera (N,), and the class and camera (P,) of each proxy; -1 = none.

    >>> [part.tolist() for part in split_by_camera(np.array([1, 0, -1, 1, 1]), np.array([2, 0, 0, 2, 1]))]
    [[2, 0, -1, 2, 1], [0, 1, 1], [0, 1, 2]]
    """
    kept = np.flatnonzero(labels >= 0)
    proxies, of_kept = np.unique(np.stack([labels[kept], cameras[kept]]), axis=1, return_inverse=True)
    of_image = np.full(len(labels), -1)
    of_image[kept] = of_kept.reshape(-1)
    return of_image, proxies[0], proxies[1]
