"""The alarm between processes: a failure reaches the others, a stop that all share does not count as one."""

import pytest
from torch import distributed as dist
from vitreid.processor.ranks import Alarm
from vitreid.processor.signals import Stopped


@pytest.mark.parametrize(("error", "rings"), [(Stopped(15), False), (ValueError("the second has had enough"), True)])
def test_only_a_failure_rings(error, rings):
    """The first process may save for minutes after the others have stopped; a ring would end it within seconds."""
    store = dist.HashStore()
    with pytest.raises(type(error)), Alarm(store, 1, 1).armed():
        raise error
    assert store.check(["failed"]) is rings
