"""Time and peak memory of one clustering of training without labels: `python benchmarks/galleries/million_crops.py [--rows N] [--json FILE]`.

The embeddings are random people: centres that lie near some common ones, a shift for each camera, and noise, at unit length. They go
the way of `UNSUPERVISED.CLUSTERING`: camera normalisation, whitening, neighbours, similar pairs, clusters. `--index auto` is what training and
`vitreid identities` do: exact neighbours for up to 100,000 rows, whose time grows with the square of the rows, and more on a GPU; else by lists.
Times of the images, which training may use, are not part of it. Memory is that of the whole process at its peak in each step, the embeddings included.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitreid.benchmarks.common.command import Report, check_numbers, command, new_parser, save, start_report
from vitreid.benchmarks.common.hardware import status_bytes
from vitreid.benchmarks.common.peak_memory import start_memory, wait
from vitreid.common.errors import UserError
from vitreid.common.text import percent, table
from vitreid.configs import OPTIONS
from vitreid.evaluation import normalise_cameras
from vitreid.evaluation.clustering.average_linkage import average_linkage
from vitreid.evaluation.clustering.cluster_figures import compare_with_labels
from vitreid.evaluation.clustering.density_clusters import density_clusters
from vitreid.evaluation.clustering.jaccard_graph import REACH, SimilarPairs, jaccard_pairs
from vitreid.evaluation.clustering.person_pairs import LEAST, person_pairs
from vitreid.evaluation.reranking.neighbour_lists import (
    PROBED,
    TRAIN_PER_LIST,
    drawn_places,
    farthest_distances,
    num_lists,
)
from vitreid.evaluation.reranking.neighbours import Neighbours
from vitreid.gallery.identities.near_rows import AUTO, SEARCHES
from vitreid.gallery.search.faiss_index import import_faiss
from vitreid.processor.pseudo_labels.clusterings import EPS, whitened
from vitreid.processor.pseudo_labels.round_figures import singled

K1, K2, MIN_SAMPLES, WHITEN = (OPTIONS[f"UNSUPERVISED.{key}"].default for key in ("K1", "K2", "MIN_SAMPLES", "WHITEN"))
CAMERAS, BLOCK, QUICK = 6, 2**16, 2000
FAISS = "faiss-ivf"
NEIGHBOURS, PAIRS = "neighbours", "similar pairs"
SPREAD, SHIFT = 0.9, 0.3  # of the noise and of the cameras' shifts, next to centres of 1


@dataclass
class Steps:
    """Seconds, and bytes of the process at its peak, of each step."""

    device: str
    seconds: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, int | None] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the body."""
        can_reset = start_memory(self.device)[0] is not None
        begin = time.perf_counter()
        yield
        wait(self.device)
        self.seconds[name] = time.perf_counter() - begin
        self.peaks[name] = status_bytes("VmHWM") if can_reset else None


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, f"{QUICK:,} rows: some seconds", "of the random people")
    parser.add_argument("--rows", metavar="N", type=int, default=1_000_000, help="embeddings; default: 1,000,000")
    parser.add_argument("--dim", metavar="D", type=int, default=768, help="features of each; default: 768")
    parser.add_argument(
        "--images", metavar="N", type=int, default=16, help="images of a person on average; default: 16"
    )
    parser.add_argument("--clustering", choices=sorted(CLUSTERINGS), default="linkage")
    parser.add_argument("--index", choices=(*SEARCHES, FAISS), default=AUTO, help="of the neighbours")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the exact neighbours")
    return parser


def run(args: argparse.Namespace) -> Report:
    """Measure, print, and return what goes into the JSON file."""
    check_numbers(args, "rows", "dim", "images")
    if args.device == "cuda" and args.index not in (AUTO, "exact"):
        raise UserError(f"--index: {args.index} is searched on the CPU; take --device cpu, or --index exact")
    if args.index == FAISS:
        faiss_module()  # missing: before any work
    rows = min(args.rows, QUICK) if args.quick else args.rows
    setting = f"{rows} rows x {args.dim}", args.clustering, f"index {args.index}"
    report = start_report(args, args.device, *setting)
    features, people, cameras = random_crops(rows, args.dim, args.images, args.seed)
    steps = Steps(args.device)
    groups = cluster(features.to(args.device), cameras, args.clustering, args.index, steps)
    figures = compare_with_labels(people, singled(groups))
    report |= {"rows": rows, "dim": args.dim, "clustering": args.clustering, "index": args.index}
    report |= {"embeddings_mb": features.nbytes / 1e6, "seconds": steps.seconds, "peak_mb": in_mb(steps.peaks)}
    report |= {"clusters": int(groups.max()) + 1, "people": len(np.unique(people)), "f1": figures.f1}
    print(as_text(report))
    return save(args, report)


