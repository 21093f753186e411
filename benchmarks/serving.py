"""Response times of tools/serve.py under many clients: `python benchmarks/serving.py [--quick] [--json FILE]`.

The server runs in a separate process, on loopback. Each client sends drawn crops to /search, one after the other. The model has the
paper's size and random weights: training does not change its speed.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from vitreid.benchmarks.common.command import Report, check_numbers, command, new_parser, save, start_report
from vitreid.benchmarks.common.hardware import status_bytes
from vitreid.benchmarks.galleries.export import draw
from vitreid.benchmarks.shipping import MODELS, make_weights
from vitreid.gallery.export.export_job import export

SERVE = Path(__file__).resolve().parents[1] / "tools" / "serve.py"
START, BOUNDARY = 120, "crop-of-a-person"  # START: seconds allowed until the server answers


@dataclass
class Answers:
    """Seconds of each response, and the number of failures of each kind."""

    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "4 clients, 3 seconds, vit_tiny: under a minute", "of the weights and the drawn crops")
    parser.add_argument("--clients", metavar="N", type=int, default=32, help="concurrent clients")
    parser.add_argument("--seconds", metavar="S", type=float, default=60, help="duration of the measurement")
    parser.add_argument("--model", choices=MODELS, default="vit_tiny", help="backbone of the server")
    parser.add_argument("--rows", metavar="N", type=int, default=1000, help="drawn images in the gallery")
    return parser


def run(args: argparse.Namespace) -> Report:
    """Measure and print; return the content of the JSON file.

    Raises:
        OSError: the server does not start; with the end of its error output.
    """
    if args.quick:
        args.clients, args.seconds, args.rows = min(args.clients, 4), min(args.seconds, 3), min(args.rows, 32)
    check_numbers(args, "clients", "seconds", "rows")
    report = start_report(args, "cpu") | {"model": args.model, "clients": args.clients, "rows": args.rows}
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-") as name:
        folder = Path(name)
        weights = make_weights(folder, args.model, "plain", (256, 128), args.seed)
        crops = draw(folder, args.rows, args.seed)
        export(weights, str(crops), str(folder / "gallery"))
        bodies = [upload(path.read_bytes(), topk="20") for path in sorted(crops.iterdir())[:64]]
        with serving(folder / "gallery", weights) as (port, server):
            ask(port, bodies, args.clients, min(args.seconds, 5))  # warm-up
            before = status_bytes("VmRSS", server)
            start = time.perf_counter()
            answers = ask(port, bodies, args.clients, args.seconds)
            report |= summarise(answers, time.perf_counter() - start)
            report["server MB"] = [count and round(count / 1e6) for count in (before, status_bytes("VmRSS", server))]
    print(f"{args.model}, {args.rows:,} images, {args.clients} clients for {args.seconds:g} s:", describe(report))
    return save(args, report)


def upload(image: bytes, **fields: str) -> bytes:
    """Return the body of a search: a form with the image and other fields."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in fields.items()
    ]
    head = "".join(parts) + f"--{BOUNDARY}\r\n"
    head += 'Content-Disposition: form-data; name="image"; filename="crop.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return head.encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()


@contextmanager
def serving(gallery: Path, weights: Path, *others: str, log: IO[str] | None = None) -> Iterator[tuple[int, int]]:
    """Run tools/serve.py; yield its port and process id once it answers.

    Args:
        others: further arguments.
        log: file for its error output.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [sys.executable, str(SERVE), "--gallery", str(gallery), "--weights", str(weights), "--port", str(port)]
    with tempfile.TemporaryFile("w+") if log is None else nullcontext(log) as errors:
        server = subprocess.Popen([*arguments, *others], stdout=subprocess.DEVNULL, stderr=errors)
        try:
            wait_for(server, port, errors)
            yield port, server.pid
        finally:
            server.terminate()
            server.wait()


def wait_for(server: subprocess.Popen[bytes], port: int, errors: IO[str]) -> None:
    """Return once the server answers.

    Raises:
        OSError: it ended, or did not answer in time; with the end of its error output.
    """
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if server.poll() is not None:
            errors.seek(0)
            raise OSError(f"tools/serve.py ended with status {server.returncode}: {errors.read().strip()[-500:]}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/health")
            connection.getresponse()
            return
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)
        finally:
            connection.close()
    raise OSError(f"tools/serve.py did not answer within {START} s")


def ask(port: int, bodies: list[bytes], num_clients: int, seconds: float, token: str = "") -> Answers:
    """Run clients for some seconds, each with one request at a time; return their responses."""
    end = time.perf_counter() + seconds
    queues = [itertools.islice(itertools.cycle(bodies), first, None) for first in range(num_clients)]
    with ThreadPoolExecutor(num_clients) as pool:
        found = list(pool.map(partial(visit_until, end, port, token=token), queues))
    return Answers([second for one in found for second in one.seconds], sum((one.failures for one in found), Counter()))


def visit_until(end: float, port: int, bodies: Iterator[bytes], token: str = "") -> Answers:
    """Run one client until `end`; return its responses."""
    answers = Answers()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Authorization": f"Bearer {token}"}
    while (start := time.perf_counter()) < end:
        try:
            connection.request("POST", "/search", next(bodies), headers)
            response = connection.getresponse()
            found = json.loads(response.read()) if response.status == 200 else {}
        except (OSError, http.client.HTTPException) as error:
            answers.failures[type(error).__name__] += 1
            connection.close()
            continue
        if response.status != 200:
            answers.failures[f"status {response.status}"] += 1
        elif not found["results"]:
            answers.failures["no results"] += 1
        answers.seconds.append(time.perf_counter() - start)
    connection.close()
    return answers


def summarise(answers: Answers, seconds: float) -> Report:
    """Return the rate, the percentiles of the response times, and the failures."""
    if not answers.seconds:
        return {"answers": 0, "failures": dict(answers.failures)}
    rate = {"answers": len(answers.seconds), "per second": len(answers.seconds) / seconds}
    waits = zip(("p50", "p99", "longest"), np.percentile(answers.seconds, (50, 99, 100)).tolist())
    return {**rate, **dict(waits), "failures": dict(answers.failures)}


def describe(report: Report) -> str:
    """Return the figures as text."""
    failures = ", ".join(f"{count} x {name}" for name, count in report["failures"].items()) or "none"
    if not report["answers"]:
        return f"no answers; failures: {failures}"
    waits = "  ".join(f"{name} {report[name]:.3f} s" for name in ("p50", "p99", "longest"))
    before, after = report["server MB"]
    memory = f"server {before} MB, {after} MB at the end" if before else "server memory not known here"
    return f"{report['answers']:,} answers, {report['per second']:.1f}/s  {waits}  failures: {failures}  {memory}"


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
