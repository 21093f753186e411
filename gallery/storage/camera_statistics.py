"""cameras.npz: mean and spread of the embeddings of each camera, kept as sums so that rows can be added and removed.

The file belongs to one committed state of the gallery. If it is missing, damaged or of another state, after a crash
for example, the sums are computed from the rows again.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.inputs.archives import NUMBERS, TEXT, read_arrays
from ...labels.camera_norm import FULL, check_counts
from .file_names import CAMERAS
from .metadata import State

OPTION = "vitreid gallery camera-norm"
UNKNOWN = ""  # name of the cameras of rows without one
SMALLEST = 1e-12  # share of a feature's square below which its spread is rounding


Names = Any  # names of cameras (n,) as a pyarrow.Array or ChunkedArray of strings, null = unknown


class CameraSums:
    """Number, sum and sum of squares of the embeddings (float64) of each camera.

    Args:
        names: (C,) cameras.
        counts, sums, squares: (C,), (C, D) and (C, D).
    """

    def __init__(self, names: Sequence[str], counts: np.ndarray, sums: np.ndarray, squares: np.ndarray) -> None:
        self.names, self.counts, self.sums, self.squares = list(names), counts, sums, squares

    @classmethod
    def empty(cls, width: int) -> CameraSums:
        """Return the sums of no row of `width` values."""
        return cls([], np.zeros(0, np.int64), np.zeros((0, width)), np.zeros((0, width)))

    def add(self, rows: np.ndarray, cameras: Names, sign: int = 1) -> None:
        """Add rows (n, D) of the named cameras (n,); `sign` -1 takes them away."""
        codes = self.codes(cameras, grow=True)
        for code in np.unique(codes):
            own = np.asarray(rows[codes == code], np.float64)
            self.counts[code] += sign * len(own)
            self.sums[code] += sign * own.sum(0)
            self.squares[code] += sign * np.square(own).sum(0)

    def codes(self, cameras: Names, grow: bool = False) -> np.ndarray:
        """Return the position (n,) of each camera in `names`, -1 where it is new; with `grow` it gets one."""
        whole = cameras.combine_chunks() if isinstance(cameras, pa.ChunkedArray) else cameras
        encoded = pc.fill_null(whole, UNKNOWN).dictionary_encode()
        found = encoded.dictionary.to_pylist()
        if grow and (new := [name for name in found if name not in self.names]):
            self.names += new
            wide = [(0, len(new)), (0, 0)]
            self.counts = np.pad(self.counts, wide[0])
            self.sums, self.squares = np.pad(self.sums, wide), np.pad(self.squares, wide)
        places = np.array([self.names.index(name) if name in self.names else -1 for name in found], np.int32)
        return places[encoded.indices.to_numpy()] if len(places) else np.zeros(0, np.int32)

    def mean_and_spread(self, mode: str) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and spread (C, D) float32; the spread is 1 where it is 0 or not asked for."""
        counts = np.maximum(self.counts, 1)[:, None]
        mean, square = self.sums / counts, self.squares / counts
        variance = square - np.square(mean)
        is_spread = (variance > SMALLEST * square) & (mode == FULL)
        spread = np.sqrt(np.where(is_spread, variance, 1))
        return mean.astype(np.float32), spread.astype(np.float32)

    def check(self, names: Iterable[str] | None = None) -> None:
        """Raise UserError if one of the cameras, None = of those with rows, has too few rows for its statistics."""
        counts = dict(zip(self.names, self.counts.tolist(), strict=True))
        asked = [name for name, count in counts.items() if count] if names is None else names
        check_counts([(name, counts.get(name, 0)) for name in asked], OPTION)

    def save(self, folder: Path, state: State) -> None:
        """Write cameras.npz for a state that is about to be committed, atomically."""
        values: dict[str, Any] = {
            "names": np.array(self.names, "U"),
            "counts": self.counts,
            "sums": self.sums,
            "squares": self.squares,
        }

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, state=np.array(_key(state)), **values)

        write_atomically(folder / CAMERAS, write)

    @classmethod
    def load(cls, folder: Path, state: State) -> CameraSums | None:
        """Read cameras.npz; None if there is none for this state."""
        try:
            arrays = read_arrays(folder / CAMERAS, NUMBERS + TEXT)
            if str(arrays["state"]) != _key(state):
                return None
            found = cls(arrays["names"].tolist(), arrays["counts"], arrays["sums"], arrays["squares"])
        except (OSError, UserError, KeyError):  # damaged: computed anew
            return None
        is_whole = found.sums.shape == found.squares.shape == (len(found.names), state.info.dimension)
        return found if is_whole and found.counts.shape == (len(found.names),) else None


def _key(state: State) -> str:
    removed = zlib.crc32(np.array(state.removed, np.int64).tobytes())
    return f"{state.count} {state.checksum} {len(state.removed)} {removed}"


@dataclass(frozen=True, eq=False)
class CameraNorm:
    """The normalisation of a gallery's rows and queries by the statistics of their cameras.

    Args:
        mode: a key of CAMERA_NORMS, not "none".
        sums: of the live rows.
        codes: (count,) camera of each row, a position in `sums.names`.
    Raises:
        UserError: a camera has too few rows left.
    """

    mode: str
    sums: CameraSums
    codes: np.ndarray

    def __post_init__(self) -> None:
        self.sums.check()
        object.__setattr__(self, "_parts", self.sums.mean_and_spread(self.mode))

    def rows(self, rows: np.ndarray, positions: Any) -> np.ndarray:
        """Return float32 rows (n, D) at some positions of the gallery, normalised, in new memory."""
        return self._applied(rows, self.codes[positions])

    def queries(self, rows: np.ndarray, cameras: Sequence[str | None]) -> np.ndarray:
        """Return queries (n, D), normalised by the statistics of their cameras (n,).

        Raises:
            UserError: a camera is not known, or the gallery has no rows of it.
        """
        codes = self.sums.codes(pa.array(cameras, pa.string()))
        for name, code in zip(cameras, codes, strict=True):
            if code < 0 or not self.sums.counts[code]:
                known = ", ".join(sorted(filter(None, self.sums.names))[:20])
                raise UserError(
                    f"queries: the gallery compares embeddings normalised by camera and has no rows of camera {name!r}; "
                    f"give the camera of each query (--camera NAME): {known}"
                )
        return self._applied(rows, codes)

    def _applied(self, rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
        mean, spread = self._parts  # type: ignore[attr-defined]
        found = rows - mean[codes]
        found /= spread[codes]
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.float32(1e-12))
        return found
