"""The embeddings of a test set with all that their evaluation needs, in memory and as a file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.inputs.safetensors_file import open_safetensors, read_fact
from ...common.text import parse_json, person_text
from ...evaluation import RetrievalData
from ...evaluation.input_checks import as_features, as_labels, check_finite, squared_norms
from ...labels.setting import PER_PERSON, Setting
from ...model.weights.read import SPEC

FORMAT = "vitreid.features"  # key of our entry in the file's metadata
SIDES = {"q": "query", "g": "gallery"}
PICKED = ("pids", "camids", "names", "files")  # what each image of a side has
LABEL = "label."  # before the names of further labels


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Query and gallery of one data set, embedded by one model.

    Args:
        dataset: name of the test set, for tables.
        protocol, query, gallery, q_pids, g_pids: as in `RetrievalData`.
        q_camids, g_camids: (Q,) and (G,) rows in `camera_names`.
        q_names, g_names: Q and G image files.
        camera_names: name of each camid.
        q_files, g_files: (Q,) and (G,) contents of the image files, equal for exact copies; None = by their names.
        settings: as in `ReidData`.
        extra: further labels (Q,) and (G,) that a setting's protocol compares, by name.
        person_names: the user's names of the pids, if any.
        about: what made them, in JSON types: config, embed, preprocess, weights, and a threshold if the model has one.
    """

    dataset: str
    protocol: str
    query: Tensor
    gallery: Tensor
    q_pids: np.ndarray
    g_pids: np.ndarray
    q_camids: np.ndarray
    g_camids: np.ndarray
    q_names: list[str]
    g_names: list[str]
    camera_names: tuple[str, ...]
    about: dict[str, Any] = field(default_factory=dict)
    q_files: np.ndarray | None = None
    g_files: np.ndarray | None = None
    settings: tuple[Setting, ...] = ()
    extra: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    person_names: dict[int, str] = field(default_factory=dict)

    def person(self, pid: int) -> str:
        """Return the name of a person, "pid 7" without one."""
        return person_text(self.person_names.get(int(pid), int(pid)))

    @property
    def arrays(self) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The six arrays, in the order of `RetrievalData`."""
        return self.query, self.gallery, self.q_pids, self.g_pids, self.q_camids, self.g_camids

    @cached_property
    def data(self) -> RetrievalData:
        """The checked input of every function of `evaluation`, made once; raises as `RetrievalData`."""
        q_files, g_files = self.files
        return RetrievalData(*self.arrays, protocol=self.protocol, q_files=q_files, g_files=g_files, extra=self.extra)

    @property
    def evaluations(self) -> tuple[Setting, ...]:
        """The settings; one of the protocol if there are none."""
        return self.settings or (Setting(protocol=self.protocol),)

    def under(self, setting: Setting) -> FeatureSet:
        """Return the queries and the gallery of a setting, under its protocol and without settings; itself without settings.

        Raises:
            UserError: no query or no gallery image is from the setting's cameras.
        """
        if not self.settings:
            return self
        rows, columns = (
            self._rows(side, camids, cameras, setting.name)
            for side, camids, cameras in (
                ("query", self.q_camids, setting.query_cameras),
                ("gallery", self.g_camids, setting.gallery_cameras),
            )
        )
        picked = {
            name: _pick(getattr(self, name), kept)
            for side, kept in (("q", rows), ("g", columns))
            for name in (SIDES[side], *(f"{side}_{label}" for label in PICKED))
        }
        extra = {name: (_pick(q, rows), _pick(g, columns)) for name, (q, g) in self.extra.items()}
        if setting.with_queries:
            sides = {f"g_{key}": f"q_{key}" for key in PICKED} | {"gallery": "query"}
            picked |= {own: _join(picked[own], picked[asked]) for own, asked in sides.items()}
            extra = {name: (q, _join(g, q)) for name, (q, g) in extra.items()}
        return replace(self, protocol=setting.protocol, settings=(), extra=extra, **picked)

    def _rows(self, side: str, camids: np.ndarray, cameras: tuple[str, ...], setting: str) -> np.ndarray | None:
        """Return the rows of the images from these cameras; None = all, without cameras."""
        if not cameras:
            return None
        rows = np.flatnonzero(np.isin(camids, [row for row, name in enumerate(self.camera_names) if name in cameras]))
        if not len(rows):
            raise UserError(
                f"{self.dataset}: no {side} image is from {', '.join(cameras)}, which {setting!r} takes; there are "
                f"{', '.join(self.camera_names)}"
            )
        return rows

    @property
    def files(self) -> tuple[Any, Any]:
        """What `q_files` and `g_files` are; the names of the files if they are None."""
        if self.q_files is None or self.g_files is None:
            return self.q_names, self.g_names
        return self.q_files, self.g_files

    def same_images(self, other: FeatureSet) -> bool:
        """Return whether `other` has the same queries and the same gallery in the same order; folders may differ."""
        return (
            (self.protocol, self.settings) == (other.protocol, other.settings)
            and all(np.array_equal(a, b) for a, b in zip(self.arrays[2:], other.arrays[2:], strict=True))
            and _file_names(self) == _file_names(other)
        )


def _pick(values: Any, rows: np.ndarray | None) -> Any:
    """Return the rows of an array or a list; all of it if `rows` or `values` is None."""
    if rows is None or values is None:
        return values
    return [values[row] for row in rows] if isinstance(values, list) else values[rows]


def _join(first: Any, second: Any) -> Any:
    """Return the rows of two tensors, arrays or lists; None if both are."""
    if first is None:
        return None
    if isinstance(first, Tensor):
        return torch.cat([first, second])
    return first + second if isinstance(first, list) else np.concatenate([first, second])


def _file_names(features: FeatureSet) -> list[str]:
    return [PurePath(name).name for name in (*features.q_names, *features.g_names)]


def save_features(path: str | Path, features: FeatureSet) -> None:
    """Write a safetensors file: float32 embeddings; int64 pids and camids; names as JSON in bytes; the rest as metadata."""
    query = features.query.float().clone(memory_format=torch.contiguous_format)  # no memory shared with the gallery
    tensors = {"query": query, "gallery": features.gallery.float().contiguous()}
    for side in SIDES:
        tensors |= {name: torch.tensor(getattr(features, name)) for name in (f"{side}_pids", f"{side}_camids")}
        tensors[f"{side}_names"] = _as_bytes(getattr(features, f"{side}_names"))
        if getattr(features, f"{side}_files") is not None:
            tensors[f"{side}_files"] = torch.from_numpy(getattr(features, f"{side}_files"))
    for name, pair in features.extra.items():
        tensors |= {f"{side}_{LABEL}{name}": torch.from_numpy(values) for side, values in zip(SIDES, pair, strict=True)}
    facts = {key: getattr(features, key) for key in ("dataset", "protocol", "camera_names", "about")}
    if features.settings:
        facts["settings"] = [setting.to_dict() for setting in features.settings]
    if features.person_names:
        facts["person_names"] = {str(pid): name for pid, name in features.person_names.items()}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata={FORMAT: json.dumps(facts)}))


def load_features(path: str | Path) -> FeatureSet:
    """Return what `save_features` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, another kind of file, arrays that do not fit each other, or NaN; names file, array and row.
    """
    facts = read_facts(path)
    with open_safetensors(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        features = _features_of(tensors, facts)
        for name in SIDES.values():
            check_finite(name, squared_norms(getattr(features, name)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{path}: these features cannot be evaluated: {what}; save them again") from error
    return features


OTHER_KINDS = {
    ".mat": "a file of MATLAB",
    ".npz": "a file of NumPy arrays",
    ".npy": "a NumPy array",
    ".pkl": "a pickle",
    ".pt": "a file of torch.save",
    ".pth": "a file of torch.save",
    ".csv": "a table",
    ".parquet": "a table",
    ".h5": "an HDF5 file",
    ".json": "a JSON file",
}  # what others keep features in


def read_facts(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a feature file without reading its arrays: dataset, protocol, camera_names, about.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, or another kind of file.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"--features: {path} does not exist; vitreid test --save-features makes such a file")
    if kind := OTHER_KINDS.get(Path(path).suffix.lower()):
        raise UserError(
            f"--features: {path} is {kind}, not a file of vitreid test --save-features; evaluate its arrays in Python: "
            "vitreid.evaluation.evaluate_retrieval(query, gallery, q_pids, g_pids, q_camids, g_camids)"
        )
    with open_safetensors(path, remedy="save it again with --save-features") as file:
        facts, is_model = read_fact(file, FORMAT, path), SPEC in (file.metadata() or {})
    if facts is None:
        hint = "it is a model: give it as --weights" if is_model else "vitreid test --save-features makes one"
        raise UserError(f"--features: {path} is not a file of features; {hint}")
    if not isinstance(facts, dict) or not isinstance(facts.get("about"), dict):
        raise UserError(f"--features: the description in {path} is damaged; save it again with --save-features")
    return facts


def _features_of(tensors: dict[str, Tensor], facts: dict[str, Any]) -> FeatureSet:
    """Return the features after checking their labels."""
    values: dict[str, Any] = {name: as_features(name, tensors[name]) for name in SIDES.values()}
    for side, name in SIDES.items():
        count = len(values[name])
        for labels in (f"{side}_pids", f"{side}_camids"):
            values[labels] = as_labels(labels, tensors[labels], count, name)
        if f"{side}_files" in tensors:
            values[f"{side}_files"] = as_labels(f"{side}_files", tensors[f"{side}_files"], count, name)
        names = parse_json(tensors[f"{side}_names"].numpy().tobytes(), f"{side}_names")
        values[f"{side}_names"] = [str(name) for name in names]
        camids = values[f"{side}_camids"]
        if camids.min() < 0 or camids.max() >= len(facts["camera_names"]):
            raise UserError(f"{side}_camids: 0 to {len(facts['camera_names']) - 1} expected, got {camids.max()}")
    names = {int(pid): str(name) for pid, name in facts.get("person_names", {}).items()}
    values |= {"settings": _settings_of(facts), "extra": _extra_of(tensors, values), "person_names": names}
    kept = {key: facts[key] for key in facts.keys() & {"dataset", "protocol", "about"}}
    return FeatureSet(**values, **kept, camera_names=tuple(facts["camera_names"]))


def _settings_of(facts: dict[str, Any]) -> tuple[Setting, ...]:
    if draws := facts.get("gallery_draws"):  # VehicleID in a file of an earlier version
        return (Setting("", facts["protocol"], draw=PER_PERSON, repeats=int(draws)),)
    return tuple(Setting.from_dict(values) for values in facts.get("settings", ()))


def _extra_of(tensors: dict[str, Tensor], values: dict[str, Any]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    names = [name.partition(LABEL)[2] for name in tensors if name.startswith(f"q_{LABEL}")]
    return {
        name: tuple(  # type: ignore[misc]  # two of them
            as_labels(f"{side}_{name}", tensors[f"{side}_{LABEL}{name}"], len(values[part]), part)
            for side, part in SIDES.items()
        )
        for name in names
    }


def _as_bytes(names: list[str]) -> Tensor:
    """Return the names as a tensor of bytes: half a million would not fit into the metadata."""
    return torch.frombuffer(bytearray(json.dumps(names), "ascii"), dtype=torch.uint8)
