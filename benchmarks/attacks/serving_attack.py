"""Response times of tools/serve.py under attack: `python benchmarks/attacks/serving_attack.py [--quick] [--json FILE]`.

Normal clients search by crop, one request after the other. At the same time idle connections are kept open and hostile clients send, in turn
and without a pause, the requests of `hostile_requests`. All of them come from this machine's own address, so no limit by
address separates them; only the guessed tokens come from another one. The server must answer the normal clients, without a 5xx for anybody,
in a memory that does not grow, with a short log.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import resource
import socket
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vitreid.benchmarks.common.command import Report, check_numbers, command, new_parser, save, start_report
from vitreid.benchmarks.common.hardware import status_bytes
from vitreid.benchmarks.galleries.export import draw
from vitreid.benchmarks.serving import ask, serving, summarise, upload
from vitreid.benchmarks.shipping import MODELS, make_weights
from vitreid.common.text import table
from vitreid.gallery import Gallery
from vitreid.gallery.export.export_job import export

TOKEN, OTHER_ADDRESS = "of-the-benchmark", "127.0.0.2"
PATIENCE = 30  # seconds that a hostile client waits for its response
SAMPLE_SECONDS = 0.1  # between two looks at the server's memory
LIMITS = {"p99": 1.0, "server errors": 0, "memory trend MB": 50, "log bytes": 1_000_000}


class Hostile(NamedTuple):
    """A hostile request: its bytes, the address it comes from, and whether the client waits for the response."""

    content: bytes
    source: str = ""
    waits: bool = True


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(
        __doc__, "4 clients of each kind, 100 connections, 3 seconds", "of the weights and the drawn crops"
    )
    parser.add_argument("--clients", metavar="N", type=int, default=16, help="normal clients")
    parser.add_argument("--hostile", metavar="N", type=int, default=16, help="hostile clients")
    parser.add_argument(
        "--idle", metavar="N", type=int, default=1000, help="connections that send nothing, or half a head"
    )
    parser.add_argument("--seconds", metavar="S", type=float, default=60, help="duration of the attack")
    parser.add_argument("--model", choices=MODELS, default="vit_tiny", help="backbone of the server")
    parser.add_argument("--rows", metavar="N", type=int, default=1000, help="drawn images in the gallery")
    return parser


def run(args: argparse.Namespace) -> Report:
    """Measure and print; return the content of the JSON file."""
    if args.quick:
        args.clients, args.hostile, args.idle = (min(args.clients, 4), min(args.hostile, 4), min(args.idle, 100))
        args.seconds, args.rows = min(args.seconds, 3), min(args.rows, 32)
    check_numbers(args, "clients", "hostile", "idle", "seconds", "rows")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    settings = {name: getattr(args, name) for name in ("model", "clients", "hostile", "idle", "rows")}
    report = start_report(args, "cpu") | settings
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-") as name:
        folder = Path(name)
        weights = make_weights(folder, args.model, "plain", (256, 128), args.seed)
        crops = draw(folder, args.rows, args.seed)
        export(weights, str(crops), str(folder / "gallery"))
        bodies = [upload(path.read_bytes(), topk="20") for path in sorted(crops.iterdir())[:64]]
        requests = hostile_requests(add_bomb(folder), bodies[0])
        with (
            open(folder / "log.txt", "w+") as log,
            serving(folder / "gallery", weights, "--token", TOKEN, log=log) as (port, server),
        ):
            for request in requests.values():  # what is loaded once does not count as growth
                attack(port, request)
            report["alone"] = measure(port, server, bodies, {}, args, min(args.seconds, 20))
            report["under attack"] = measure(port, server, bodies, requests, args, args.seconds)
            report["log bytes"] = log.seek(0, io.SEEK_END)
    report["passed"] = print_report(report)
    return save(args, report)


def measure(
    port: int, server: int, bodies: list[bytes], requests: dict[str, Hostile], args: argparse.Namespace, seconds: float
) -> Report:
    """Return the figures of the normal clients, the statuses that the hostile ones got, and the server's memory in MB.

    Without hostile requests the normal clients are alone.
    """
    end = time.monotonic() + seconds
    statuses: dict[str, Counter[str]] = defaultdict(Counter)
    memory = Memory(server)
    with ThreadPoolExecutor(args.hostile + 2) as pool:
        jobs = [pool.submit(memory.watch_until, end)]
        if requests:
            jobs.append(pool.submit(keep_idle, end, port, args.idle))
            turns = (itertools.islice(itertools.cycle(requests), first, None) for first in range(args.hostile))
            jobs += [pool.submit(attack_until, end, port, requests, turn, statuses) for turn in turns]
        start = time.perf_counter()
        answers = ask(port, bodies, args.clients, seconds, TOKEN)
        found = summarise(answers, time.perf_counter() - start)
        for job in jobs:
            job.result()
    return {
        **found,
        "hostile": {name: dict(counts) for name, counts in statuses.items()},
        "server MB": memory.summary(),
    }


class Memory:
    """The memory of a process over time, bytes."""

    def __init__(self, process: int) -> None:
        self.process, self.samples = process, [status_bytes("VmRSS", process)]

    def watch_until(self, end: float) -> None:
        """Look at it until `end`."""
        while time.monotonic() < end:
            time.sleep(SAMPLE_SECONDS)
            self.samples.append(status_bytes("VmRSS", self.process))

    def summary(self) -> dict[str, int] | None:
        """Return the memory in MB: first and highest, and the means of the second and the last third; None where it is not known.

        In the first third, caches and buffers fill.
        """
        known = [count / 10**6 for count in self.samples if count]
        if not known:
            return None
        third = max(1, len(known) // 3)
        second, last = known[third : 2 * third] or known, known[-third:]
        figures: dict[str, Any] = {
            "first": known[0],
            "highest": max(known),
            "second third": np.mean(second),
            "last third": np.mean(last),
        }
        return {name: round(float(count)) for name, count in figures.items()}


# ---- what is sent


def hostile_requests(bomb: int, crop: bytes) -> dict[str, Hostile]:
    """Return the hostile requests by name.

    Args:
        bomb: id of a row whose image has too many pixels.
        crop: the body of a normal search.
    """
    where = [f"camera!={number}{'x' * 480}" for number in range(16)]
    head = "POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + AUTHORIZED
    return {
        "JPEG of 2,000 scans": Hostile(post("/search", upload(many_scans()))),
        "JPEG of 2,000 scans, attention": Hostile(post("/attention", upload(many_scans()))),
        "image of 24 million pixels": Hostile(post("/search", upload(large_jpeg()))),
        "16 conditions of unknown values": Hostile(post("/search", {"id": 0, "where": where, "topk": 1000})),
        "10 MB of JSON": Hostile(post("/search", {"vector": [0.5] * 2_000_000})),
        "10 MB that are no image": Hostile(post("/embed", upload(bytes(9_900_000)))),
        "attention of a row of 144 million pixels": Hostile(post("/attention", {"id": bomb})),
        "all rows, re-ranked": Hostile(post("/search", {"id": 0, "topk": 1000, "rerank": True})),
        "body in parts of one byte": Hostile(
            f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"1\r\nx\r\n" * 100_000
        ),
        "half a body": Hostile(f"{head}Content-Length: 1000\r\n\r\n{{".encode(), waits=False),
        "a search nobody waits for": Hostile(post("/search", crop), waits=False),
        "no HTTP": Hostile(b"\x16\x03\x01 no request\r\n\r\n" * 100),
        "a head of 100 kB": Hostile(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000),
        "another site's name": Hostile(post("/search", {"id": 0}).replace(b"localhost", b"evil.test")),
        "guessed token": Hostile(post("/search", {"id": 0}).replace(TOKEN.encode(), b"guess"), source=OTHER_ADDRESS),
        "forged address": Hostile(post("/search", {"id": 0}).replace(b"Host:", b"X-Forwarded-For: 192.0.2.1\r\nHost:")),
    }


AUTHORIZED = f"Authorization: Bearer {TOKEN}\r\n"


def post(path: str, body: bytes | dict[str, Any]) -> bytes:
    """Return a POST request: a form as `serving.upload` makes it, or a JSON object."""
    kind = "multipart/form-data; boundary=crop-of-a-person" if isinstance(body, bytes) else "application/json"
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n{AUTHORIZED}\r\n"
    return head.encode() + content


def many_scans(count: int = 2000, size: int = 4000) -> bytes:
    """Return a progressive JPEG whose last scan comes `count` times."""
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (90, 120, 60)).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    start, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    return content[:start] + content[start:end] * count + content[end:]


def large_jpeg() -> bytes:
    """Return a JPEG just within the server's limit."""
    buffer = io.BytesIO()
    Image.effect_noise((6000, 4000), 40).convert("RGB").resize((6000, 4000)).save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


