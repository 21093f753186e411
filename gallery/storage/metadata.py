"""gallery.json: origin, format and committed state of a gallery."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ... import __version__
from ...common.errors import UserError, choose
from ...common.files import write_text_atomically
from ...common.inputs.regular_files import read_json
from ...labels.camera_norm import CAMERA_NORMS, OFF, postprocess_name
from .file_names import METADATA

FORMAT = 1
DTYPES = ("float32", "float16", "int8")
METRICS = ("euclidean", "cosine")
CHANGEABLE = ("embed", "preprocess", "threshold", "thresholds", "camera_norm")  # do not change the meaning of the rows


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class GalleryInfo:
    """Origin of a gallery's embeddings and how they are compared.

    Args:
        model: fingerprint of the model with its preprocessing; embeddings of another model are refused.
        dimension: D, values per row.
        dtype: type of the rows on disk: float32, float16, or int8, which needs a `scale`.
        metric: "euclidean", |a - b|, or "cosine", 1 - cos.
        preprocess, embed: preprocessing and embedding settings, as in a deploy checkpoint.
        threshold: `vitreid.evaluation.Threshold.to_dict()`, or None if not calibrated.
        created: creation time, ISO 8601.
        version: version of vitreid at that time.
        scale: (D,) factors of int8 values; None for floats.
        projection: fingerprint of the projection of the embeddings (see `fit_pca`), None = none.
        model_name: the model's readable name; "" = unknown.
        camera_norm: the rows and queries are compared normalised by their cameras, a key of CAMERA_NORMS.
        thresholds: those for processed embeddings, by `postprocess_name`.

    Raises:
        ValueError: a value is not allowed; the message says which are.
    """

    model: str
    dimension: int
    dtype: str = "float32"
    metric: str = "euclidean"
    preprocess: dict[str, Any] = field(default_factory=dict)
    embed: dict[str, Any] = field(default_factory=dict)
    threshold: dict[str, Any] | None = None
    created: str = field(default_factory=_now)
    version: str = __version__
    scale: tuple[float, ...] | None = None
    projection: str | None = None
    model_name: str = ""
    camera_norm: str = OFF
    thresholds: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.scale is not None:
            object.__setattr__(self, "scale", tuple(float(value) for value in self.scale))
        if not isinstance(self.model, str) or not self.model:
            raise UserError(f"gallery: model must be a fingerprint such as 'sha256:…', got {self.model!r}")
        if not _is_count(self.dimension) or self.dimension < 1:
            raise UserError(f"gallery: dimension must be 1 or more, got {self.dimension!r}")
        if self.dtype not in DTYPES:
            raise UserError(f"gallery: unknown dtype {self.dtype!r}; choose from {', '.join(DTYPES)}")
        if self.metric not in METRICS:
            raise UserError(f"gallery: unknown metric {self.metric!r}; choose from {', '.join(METRICS)}")
        choose("gallery: camera_norm", self.camera_norm, CAMERA_NORMS)
        if self.dtype != "int8" and self.scale is not None:
            raise UserError(f"gallery: scale is for int8, the dtype is {self.dtype}; leave it out")
        if not all(math.isfinite(value) and value > 0 for value in self.scale or ()):
            raise UserError("gallery: scale must hold finite numbers above 0; restore gallery.json")
        if not isinstance(self.embed, dict) or not isinstance(self.preprocess, dict):
            raise UserError("gallery: embed and preprocess must be objects; restore gallery.json")
        if self.dtype == "int8" and len(self.scale or ()) != self.dimension:
            raise UserError(
                f"gallery: int8 needs a scale of {self.dimension} values, got {len(self.scale or ())}; see to_int8"
            )

    @classmethod
    def of(cls, embedder: Any) -> GalleryInfo:
        """Return the description of float32 embeddings by a `vitreid.Embedder`: `Gallery.create(folder, GalleryInfo.of(embedder))`."""
        return cls(
            model=embedder.fingerprint,
            dimension=embedder.dim,
            metric=embedder.threshold["metric"] if embedder.threshold else "euclidean",
            preprocess=embedder.preprocess.to_dict(),
            embed=embedder.settings.to_dict(),
            threshold=embedder.threshold,
            model_name=embedder.name,
            thresholds=getattr(embedder, "thresholds", {}),
        )

    @property
    def limit(self) -> Any:
        """The threshold of the distances that a search returns: that for the embeddings as they are compared."""
        name = postprocess_name(self.camera_norm)
        return self.thresholds.get(name) if name else self.threshold

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return floats (n, D) in the stored type; int8 values are rounded and clipped to -127 … 127."""
        if self.scale is None:
            with np.errstate(over="ignore"):  # values beyond float16 become infinite; the writer refuses them
                return np.ascontiguousarray(vectors, self.dtype)
        scaled = np.asarray(vectors, np.float32) / np.asarray(self.scale, np.float32)
        return np.rint(scaled).clip(-127, 127).astype(np.int8)

    def decode(self, rows: np.ndarray) -> np.ndarray:
        """Return stored rows, (n, D) of `dtype`, as float32 embeddings in memory."""
        vectors = np.array(rows, np.float32)
        return vectors if self.scale is None else np.multiply(vectors, np.asarray(self.scale, np.float32), out=vectors)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GalleryInfo:
        """Return the inverse of `to_dict`; unknown keys are ignored.

        Raises:
            ValueError: model or dimension is missing, or a value is not allowed.
        """
        if missing := [name for name in ("model", "dimension") if name not in values]:
            raise UserError(
                f"gallery: {' and '.join(missing)} is missing; found {', '.join(sorted(values)) or 'nothing'}"
            )
        names = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})

    def with_values(self, **values: Any) -> GalleryInfo:
        """Return a copy with other values of the fields in CHANGEABLE.

        Raises:
            ValueError: any other field is named.
        """
        if unknown := sorted(set(values) - set(CHANGEABLE)):
            raise UserError(f"set_info: cannot change {', '.join(unknown)}; choose from {', '.join(CHANGEABLE)}")
        return replace(self, **values)

    def moved(self, dimension: int) -> GalleryInfo:
        """Return the description of the same embeddings, moved to another gallery as float rows.

        Those of a projection count as those of another model: the projection itself does not move, so new images cannot be compared.
        """
        dtype = self.dtype if self.dtype == "float16" else "float32"
        model = f"{self.model} projected by {self.projection}" if self.projection else self.model
        return replace(self, model=model, dimension=dimension, dtype=dtype, scale=None, projection=None)

    def check_embedder(self, path: object, embedder: Any) -> None:
        """Raise ValueError, naming the weight file if it is known, unless the embedder made these embeddings.

        Args:
            path: location of the gallery.
        """
        weights = getattr(embedder, "weights", None)
        what = "those of the embedder" if weights is None else f"those of the weights {weights}"
        self.check_model(path, embedder.fingerprint, what, getattr(embedder, "name", ""))

    def check_model(self, path: object, found: str, what: str, name: str = "") -> None:
        """Raise ValueError, naming both models, unless `found` is the model of the gallery at `path`.

        Args:
            found, name: fingerprint and, if known, name of the model that made other embeddings.
            what: description of these embeddings, for the message.
        """
        if found != self.model:
            ours, theirs = (", ".join(filter(None, pair)) for pair in ((self.model_name, self.model), (name, found)))
            raise UserError(
                f"the embeddings of the gallery {path} are by {ours}; {what} are by {theirs}: another model or "
                "preprocessing, so distances between them have no meaning; use the weights that made the gallery, or export it "
                "again"
            )


