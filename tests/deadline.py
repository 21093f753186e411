"""A deadline for calls that may hang, in the main thread."""

import signal
from contextlib import contextmanager


@contextmanager
def at_once(seconds=20):
    """Raise AssertionError in what takes longer."""

    def stop(*_):
        raise AssertionError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
