"""Ctrl-C and SIGTERM (pre-emptible machines, schedulers, torchrun): finish the step, save, leave."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME = 2.0  # seconds


class Stopped(KeyboardInterrupt):
    """Training was stopped by a signal, and all that was done is saved.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def status(self) -> int:
        """The exit status, 128 + signal as a shell has it: 130 or 143.

        Not 0: `train && test` in a job script must not go on with half a model, and torchrun must not take the run for
        finished.
        """
        return 128 + self.number


class StopSignals:
    """While active, the first signal only sets a flag; a later one stops at once, as without this.

    Signals within 2 seconds of the first are the same wish: torchrun passes a Ctrl-C on to processes that the terminal has
    already told. Outside the main thread, where Python cannot handle signals, nothing is changed.
    """

    def __init__(self) -> None:
        self.number = 0
        self._since = 0.0
        self._raises = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number and now - self._since > SAME:
            signal.signal(number, self._before[number])  # type: ignore[arg-type]
            signal.raise_signal(number)
        elif not self.number:
            self.number, self._since = number, now
            if self._raises:
                raise Stopped(number)

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.number != 0

    def stop(self) -> Stopped:
        """Return the exception to raise once everything is saved."""
        return Stopped(self.number or signal.SIGTERM)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within this context a signal raises Stopped where it finds the program: for work that can be done again."""
        if self.asked:
            raise self.stop()
        self._raises = True
        try:
            yield
        finally:
            self._raises = False
