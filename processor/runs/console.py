"""The package's log on the terminal."""

from __future__ import annotations

import logging
import os
import sys

import tqdm

from .run_folder import LOGGER


class _ProgressBarHandler(logging.StreamHandler):
    """Prints above a running progress bar instead of through it; warnings to stderr, so that a tool's JSON stays whole."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.tqdm.write(self.format(record), file=sys.stderr if record.levelno >= logging.WARNING else sys.stdout)


def log_to_console() -> None:
    """Send the package's log to the terminal; called once by the command-line tools. Of several processes the first logs."""
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    if os.environ.get("RANK", "0") != "0":
        LOGGER.addHandler(logging.NullHandler())  # without any handler Python would print warnings
        return
    if not any(isinstance(handler, _ProgressBarHandler) for handler in LOGGER.handlers):
        handler = _ProgressBarHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        LOGGER.addHandler(handler)
