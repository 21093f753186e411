"""A process for the parts of `python benchmarks/gpu.py`: `python benchmarks/workers/device_worker.py JOB`.

Reads the place of a part ("module:function") per line, and prints a JSON line after its imports, per finding and at its end. What a
part prints, libraries included, goes to the error output.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from vitreid.benchmarks.common.isolated_process import failure_of
from vitreid.benchmarks.device.findings import DeviceFinding, DeviceJob

Work = Callable[[DeviceJob], Iterator[DeviceFinding]]


def find(place: str) -> Work:
    """Return the function at "module:function"."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def answers(place: str, job: DeviceJob) -> Iterator[dict[str, Any]]:
    """Yield the findings of a part as they come, and how it ended."""
    try:
        work = find(place)
        yield {"imported": True}
        for finding in work(job):
            yield {"finding": finding.plain()}
        wait_for_gpu(job)
    except Exception as error:  # a part may raise any kind; the others shall run
        yield {"end": failure_of(error), "trace": traceback.format_exc()}
        return
    yield {"end": ""}


def wait_for_gpu(job: DeviceJob) -> None:
    """Wait for the queue of the GPU, whose errors show late, and give its unused memory back."""
    if job.is_gpu:
        import torch  # a job for the CPU may need none

        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def main(argv: list[str] | None = None) -> int:
    """Do the parts that the lines of the input name."""
    job = DeviceJob(**json.loads((sys.argv[1:] if argv is None else argv)[0]))
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as output:
        os.dup2(2, 1)
        for line in sys.stdin:
            for answer in answers(line.strip(), job):
                print(json.dumps(answer), file=output, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
