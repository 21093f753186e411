"""Random features that resemble a trained model's: people differ, cameras shift them, some crops are poor."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitreid.benchmarks.contest.labels import Labels

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
