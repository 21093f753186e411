"""Atomic writes, the check of an output before the work, and the fingerprint of bytes."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryFile

from safetensors import SafetensorError

from .errors import UserError
from .inputs.regular_files import open_own


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary path)`, then rename the result to `path`.

    A process killed while writing leaves `path` unchanged. A link in the place of either path is replaced, not followed.

    Raises:
        OSError: the disk is full or the folder not writable; names the file, which is unchanged.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")  # one name: a later write replaces the file of a killed process
    try:
        temporary.unlink(missing_ok=True)  # a link of that name, in a stranger's folder, would lead the write elsewhere
        write(temporary)
        sync(temporary)
        temporary.chmod(0o666 & ~_umask())  # safetensors makes files that only the owner can read
        os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch.save reports a full disk as a RuntimeError
        raise OSError(f"cannot write {path}: {error}; {_remedy(error)}. Any earlier {path.name} is intact") from error
    finally:
        temporary.unlink(missing_ok=True)


def _remedy(error: Exception) -> str:
    """Return what helps against a failed write."""
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "you may not write there: choose another place"
    if number in (errno.ENOENT, errno.ENOTDIR):
        return "its folder does not exist: make it, or choose another place"
    return "free some space, or choose another place"


def sync(path: Path) -> None:
    """Wait until the content of a file has reached the disk."""
    handle = open_own(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text_atomically(path: str | Path, text: str) -> None:
    """Write `text` to `path`, atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def append_text(path: str | Path, text: str) -> None:
    """Write `text` behind the content of a file, which is made if it does not exist; not through a link of its name."""
    handle = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with os.fdopen(handle, "a", encoding="utf-8") as file:
        file.write(text)


def check_output_file(option: str, path: str | Path, overwrite: bool = True) -> Path:
    """Return the path if a file can be written there; called before the work.

    Args:
        option: option that names the file, for the message.
        overwrite: whether an existing file may be replaced.
    Raises:
        FileNotFoundError: the folder of the file does not exist.
        UserError: the path is a folder.
        FileExistsError: the file exists and `overwrite` is false.
        PermissionError: nothing can be written into the folder.
    """
    path = Path(path).expanduser()
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{option}: the folder {folder} does not exist; make it first")
    if path.is_dir():
        raise UserError(f"{option}: {path} is a folder; give the name of a file in it")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{option}: {path} exists; choose another name, or add --overwrite")
    _try_to_write(option, path)
    return path


def _try_to_write(option: str, path: Path) -> None:
    """Make a file without a name next to an output, which vanishes: rights alone do not say whether it can be written."""
    try:
        with TemporaryFile(dir=path.absolute().parent):
            pass
    except OSError as error:
        raise PermissionError(f"{option}: cannot write {path}: {error.strerror}; {_remedy(error)}") from error


def digest(parts: Iterable[bytes | memoryview]) -> str:
    """Return "sha256:…" of the bytes of all parts, one after the other."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return f"sha256:{found.hexdigest()}"


def _umask() -> int:
    """Return the process' file mode mask; the system returns it only from a call that sets it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
