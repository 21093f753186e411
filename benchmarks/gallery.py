"""Time and memory of the gallery search: `python benchmarks/gallery.py [--quick] [--json FILE] [--skip-large]`.

Contestants search the same vectors in the same process, in turn, since a machine's speed drifts, with the same number of
threads: OMP_NUM_THREADS, or all cores. Tables show medians with minimum and maximum. Memory is measured in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vitreid.benchmarks.common.command import command
from vitreid.benchmarks.common.hardware import describe_hardware, status_bytes
from vitreid.common.files import write_text_atomically
from vitreid.gallery import Gallery, GalleryInfo
from vitreid.gallery.search.engine import engine_of
from vitreid.gallery.search.faiss_index import import_faiss

MODEL, TOPK, CAMERAS, BLOCK = "sha256:benchmark", 20, 6, 2**19
RATIO, OPENING, RESIDENT = 1.2, 0.2, 500  # the bars: x FAISS flat, seconds, megabytes
Report = dict[str, Any]


@dataclass(frozen=True)
class SearchPlan:
    """Sizes: rows x values of the gallery in both parts; searches of one query, and of 64, per round."""

    rows: int = 100_000
    width: int = 768
    singles: int = 50
    batches: int = 3
    rounds: int = 5
    large_rows: int = 5_000_000
    large_width: int = 256


QUICK = SearchPlan(10_000, 256, 20, 2, 2, 100_000, 64)


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = argparse.ArgumentParser(description="Time and memory of the gallery search, compared with FAISS flat.")
    parser.add_argument("--quick", action="store_true", help="little data, two rounds: under a minute")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to this file")
    parser.add_argument(
        "--folder", metavar="DIR", type=Path, help="where the galleries are made: 3 GB, removed at the end"
    )
    parser.add_argument("--skip-large", action="store_true", help="leave out the 5 million rows, 2.5 GB on disk")
    parser.add_argument("--seed", type=int, default=0, help="of the vectors")
    parser.add_argument("--resident", metavar="GALLERY", help=argparse.SUPPRESS)  # the fresh process of `large`
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return the exit status: 0, 2 for a mistake in the arguments, 130 for Ctrl-C."""
    return command(get_parser(), _act, argv)


def _act(args: argparse.Namespace) -> None:
    if args.resident:
        print(json.dumps(measure_resident(args.resident, args.seed)))
    else:
        run(args)


def run(args: argparse.Namespace, plan: SearchPlan | None = None) -> Report:
    """Measure everything, print it, and return what goes into the JSON file."""
    if args.seed < 0:
        raise ValueError(f"--seed: 0 or more, got {args.seed}")
    if args.folder and not args.folder.is_dir():
        raise ValueError(f"--folder: no folder {args.folder}; make it, or leave it out")
    plan = plan or (QUICK if args.quick else SearchPlan())
    report: Report = {"seed": args.seed, "quick": args.quick, "hardware": describe_hardware("cpu")}
    print(f"seed {args.seed}", *(f"{key} {value}" for key, value in report["hardware"].items()), sep=" | ")
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-", dir=args.folder) as folder:
        report["speed"] = speed(Path(folder) / "small", plan, args.seed)
        skip = "asked to (--skip-large)" if args.skip_large else ""
        report["large"] = {"skipped": skip} if skip else large(Path(folder) / "large", plan, args.seed)
        print(f"large gallery skipped: {skip}" if skip else f"large gallery: {report['large']}")
    report["bars"] = judge(report) if not args.quick else []
    print(*(f"bar: {line}" for line in report["bars"]), sep="\n")
    if args.json:
        write_text_atomically(args.json, json.dumps(report, indent=1))
    return report


def speed(folder: Path, plan: SearchPlan, seed: int) -> Report:
    """Return the times of opening, of single queries and of batches, and whether filters hold."""
    make_gallery(folder, plan.rows, plan.width, "float32", seed)
    opening = spread([timed(lambda: Gallery.open(folder)) for _ in range(5)])
    gallery = Gallery.open(folder)
    queries = vectors(np.random.default_rng(seed + 1), 64, plan.width)
    contestants, skipped = find_contestants(gallery, folder)
    report: Report = {"rows": plan.rows, "width": plan.width, "opening": opening, "skipped": skipped}
    print(f"{plan.rows:,} rows x {plan.width} float32, top {TOPK}; opened in {1000 * opening['median']:.1f} ms")
    for task, size, count in (("one query", 1, plan.singles), ("64 queries", 64, plan.batches)):
        report[task] = take_turns(contestants, queries, size, count, plan.rounds)
        for name, figures in report[task].items():
            print(
                f"  {task}  {name:<12}", *(f"{key} {1000 * value:.2f} ms" for key, value in figures.items()), sep="  "
            )
    for name, reason in skipped.items():
        print(f"  {name} skipped: {reason}")
    report["filtered out but found"] = wrongly_found(gallery, queries)
    print(f"  filtered out but found: {report['filtered out but found']}")
    return report


Search = Callable[[np.ndarray], Any]


def find_contestants(gallery: Gallery, folder: Path) -> tuple[dict[str, Search], dict[str, str]]:
    """Return the contestants that are installed, and the reason for each other one. FAISS copies the vectors into memory."""
    contestants: dict[str, Search] = {
        "vitreid": lambda queries: gallery.search(queries, TOPK),
        "index only": lambda queries: engine_of(gallery).exact.search(queries, TOPK),
    }
    try:
        faiss = import_faiss()
    except ImportError as error:
        return contestants, {"FAISS flat": str(error)}
    flat = faiss.IndexFlatL2(gallery.info.dimension)
    flat.add(np.array(gallery.embeddings))
    return {**contestants, "FAISS flat": lambda queries: flat.search(queries, TOPK)}, {}


