"""Errors that a user can mend: their message names the key or file, what was found, what is accepted and the next step."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in what the user gave: an option, a file, an argument. The commands print its message without a traceback.

    Any other ValueError is a defect of vitreid or of a library and keeps its traceback.
    """


class MissingPackageError(ModuleNotFoundError):
    """An optional package is not installed; the message has the command that installs it."""
