"""The runtimes that open a model file: ONNX Runtime, OpenVINO, TorchScript.

To add one: write the function that opens a file, and add a line to `RUNTIMES`.
"""

from __future__ import annotations

import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ....common.errors import MissingPackageError, UserError
from ....common.inputs.regular_files import check_regular, open_regular
from ....common.text import first_line, parse_json
from .model_file import ModelFile, Port

logger = logging.getLogger(__name__)
NOTES = "vitreid"  # name of our metadata in a file: prefix of ONNX entries, key of OpenVINO's rt_info, vitreid.json
RGB_TRAINED = ("onnx", "pytorch", "paddle")  # frameworks of OpenVINO's conversion whose models are trained on RGB


class Runtime(NamedTuple):
    """One runtime.

    Args:
        suffixes: of the files that it opens, the usual one first.
        open: path, number of threads (0 = torch's) -> the opened file.
        extra: vitreid's extra that installs it, "" = nothing is needed.
    """

    suffixes: tuple[str, ...]
    open: Callable[[Path, int], ModelFile]
    extra: str = ""


def open_onnx(path: Path, threads: int = 0) -> ModelFile:
    """Open a file in ONNX Runtime, on the CPU."""
    with importing(path, "onnx"):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads or torch.get_num_threads(), 3
    with opening(path, "onnxruntime"):
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]

    def run(*tensors: Tensor) -> list[Tensor]:
        arrays = (tensor.cpu().numpy() for tensor in tensors)
        return [torch.from_numpy(array) for array in session.run(None, dict(zip(names, arrays, strict=True)))]

    def ports(items: Any) -> tuple[Port, ...]:
        return tuple(Port(item.name, _sizes(item.shape), _onnx_type(item.type)) for item in items)

    inputs, outputs = ports(session.get_inputs()), ports(session.get_outputs())
    entries = session.get_modelmeta().custom_metadata_map
    return ModelFile(path, "onnxruntime", inputs, outputs, run, _without_prefix(entries))


def _sizes(shape: Any) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in shape)


def _onnx_type(name: str) -> str:
    """Return NumPy's name of a type.

    >>> _onnx_type("tensor(float)"), _onnx_type("tensor(uint8)")
    ('float32', 'uint8')
    """
    inner = name.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(inner, inner)


def _without_prefix(entries: dict[str, str]) -> dict[str, Any]:
    ours = {key: text for key, text in entries.items() if key.startswith(f"{NOTES}.")}
    return {key.removeprefix(f"{NOTES}."): parse_json(text, key) for key, text in ours.items()}


_cores: list[Any] = []


def openvino_core() -> Any:
    """Return the process' only Core, which is never freed.

    On processors with AMX OpenVINO gives the main thread a stack for signal handlers and frees it with its Core; the next
    signal, such as Ctrl-C, would then end the process with a segmentation fault.
    """
    import openvino

    if not _cores:
        _cores.append(openvino.Core())
    return _cores[0]


def open_openvino(path: Path, threads: int = 0) -> ModelFile:
    """Open an .xml with its .bin, or an .onnx, in OpenVINO, on the CPU in float32: its default on many processors is bfloat16."""
    with importing(path, "openvino"):
        core = openvino_core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads or torch.get_num_threads()}
    with opening(path, "openvino"):
        model = core.read_model(str(path))
        compiled = core.compile_model(model, "CPU", settings)

    def run(*tensors: Tensor) -> list[Tensor]:
        results = compiled([tensor.cpu().numpy() for tensor in tensors])
        return [torch.from_numpy(results[port].copy()) for port in compiled.outputs]  # the next call reuses its memory

    def ports(items: Any) -> tuple[Port, ...]:
        return tuple(Port(_name_of(item), _openvino_sizes(item), item.element_type.to_dtype().name) for item in items)

    notes, hints = _openvino_notes(model, path), conversion_hints(model)
    return ModelFile(path, "openvino", ports(model.inputs), ports(model.outputs), run, notes, hints)


def _name_of(port: Any) -> str:
    return min(port.get_names(), default=port.get_node().get_friendly_name())


def _openvino_sizes(port: Any) -> tuple[int | None, ...] | None:
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return None
    return tuple(None if size.is_dynamic else size.get_length() for size in shape)