def take_turns(contestants: dict[str, Search], queries: np.ndarray, size: int, count: int, rounds: int) -> Report:
    """Return per contestant the seconds of a search of `size` queries: median, extremes and 99th percentile."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for search in contestants.values():
        search(queries[:size])  # warm up
    for number in range(rounds * count):
        some = np.roll(queries, number, 0)[:size]
        for name, search in contestants.items():
            seconds[name].append(timed(lambda: search(some)))  # noqa: B023
    return {name: spread(values) for name, values in seconds.items()}


def wrongly_found(gallery: Gallery, queries: np.ndarray) -> int:
    """Return the number of records found under filters that do not fulfil them."""
    wrong = 0
    for camera in range(CAMERAS):
        results = gallery.search(queries[:8], TOPK, [f"camera!=c{camera}", "time>=100"])
        wrong += sum(row["camera"] == f"c{camera}" or row["time"] < 100 for result in results for row in result.rows)
    return wrong


def large(folder: Path, plan: SearchPlan, seed: int) -> Report:
    """Return the memory of a process that searches a large float16 gallery, and its times."""
    make_gallery(folder, plan.large_rows, plan.large_width, "float16", seed)
    words = [sys.executable, str(Path(__file__).resolve()), "--resident", str(folder), "--seed", str(seed)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"the process that searches {folder} failed: {done.stderr.strip() or done.returncode}")
    megabytes = (folder / "embeddings.npy").stat().st_size / 1e6
    return {
        "rows": plan.large_rows,
        "width": plan.large_width,
        "file_mb": megabytes,
        **json.loads(done.stdout.splitlines()[-1]),
    }


def measure_resident(folder: str, seed: int) -> Report:
    """Open and search a gallery; return the times and this process's resident memory, all of it: imports, peak, end.

    At the end it is split into memory of the process and pages of files, which the system can reclaim.
    """
    megabytes: Report = {"imports_mb": resident("VmRSS")}
    gallery = Gallery.open(folder)
    queries = vectors(np.random.default_rng(seed + 1), 64, gallery.info.dimension)
    first = timed(lambda: gallery.search(queries[:1], TOPK))
    single = [timed(lambda: gallery.search(queries[:1], TOPK)) for _ in range(3)]
    batch = timed(lambda: gallery.search(queries, TOPK))
    filtered = timed(lambda: [result.rows for result in gallery.search(queries[:1], TOPK, ["camera=c1"])])
    for key, name in (("peak_mb", "VmHWM"), ("end_own_mb", "RssAnon"), ("end_files_mb", "RssFile")):
        megabytes[key] = resident(name)
    return {**megabytes, "first": first, "one query": spread(single), "64 queries": batch, "filtered": filtered}


def resident(name: str) -> float | None:
    """Return an entry of this process's status in megabytes, None off Linux."""
    found = status_bytes(name)
    return None if found is None else found / 1e6


def make_gallery(folder: Path, rows: int, width: int, dtype: str, seed: int) -> None:
    """Write a gallery of unit-length random vectors, a block at a time."""
    gallery, rng = Gallery.create(folder, GalleryInfo(MODEL, width, dtype=dtype)), np.random.default_rng(seed)
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        gallery.add(vectors(rng, count, width), records(start, count), MODEL)


def vectors(rng: np.random.Generator, count: int, width: int) -> np.ndarray:
    """Return random unit-length vectors (count, width) float32."""
    rows = rng.standard_normal((count, width), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def records(start: int, count: int) -> pa.Table:
    """Return records with a path, a camera and a time each."""
    numbers = np.arange(start, start + count)
    cameras = pa.DictionaryArray.from_arrays(numbers % CAMERAS, [f"c{camera}" for camera in range(CAMERAS)])
    paths = pa.array([f"{number // 1000}/{number}.jpg" for number in numbers.tolist()])
    return pa.table({"path": paths, "camera": cameras.cast(pa.string()), "time": numbers.astype(np.float64)})


def judge(report: Report) -> list[str]:
    """Return a line for each bar: met or missed."""
    return [
        f"{what}: {value:.3g}, at most {most:g}: {'met' if value <= most else 'missed'}"
        for what, value, most in _bars(report)
    ]


def _bars(report: Report) -> Iterator[tuple[str, float, float]]:
    found = report["speed"]
    for task in ("one query", "64 queries"):
        if "FAISS flat" in found[task]:
            ours, theirs = found[task]["vitreid"], found[task]["FAISS flat"]
            yield f"{task}, median, x FAISS flat", ours["median"] / theirs["median"], RATIO
            yield f"{task}, p99, x FAISS flat", ours["p99"] / theirs["p99"], RATIO
    yield "seconds to open", found["opening"]["median"], OPENING
    yield "filtered out but found", found["filtered out but found"], 0
    if report["large"].get("peak_mb"):
        yield "MB resident, imports included", report["large"]["peak_mb"], RESIDENT


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(values: list[float]) -> dict[str, float]:
    """Return median, minimum, maximum and 99th percentile."""
    p99 = float(np.percentile(values, 99))
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "p99": p99}


if __name__ == "__main__":
    sys.exit(main())
