"""Marks text as written by this user on this machine, so that a stranger's file cannot pass for an own one.

The mark is an HMAC-SHA256 (RFC 2104) under a random key, which lies in the user's folder for program state and never leaves it.
"""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from .inputs.regular_files import read_bytes

KEY_BYTES = 32


def sign(text: str) -> str:
    """Return the mark of the text, "" if the user has no folder in which a key can be kept; the first call makes the key."""
    with suppress(OSError, ValueError, RuntimeError):  # RuntimeError: the user has no home
        return _mark(text, _key() or _new_key())
    return ""


def is_own(text: str, mark: object) -> bool:
    """Return whether `sign` made this mark of the text, for this user."""
    with suppress(OSError, ValueError, RuntimeError):
        key = _key()
        return bool(key) and isinstance(mark, str) and hmac.compare_digest(_mark(text, key).encode(), mark.encode())
    return False


def _mark(text: str, key: bytes) -> str:
    return hmac.new(key, text.encode("utf-8", "surrogateescape"), "sha256").hexdigest()


def _file() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".local" / "state"
    return Path(base) / "vitreid" / "key"


def _key() -> bytes:
    """Return the key; empty if there is none."""
    try:
        key = read_bytes(_file(), KEY_BYTES)
    except FileNotFoundError:
        return b""
    return key if len(key) == KEY_BYTES else b""


def _new_key() -> bytes:
    file = _file()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    started = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(started, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, secrets.token_bytes(KEY_BYTES))
        finally:
            os.close(handle)
        with suppress(FileExistsError):  # another process was quicker
            os.link(started, file)
    finally:
        started.unlink(missing_ok=True)
    return read_bytes(file, KEY_BYTES)
