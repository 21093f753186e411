"""projection.npz: the linear map of a gallery's embeddings and queries, if it has one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...common.errors import UserError
from ...common.files import digest, write_atomically
from ...common.inputs.archives import read_arrays
from .file_names import PROJECTION


@dataclass(frozen=True, eq=False)
class Projection:
    """(x - mean) @ components.T

    Args:
        mean: (D_in,) float32.
        components: (D, D_in) float32, orthonormal rows.
    """

    mean: np.ndarray
    components: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return (n, D_in) as (n, D) float32."""
        return (np.asarray(rows, np.float32) - self.mean) @ self.components.T

    @property
    def num_inputs(self) -> int:
        """D_in, the model's own dimension."""
        return self.components.shape[1]

    @property
    def fingerprint(self) -> str:
        """Text that identifies the projection."""
        return digest([self.mean.tobytes(), self.components.tobytes()])[: len("sha256:") + 16]

    def save(self, folder: Path) -> None:
        """Write projection.npz, atomically."""

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, mean=self.mean, components=self.components)

        write_atomically(folder / PROJECTION, write)

    @classmethod
    def load(cls, folder: Path) -> Projection:
        """Read projection.npz.

        Raises:
            FileNotFoundError: it is missing.
            ValueError: it is damaged; names it.
        """
        path = folder / PROJECTION
        try:
            arrays = read_arrays(path)
            mean, components = arrays["mean"], arrays["components"]
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{path}: no such file, and gallery.json says that there is a projection; restore it"
            ) from None
        except (UserError, KeyError) as error:
            raise UserError(f"{path} is damaged ({error}); restore it") from error
        if (
            components.ndim != 2
            or mean.shape != components.shape[1:]
            or mean.dtype.kind + components.dtype.kind != "ff"
        ):
            raise UserError(f"{path} is damaged (mean {mean.shape}, components {components.shape}); restore it")
        return cls(mean, components)
