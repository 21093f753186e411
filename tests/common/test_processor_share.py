"""The number of threads: free processors, within the quota of the control groups; made-up machines."""

import math

import pytest

from vitreid.common.machine import processor_share
from vitreid.common.machine.processor_share import Share, busy_cores, cpu_quota, measured_share, ticks

STAT = "cpu  9 9 9 9 9 0 0 0 0 0\n{}\nintr 5 6\n"


def stat(*cores):
    """Return /proc/stat of processors as (user, nice, idle, iowait) ticks."""
    return STAT.format("\n".join(f"cpu{n} {u} {i} 0 {d} {w} 0 0 0 0 0" for n, (u, i, d, w) in enumerate(cores)))


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (Share(8), 8),
        (Share(8, busy=0.2), 8),  # a little load takes no thread away
        (Share(8, busy=1.0), 7),
        (Share(2, busy=0.9), 1),
        (Share(2, busy=2.0), 1),  # never none
        (Share(64, quota=3.5), 3),
        (Share(64, quota=0.5), 1),
        (Share(4, quota=16), 4),
        (Share(8, quota=6, busy=4.0), 4),
    ],
)
def test_threads_are_the_free_processors_within_the_quota(share, expected):
    assert share.threads == expected


def test_the_quota_is_the_least_of_all_groups_above(tmp_path):
    (tmp_path / "job" / "step").mkdir(parents=True)
    (tmp_path / "job" / "step" / "cpu.max").write_text("max 100000\n")
    (tmp_path / "job" / "cpu.max").write_text("250000 100000\n")
    (tmp_path / "cpu.max").write_text("800000 100000\n")
    assert cpu_quota("0::/job/step\n", tmp_path) == 2.5
    assert cpu_quota("", tmp_path) == math.inf


def test_the_first_version_of_groups_has_its_own_files(tmp_path):
    group = tmp_path / "cpu" / "docker"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("150000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    text = "5:memory:/docker\n4:cpu,cpuacct:/docker\n"
    assert cpu_quota(text, tmp_path) == 1.5
    (group / "cpu.cfs_quota_us").write_text("-1\n")  # no limit
    assert cpu_quota(text, tmp_path) == math.inf


def test_waiting_for_a_disk_is_not_busy():
    assert ticks(stat((5, 1, 4, 90), (0, 0, 100, 0)), {0, 1}) == [(6, 100), (0, 100)]


def test_the_load_counts_on_the_processors_of_this_process_only(monkeypatch):
    """Processor 0 is busy with low priority, 1 half of the time; 2 belongs to others."""
    texts = iter([stat((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)), stat((0, 10, 0, 0), (5, 0, 5, 0), (10, 0, 0, 0))])
    monkeypatch.setattr(processor_share, "STAT", type("Stat", (), {"read_text": lambda self: next(texts)})())
    assert busy_cores({0, 1}) == 1.5


def test_this_machine_gives_a_thread():
    assert 1 <= measured_share().threads <= measured_share().cores
    assert measured_share(load=False).busy == 0
