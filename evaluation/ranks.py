"""At which rank does each relevant gallery item stand? Counted, without sorting whole rows of indices.

Ranks start at 1; a higher score stands first; equal scores stand in gallery order; junk items stand nowhere.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .threads import map_rows

Items = tuple[np.ndarray, np.ndarray]  # relevant and junk gallery indices of one query


def ranks_in_row(scores: np.ndarray, relevant: np.ndarray, junk: np.ndarray) -> np.ndarray:
    """Return the ascending ranks (R,) of the `relevant` indices in one row of scores (G,); junk scores are overwritten.

    Only scores that reach the worst relevant one are sorted, and by value: no argsort of the row.
    """
    scores[junk] = -np.inf
    wanted = scores[relevant]
    ahead = np.sort(scores[scores >= wanted.min()])
    num_higher = len(ahead) - np.searchsorted(ahead, wanted, "right")
    num_not_lower = len(ahead) - np.searchsorted(ahead, wanted, "left")
    ranks = num_higher + 1
    for i in np.flatnonzero(num_not_lower - num_higher > 1):  # others have the same score: those before it stand first
        ranks[i] += np.count_nonzero(scores[: relevant[i]] == wanted[i])
    return np.sort(ranks)


def ranks_on_cpu(scores: Tensor, items: list[Items]) -> list[np.ndarray]:
    """Return the ranks for every row of scores (B, G), which are overwritten; rows without relevant items get none."""
    rows = scores.numpy()

    def rank(i: int) -> np.ndarray:
        relevant, junk = items[i]
        return ranks_in_row(rows[i], relevant, junk) if len(relevant) else np.empty(0, np.int64)

    return map_rows(rank, len(rows))


def ranks_on_device(scores: Tensor, items: list[Items], max_elements: int = 2**26) -> list[np.ndarray]:
    """Do the same with tensor operations where the scores are, in chunks of pairs of a query and a relevant item."""
    num_gallery = scores.shape[1]
    rows, relevant = flatten([item[0] for item in items], scores.device)
    scores[flatten([item[1] for item in items], scores.device)] = -torch.inf
    position = torch.arange(num_gallery, device=scores.device)
    ranks = []
    for row, column in zip(
        *(index.split(max(1, max_elements // num_gallery)) for index in (rows, relevant)), strict=True
    ):
        others, wanted = scores[row], scores[row, column][:, None]
        is_ahead = (others > wanted) | ((others == wanted) & (position < column[:, None]))
        ranks.append(is_ahead.sum(1) + 1)
    bounds = np.cumsum([len(item[0]) for item in items])[:-1]
    return [np.sort(part) for part in np.split(torch.cat(ranks).cpu().numpy(), bounds)]


def flatten(columns: list[np.ndarray], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return row and column numbers (P,) of all the columns listed per row."""
    rows = np.repeat(np.arange(len(columns)), [len(column) for column in columns])
    return torch.from_numpy(rows).to(device), torch.from_numpy(np.concatenate(columns)).to(device)
