"""Who is who, measured: `python benchmarks/galleries/identities.py [--features FILE] [--people N] [--rows N] [--quick] [--json FILE]`.

FILE holds labelled embeddings: `vitreid test --save-features FILE.safetensors`, or an .npz of `vitreid export --format npz`.
Groups are compared with the pids, which the grouping does not see; a pid 0 (Market-1501's distractors) is another person in
each image, and in further lines is grouped but not compared. Names like Market-1501's say when an image was taken, which the grouping uses.
In the open-set part half of the people are enrolled with the first half of their images in the order of time, and all other images are
searched for. Without FILE, embeddings of random people are drawn.
"""

from __future__ import annotations

import argparse
import re
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from scipy import sparse
from sklearn.cluster import DBSCAN

from vitreid.benchmarks.common.command import Report, command, new_parser, save, start_report
from vitreid.common.errors import UserError
from vitreid.common.inputs.archives import NUMBERS, TEXT, read_arrays
from vitreid.common.text import percent, table
from vitreid.datasets import Record
from vitreid.datasets.published.market1501 import MARKET1501, taken_at
from vitreid.evaluation.clustering.cluster_figures import ClusteringFigures, compare_with_labels
from vitreid.evaluation.clustering.jaccard_graph import jaccard_pairs
from vitreid.gallery import Gallery, GalleryInfo
from vitreid.gallery.identities.group_people import GroupingOptions, group_people
from vitreid.gallery.identities.known_people import EnrolmentOptions, KnownPeople, best_margin, enrolled
from vitreid.gallery.identities.near_rows import AUTO, camera_norm_of, compared_rows
from vitreid.gallery.identities.person_columns import write_people
from vitreid.processor.pseudo_labels.round_figures import singled
from vitreid.processor.scoring.feature_file import load_features

MODEL, WIDTH, PER_PERSON, ADDED = "sha256:benchmark", 256, 16, 1000
K1, K2, EPS = 30, 6, 0.5  # of the baseline
FARS = (0.01, 0.001)
_MOMENT = re.compile(r"_c\d+s(\d+)_(\d+)_")


class Labelled(NamedTuple):
    """Embeddings (N, D), people (N,) and cameras (N,) as text, an order of time (N,), and seconds (N,), NaN = unknown."""

    rows: np.ndarray
    pids: np.ndarray
    cameras: np.ndarray
    order: np.ndarray
    times: np.ndarray


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "1,000 random rows: under a minute", "of the random people, and of those enrolled")
    parser.add_argument("--features", metavar="FILE", type=Path, help="labelled embeddings; default: random people")
    parser.add_argument(
        "--rows", metavar="N", type=int, default=20_000, help="random rows for time and memory; 0 = left out"
    )
    parser.add_argument(
        "--people", metavar="N", type=int, default=0, help="only the first N people of FILE, by name; default: all"
    )
    parser.add_argument("--threshold", default=AUTO, help="of the groups, as for vitreid identities; default: auto")
    parser.add_argument("--folder", metavar="DIR", type=Path, help="for the galleries, removed at the end")
    return parser


def run(args: argparse.Namespace) -> Report:
    """Measure, print, and return what goes into the JSON file."""
    report = start_report(args, "cpu")
    rows = min(args.rows, 1000) if args.quick else args.rows
    data = read(args.features) if args.features else random_people(1000 if args.quick else 5000, args.seed)
    if args.people:
        data = of_people(data, np.unique(data.pids)[: args.people])
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-", dir=args.folder) as folder:
        report["grouping"] = grouping(Path(folder) / "labelled", data, args.threshold)
        report["open_set"] = open_set(Path(folder) / "labelled", data, args.seed)
        report["size"] = size(Path(folder) / "large", rows, args.seed) if rows else "left out"
    return save(args, report)


def read(path: Path) -> Labelled:
    """Return the embeddings of a file."""
    if path.suffix == ".npz":
        found = read_arrays(path, NUMBERS + TEXT)
        if missing := {"embeddings", "pid", "camera", "path"} - set(found):
            raise UserError(
                f"--features: {path} lacks {', '.join(sorted(missing))}; write it by vitreid export --format npz"
            )
        rows, pids, cameras, names = (found[key] for key in ("embeddings", "pid", "camera", "path"))
        return with_times(rows, pids, cameras, names.tolist())
    features = load_features(path)
    rows = np.concatenate([features.query.numpy(), features.gallery.numpy()])
    pids, camids = (
        np.concatenate([features.q_pids, features.g_pids]),
        np.concatenate([features.q_camids, features.g_camids]),
    )
    return with_times(rows, pids, camids, [*features.q_names, *features.g_names])


def with_times(rows: np.ndarray, pids: np.ndarray, cameras: np.ndarray, names: list[str]) -> Labelled:
    """Return the rows with the order and the times that Market-1501's names say."""
    records = [
        Record(name, 0, camera) for name, camera in zip(names, np.unique(cameras, return_inverse=True)[1].tolist())
    ]
    known = taken_at((record for record in records if _MOMENT.search(Path(record.path).name)), MARKET1501.frame_rate)
    times = np.array([known[name].start if name in known else np.nan for name in names])
    return Labelled(rows.astype(np.float32), pids.astype(str), cameras.astype(str), moments(names), times)


