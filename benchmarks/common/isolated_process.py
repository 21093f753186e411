"""One measurement in a separate process: requested by the parent, answered by the child in one JSON line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vitreid.benchmarks.common.measurement import Measurement
from vitreid.common.text import first_line

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # in torch's RuntimeErrors


def ask(worker: Path, job: Any, limit: float) -> Measurement:
    """Return what `worker`, a script, answers to the job, a dataclass of plain values; it is stopped after `limit` seconds."""
    words = [sys.executable, str(worker), json.dumps(asdict(job))]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return Measurement(failure=f"stopped after {limit:g} s (--limit)")
    if done.returncode < 0:
        reason = ", perhaps for want of memory" if done.returncode == -9 else ""
        return Measurement(failure=f"killed by signal {-done.returncode}{reason}")
    if done.returncode:
        return Measurement(failure=f"exit status {done.returncode}: {last_line(done.stderr)}")
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def reply(
    job_class: Callable[..., Any], measure: Callable[[Any], dict[str, Any]], argv: list[str] | None = None
) -> int:
    """Measure the job given as JSON and print the answer; a failure is an answer too. Return the exit status."""
    values = json.loads((sys.argv[1:] if argv is None else argv)[0])
    job = job_class(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    try:
        found = Measurement(measure(job))
    except Exception as error:  # another project's code may raise any kind
        found = Measurement(failure=failure_of(error))
    print(json.dumps(asdict(found)), flush=True)
    return 0


def failure_of(error: Exception) -> str:
    """Return in one line why a contestant failed."""
    text = first_line(error)
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        return f"out of memory: {text}"
    return f"{type(error).__name__}: {text}"


def last_line(errors: str) -> str:
    """Return the last line of a process's error output."""
    return (errors.strip() or "no message").splitlines()[-1]
