"""What runs a model: torch, ONNX Runtime or OpenVINO; "auto" measures and takes the fastest that agrees.

Nothing is stored: a measurement is true of one machine and its load, and the folder of a run may be shared or read-only. A checkpoint is
exported to a temporary folder, unless a file that `vitreid export-model --preprocess` wrote next to it, under the same name, is of
the same fingerprint and computes in float32.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ...common.errors import MissingPackageError, UserError
from ...common.machine.turns import in_turns
from ...datasets import Preprocess
from ...datasets.loading.decode import resize
from ..device import pick_device, pick_precision, place, with_cast_weights
from .drawn_crops import synthetic_crops
from .extract import EmbedSettings, embed_images
from .foreign.open_foreign import open_foreign
from .weight_files import Weights

logger = logging.getLogger(__name__)

PACKAGES = {  # backend -> packages that run a file, further ones that write it
    "torch": ((), ()),
    "onnx": (("onnxruntime",), ("onnx", "onnxscript")),
    "openvino": (("openvino",), ("onnx", "onnxscript")),
}
BACKENDS = ("auto", *PACKAGES)
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
AGREES = 0.999  # least cosine between the embeddings of a crop by two backends
PROBED = 8  # crops of the measurement
SECONDS, FEWEST, MOST = 0.5, 3, 20  # time and number of timed batches of each backend
Read = Callable[[Path, Mapping[str, Any] | None], Weights]


class Opened(NamedTuple):
    """A model, its backend, and a sentence that says why it was taken, "" if nothing was asked."""

    weights: Weights
    backend: str
    why: str = ""


def open_backend(
    path: Path,
    options: Mapping[str, Any] | None,
    read: Read,
    backend: str | None,
    device: str = "auto",
    precision: str = "auto",
) -> Opened:
    """Open a model file in a backend.

    Args:
        read: opens the file as it is.
        backend: one of `BACKENDS`; None = the file as it is.
        device, precision: as for `Embedder`; ONNX Runtime and OpenVINO compute on the CPU.
    Raises:
        UserError: no such backend, or not possible for this file; says what is.
        MissingPackageError: a package of the backend is missing.
    """
    if backend not in (None, *BACKENDS):
        raise UserError(f"backend: unknown value {backend!r}; choose from {', '.join(BACKENDS)}")
    own = read(path, options)
    possible = _possible(path, own)
    if backend is None:
        return Opened(own, possible[0])
    if backend != "auto":
        return Opened(_opened(path, options, read, own, backend), backend, "asked for")
    if possible[0] == "torch" and (only := _only_in_torch(device, precision)):
        return Opened(own, "torch", f"torch: the only one that computes {only}")
    opened = _fastest(path, options, read, own, precision)
    logger.info("backend %s", opened.why)
    return opened


def _only_in_torch(device: str, precision: str) -> str:
    """Return what is asked for, or found, that exported files do not do; "" = nothing."""
    if device in ("cuda", "mps") or (device == "auto" and pick_device().type != "cpu"):
        return "on a GPU"
    return f"in {precision}" if precision in ("bf16", "fp16") else ""


def _possible(path: Path, own: Weights) -> list[str]:
    """Return the backends of a file, the usual one first."""
    if own.model.network is not None:
        return ["torch"] if own.model.views else ["torch", "onnx", "openvino"]
    if path.suffix == ".onnx":
        usual = own.model.file.runtime  # type: ignore[attr-defined]  # a ForeignModel
        return sorted(RUNTIMES, key=lambda name: RUNTIMES[name] != usual)
    return ["openvino"] if path.suffix == ".xml" else ["torch"]


def _opened(path: Path, options: Mapping[str, Any] | None, read: Read, own: Weights, backend: str) -> Weights:
    """Return the model in a backend."""
    possible = _possible(path, own)
    if backend not in possible:
        why = " since viewpoints are no input of an exported file" * bool(own.model.network and own.model.views)
        raise UserError(f"backend: {path} cannot be run by {backend}{why}; choose from {', '.join(possible)}, or auto")
    if backend == possible[0]:
        return own
    running, writing = PACKAGES[backend]
    sibling = _sibling(path, own, backend)
    needed = running if sibling or own.model.network is None else (*running, *writing)
    if lacking := [name for name in needed if find_spec(name) is None]:
        raise MissingPackageError(f'backend: {backend} needs {lacking[0]}: pip install "vitreid[{backend}]"')
    if own.model.network is None:
        return read(path, {**(options or {}), "runtime": RUNTIMES[backend]})
    return _with_model(own, sibling) if sibling else _exported(path, own, backend)


def _sibling(path: Path, own: Weights, backend: str) -> Path | None:
    """Return the file that was exported from the checkpoint under its name, if it is still of the same fingerprint."""
    found = path.with_suffix(SUFFIXES[backend])
    if own.model.network is None or not found.is_file() or find_spec(PACKAGES[backend][0][0]) is None:
        return None
    try:
        notes = open_foreign(found).model.file.notes
    except UserError:
        return None
    settings = EmbedSettings(**own.about["embed"]).to_dict()
    expected = own.model.fingerprint(Preprocess.from_dict(own.about["preprocess"]).to_dict(), settings)
    is_exact = not (notes.get("half") or notes.get("int8"))  # these have the fingerprint of the checkpoint, too
    takes_cameras = "cameras" in notes.get("input", {})
    is_same = notes.get("fingerprint") == expected and takes_cameras == bool(own.model.cameras)
    return found if is_same and is_exact else None


def _exported(path: Path, own: Weights, backend: str) -> Weights:
    """Return the checkpoint exported and compared; the file is deleted once its runtime has read it."""
    deploy = import_module("vitreid.deploy")  # a higher room, imported when it is called
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        target = Path(folder, f"model{SUFFIXES[backend]}")
        cameras = bool(own.model.cameras)
        deploy.export_model(
            deploy.ExportRequest(str(path), str(target), input="pixels", camera_input=cameras, num_crops=16, rounds=0)
        )
        return _with_model(own, target)


def _with_model(own: Weights, file: Path) -> Weights:
    """Return the model of an exported file with what the checkpoint knows more, such as thresholds."""
    found = open_foreign(file)
    changed = {key: found.about[key] for key in ("preprocess", "embed")}
    return replace(own, model=found.model, about={**own.about, **changed})


# --- the measurement ---------------------------------------------------------------------------------------------------


def _fastest(path: Path, options: Mapping[str, Any] | None, read: Read, own: Weights, precision: str) -> Opened:
    """Return the fastest backend whose embeddings agree with those of the usual one."""
    possible, left_out, candidates = _possible(path, own), [], {}
    for name in possible:
        try:
            candidates[name] = _opened(path, options, read, own, name)
        except (MissingPackageError, UserError) as error:
            left_out.append(f"{name} left out ({error})")
    calls = {name: _probe(weights, precision) for name, weights in candidates.items()}
    usual = possible[0]
    expected = calls[usual]()
    cosines = {name: _least_cosine(expected, call()) for name, call in calls.items()}
    differing = {name for name, value in cosines.items() if not value >= AGREES}
    left_out += [f"{name} left out (cosine {cosines[name]:.4f}, {AGREES} is needed)" for name in sorted(differing)]
    agreeing = {name: call for name, call in calls.items() if name not in differing}
    times = in_turns(agreeing, FEWEST, MOST, SECONDS)
    speeds = {name: PROBED / float(np.median(found)) for name, found in times.items()}
    best = max(speeds, key=lambda name: speeds[name])
    figures = ", ".join(f"{name} {speed:.1f} images/s (cosine {cosines[name]:.5f})" for name, speed in speeds.items())
    return Opened(candidates[best], best, "; ".join([f"{best}, the fastest of {figures}", *left_out]))


def _probe(weights: Weights, precision: str) -> Callable[[], np.ndarray]:
    """Return a function that embeds the drawn crops, from pixels at the model's size."""
    device = torch.device("cpu")
    dtype = pick_precision(precision, device, weights.model.precisions, "precision")
    preprocess, settings = Preprocess.from_dict(weights.about["preprocess"]), EmbedSettings(**weights.about["embed"])
    model = with_cast_weights(place(weights.model, device, dtype).eval(), device, dtype)
    crops = [resize(crop, preprocess.size, preprocess.interpolation) for crop in synthetic_crops(PROBED, 0)]
    planes = torch.from_numpy(np.stack([crop.transpose(2, 0, 1) for crop in crops]))
    unknown = torch.full((PROBED,), -1)

    @torch.inference_mode()
    def run() -> np.ndarray:
        images = preprocess.normalise(planes)
        return embed_images(model, images, unknown, unknown, settings, device, dtype).numpy()

    return run


def _least_cosine(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the least cosine between the rows of two arrays; NaN if a value is not finite."""
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    return float(((expected * found).sum(1) / lengths).min())
