"""Path and options -> a model of another runtime, its metadata, and where its threshold is kept."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ....common.errors import UserError, choose
from ..extract import EmbedSettings
from .description import accept, describe
from .foreign_model import ForeignModel
from .runtimes import RUNTIMES, runtime_of
from .sidecar import THRESHOLDS, read_sidecar, sidecar_of, write_sidecar

logger = logging.getLogger(__name__)
JSON = "json"  # key of the options: another place of the JSON file
OPTIONS = "the options"  # what a user gives with a command or a call, in messages
PROGRAM = "torchscript"  # the runtime of files that are programs
HARMLESS = ("runtime", "batch", "name")  # values that change an embedding by rounding at most


class ForeignFile(NamedTuple):
    """An opened model file: the model, metadata as in a checkpoint, and its JSON file."""

    model: ForeignModel
    about: dict[str, Any]
    sidecar: Path

    def store(self, entries: Mapping[str, Any]) -> Path:
        """Write thresholds, with those at hand and the description that they hold for, into the JSON file; return its path."""
        thresholds = {key: self.about.get(key) for key in THRESHOLDS}
        known = {key: value for key, value in {**thresholds, **entries}.items() if value}
        write_sidecar(self.sidecar, {**self.model.description.to_dict(), **known})
        return self.sidecar


def open_foreign(path: Path, options: Mapping[str, Any] | None = None) -> ForeignFile:
    """Open a model file; say in the log what it expects and where that was read.

    Args:
        options: values of a `Description`, and `json`, the place of its JSON file; they override the JSON file.
    Raises:
        FileNotFoundError, MissingPackageError: the JSON file or the runtime is missing.
        UserError: the file, or what is said about it, is wrong or incomplete; says what was found.
    """
    options = dict(options or {})
    chosen = options.pop(JSON, None)
    sidecar = Path(chosen) if chosen else sidecar_of(path)
    written = read_sidecar(sidecar, required=chosen is not None)
    thresholds = {key: written.pop(key, None) for key in THRESHOLDS}
    given = {str(sidecar): accept(written, str(sidecar)), OPTIONS: accept(options, OPTIONS)}
    file = RUNTIMES[_runtime(path, given)].open(path, 0)
    file.check()
    description, sentence = describe(file, given, sidecar)
    model = ForeignModel(file, description)
    batch = f"batches of {model.batch}" if model.batch else "batches of any size"
    logger.info("%s in %s: %s; %s -> %d numbers per image", path, file.runtime, sentence, batch, model.dim)
    if any(thresholds.values()) and (changed := _changed(given[str(sidecar)], given[OPTIONS])):
        logger.warning("the threshold in %s is left aside: it holds for another %s", sidecar, " and ".join(changed))
        thresholds = {}
    noted = {key: thresholds.get(key) or file.notes.get(key) for key in THRESHOLDS}
    return ForeignFile(model, {**_about(model), **noted}, sidecar)


def _changed(written: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """Return the options that change the embeddings which the JSON file describes."""
    return [key for key, value in options.items() if key not in HARMLESS and written.get(key) != value]


def _runtime(path: Path, given: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the name of the runtime: the last one given, or the usual one of the file."""
    names = [values["runtime"] for values in given.values() if values.get("runtime")]
    if not names or names[-1] == PROGRAM:
        return _trusted(path, given[OPTIONS])
    runtime = choose("--embedder-runtime", names[-1], RUNTIMES)
    if path.suffix not in runtime.suffixes:
        raise UserError(
            f"--embedder-runtime: {names[-1]} opens {' and '.join(runtime.suffixes)}, not {path}; leave it out"
        )
    return names[-1]


def _trusted(path: Path, options: Mapping[str, Any]) -> str:
    """Return the usual runtime of a file; raise UserError for a program, unless the user asked to run it.

    The operators of TorchScript include torch.from_file, which writes any file. A JSON file next to the program may be of the
    same stranger, so it does not count.
    """
    if (runtime := runtime_of(path)) == PROGRAM and options.get("runtime") != PROGRAM:
        raise UserError(
            f"{path} is a TorchScript archive, a program that can read and write files here; if you trust who made it, add "
            f"--embedder-runtime {PROGRAM} (in Python options={{'runtime': '{PROGRAM}'}}), else ask for an ONNX file"
        )
    return runtime


def _about(model: ForeignModel) -> dict[str, Any]:
    """Return the metadata that a checkpoint has too."""
    description = model.description
    settings = model.settle(EmbedSettings(normalize=description.normalize, flip=description.flip))
    test = {"NECK_FEAT": settings.neck, "FEAT_NORM": settings.normalize, "FLIP": settings.flip}
    return {
        "config": yaml.safe_dump({"TEST": {**test, "GLOBAL_ONLY": settings.global_only}}),
        "preprocess": description.preprocess.to_dict(),
        "embed": settings.to_dict(),
    }
