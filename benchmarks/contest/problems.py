"""A problem as files in a folder: the fresh process of every measurement reads the same arrays.

The random features resemble a trained model's: people differ, cameras shift them, some crops are poor.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vitreid.benchmarks.contest.cases import EvaluationProblem
from vitreid.benchmarks.contest.labels import Labels, Size, add_distractors, find_labels, synthetic_labels
from vitreid.evaluation import RetrievalData

LABELS = ("q_pids", "g_pids", "q_camids", "g_camids")
WARM_UP = Size(60, 400, 20, 4, 20)  # size of the problem that loads libraries and starts threads
DIM = 768
CHUNK = 16_384  # rows drawn at once: 48 MiB
NOISE, SPREAD = 1.0, 0.25  # median and log-spread of the crops' noise, in units of the difference between people
CAMERA = 0.4  # strength of the cameras' shifts, in the same unit


class Crops:
    """Draws unit-length float32 features (N, 768): person + camera + noise, with a decaying spectrum.

    Args:
        labels: people and cameras to draw; a gallery pid without a query is a new person in each image.
        person: strength of identity; 0 = random features.
        rng: source of all random numbers.
    """

    def __init__(self, labels: Labels, person: float, rng: np.random.Generator) -> None:
        self.rng = rng
        self.known = np.unique(labels.q_pids)
        self.scale = (1 / (1 + np.arange(DIM) / 32)).astype(np.float32)  # a learned embedding's decaying spectrum
        self.people = person * self._normal(len(self.known))
        self.cameras = person * CAMERA * self._normal(1 + max(labels.q_camids.max(), labels.g_camids.max()))
        self.person = person

    def draw(self, pids: np.ndarray, camids: np.ndarray) -> np.ndarray:
        """Return one feature per label (N,)."""
        noise = NOISE * np.exp(SPREAD * self._normal(len(pids), 1))
        values = self._normal(len(pids)) * noise
        row = np.searchsorted(self.known, pids).clip(max=len(self.known) - 1)
        is_known = self.known[row] == pids
        values[is_known] += self.people[row[is_known]]
        values[~is_known] += self.person * self._normal(int((~is_known).sum()))
        values += self.cameras[camids]
        values *= self.scale
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        return values

    def write(self, path: Path, pids: np.ndarray, camids: np.ndarray) -> None:
        """Write the features of the labels (N,) to the .npy file `path`, a chunk at a time."""
        file = np.lib.format.open_memmap(path, "w+", np.float32, (len(pids), DIM))
        for start in range(0, len(pids), CHUNK):
            rows = slice(start, start + CHUNK)
            file[rows] = self.draw(pids[rows], camids[rows])
        file.flush()

    def _normal(self, rows: int, columns: int = DIM) -> np.ndarray:
        return self.rng.standard_normal((rows, columns), np.float32)


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