def add_bomb(folder: Path, side: int = 12_000) -> int:
    """Add a row whose image is a small file of many pixels to the gallery; return its id."""
    packer, rows = zlib.compressobj(9), bytes(side + 1)  # one filter byte per row
    data = b"".join([*(packer.compress(rows) for _ in range(side)), packer.flush()])
    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    parts = [
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in chunks
    ]
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    gallery = Gallery.open(folder / "gallery")
    vector = np.ones((1, gallery.info.dimension), np.float32)
    return int(gallery.add(vector, [{"path": str(folder / "bomb.png")}], gallery.info.model)[0])


# ---- how it is sent


def attack_until(
    end: float, port: int, requests: dict[str, Hostile], turn: Iterator[str], statuses: dict[str, Counter[str]]
) -> None:
    """Send hostile requests, one after the other, each on a new connection, until `end`; count the responses."""
    for name in turn:
        if time.monotonic() >= end:
            return
        statuses[name][attack(port, requests[name])] += 1


def attack(port: int, request: Hostile) -> str:
    """Send one request; return the status of the response, "closed" without one, or "left" without waiting."""
    try:
        with connected(port, request.source) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):  # the server may refuse before it has read everything
                connection.sendall(request.content)
            if not request.waits:
                return "left"
            start = connection.makefile("rb").readline().split()
            return start[1].decode() if len(start) > 1 else "closed"
    except TimeoutError:
        return f"none in {PATIENCE} s"
    except OSError:
        return "closed"


