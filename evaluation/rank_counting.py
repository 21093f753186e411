"""Ranks of the relevant gallery items, counted among sorted scores; indices are never sorted.

Ranks start at 1; the highest score has rank 1; equal scores rank in gallery order; junk items have no rank.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .distances.blockwise import map_rows, map_shares

SHORT_ROW = 2**15
Items = tuple[np.ndarray, np.ndarray]  # relevant and junk gallery indices of one query


def ranks_on_cpu(scores: Tensor, items: list[Items]) -> list[np.ndarray]:
    """Return the ascending ranks (R,) of the relevant items for every row of scores (B, G); the scores of junk are overwritten."""
    rows = scores.numpy()
    for row, (_, junk) in zip(rows, items, strict=True):
        row[junk] = -np.inf
    wanted = [row[relevant] for row, (relevant, _) in zip(rows, items, strict=True)]
    if rows.shape[1] <= SHORT_ROW:
        ahead = sorted_rows(rows)
    else:
        ahead = map_rows(lambda i: sorted_ahead(rows[i], wanted[i]), len(rows))
    return [ranks_in_row(*row) for row in zip(rows, (item[0] for item in items), wanted, ahead, strict=True)]


def sorted_rows(rows: np.ndarray) -> list[np.ndarray]:
    """Return each row of scores (B, G) in ascending order: faster than argsort, and than selecting scores in short rows."""
    result = rows.copy()
    map_shares(lambda share: result[share].sort(axis=1), len(result))
    return list(result)


def sorted_ahead(scores: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return in ascending order all scores of a row (G,) that are at least the lowest of `wanted` (R,), perhaps more."""
    if not len(wanted):
        return wanted
    is_ahead = scores >= wanted.min()
    is_deep = np.count_nonzero(is_ahead) * 4 > len(scores)  # selecting them would cost more than sorting all
    return np.sort(scores if is_deep else scores.take(np.flatnonzero(is_ahead)))


def ranks_in_row(scores: np.ndarray, relevant: np.ndarray, wanted: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """Return the ascending ranks (R,) of the `relevant` indices in one row of scores (G,).

    Args:
        wanted: (R,) their scores.
        ahead: (A,) ascending, all scores that are at least the lowest of them, perhaps more.
    """
    num_higher = len(ahead) - np.searchsorted(ahead, wanted, "right")
    num_not_lower = len(ahead) - np.searchsorted(ahead, wanted, "left")
    ranks = num_higher + 1
    for i in np.flatnonzero(num_not_lower - num_higher > 1):  # ties: equal scores earlier in the gallery rank first
        ranks[i] += np.count_nonzero(scores[: relevant[i]] == wanted[i])
    ranks.sort()
    return ranks


def ranks_on_device(scores: Tensor, items: list[Items], max_elements: int = 2**26) -> list[np.ndarray]:
    """Return the same ranks, computed on the scores' device, in chunks of pairs of a query and a relevant item."""
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
    """Return row and column numbers (P,) of all columns listed per row."""
    rows = np.repeat(np.arange(len(columns)), [len(column) for column in columns])
    return torch.from_numpy(rows).to(device), torch.from_numpy(np.concatenate(columns)).to(device)
