"""Runs parts one after the other in worker processes, within a time; the failure of a part leaves the others alone. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vitreid.benchmarks.common.isolated_process import last_line
from vitreid.benchmarks.device.findings import DeviceFinding, DeviceJob

WORKER = Path(__file__).parents[1] / "workers" / "device_worker.py"
ENVIRONMENT = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic products; read when cuBLAS starts
    "PYTHONUNBUFFERED": "1",
}
TRACE = 4000  # characters of a process's error output that are kept
DONE, FAILED, SKIPPED, LEFT_OUT = "done", "failed", "skipped", "left out"


@dataclass(frozen=True)
class Part:
    """Something to find out.

    Args:
        work: "module:function"; the function gets a `DeviceJob` and yields findings.
        expected: seconds it takes on an H200, as far as one can say before; it starts if so much time is left.
        limit: seconds after which it is stopped, imports not counted; not with `quick`.
        needs_cuda: why it says nothing on a CPU; empty = it runs there.
    """

    name: str
    work: str
    expected: float
    limit: float
    needs_cuda: str = ""


@dataclass
class PartResult:
    """What became of a part.

        Args:
            status: TRACE = 4000  # characters of a process's error output that are kept
    DONE, FAILED, SKIPPED or LEFT_OUT.
            reason: of another status than DONE, in a line.
            findings: up to its end or failure.
            trace: where it failed: Python's traceback, or what its process wrote last.
    """

    part: str
    status: str = DONE
    reason: str = ""
    seconds: float = 0.0
    findings: list[DeviceFinding] = field(default_factory=list)
    trace: str = ""

    def plain(self) -> dict[str, Any]:
        """Return the result as JSON types."""
        return {**asdict(self), "findings": [finding.plain() for finding in self.findings]}

    @property
    def missed(self) -> list[str]:
        """The lines of agreements and aims that were missed."""
        return [f"{self.part}: {finding.line()}" for finding in self.findings if finding.is_missed]


class Worker:
    """A process that does parts; it and the processes that it starts end with `close`."""

    def __init__(self, job: DeviceJob) -> None:
        self.has_limits = not job.quick
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - until `close`
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **ENVIRONMENT},
            start_new_session=True,
        )
        self.answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(json.loads(line))
        self.answers.put(None)

    def do(self, part: Part, end: float, show: Callable[[DeviceFinding], object]) -> PartResult:
        """Do a part until its limit or the moment `end`; the process is of no more use after a failure.

        Args:
            show: called with each finding as it comes.
        """
        result, start = PartResult(part.name), time.monotonic()
        stop, reason = end, "the time is over (--minutes)"
        with contextlib.suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.write(f"{part.work}\n")
            self.process.stdin.flush()
        while True:
            try:
                answer = self.answers.get(timeout=max(0.0, stop - time.monotonic()))
            except queue.Empty:
                answer = {"end": f"stopped: {reason}"}
            answer = self._why_ended() if answer is None else answer
            if "finding" in answer:
                result.findings.append(DeviceFinding(**answer["finding"]))
                show(result.findings[-1])
            elif "end" in answer:
                result.seconds = time.monotonic() - start
                if answer["end"]:
                    result.status, result.reason, result.trace = FAILED, answer["end"], answer.get("trace", "")
                return result
            elif self.has_limits and time.monotonic() + part.limit < end:  # it has its imports
                stop, reason = time.monotonic() + part.limit, f"it took over {part.limit:.0f} s"

    def _why_ended(self) -> dict[str, Any]:
        status = self.process.wait()
        self.errors.seek(0)
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        errors = self.errors.read()
        return {"end": f"its process {how}: {last_line(errors)}", "trace": errors[-TRACE:]}

    def close(self) -> None:
        """End the process and those that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.errors.close()


def run_parts(
    parts: list[Part], job: DeviceJob, seconds: float, announce: Callable[[str], object]
) -> Iterator[PartResult]:
    """Do the parts in their order while `seconds` last; yield a result for each.

    They share a process, because its imports take seconds; after a failure the next part gets a new one.

    Args:
        announce: prints a line.
    """
    end = time.monotonic() + seconds
    worker: Worker | None = None
    try:
        for part in parts:
            left = end - time.monotonic()
            reason = reason_to_leave(part, job, left)
            announce(f"\n{part.name}{f': {reason.status}, {reason.reason}' if reason else ''}")
            if reason:
                yield reason
                continue
            worker = worker or Worker(job)
            result = worker.do(part, end, lambda finding: announce(f"  {finding.line()}"))
            announce(f"  {result.status} in {result.seconds:.1f} s{f': {result.reason}' if result.reason else ''}")
            if result.status == FAILED:
                worker.close()
                worker = None
            yield result
    finally:
        if worker:
            worker.close()


def reason_to_leave(part: Part, job: DeviceJob, left: float) -> PartResult | None:
    """Return the result of a part that cannot run here, or not in the seconds that are left; None = it can."""
    if part.needs_cuda and not job.is_gpu:
        return PartResult(part.name, SKIPPED, f"needs cuda: {part.needs_cuda}")
    if left < (0 if job.quick else part.expected):
        return PartResult(
            part.name, LEFT_OUT, f"takes about {part.expected:.0f} s, {max(left, 0):.0f} s are left (--minutes)"
        )
    return None
