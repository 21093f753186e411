"""A problem as files in a folder: the fresh process of every measurement reads the same arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vitreid.benchmarks.contest.cases import EvaluationProblem
from vitreid.benchmarks.contest.labels import Labels, Size, add_distractors, find_labels, synthetic_labels
from vitreid.benchmarks.contest.random_features import Crops
from vitreid.evaluation import RetrievalData

LABELS = ("q_pids", "g_pids", "q_camids", "g_camids")
WARM_UP = Size(60, 400, 20, 4, 20)  # size of the problem that loads libraries and starts threads


def write_problem(folder: Path, problem: EvaluationProblem, root: Path | None, seed: int) -> dict[str, object]:
    """Draw a problem, write its arrays into `folder`, and return its counts."""
    rng = np.random.default_rng(seed)
    labels = find_labels(problem.base, problem.size, root, rng)
    labels = add_distractors(labels, problem.distractors, int(labels.g_camids.max()) + 1, rng)
    crops = Crops(labels, 0.0 if problem.base == "random" else 1.0, rng)
    crops.write(folder / "query.npy", labels.q_pids, labels.q_camids)
    crops.write(folder / "gallery.npy", labels.g_pids, labels.g_camids)
    for name in LABELS:
        np.save(folder / f"{name}.npy", getattr(labels, name))
    return labels.describe()


def read_problem(folder: Path, gallery: int | None, device: str) -> RetrievalData:
    """Read the arrays of `write_problem` into memory, with the first `gallery` rows of the gallery; None = all."""
    query = torch.from_numpy(np.load(folder / "query.npy")).to(device)
    rows = torch.from_numpy(np.array(np.load(folder / "gallery.npy", mmap_mode="r")[:gallery])).to(device)
    q_pids, g_pids, q_camids, g_camids = (np.load(folder / f"{name}.npy") for name in LABELS)
    return RetrievalData(query, rows, q_pids, g_pids[:gallery], q_camids, g_camids[:gallery])


def small_problem(device: str) -> RetrievalData:
    """Return a small problem to warm up with."""
    rng = np.random.default_rng(0)
    labels: Labels = synthetic_labels(WARM_UP, rng)
    crops = Crops(labels, 1.0, rng)
    query, gallery = crops.draw(labels.q_pids, labels.q_camids), crops.draw(labels.g_pids, labels.g_camids)
    columns = (getattr(labels, name) for name in LABELS)
    return RetrievalData(torch.from_numpy(query).to(device), torch.from_numpy(gallery).to(device), *columns)
