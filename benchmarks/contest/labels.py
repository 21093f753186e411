"""Labels of a test set: a data set's own, or synthetic ones with the same counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreid.datasets.published.market1501 import load_market1501
from vitreid.datasets.published.msmt17 import load_msmt17
from vitreid.datasets.records import ReidData

LOADERS: dict[str, Callable[[Path], ReidData]] = {"market1501": load_market1501, "msmt17": load_msmt17}
DISTRACTOR = 0  # synthetic people count from 1


@dataclass(frozen=True)
class Size:
    """Counts of a test set; `num_distractors` of the gallery's images show people without a query."""

    num_queries: int
    num_gallery: int
    num_ids: int
    num_cameras: int
    num_distractors: int


MARKET = Size(3368, 15_913, 750, 6, 2798)
MSMT17 = Size(11_659, 82_161, 3060, 15, 0)


@dataclass(frozen=True, eq=False)
class Labels:
    """int64 labels of queries (Q,) and gallery (G,), and their source."""

    q_pids: np.ndarray
    g_pids: np.ndarray
    q_camids: np.ndarray
    g_camids: np.ndarray
    source: str

    def describe(self) -> dict[str, object]:
        """Return the counts, for the headline and the JSON file."""
        return {
            "labels": self.source,
            "num_queries": len(self.q_pids),
            "num_gallery": len(self.g_pids),
            "num_ids": len(np.unique(self.q_pids)),
            "num_cameras": len(np.unique(self.q_camids)),
            "num_distractors": int(np.isin(self.g_pids, self.q_pids, invert=True).sum()),
        }


def find_labels(base: str, size: Size, root: Path | None, rng: np.random.Generator) -> Labels:
    """Return the labels of the data set `base` below `root`, or synthetic labels of `size` if it is absent."""
    if root is None or base not in LOADERS:
        return synthetic_labels(size, rng)
    try:
        return cut(labels_of(LOADERS[base](root)), size)
    except FileNotFoundError:
        return synthetic_labels(size, rng, f"no {base} below {root}")


def labels_of(data: ReidData) -> Labels:
    """Return the labels of a data set's query and gallery records."""

    sides = (data.query, data.gallery)
    columns = [[getattr(record, name) for record in side] for name in ("pid", "camid") for side in sides]
    q_pids, g_pids, q_camids, g_camids = (np.array(column, np.int64) for column in columns)
    return Labels(q_pids, g_pids, q_camids, g_camids, f"those of {data.name}")


def cut(labels: Labels, size: Size) -> Labels:
    """Return the labels of the first `size.num_ids` people and `size.num_distractors`: all, at the data set's own size."""
    queried = np.unique(labels.q_pids)
    people = queried[: size.num_ids]
    is_kept = np.isin(labels.g_pids, people)
    is_kept[np.flatnonzero(np.isin(labels.g_pids, queried, invert=True))[: size.num_distractors]] = True
    is_query = np.isin(labels.q_pids, people)
    part = "" if is_kept.all() and is_query.all() else ", in part"
    queries = labels.q_pids[is_query], labels.q_camids[is_query]
    return Labels(queries[0], labels.g_pids[is_kept], queries[1], labels.g_camids[is_kept], labels.source + part)


def synthetic_labels(size: Size, rng: np.random.Generator, why: str = "") -> Labels:
    """Return labels with the counts of `size`, spread as unevenly as in a real data set.

    One query for each pair of a person and a camera that saw them; every person is seen by two cameras or more; every
    pair has gallery images, so that each query is valid.

    Raises:
        ValueError: the counts do not allow that.
    """
    num_pairs, num_seen = size.num_queries, size.num_gallery - size.num_distractors
    if not 2 * size.num_ids <= num_pairs <= min(size.num_ids * size.num_cameras, num_seen):
        raise ValueError(f"{size}: two queries per person or more, and one per camera and per gallery image at most")
    order = rng.random((size.num_ids, size.num_cameras)).argsort(1)
    keys = np.where(order < 2, -1, rng.random(order.shape))  # two cameras each, further ones at random
    pids, camids = np.divmod(np.sort(keys.ravel().argsort(kind="stable")[:num_pairs]), size.num_cameras)
    extra = rng.multinomial(num_seen - num_pairs, rng.dirichlet(np.full(num_pairs, 1.5)))
    images = np.repeat(np.arange(num_pairs), 1 + extra)
    labels = Labels(pids + 1, pids[images] + 1, camids, camids[images], f"synthetic{why and f' ({why})'}")
    return add_distractors(labels, size.num_distractors, size.num_cameras, rng)


def add_distractors(labels: Labels, count: int, num_cameras: int, rng: np.random.Generator) -> Labels:
    """Append `count` distractors to the gallery, each from a random camera."""
    pids = np.concatenate([labels.g_pids, np.full(count, DISTRACTOR)])
    camids = np.concatenate([labels.g_camids, rng.integers(0, num_cameras, count)])
    return Labels(labels.q_pids, pids, labels.q_camids, camids, labels.source)