@contextmanager
def connected(port: int, source: str = "") -> Iterator[socket.socket]:
    """Yield a connection to the server, closed at the end."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0) if source else None) as connection:
        yield connection


def keep_idle(end: float, port: int, count: int) -> None:
    """Keep `count` connections open until `end`, half of them with half a head; open those again that the server closed."""
    idle: list[socket.socket] = []
    try:
        while time.monotonic() < end:
            idle = [connection for connection in idle if is_open(connection)]
            for number in range(len(idle), count):
                with suppress(OSError):
                    connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
                    connection.setblocking(False)
                    idle.append(connection)
                    if number % 2:
                        connection.send(b"GET /facets HTTP/1.1\r\nHost: localhost\r\nX: ")
            threading.Event().wait(0.2)
    finally:
        for connection in idle:
            connection.close()


def is_open(connection: socket.socket) -> bool:
    """Return whether the server has not closed the connection; close it otherwise."""
    try:
        if connection.recv(1024):
            return True
    except BlockingIOError:
        return True
    except OSError:
        pass
    connection.close()
    return False


# ---- what came of it


def print_report(report: Report) -> bool:
    """Print the figures as tables; return whether all are within LIMITS."""
    headings = ["normal clients", "answers", "per second", "p50", "p99", "longest", "failures"]
    print(table([headings, *(as_row(report, name) for name in ("alone", "under attack"))]))
    rows = [["hostile request", "sent", "answers"]]
    for name, counts in report["under attack"]["hostile"].items():
        answers = ", ".join(f"{status}: {count}" for status, count in sorted(counts.items()))
        rows.append([name, str(sum(counts.values())), answers])
    print(table(rows, left=None))
    if memory := report["under attack"]["server MB"]:
        print("server MB:", ", ".join(f"{name} {count:,}" for name, count in memory.items()))
    found = figures(report)
    print(*(f"{name}: {found[name]:,g} (at most {limit:,g})" for name, limit in LIMITS.items()), sep="\n")
    return all(found[name] <= limit for name, limit in LIMITS.items())


def as_row(report: Report, name: str) -> list[str]:
    """Return a line of the table of normal clients."""
    figures = report[name]
    failures = ", ".join(f"{count} x {what}" for what, count in figures["failures"].items()) or "none"
    if not figures["answers"]:
        return [name, "0", "", "", "", "", failures]
    times = [f"{figures[key]:.3f} s" for key in ("p50", "p99", "longest")]
    return [name, f"{figures['answers']:,}", f"{figures['per second']:.1f}", *times, failures]


def figures(report: Report) -> dict[str, float]:
    """Return the figures that LIMITS limits; a server without answers has infinite response times."""
    normal = report["under attack"]
    statuses = [*normal["hostile"].values(), normal["failures"]]
    errors = sum(
        count
        for counts in statuses
        for status, count in counts.items()
        if status.removeprefix("status ").startswith("5")
    )
    memory = normal["server MB"] or {"second third": 0, "last third": 0}
    return {
        "p99": normal.get("p99", float("inf")),
        "server errors": errors,
        "memory trend MB": memory["last third"] - memory["second third"],
        "log bytes": report["log bytes"],
    }


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
