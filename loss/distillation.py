"""Distillation: a student learns the embeddings of a teacher."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .float32 import in_float32


class Distillation(nn.Module):
    """Two losses that bring a student's embeddings to those of a teacher, which are computed once, from the whole images.

    - "distill": 1 - cosine between the student's embedding, after a learned projection to the teacher's width, and the
      teacher's (feature regression as in FitNets, Romero et al., ICLR 2015, on directions).
    - "relation": mean squared difference of the cosines of all pairs of the batch, student's and teacher's (relational
      distillation, Park et al., CVPR 2019; Tung and Mori, ICCV 2019). It needs no projection.

    Args:
        teacher: (N, T), the teacher's embeddings of the N training images. They are no part of the checkpoint.
        embed_dim: D, width of the student's embeddings.
        weight, relation_weight: factors of the two losses; 0 = off.
    """

    teacher: Tensor

    def __init__(self, teacher: Tensor, embed_dim: int, weight: float = 1.0, relation_weight: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("teacher", F.normalize(teacher.float(), dim=1), persistent=False)
        self.weight, self.relation_weight = weight, relation_weight
        self.projection = nn.Linear(embed_dim, teacher.shape[1], bias=False) if weight else None

    @in_float32
    def forward(self, features: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Return the weighted losses that are on, (), of features (B, D) of the training images `index` (B,)."""
        wanted = self.teacher[index]
        terms: dict[str, Tensor] = {}
        if self.projection is not None:
            projected = F.normalize(self.projection(features), dim=1)
            terms["distill"] = self.weight * (1 - (projected * wanted).sum(1)).mean()
        if self.relation_weight:
            terms["relation"] = self.relation_weight * difference_of_cosines(F.normalize(features, dim=1), wanted)
        return terms


def difference_of_cosines(features: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared difference of the cosines of all pairs of unit rows (B, D) and (B, T); 0 for a single row."""
    difference, count = features @ features.mT - wanted @ wanted.mT, len(features)
    itself = torch.eye(count, dtype=torch.bool, device=features.device)
    # no indexing by a mask: a GPU would have to report how many pairs there are
    return difference.masked_fill(itself, 0).square().sum() / max(1, count * (count - 1))
