"""Ctrl-C and SIGTERM (pre-emptible machines, schedulers, torchrun): finish the step, save, exit."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ECHO = 2.0  # seconds within which signals count as one


class Stopped(KeyboardInterrupt):
    """The signal `number` stopped training; all finished steps are saved."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    def __reduce__(self) -> tuple[type[Stopped], tuple[int]]:
        """Return how another process makes this exception anew."""
        return type(self), (self.number,)

    @property
    def status(self) -> int:
        """The exit status, 128 + signal as in a shell: 130 or 143.

        With 0, `train && test` in a job script would continue with half a model, and torchrun would take the run for finished.
        """
        return 128 + self.number


class StopSignals:
    """Context in which the first signal only sets a flag; a later one stops the process at once.

    Signals within 2 seconds of the first count as one: at a Ctrl-C the terminal and torchrun both send a signal. Outside the
    main thread, where Python cannot handle signals, the context changes nothing.
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
        if self.number and now - self._since > ECHO:
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
        """Return the exception to raise after everything is saved."""
        return Stopped(self.number or signal.SIGTERM)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Return a context in which a signal raises Stopped at once; for work that can be repeated."""
        if self.asked:
            raise self.stop()
        self._raises = True
        try:
            yield
        finally:
            self._raises = False
