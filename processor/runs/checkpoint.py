"""last.pth: everything that an exact resume of a run needs; the random states and the metadata in it."""

from __future__ import annotations

import logging
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
from yacs.config import CfgNode

from ... import __version__
from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.inputs.regular_files import open_regular
from ...common.text import first_line
from ...configs import marked_config
from ...datasets import ReidData, build_preprocess
from ...model import ReidModel
from ...model.stored_model import build_stored
from ...model.weights.deployed import fill
from ...model.weights.safe_unpickle import check_torch_file, load_tensors
from ..embedding.extract import build_embed_settings

logger = logging.getLogger(__name__)
FORMAT = "vitreid-last-1"
NOT_A_CHECKPOINT = (
    "is not a last.pth of vitreid; to start from other weights set MODEL.PRETRAIN_CHOICE self and MODEL.PRETRAIN_PATH"
)


class NotACheckpointError(UserError):
    """A sound file, but no last.pth of vitreid."""


class DamagedCheckpointError(UserError):
    """A file that is cut short or has wrong bytes."""


def save_last(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` (tensors and plain types only) atomically; its own "format" wins."""
    write_atomically(path, lambda temporary: torch.save({"format": FORMAT, **state}, temporary))


def load_last(path: str | Path, format: str = FORMAT) -> dict[str, Any]:
    """Return the state in a last.pth, on the CPU; nothing in the file is executed (`weights_only`).

    Args:
        format: that of a training, or of a pre-training.
    Raises:
        FileNotFoundError: no such file.
        DamagedCheckpointError: the file is cut short, or its bytes have changed.
        NotACheckpointError: the file is no last.pth.
        UserError: it is refused, see `check_torch_file`.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"--resume: {path} does not exist; leave out --resume to start anew")
    try:
        check_torch_file(path)
        _check_sums(path)
        state = load_tensors(path)
    except pickle.UnpicklingError as error:  # objects other than tensors and plain types
        raise NotACheckpointError(f"{path} {NOT_A_CHECKPOINT} ({first_line(error)[:200]})") from error
    except (MemoryError, UserError):
        raise
    except Exception as error:  # a damaged or foreign file can raise any kind inside the unpickler
        if "can't allocate memory" in str(error):  # how torch reports too little memory for a sound file
            raise
        others = ", ".join(str(other) for other in rotated(path.parent) if other != path)
        raise DamagedCheckpointError(
            f"{path} is damaged or not a checkpoint ({first_line(error)[:200]}); resume from another file "
            f"({others or 'last_epoch_*.pth of SOLVER.KEEP_LAST'}) or start anew"
        ) from error
    if not isinstance(state, dict) or state.get("format") != format:
        raise NotACheckpointError(f"{path} {NOT_A_CHECKPOINT}")
    return state


def restored_model(state: Mapping[str, Any], path: Path) -> ReidModel:
    """Return the model in the state of a last.pth, with averaged weights if it has such.

    Raises:
        NotACheckpointError: the state lacks something, or does not fit the model that it describes.
    """
    try:
        module, averaged = state["trainer"]["module"], state["trainer"]["ema"]
        trained = {name.removeprefix("model."): value for name, value in module.items() if name.startswith("model.")}
        tensors, about = averaged["model"] if averaged else trained, state["about"]
    except (KeyError, TypeError, AttributeError) as error:
        raise NotACheckpointError(f"{path} {NOT_A_CHECKPOINT} (it lacks {error})") from error
    if not isinstance(about, Mapping) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise NotACheckpointError(f"{path} {NOT_A_CHECKPOINT} (its parts have other types)")
    model = build_stored(state.get("spec"), path)
    fill(model, tensors, path)
    return model


def _check_sums(path: Path) -> None:
    """Raise BadZipFile if the bytes of a part have changed since the write; torch itself does not compare the sums."""
    with open_regular(path) as file:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            bad = archive.testzip()
    if bad is not None:
        raise zipfile.BadZipFile(f"{bad} has changed since it was written")


def rotated(folder: Path) -> list[Path]:
    """Return the folder's checkpoints of single epochs, newest first."""
    return sorted(folder.glob("last_epoch_*.pth"), key=lambda path: (len(path.name), path.name), reverse=True)


def rotate(last: Path, epoch: int, keep: int) -> None:
    """Keep `last` as the checkpoint of `epoch`, and the `keep` newest checkpoints of epochs in all; 0, 1 = only `last`.

    If the file system has hard links, the newest takes no space. Checkpoints of later epochs come from before the run was
    resumed at an earlier epoch; they are deleted.
    """
    if keep > 1:
        name = last.with_name(f"last_epoch_{epoch:03d}.pth")
        name.unlink(missing_ok=True)
        try:
            os.link(last, name)
        except OSError:
            write_atomically(name, lambda temporary: shutil.copyfile(last, temporary))
    earlier = [path for path in rotated(last.parent) if int(path.stem.rpartition("_")[2]) <= epoch]
    kept = earlier[:keep] if keep > 1 else []
    for path in rotated(last.parent):
        if path not in kept:
            path.unlink()


def load_newest(last: Path, format: str = FORMAT) -> dict[str, Any]:
    """Return the state in `last`; if it is damaged or lost, with a warning, that in the newest sound checkpoint of an epoch.

    Raises:
        DamagedCheckpointError, FileNotFoundError: no checkpoint is sound.
    """
    try:
        return load_last(last, format)
    except (DamagedCheckpointError, FileNotFoundError) as error:
        for path in rotated(last.parent):
            try:
                state = load_last(path, format)
            except DamagedCheckpointError:
                continue
            logger.warning("%s does not load (%s); going on from %s instead", last, error, path)
            return state
        raise


def describe_model(
    cfg: CfgNode,
    data: ReidData,
    labels: dict[int, int],
    metrics: dict[str, float],
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the metadata of a checkpoint, in plain types; `provenance` see `build_provenance`."""
    versions = {"vitreid": __version__, "torch": str(torch.__version__), "timm": timm.__version__}
    return {
        "config": marked_config(cfg),
        "preprocess": build_preprocess(cfg).to_dict(),
        "embed": build_embed_settings(cfg).to_dict(),
        "dataset": data.name,
        "evaluated": data.evaluated,
        "labels": {str(pid): label for pid, label in labels.items()},
        "people": {str(pid): name for pid, name in data.person_names.items() if pid in labels},
        "metrics": metrics,
        "versions": versions,
        "provenance": dict(provenance or {}),
    }


def random_state() -> dict[str, Any]:
    """Return the state of the global random generators, as tensors and plain types."""
    kind, keys, *rest = cast(tuple, np.random.get_state())  # noqa: NPY002 - other libraries use the global generator
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Restore the random generators from `state`."""
    torch.set_rng_state(state["torch"])
    if "numpy" in state:  # missing in checkpoints of older versions
        kind, keys, *rest = state["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
        random.setstate(state["python"])
    if torch.backends.mps.is_available() and "mps" in state:  # missing in checkpoints of older versions
        torch.mps.set_rng_state(state["mps"])
    if not torch.cuda.is_available():
        return
    if len(state.get("cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    else:
        saved = len(state.get("cuda", ()))
        logger.info("saved with %d GPUs, now there are others: dropout and stochastic depth draw anew", saved)


def seed_everything(seed: int) -> None:
    """Seed every global random generator."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - other libraries use the global generator
    torch.manual_seed(seed)
