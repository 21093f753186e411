"""A log that requests cannot fill: a limited number of messages per minute."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

MESSAGES, SECONDS = 20, 60.0
MOST_CHARACTERS = 4000  # of a message with its traceback
LOGGERS = ("", "vitreid", "uvicorn")  # "" also gets the messages of asyncio and of the libraries


class QuietHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes up to MESSAGES log messages per SECONDS to standard error, and says how many it left out.

    Args:
        clock: the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._clock, self._start, self._count = clock, clock(), 0
        self._counting = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the message, or count it."""
        with self._counting:
            num_left_out = self._renew()
            self._count += 1
            is_written = self._count <= MESSAGES
        if num_left_out:
            super().emit(
                logging.makeLogRecord({"levelname": "WARNING", "msg": f"{num_left_out} more messages left out"})
            )
        if is_written:
            super().emit(record)

    def _renew(self) -> int:
        """Start a new period if it is due; return the number of messages left out in the last one."""
        now = self._clock()
        if now - self._start < SECONDS:
            return 0
        num_left_out = max(0, self._count - MESSAGES)
        self._start, self._count = now, 0
        return num_left_out

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a message, of a long one its beginning and its end; a terminal takes no part as a command."""
        text = "".join(
            char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in super().format(record)
        )
        half = MOST_CHARACTERS // 2
        return text if len(text) <= MOST_CHARACTERS else f"{text[:half]}\n…\n{text[-half:]}"


def quiet_logging() -> None:
    """Send all log messages, warnings and worse, to one QuietHandler."""
    handler = QuietHandler()
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING)
