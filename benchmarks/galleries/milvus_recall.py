"""Time and recall of a gallery in a Milvus server: `python benchmarks/galleries/milvus_recall.py [--quick] [--json FILE] [--address URL]`.

The vectors are people: centres at random, and crops around them, of unit length. For each index the gallery is imported from a
folder, and searched; the recall is the share of the folder's exact neighbours among those found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vitreid.benchmarks.common.command import Report, command, new_parser, save, start_report
from vitreid.benchmarks.common.measurement import spread, timed
from vitreid.benchmarks.common.milvus_server import LocalMilvus
from vitreid.gallery import Gallery, GalleryInfo
from vitreid.gallery.milvus.milvus_gallery import MilvusGallery
from vitreid.gallery.milvus.transfer import from_folder
from vitreid.gallery.search.search_result import SearchResult

MODEL, TOPK, CROPS = "sha256:benchmark", 20, 20  # crops per person
SPREAD = 0.7  # length of the noise of a crop, relative to its person's centre
INDEXES = ("FLAT", "IVF_FLAT", "HNSW")


@dataclass(frozen=True)
class MilvusPlan:
    """Sizes: rows x values of the gallery, and queries."""

    rows: int = 200_000
    width: int = 256
    queries: int = 200


QUICK = MilvusPlan(2_000, 32, 20)


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "2,000 rows: under a minute", "of the vectors")
    parser.add_argument(
        "--address", metavar="URL", help="of a running server; default: one of the package milvus, started here"
    )
    return parser


def run(args: argparse.Namespace, plan: MilvusPlan | None = None) -> Report:
    """Measure each index, print it, and return what goes into the JSON file."""
    plan = plan or (QUICK if args.quick else MilvusPlan())
    report = start_report(args, "cpu")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vitreid-benchmark-")))
        address = args.address or stack.enter_context(LocalMilvus(folder / "server")).address
        gallery, queries = make_people(folder / "gallery", plan, args.seed)
        exact = gallery.search(queries, TOPK)
        print(f"{plan.rows:,} rows x {plan.width}, top {TOPK}, {plan.queries} queries")
        report["indexes"] = {name: measure(gallery, address, name, queries, exact) for name in INDEXES}
        for name, row in report["indexes"].items():
            one = {key: f"{1000 * row['one query'][key]:.1f}" for key in ("median", "min", "max")}
            print(
                f"  {name:<9} import {row['import']:.0f} s, one query {one['median']} ms ({one['min']} to {one['max']}), "
                f"recall at {TOPK} {row['recall']:.4f}, {row['server']}"
            )
    return save(args, report)


def make_people(folder: Path, plan: MilvusPlan, seed: int) -> tuple[Gallery, np.ndarray]:
    """Return a gallery folder of people, CROPS crops each, and queries (Q, D): further crops of some."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.standard_normal((plan.rows // CROPS, plan.width), np.float32))
    gallery = Gallery.create(folder, GalleryInfo(MODEL, plan.width))
    crops = unit(np.repeat(centres, CROPS, 0) + noise(rng, plan.rows, plan.width))
    records = [{"path": f"{row}.jpg", "pid": str(row // CROPS), "camera": f"c{row % 6}"} for row in range(len(crops))]
    gallery.add(crops, records, MODEL)
    some = rng.choice(len(centres), plan.queries, replace=False)
    return gallery, unit(centres[some] + noise(rng, plan.queries, plan.width))


def noise(rng: np.random.Generator, count: int, width: int) -> np.ndarray:
    """Return vectors (count, width) of mean length SPREAD."""
    return rng.standard_normal((count, width), np.float32) * np.float32(SPREAD / width**0.5)


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, D) at unit length."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def measure(gallery: Gallery, address: str, index: str, queries: np.ndarray, exact: list[SearchResult]) -> Report:
    """Return the seconds of the import and of single queries, and the recall, of one index."""
    path, found = f"milvus:{address}#benchmark", list[SearchResult]()
    seconds, _ = timed(lambda: from_folder(gallery, path, overwrite=True, index=index).close())
    copy = MilvusGallery.open(path)
    try:
        copy.search(queries[:1], TOPK)  # loads the collection
        times = [timed(partial(_search, copy, query, found))[0] for query in queries]
        version = copy.client.get_server_version()
    finally:
        copy.close()
    shares = [len(set(a.ids.tolist()) & set(b.ids.tolist())) / TOPK for a, b in zip(found, exact, strict=True)]
    return {"import": seconds, "one query": spread(times), "recall": float(np.mean(shares)), "server": version}


def _search(gallery: MilvusGallery, query: np.ndarray, found: list[SearchResult]) -> None:
    found += gallery.search(query[None], TOPK)


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
