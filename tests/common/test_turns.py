"""Calls that are timed in turns."""

import time
from itertools import count

import pytest

from vitreid.common.machine.turns import in_turns


@pytest.mark.parametrize(("fewest", "most", "seconds", "rounds"), [(5, 200, 0, 5), (3, 3, 60, 3), (1, 50, 2.5, 3)])
def test_calls_take_turns_until_there_is_enough(fewest, most, seconds, rounds, monkeypatch):
    """The first round does not count; a call takes one second of this clock."""
    calls, clock = [], count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    times = in_turns({name: lambda name=name: calls.append(name) for name in ("a", "b")}, fewest, most, seconds)
    assert calls == ["a", "b"] * (rounds + 1)
    assert times == {"a": [1] * rounds, "b": [1] * rounds}
