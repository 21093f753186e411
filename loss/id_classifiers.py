"""ID classifiers: embeddings -> logits, with the margin of each loss.

Every head has two steps: `scores` computes class scores (for the accuracy), `penalise` applies the margin to the true
class (for the loss). `head(features, labels)` does both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .float32 import in_float32


class SoftmaxHead(nn.Module):
    """Linear classifier without bias, weights drawn with std 0.001 [TransReID].

    Args:
        embed_dim, num_classes: D and C; the weight is (C, D).
    """

    def __init__(self, embed_dim: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, embed_dim))
        nn.init.normal_(self.weight, std=0.001)

    def scores(self, features: Tensor) -> Tensor:
        """Return (B, C) scores of features (B, D); the largest is the predicted class."""
        return F.linear(features, self.weight)

    def penalise(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the logits (B, C) of the cross entropy."""
        return scores

    @in_float32
    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the logits (B, C) of features (B, D) with labels (B,)."""
        return self.penalise(self.scores(features), labels)


class CosineHead(SoftmaxHead):
    """Classifier by the cosine between embedding and class weight; the margin losses build on it.

    Args:
        scale: s, factor of the logits.
        margin: m, penalty of the true class; an angle in radians for ArcFace, a cosine otherwise.
    """

    def __init__(self, embed_dim: int, num_classes: int, scale: float, margin: float) -> None:
        super().__init__(embed_dim, num_classes)
        self.scale = scale
        self.margin = margin
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def scores(self, features: Tensor) -> Tensor:
        """Return (B, C) cosines."""
        return F.linear(F.normalize(features), F.normalize(self.weight))


class ArcFace(CosineHead):
    """cos(angle + m) for the true class (Deng et al., CVPR 2019, arXiv:1801.07698).

    Beyond an angle of pi - m, where cos(angle + m) would rise again, the penalty is the constant m sin(m).
    """

    def penalise(self, scores: Tensor, labels: Tensor) -> Tensor:
        cosine = scores.gather(1, labels[:, None])  # (B, 1), cosine of the true class
        sine = (1 - cosine.square()).clamp(min=1e-12).sqrt()  # the clamp keeps the gradient finite at cosine 1
        harder = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        linear = cosine - self.margin * math.sin(self.margin)
        harder = torch.where(cosine > -math.cos(self.margin), harder, linear)
        return self.scale * scores.scatter(1, labels[:, None], harder)


class CosFace(CosineHead):
    """cos(angle) - m for the true class (Wang et al., CVPR 2018, arXiv:1801.09414)."""

    def __init__(self, embed_dim: int, num_classes: int, scale: float, margin: float) -> None:
        super().__init__(embed_dim, num_classes, scale, margin)
        nn.init.xavier_uniform_(self.weight)

    def penalise(self, scores: Tensor, labels: Tensor) -> Tensor:
        cosine = scores.gather(1, labels[:, None])
        return self.scale * scores.scatter(1, labels[:, None], cosine - self.margin)


class AMSoftmax(CosFace):
    """The same penalty, published as AM-Softmax (Wang et al., 2018, arXiv:1801.05599); other initial weights [TransReID].

    The original keeps its weight as (D, C); here it is (C, D) like all others.
    """

    def __init__(self, embed_dim: int, num_classes: int, scale: float, margin: float) -> None:
        super().__init__(embed_dim, num_classes, scale, margin)
        nn.init.xavier_normal_(self.weight)


class Circle(CosineHead):
    """Circle loss with class labels: each logit weighted by its distance from its optimum (Sun et al., CVPR 2020)."""

    def penalise(self, scores: Tensor, labels: Tensor) -> Tensor:
        fixed = scores.detach()
        right = (1 + self.margin - fixed).clamp(min=0) * (scores - (1 - self.margin))
        wrong = (fixed + self.margin).clamp(min=0) * (scores - self.margin)
        is_right = F.one_hot(labels, scores.shape[1]).bool()
        return self.scale * torch.where(is_right, right, wrong)