def _openvino_notes(model: Any, path: Path) -> dict[str, Any]:
    if path.suffix == ".onnx":
        return _onnx_notes(path)
    if not model.has_rt_info([NOTES]):
        return {}
    entries = model.get_rt_info([NOTES]).value
    return {key: parse_json(model.get_rt_info([NOTES, key]).astype(str), f"{path}: {key}") for key in entries}


def _onnx_notes(path: Path) -> dict[str, Any]:
    """Return our metadata in an ONNX file, which OpenVINO does not show; nothing where `onnx` is not installed."""
    try:
        import onnx
    except ImportError:
        return {}
    props = onnx.load(str(path), load_external_data=False).metadata_props
    return _without_prefix({entry.key: entry.value for entry in props})


def conversion_hints(model: Any) -> dict[str, Any]:
    """Return what the parameters of OpenVINO's model conversion say about the images.

    With mean or scale values the file normalises inside and takes pixels from 0 to 255. Reversed channels turn the RGB
    of most training frameworks into BGR.
    """

    def parameter(name: str) -> str:
        key = ["conversion_parameters", name]
        return model.get_rt_info(key).astype(str) if model.has_rt_info(key) else ""

    hints: dict[str, Any] = {}
    if parameter("mean_values") or parameter("scale_values"):
        hints |= {"scale": 255, "mean": (0, 0, 0), "std": (1, 1, 1)}
    if parameter("framework") in RGB_TRAINED and hints:
        hints["channels"] = "bgr" if parameter("reverse_input_channels").lower() == "true" else "rgb"
    return hints


def open_torchscript(path: Path, threads: int = 0) -> ModelFile:
    """Open a TorchScript archive; it runs with torch's number of threads. It is a program: open only files that you trust."""
    extra = {f"{NOTES}.json": ""}
    with opening(path, "torchscript"), quiet():
        module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra).eval()

    def run(*tensors: Tensor) -> list[Tensor]:
        with torch.inference_mode():
            found = module(*tensors)
        return [found] if isinstance(found, Tensor) else list(found)

    schema = module.forward.schema
    inputs = [Port(item.name, None, "") for item in schema.arguments[1:] if not item.has_default_value()]
    result = schema.returns[0].type
    count = len(result.elements()) if result.kind() == "TupleType" else 1
    outputs = tuple(Port(str(place), None, "") for place in range(count))
    notes = parse_json(extra[f"{NOTES}.json"] or "{}", f"{path}: its description")
    return ModelFile(path, "torchscript", tuple(inputs), outputs, run, notes, module=module)


def is_torchscript(path: Path) -> bool:
    """Return whether the file is a TorchScript archive: a zip archive with code and constants."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


@contextmanager
def importing(path: Path, extra: str) -> Iterator[None]:
    """Turn the ImportError of a missing runtime into one with the command that installs it."""
    try:
        yield
    except ImportError as error:
        raise MissingPackageError(f'{path} needs {error.name}: pip install "vitreid[{extra}]"') from error


@contextmanager
def opening(path: Path, runtime: str) -> Iterator[None]:
    """Turn the exception of a runtime that cannot open a file into a UserError; refuse what is no regular file."""
    check_regular(path)
    try:
        yield
    except (MemoryError, UserError):
        raise
    except Exception as error:  # each runtime raises other kinds
        raise UserError(
            f"{path} cannot be opened by {runtime} ({first_line(error)[:200]}); copy or export it again"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings: those of torch.jit are about future versions of torch, not about the model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime((".onnx",), open_onnx, "onnx"),
    "openvino": Runtime((".xml", ".onnx"), open_openvino, "openvino"),
    "torchscript": Runtime((".torchscript", ".pt", ".ts", ".pth"), open_torchscript),
}


def runtime_of(path: Path) -> str:
    """Return the usual runtime of a file, "" if it is no model of another runtime."""
    if path.suffix in (".onnx", ".xml"):
        return "onnxruntime" if path.suffix == ".onnx" else "openvino"
    return "torchscript" if path.suffix in RUNTIMES["torchscript"].suffixes and is_torchscript(path) else ""