def of_people(data: Labelled, people: np.ndarray) -> Labelled:
    """Return the rows of some people."""
    kept = np.isin(data.pids, people)
    return Labelled(*(column[kept] for column in data))


def moments(names: list[str]) -> np.ndarray:
    """Return (N,) numbers in the order of time of Market-1501's names (sequence, frame); the order given for other names."""
    found = [_MOMENT.search(Path(name).name) for name in names]
    keys = [(int(match[1]), int(match[2])) if match else (0, place) for place, match in enumerate(found)]
    order = np.empty(len(names), np.int64)
    order[sorted(range(len(names)), key=keys.__getitem__)] = np.arange(len(names))
    return order


def random_people(count: int, seed: int, spread: float = 0.8) -> Labelled:
    """Return `count` unit-length rows of random people, PER_PERSON rows each, whose centres lie near some common ones."""
    rng = np.random.default_rng(seed)
    num_people = max(2, count // PER_PERSON)
    people = rng.integers(0, num_people, count)
    common = rng.normal(size=(max(2, num_people // 20), WIDTH)).astype(np.float32)
    rows = np.empty((count, WIDTH), np.float32)
    centres = common[rng.integers(0, len(common), num_people)] + 0.8 * rng.standard_normal(
        (num_people, WIDTH), np.float32
    )
    for start in range(0, count, 2**16):
        some = people[start : start + 2**16]
        part = centres[some] + spread * rng.standard_normal((len(some), WIDTH), np.float32)
        rows[start : start + len(some)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    cameras = rng.integers(0, 6, count).astype(str)
    return Labelled(rows, people.astype(str), cameras, np.arange(count), np.full(count, np.nan))


def make_gallery(path: Path, data: Labelled, has_pids: bool = True) -> Gallery:
    """Return a gallery of the rows; without pids if `has_pids` is false."""
    gallery = Gallery.create(path, GalleryInfo(MODEL, data.rows.shape[1], metric="cosine"))
    columns = {"path": [f"{i}.jpg" for i in range(len(data.rows))], "camera": data.cameras.tolist()}
    if has_pids:
        columns["pid"] = data.pids.tolist()
    if not np.isnan(data.times).all():
        columns["time"] = data.times.tolist()
    gallery.add(data.rows, pa.table(columns), MODEL)
    return gallery


def grouping(path: Path, data: Labelled, threshold: str = AUTO) -> dict[str, Any]:
    """Compare a plain baseline and ours with the pids."""
    gallery = make_gallery(path, data, has_pids=False)
    own = np.array([f"alone {i}" if pid == "0" else pid for i, pid in enumerate(data.pids)])
    rows = compared_rows(gallery, np.arange(len(data.rows)), camera_norm_of(gallery))
    groups = {f"DBSCAN (k1 {K1}, k2 {K2}, eps {EPS})": baseline(rows)}
    if not np.isnan(data.times).all():
        untimed = GroupingOptions(threshold, time_weight=0)
        groups["vitreid identities, time not used"] = group_people(gallery, untimed).groups
    begin = time.process_time()
    ours = group_people(gallery, GroupingOptions(threshold))
    seconds = time.process_time() - begin
    write_people(gallery, ours.before, ours.after)
    groups["vitreid identities"] = ours.groups
    print(f"{len(own)} rows; ours took {seconds:.1f} s of processor time")
    found = {name: compare_with_labels(own, one) for name, one in groups.items()}
    known = data.pids != "0"
    if not known.all():  # they are grouped, but no pair with one of them counts
        found |= {
            f"{name}, no distractors": compare_with_labels(own[known], one[known]) for name, one in groups.items()
        }
    print(table([HEAD, *((name, *cells(one)) for name, one in found.items())]))
    return {name: {**vars(one), "f1": one.f1, "b3_f1": one.b3_f1} for name, one in found.items()} | {"seconds": seconds}


HEAD = ("groups by", "precision", "recall", "F", "B-cubed P", "R", "F", "people found", "true")


def cells(one: ClusteringFigures) -> tuple[str, ...]:
    """Return the cells of a line of the table."""
    shares = (one.precision, one.recall, one.f1, one.b3_precision, one.b3_recall, one.b3_f1)
    return (*map(percent, shares), str(one.num_found), str(one.num_true))


def baseline(rows: np.ndarray) -> np.ndarray:
    """Return the groups (N,) of DBSCAN on the Jaccard distances; rows that it calls noise are alone."""
    pairs = jaccard_pairs(rows, min(K1, len(rows) - 1), K2)
    graph = sparse.coo_array((1 - pairs.value, (pairs.first, pairs.second)), shape=(len(rows), len(rows))).tocsr()
    found = DBSCAN(eps=EPS, min_samples=2, metric="precomputed").fit((graph + graph.T).tocsr()).labels_
    return singled(found)


def open_set(path: Path, data: Labelled, seed: int) -> dict[str, Any]:
    """Enrol half of the people and search for all others' images and for the enrolled people's later ones."""
    gallery = Gallery.open(path)
    rows = compared_rows(gallery, np.arange(len(data.rows)), camera_norm_of(gallery))
    enrol, known, unknown = halves(data, seed)
    several = enrolled(rows[enrol], data.pids[enrol])
    single = enrolled(rows[enrol], data.pids[enrol], options=EnrolmentOptions(templates=1, cohort=0))
    report: dict[str, Any] = {"enrolled": len(several.names), "known": int(known.sum()), "unknown": int(unknown.sum())}
    lines = []
    for name, people, of_mean in (("average of the crops", single, True), ("vitreid identify", several, False)):
        right, score = answers(people, rows[known], data.pids[known], of_mean)
        others = answers(people, rows[unknown], data.pids[unknown], of_mean)[1]
        rates = []
        for far in FARS:
            if far * len(others) < 1:
                rates.append(float("nan"))  # too few images of others
                continue
            limit = np.sort(others)[::-1][int(far * len(others))]  # at most this share lies above
            rates.append(float((right & (score > limit)).mean()))
        report[name] = dict(zip(map(str, FARS), rates, strict=True))
        lines.append((name, *map(percent, rates)))
    print(f"open set: {len(several.names)} people enrolled, {known.sum()} images of them and {unknown.sum()} of others")
    print(table([("known people found at false alarms of", *map(percent, FARS)), *lines]))
    report["decisions"] = decisions(several, rows, data.pids, known, unknown)
    return report


def halves(data: Labelled, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return masks (N,): rows enrolled, later rows of the enrolled people, rows of all others."""
    people, counts = np.unique(data.pids, return_counts=True)
    able = people[(counts >= 6) & (people != "0")]
    chosen = np.random.default_rng(seed).permutation(able)[: len(able) // 2]
    enrol, known = np.zeros(len(data.pids), bool), np.zeros(len(data.pids), bool)
    for person in chosen:
        own = np.flatnonzero(data.pids == person)
        own = own[np.argsort(data.order[own], kind="stable")]
        enrol[own[: max(3, len(own) // 2)]] = known[own[max(3, len(own) // 2) :]] = True
    return enrol, known, ~enrol & ~known


def answers(people: KnownPeople, rows: np.ndarray, pids: np.ndarray, of_mean: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row (n,) whether the best person is the right one, and the score; `of_mean`: the cosine with the mean."""
    scores = [people.means @ row if of_mean else people.scores(row[None]) for row in rows]
    right = [people.names[one.argmax()] == pid for one, pid in zip(scores, pids, strict=True)]
    return np.array(right), np.array([best_margin(one, people.cohort) for one in scores])


def decisions(
    people: KnownPeople, rows: np.ndarray, pids: np.ndarray, known: np.ndarray, unknown: np.ndarray
) -> dict[str, float]:
    """Return what the verdicts come to, with limits from the enrolled people alone."""
    found = {
        True: [people.identify(row) for row in rows[known]],
        False: [people.identify(row) for row in rows[unknown]],
    }
    right = [one.verdict == "known" and one.person == pid for one, pid in zip(found[True], pids[known], strict=True)]
    shares = {"known found": float(np.mean(right))}
    for name, of_known, verdict in (
        ("known called new", True, "new"),
        ("known asked", True, "ask"),
        ("new called known", False, "known"),
        ("new asked", False, "ask"),
    ):
        shares[name] = float(np.mean([one.verdict == verdict for one in found[of_known]]))
    print(
        "limits from the enrolled people alone (false alarms 1%):",
        ", ".join(f"{k} {percent(v)}" for k, v in shares.items()),
    )
    return shares


def size(path: Path, count: int, seed: int) -> dict[str, Any]:
    """Measure time and memory of a grouping of random rows, and of some that are added."""
    data = random_people(count + ADDED, seed)
    first, last = (Labelled(*(column[part].copy() for column in data)) for part in (slice(count), slice(count, None)))
    gallery, pids = make_gallery(path, first), first.pids
    del data, first  # the peak is that of the grouping
    report: Report = {"rows": count}
    for name in ("all rows", f"{ADDED} added rows"):
        begin, used = time.monotonic(), time.process_time()
        found = group_people(gallery, GroupingOptions(camera_norm="none"))
        write_people(gallery, found.before, found.after)
        report |= {f"{name}: s": time.monotonic() - begin, f"{name}: processor s": time.process_time() - used}
        report[f"{name}: rows compared"] = len(found.groups)
        if name == "all rows":
            report["F"] = compare_with_labels(pids, found.groups).f1
            gallery.add(
                last.rows,
                pa.table(
                    {
                        "path": [f"new{i}.jpg" for i in range(ADDED)],
                        "camera": last.cameras.tolist(),
                        "pid": last.pids.tolist(),
                    }
                ),
                MODEL,
            )
    report["peak memory, GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        *(f"{name}: {value if isinstance(value, int) else round(value, 3)}" for name, value in report.items()), sep="\n"
    )
    return report


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    return command(get_parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
