"""Time and memory of the gallery search: `python benchmarks/gallery.py [--quick] [--json FILE] [--skip-large]`.

Contestants search the same vectors in the same process, in turn, since a machine's speed drifts, with the same number of
threads: OMP_NUM_THREADS, or all cores. Tables show medians with minimum and maximum. Memory is measured in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vitreid.benchmarks.common.command import Report, command, new_parser, save, start_report
from vitreid.benchmarks.common.hardware import status_bytes
from vitreid.benchmarks.common.isolated_process import last_line
from vitreid.benchmarks.common.measurement import OURS, Measurement, spread, timed, turns, verdict
from vitreid.common.errors import UserError
from vitreid.gallery import Gallery, GalleryInfo
from vitreid.gallery.search.engine import engine_of
from vitreid.gallery.search.faiss_index import import_faiss

MODEL, TOPK, CAMERAS, BLOCK = "sha256:benchmark", 20, 6, 2**19
RATIO, OPENING, RESIDENT = 1.2, 0.2, 500  # the bars: x FAISS flat, seconds, megabytes
FLAT = "FAISS flat"
Search = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class SearchPlan:
    """Sizes: rows x values of the gallery in both parts; searches of one query, and of 64, per round."""

    rows: int = 100_000
    width: int = 768
    large: tuple[int, int] = (5_000_000, 256)
    singles: int = 50
    batches: int = 3
    rounds: int = 5


QUICK = SearchPlan(10_000, 256, (100_000, 64), 20, 2, 2)


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "little data, two rounds: under a minute", "of the vectors")
    parser.add_argument("--folder", metavar="DIR", type=Path, help="for the galleries: 3 GB, removed at the end")
    parser.add_argument("--skip-large", action="store_true", help="leave out the 5 million rows, 2.5 GB on disk")
    parser.add_argument("--resident", metavar="GALLERY", help=argparse.SUPPRESS)  # the fresh process of `large`
    return parser


def run(args: argparse.Namespace, plan: SearchPlan | None = None) -> Report:
    """Measure everything, print it, and return what goes into the JSON file."""
    if args.resident:
        report = measure_resident(args.resident, args.seed)
        print(json.dumps(report))
        return report
    if args.folder and not args.folder.is_dir():
        raise UserError(f"--folder: no folder {args.folder}; make it, or leave it out")
    plan = plan or (QUICK if args.quick else SearchPlan())
    report = start_report(args, "cpu")
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-", dir=args.folder) as folder:
        report["speed"] = speed(Path(folder) / "small", plan, args.seed)
        skip = "asked to (--skip-large)" if args.skip_large else ""
        report["large"] = {"skipped": skip} if skip else large(Path(folder) / "large", plan, args.seed)
        print(f"large gallery skipped: {skip}" if skip else f"large gallery: {report['large']}")
    report["bars"] = list(judge(report)) if not args.quick else []
    print(*(f"bar: {line}" for line in report["bars"]), sep="\n")
    return save(args, report)


def speed(folder: Path, plan: SearchPlan, seed: int) -> Report:
    """Return the times of opening, of single queries and of batches, and whether filters hold."""
    make_gallery(folder, plan.rows, plan.width, "float32", seed)
    opening = spread(seconds_of(lambda: Gallery.open(folder), 5))
    gallery = Gallery.open(folder)
    queries = vectors(np.random.default_rng(seed + 1), 64, plan.width)
    contestants, skipped = find_contestants(gallery, folder)
    report: Report = {"rows": plan.rows, "width": plan.width, "opening": opening, "skipped": skipped}
    print(f"{plan.rows:,} rows x {plan.width} float32, top {TOPK}; opened in {1000 * opening['median']:.1f} ms")
    for task, size, count in (("one query", 1, plan.singles), ("64 queries", 64, plan.batches)):
        report[task] = take_turns(contestants, queries, size, count, plan.rounds)
        for name, figures in report[task].items():
            texts = (f"{key} {1000 * value:.2f} ms" for key, value in figures.items())
            print(f"  {task}  {name:<12}", *texts, sep="  ")
    for name, reason in skipped.items():
        print(f"  {name} skipped: {reason}")
    report["filtered out but found"] = wrongly_found(gallery, queries)
    print(f"  filtered out but found: {report['filtered out but found']}")
    return report


def find_contestants(gallery: Gallery, folder: Path) -> tuple[dict[str, Search], dict[str, str]]:
    """Return the contestants that are installed, and the reason for each other one. FAISS copies the vectors into memory."""
    contestants: dict[str, Search] = {
        "vitreid": lambda queries: gallery.search(queries, TOPK),
        "index only": lambda queries: engine_of(gallery).exact.search(queries, TOPK),
    }
    try:
        faiss = import_faiss()
    except ImportError as error:
        return contestants, {FLAT: str(error)}
    flat = faiss.IndexFlatL2(gallery.info.dimension)
    flat.add(np.array(gallery.embeddings))
    return {**contestants, FLAT: lambda queries: flat.search(queries, TOPK)}, {}


def take_turns(contestants: dict[str, Search], queries: np.ndarray, size: int, count: int, rounds: int) -> Report:
    """Return per contestant the seconds of a search of `size` queries: median, extremes and 99th percentile."""
    for search in contestants.values():
        search(queries[:size])  # warm up

    def measure(name: str, number: int) -> Measurement:
        some = np.roll(queries, number, 0)[:size]
        return Measurement({"seconds": timed(partial(contestants[name], some))[0]})

    rows = turns(dict.fromkeys(contestants, ""), rounds * count, measure)
    seconds = {row.contestant: row.values("seconds") for row in rows}
    return {name: {**spread(found), "p99": float(np.percentile(found, 99))} for name, found in seconds.items()}


def seconds_of(work: Callable[[], object], count: int = 1) -> list[float]:
    """Return the seconds of some calls."""
    return [timed(work)[0] for _ in range(count)]


def wrongly_found(gallery: Gallery, queries: np.ndarray) -> int:
    """Return the number of records found under filters that do not fulfil them."""
    wrong = 0
    for camera in range(CAMERAS):
        results = gallery.search(queries[:8], TOPK, [f"camera!=c{camera}", "time>=100"])
        wrong += sum(row["camera"] == f"c{camera}" or row["time"] < 100 for result in results for row in result.rows)
    return wrong


def large(folder: Path, plan: SearchPlan, seed: int) -> Report:
    """Return the memory of a process that searches a large float16 gallery, and its times."""
    rows, width = plan.large
    make_gallery(folder, rows, width, "float16", seed)
    words = [sys.executable, str(Path(__file__).resolve()), "--resident", str(folder), "--seed", str(seed)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"the process that searches {folder} failed: {last_line(done.stderr)}")
    sizes = {"rows": rows, "width": width, "file_mb": (folder / "embeddings.npy").stat().st_size / 1e6}
    return {**sizes, **json.loads(done.stdout.splitlines()[-1])}


def measure_resident(folder: str, seed: int) -> Report:
    """Open and search a gallery; return the times and this process's resident memory, all of it: imports, peak, end.

    At the end it is split into memory of the process and pages of files, which the system can reclaim.
    """
    megabytes: Report = {"imports_mb": resident("VmRSS")}
    gallery = Gallery.open(folder)
    queries = vectors(np.random.default_rng(seed + 1), 64, gallery.info.dimension)
    (first,) = seconds_of(lambda: gallery.search(queries[:1], TOPK))
    single = seconds_of(lambda: gallery.search(queries[:1], TOPK), 3)
    (batch,) = seconds_of(lambda: gallery.search(queries, TOPK))
    (filtered,) = seconds_of(lambda: [result.rows for result in gallery.search(queries[:1], TOPK, ["camera=c1"])])
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


def judge(report: Report) -> Iterator[str]:
    """Yield a line for each bar: met or missed."""
    found = report["speed"]
    for task in ("one query", "64 queries"):
        if FLAT in found[task]:
            for key in ("median", "p99"):
                ratio = found[task][OURS][key] / found[task][FLAT][key]
                yield verdict(f"{task}, {key}, x {FLAT}", ratio, most=RATIO)
    yield verdict("seconds to open", found["opening"]["median"], most=OPENING)
    yield verdict("filtered out but found", found["filtered out but found"], most=0)
    if report["large"].get("peak_mb"):
        yield verdict("MB resident, imports included", report["large"]["peak_mb"], most=RESIDENT)


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
