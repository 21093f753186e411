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
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from vitreid.benchmarks.common.command import command
from vitreid.benchmarks.common.hardware import describe_hardware, status_bytes
from vitreid.benchmarks.export import draw
from vitreid.benchmarks.shipping import MODELS, make_weights
from vitreid.common.files import write_text_atomically
from vitreid.gallery.export.export_job import export

SERVE = Path(__file__).resolve().parents[1] / "tools" / "serve.py"
START, BOUNDARY = 120, "crop-of-a-person"  # START: seconds allowed until the server answers
Report = dict[str, Any]


@dataclass
class Answers:
    """Seconds of each response, and the number of failures of each kind."""

    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = argparse.ArgumentParser(description="Response times of tools/serve.py under many clients.")
    parser.add_argument("--quick", action="store_true", help="4 clients, 3 seconds, vit_tiny: under a minute")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to this file")
    parser.add_argument("--clients", metavar="N", type=int, default=32, help="concurrent clients")
    parser.add_argument("--seconds", metavar="S", type=float, default=60, help="duration of the measurement")
    parser.add_argument("--model", choices=MODELS, default="vit_tiny", help="backbone of the server")
    parser.add_argument("--rows", metavar="N", type=int, default=1000, help="drawn images in the gallery")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and the drawn crops")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return the exit status: 0, 2 for a mistake in the arguments, 130 for Ctrl-C."""
    return command(get_parser(), run, argv)


def run(args: argparse.Namespace) -> Report:
    """Measure and print; return the content of the JSON file.

    Raises:
        OSError: the server does not start; with the end of its error output.
    """
    if args.quick:
        args.clients, args.seconds, args.rows = min(args.clients, 4), min(args.seconds, 3), min(args.rows, 32)
    for name in ("clients", "seconds", "rows"):
        if (value := getattr(args, name)) <= 0:
            raise ValueError(f"--{name}: above 0, got {value}")
    hardware = describe_hardware("cpu")
    print(f"seed {args.seed}", *(f"{key} {value}" for key, value in hardware.items()), sep=" | ", flush=True)
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-") as name:
        folder = Path(name)
        weights = make_weights(folder, args.model, "plain", (256, 128), args.seed)
        crops = draw(folder, args.rows, args.seed)
        export(weights, str(crops), str(folder / "gallery"))
        bodies = [upload(path.read_bytes()) for path in sorted(crops.iterdir())[:64]]
        with serving(folder / "gallery", weights) as (port, server):
            ask(port, bodies, args.clients, min(args.seconds, 5))  # warm-up
            before = status_bytes("VmRSS", server)
            start = time.perf_counter()
            answers = ask(port, bodies, args.clients, args.seconds)
            report = summarise(answers, time.perf_counter() - start)
            report["server MB"] = [count and round(count / 1e6) for count in (before, status_bytes("VmRSS", server))]
    report |= {"seed": args.seed, "model": args.model, "clients": args.clients, "rows": args.rows, "hardware": hardware}
    print(f"{args.model}, {args.rows:,} images, {args.clients} clients for {args.seconds:g} s:", describe(report))
    if args.json:
        write_text_atomically(args.json, json.dumps(report, indent=1))
    return report


def upload(image: bytes) -> bytes:
    """Return the body of a search: a form with the image and the number of results."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="topk"\r\n\r\n20\r\n--{BOUNDARY}\r\n'
    head += 'Content-Disposition: form-data; name="image"; filename="crop.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return head.encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()


@contextmanager
def serving(gallery: Path, weights: Path) -> Iterator[tuple[int, int]]:
    """Run tools/serve.py; yield its port and process id once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [sys.executable, str(SERVE), "--gallery", str(gallery), "--weights", str(weights), "--port", str(port)]
    with tempfile.TemporaryFile("w+") as errors:
        server = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=errors)
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
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise OSError(f"tools/serve.py did not answer within {START} s")


def ask(port: int, bodies: list[bytes], num_clients: int, seconds: float) -> Answers:
    """Run clients for some seconds, each with one request at a time; return their responses."""
    answers, end, lock = Answers(), time.perf_counter() + seconds, threading.Lock()

    def visit(first: int) -> None:
        found, failures = visit_until(end, port, itertools.islice(itertools.cycle(bodies), first, None))
        with lock:
            answers.seconds += found
            answers.failures += failures

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(num_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def visit_until(end: float, port: int, bodies: Iterator[bytes]) -> tuple[list[float], Counter[str]]:
    """Run one client until `end`; return the seconds of its responses and its failures."""
    seconds: list[float] = []
    failures: Counter[str] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    while (start := time.perf_counter()) < end:
        try:
            connection.request("POST", "/search", next(bodies), headers)
            response = connection.getresponse()
            found = json.loads(response.read()) if response.status == 200 else {}
        except (OSError, http.client.HTTPException) as error:
            failures[type(error).__name__] += 1
            connection.close()
            continue
        if response.status != 200:
            failures[f"status {response.status}"] += 1
        elif not found["results"]:
            failures["no results"] += 1
        seconds.append(time.perf_counter() - start)
    connection.close()
    return seconds, failures


def summarise(answers: Answers, seconds: float) -> Report:
    """Return the rate, the percentiles of the response times, and the failures."""
    if not answers.seconds:
        return {"answers": 0, "failures": dict(answers.failures)}
    p50, p99, longest = (float(value) for value in np.percentile(answers.seconds, (50, 99, 100)))
    return {
        "answers": len(answers.seconds),
        "per second": len(answers.seconds) / seconds,
        "p50": p50,
        "p99": p99,
        "longest": longest,
        "failures": dict(answers.failures),
    }


def describe(report: Report) -> str:
    """Return the figures as text."""
    failures = ", ".join(f"{count} x {name}" for name, count in report["failures"].items()) or "none"
    if not report["answers"]:
        return f"no answers; failures: {failures}"
    waits = "  ".join(f"{name} {report[name]:.3f} s" for name in ("p50", "p99", "longest"))
    before, after = report["server MB"]
    memory = f"server {before} MB, {after} MB at the end" if before else "server memory not known here"
    return f"{report['answers']:,} answers, {report['per second']:.1f}/s  {waits}  failures: {failures}  {memory}"


if __name__ == "__main__":
    sys.exit(main())
