"""At which rank does each relevant gallery item stand? Counted among sorted scores; no row of indices is ever sorted.

Ranks start at 1; a higher score stands first; equal scores stand in gallery order; junk items stand nowhere.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .blockwise import map_rows, map_shares

SHORT_ROW = 2**15
Items = tuple[np.ndarray, np.ndarray]  # relevant and junk gallery indices of one query


def ranks_on_cpu(scores: Tensor, items: list[Items]) -> list[np.ndarray]:
    """Return the ascending ranks (R,) for every row of scores (B, G), whose junk is overwritten; no relevant items, no ranks."""
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
    """Return each row of scores (B, G) sorted, by value: faster than any argsort, and than picking scores out of short rows."""
    result = rows.copy()
    map_shares(lambda share: result[share].sort(axis=1), len(result))
    return list(result)


def sorted_ahead(scores: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return, sorted, at least all the scores of one row (G,) that reach the lowest of `wanted` (R,)."""
    if not len(wanted):
        return wanted
    is_ahead = scores >= wanted.min()
    is_deep = np.count_nonzero(is_ahead) * 4 > len(scores)  # picking them out would cost more than sorting all
    return np.sort(scores if is_deep else scores.take(np.flatnonzero(is_ahead)))


def ranks_in_row(scores: np.ndarray, relevant: np.ndarray, wanted: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """Return the ascending ranks (R,) of the `relevant` indices in one row of scores (G,).

    Args:
        wanted: (R,) their scores.
        ahead: (A,) sorted, at least all the scores that reach the lowest of them.
    """
    num_higher = len(ahead) - np.searchsorted(ahead, wanted, "right")
    num_not_lower = len(ahead) - np.searchsorted(ahead, wanted, "left")
    ranks = num_higher + 1
    for i in np.flatnonzero(num_not_lower - num_higher > 1):  # others have the same score: those before it stand first
        ranks[i] += np.count_nonzero(scores[: relevant[i]] == wanted[i])
    ranks.sort()
    return ranks


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
