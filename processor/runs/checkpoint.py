"""last.pth: everything that an exact resume of a run needs."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.text import first_line

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
    """Write `state` (tensors and plain types only) atomically.

    Raises:
        OSError: it cannot be written; the earlier file is intact.
    """
    write_atomically(path, lambda temporary: torch.save({"format": FORMAT, **state}, temporary))


def load_last(path: str | Path) -> dict[str, Any]:
    """Return the state in a last.pth, on the CPU; nothing in the file is executed (`weights_only`).

    Raises:
        FileNotFoundError: no such file.
        DamagedCheckpointError: the file is cut short, or its bytes have changed.
        NotACheckpointError: the file is no last.pth.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"--resume: {path} does not exist; leave out --resume to start anew")
    try:
        _check_sums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # objects other than tensors and plain types
        raise NotACheckpointError(f"{path} {NOT_A_CHECKPOINT} ({first_line(error)[:200]})") from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged or foreign file can raise any kind inside the unpickler
        if "can't allocate memory" in str(error):  # how torch reports too little memory for a sound file
            raise
        raise DamagedCheckpointError(
            f"{path} is damaged or not a checkpoint ({first_line(error)[:200]}); {_alternatives(path)}or start anew"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise NotACheckpointError(f"{path} {NOT_A_CHECKPOINT}")
    return state


def _check_sums(path: Path) -> None:
    """Raise BadZipFile if the bytes of a part have changed since the write; torch itself does not compare the sums."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
        if bad is not None:
            raise zipfile.BadZipFile(f"{bad} has changed since it was written")


def _alternatives(path: Path) -> str:
    others = [str(other) for other in rotated(path.parent) if other != path]
    return f"resume from another file ({', '.join(others) or 'last_epoch_*.pth of SOLVER.KEEP_LAST'}) "


def rotated(folder: Path) -> list[Path]:
    """Return the folder's checkpoints of single epochs, newest first."""
    return sorted(folder.glob("last_epoch_*.pth"), key=lambda path: (len(path.name), path.name), reverse=True)


def rotate(last: Path, epoch: int, keep: int) -> None:
    """Keep `last` as the checkpoint of `epoch`, and the `keep` newest checkpoints of epochs in all; 0, 1 = only `last`.

    If the file system has hard links, the newest takes no space. Checkpoints of later epochs come from before the run was
    resumed at an earlier epoch; they are deleted.
    """
    if keep > 1:
        name = _epoch_file(last, epoch)
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


def _epoch_file(last: Path, epoch: int) -> Path:
    return last.with_name(f"last_epoch_{epoch:03d}.pth")


def load_newest(last: Path) -> dict[str, Any]:
    """Return the state in `last`; if it is damaged or lost, with a warning, that in the newest sound checkpoint of an epoch.

    Raises:
        DamagedCheckpointError, FileNotFoundError: no checkpoint is sound.
    """
    try:
        return load_last(last)
    except (DamagedCheckpointError, FileNotFoundError) as error:
        for path in rotated(last.parent):
            try:
                state = load_last(path)
            except DamagedCheckpointError:
                continue
            logger.warning("%s does not load (%s); going on from %s instead", last, error, path)
            return state
        raise
