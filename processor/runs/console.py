"""The package's log on the terminal."""

from __future__ import annotations

import logging
import os
import sys

import tqdm

from .run_folder import LOGGER


class _ProgressBarHandler(logging.StreamHandler):
    """Prints above a running progress bar; warnings go to stderr, so that they do not mix with a tool's JSON."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.tqdm.write(self.format(record), file=sys.stderr if record.levelno >= logging.WARNING else sys.stdout)


def log_to_console() -> None:
    """Send the package's log to the terminal, on rank 0 only; called once by the command-line tools."""
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    if os.environ.get("RANK", "0") != "0":
        LOGGER.addHandler(logging.NullHandler())  # without any handler Python would print warnings
        return
    if not any(isinstance(handler, _ProgressBarHandler) for handler in LOGGER.handlers):
        handler = _ProgressBarHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        LOGGER.addHandler(handler)