def random_crops(count: int, dim: int, images: int, seed: int) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Return embeddings (N, D) of random people at unit length, person (N,) and camera (N,) of each. Made in blocks: little else is held."""
    rng = np.random.default_rng(seed)
    num_people = max(2, count // images)
    common = rng.standard_normal((max(2, num_people // 20), dim), np.float32)
    places, shifts = rng.integers(0, len(common), num_people), SHIFT * rng.standard_normal((CAMERAS, dim), np.float32)
    people, cameras = rng.integers(0, num_people, count), rng.integers(0, CAMERAS, count)
    centres = rng.standard_normal((num_people, dim), np.float32)
    centres += common[places]
    rows = np.empty((count, dim), np.float32)
    for start in range(0, count, BLOCK):
        some = slice(start, start + BLOCK)
        part = centres[people[some]] + shifts[cameras[some]]
        part += SPREAD * rng.standard_normal(part.shape, np.float32)
        rows[some] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return torch.from_numpy(rows), people, cameras


def cluster(features: Tensor, cameras: np.ndarray, clustering: str, index: str, steps: Steps) -> np.ndarray:
    """Return the cluster (N,) of each row, -1 = outlier; every step is measured."""
    with steps.step("camera normalisation"):
        names = cameras.astype(str)
        features = normalise_cameras(features[:1], features, names[:1], names, "full")[1]
    with steps.step("whitening"):
        features = whitened(features, WHITEN)

    def find(k: int) -> Neighbours:
        with steps.step(NEIGHBOURS):
            return SEARCHES[index](features, k) if index in SEARCHES else by_faiss(features, k)

    groups = CLUSTERINGS[clustering](features, find, steps)
    steps.seconds[PAIRS] -= steps.seconds[NEIGHBOURS]  # which are found inside that step
    return groups


def faiss_module() -> Any:
    """Return FAISS; raise MissingPackageError where it is not installed."""
    return import_faiss(f"--index {FAISS}", f"or choose {', '.join(SEARCHES)}")


def by_faiss(features: Tensor, k: int) -> Neighbours:
    """Return the neighbours by FAISS's IVF, with as many lists and as many of them searched as `neighbours_by_lists`."""
    faiss, rows = faiss_module(), features.numpy()
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(rows.shape[1]), rows.shape[1], num_lists(len(rows)))
    index.train(rows[drawn_places(len(rows), TRAIN_PER_LIST * index.nlist).numpy()])
    index.add(rows)
    index.nprobe = min(PROBED, index.nlist)
    near = np.concatenate([index.search(part, k)[1] for part in np.split(rows, range(BLOCK, len(rows), BLOCK))])
    near = np.where(near < 0, np.arange(len(rows))[:, None], near)  # too few were found
    return Neighbours(near.astype(np.int32), farthest_distances(features).numpy())


def by_linkage(features: Tensor, find: Callable[[int], Neighbours], steps: Steps) -> np.ndarray:
    """Cluster as UNSUPERVISED.CLUSTERING linkage."""
    with steps.step(PAIRS):
        pairs = person_pairs(features, K1, K2, find)
    with steps.step("clusters"):
        return average_linkage(len(features), pairs, LEAST)


def by_density(features: Tensor, find: Callable[[int], Neighbours], steps: Steps) -> np.ndarray:
    """Cluster as UNSUPERVISED.CLUSTERING dbscan."""
    most = len(features) - 1
    with steps.step(PAIRS):
        pairs: SimilarPairs = jaccard_pairs(features, min(K1, most), K2, neighbours=find(min(REACH * K1, most) + 1))
    with steps.step("clusters"):
        return density_clusters(len(features), pairs, EPS, MIN_SAMPLES)


CLUSTERINGS: dict[str, Callable[[Tensor, Callable[[int], Neighbours], Steps], np.ndarray]] = {
    "dbscan": by_density,
    "linkage": by_linkage,
}


def in_mb(peaks: dict[str, int | None]) -> dict[str, float | None]:
    """Return megabytes (10^6 bytes); None = not measured here."""
    return {name: None if peak is None else peak / 1e6 for name, peak in peaks.items()}


def as_text(report: dict[str, Any]) -> str:
    """Return the figures as a table and a sentence."""
    seconds, peaks = report["seconds"], report["peak_mb"]
    lines = [(name, f"{seconds[name]:.1f}", _gigabytes(peaks[name])) for name in seconds]
    known = [peak for peak in peaks.values() if peak is not None]
    parts = [f"embeddings {report['embeddings_mb'] / 1e3:.2f} GB"]
    parts += [f"peak of the process {max(known) / 1e3:.2f} GB"] if known else []
    parts += [f"{report['clusters']} clusters of {report['people']} people", f"pairwise F {percent(report['f1'])}"]
    return "\n".join([table([("step", "seconds", "peak, GB"), *lines]), ", ".join(parts)])


def _gigabytes(megabytes: float | None) -> str:
    return "-" if megabytes is None else f"{megabytes / 1e3:.2f}"


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    return command(get_parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
