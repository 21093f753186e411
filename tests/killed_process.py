"""Processes that die at a chosen step, for scripts that tests start."""

import os
import signal

FILE_STEPS = ((os, "replace"), (os, "fsync"), (os, "mkdir"), (os, "unlink"), (os, "rmdir"))


def die_at(deadly, places):
    """Make the calls of attributes (object, name) steps of this process; the step `deadly`, from 1, is SIGKILL instead. 0 = never."""
    steps = 0

    def counted(call):
        def inner(*args, **options):
            nonlocal steps
            steps += 1
            if steps == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)

        return inner

    for place, name in places:
        setattr(place, name, counted(getattr(place, name)))


def in_child(act, *args):
    """Call `act` in a forked process; return its exit status, or the negative signal that ended it."""
    pid = os.fork()
    if not pid:
        act(*args)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