@dataclass(frozen=True)
class State:
    """The committed state of a gallery folder; writing it commits.

    Args:
        info: description of the gallery.
        count: number of valid rows in both files, removed ones included.
        removed: ids of the removed rows, ascending.
        next_id: the id of the next row; ids are never reused.
        checksum: CRC-32 of the first `count` rows of embeddings.npy.
        last_row: CRC-32 of the last of them, which is compared when the gallery is opened; None = no row, or an older version.
        suppressed: number of valid entries in suppressed.parquet.
    """

    info: GalleryInfo
    count: int = 0
    removed: tuple[int, ...] = ()
    next_id: int = 0
    checksum: int = 0
    last_row: int | None = None
    suppressed: int = 0

    def __post_init__(self) -> None:
        optional = ("last_row",) if self.last_row is not None else ()
        for name in ("count", "next_id", "checksum", "suppressed", *optional):
            if not _is_count(getattr(self, name)):
                raise UserError(f"gallery: {name} must be a whole number, 0 or more, got {getattr(self, name)!r}")
        if not all(_is_count(value) for value in self.removed):
            raise UserError("gallery: removed must be a list of ids, whole numbers")
        if len(self.removed) > self.count or any(one >= other for one, other in pairwise(self.removed)):
            raise UserError(f"gallery: removed must hold each id once, ascending, of at most {self.count} rows")

    def write(self, folder: Path) -> None:
        """Commit, atomically.

        Raises:
            OSError: the disk is full or not writable; the earlier state remains.
        """
        names = ("count", "next_id", "checksum", "last_row", "suppressed", "removed")
        own = {name: getattr(self, name) for name in names}
        content = {"format": FORMAT, **self.info.to_dict(), **own}
        lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())  # one line per key
        write_text_atomically(folder / METADATA, "{\n" + ",\n".join(lines) + "\n}\n")

    @classmethod
    def read(cls, folder: Path) -> State:
        """Read gallery.json.

        Raises:
            FileNotFoundError: the folder holds no gallery.
            ValueError: the file is damaged or has another format; names it.
        """
        path = folder / METADATA
        try:
            values = read_json(path)
            _check_format(values)
            own = {name: values.get(name, 0) for name in ("count", "next_id", "checksum", "suppressed")}
            removed, last_row = tuple(values.get("removed", ())), values.get("last_row")
            return cls(GalleryInfo.from_dict(values), removed=removed, last_row=last_row, **own)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f"{path}: no such file, so {folder} is not a gallery; make one with vitreid export"
            ) from None
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} is damaged or not of a gallery ({error}); restore it or export again") from error


def _check_format(values: Any) -> None:
    if not isinstance(values, dict):
        raise UserError(f"expected a JSON object, got {type(values).__name__}")
    if values.get("format") != FORMAT:
        raise UserError(f"format {values.get('format')!r}, this version of vitreid reads {FORMAT}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
