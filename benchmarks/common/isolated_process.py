"""One measurement in a process of its own: asked for by the parent, answered by the child in one JSON line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # in torch's RuntimeErrors
Answer = TypeVar("Answer")  # a dataclass with a `failure`, and defaults for the figures


def ask(worker: Path, job: Any, limit: float, answer: Callable[..., Answer]) -> Answer:
    """Return what `worker`, a script, answers to the job, a dataclass of plain values; it is stopped after `limit` seconds."""
    words = [sys.executable, str(worker), json.dumps(asdict(job))]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return answer(failure=f"stopped after {limit:g} s (--limit)")
    if done.returncode:
        return answer(failure=_death(done))
    return answer(**json.loads(done.stdout.splitlines()[-1]))


def _death(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}" + (
            ", perhaps for want of memory" if done.returncode == -9 else ""
        )
    return f"exit status {done.returncode}: {(done.stderr.strip() or 'no message').splitlines()[-1]}"


def reply(measure: Callable[[], Any], answer: Callable[..., Any]) -> int:
    """Print what `measure` returns, an `answer`; what fails is a result too. Return the exit status."""
    try:
        found = measure()
    except Exception as error:  # whatever another project's code raises
        found = answer(failure=failure_of(error))
    print(json.dumps(asdict(found)), flush=True)
    return 0


def failure_of(error: Exception) -> str:
    """Return in one line why a contestant failed."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        return f"out of memory: {text}"
    return f"{type(error).__name__}: {text}"
