"""Trackers on the built-in film with noisy boxes: `python benchmarks/tracking.py [--weights FILE] [--library PYTHON] [--quick]`.

HOTA, IDF1 and MOTA by trackeval (`pip install --no-deps trackeval`: it names opencv-python, which collides with ours and is not
needed). The same boxes go to every tracker. Somebody who comes back must get the same id; "visit" counts each visit as somebody new,
as MOTChallenge does. Without --weights the appearance is a colour histogram. --library is the Python of an environment with the
package `trackers`, whose SORT and ByteTrack are compared. Re-association is measured on the true boxes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vitreid.benchmarks.common.command import Report, command, new_parser, save, start_report
from vitreid.benchmarks.video.noisy_boxes import NoiseRates
from vitreid.benchmarks.video.reassociation import reassociation
from vitreid.benchmarks.video.tracking_scores import tracking_scores
from vitreid.benchmarks.workers.film_tracking import (
    CameraCase,
    Embed,
    TrackerCost,
    colour_histograms,
    film_cases,
    to_sequence,
    track_by_library,
    track_case,
    true_crops,
)
from vitreid.common.errors import UserError
from vitreid.datasets.synthetic.film import FilmPlan
from vitreid.processor.embedding.embedder import Embedder
from vitreid.tracking.tracker import TrackerOptions

SORT, MOTION, FULL = "SORT of trackers", "vitreid, motion only", "vitreid"
LIBRARY = {  # the defaults, but with our threshold for sure boxes
    SORT: ("SORTTracker", {"track_activation_threshold": 0.5}),
    "ByteTrack of trackers": ("ByteTrackTracker", {"track_activation_threshold": 0.5, "high_conf_det_threshold": 0.5}),
}
OURS = {
    MOTION: (TrackerOptions(), False),
    "vitreid, 3 s memory": (TrackerOptions(lost_seconds=3), True),
    FULL: (TrackerOptions(), True),
}
GAPS = (1.0, 3.0, 5.0)  # seconds of the re-association test
SHOWN = ("HOTA", "DetA", "AssA", "IDF1", "MOTA")


@dataclass(frozen=True)
class TrackingPlan:
    """The films: their number, and of each the people, the cameras, the seconds, and height and width in pixels."""

    films: int = 3
    people: int = 10
    cameras: int = 2
    seconds: float = 60.0
    size: tuple[int, int] = (270, 480)

    def film(self, seed: int) -> FilmPlan:
        """Return the film of a seed."""
        return FilmPlan(self.people, self.cameras, self.seconds, size=self.size, seed=seed)


QUICK = TrackingPlan(1, 6, 1, 20.0)


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "one short film", "of the first film and its noise")
    parser.add_argument("--weights", metavar="FILE", help="embed crops by this model; default: colour histograms")
    parser.add_argument("--library", metavar="PYTHON", help="interpreter of an environment with the package trackers")
    parser.add_argument(
        "--folder", metavar="DIR", type=Path, default=Path("data/films"), help="of the films; default: %(default)s"
    )
    return parser


def run(args: argparse.Namespace, plan: TrackingPlan | None = None) -> Report:
    """Measure everything, print it, and return what goes into the JSON file."""
    if args.library and not Path(args.library).is_file():
        raise UserError(
            f"--library: no file {args.library}; give the Python of an environment with `pip install trackers`"
        )
    plan, rates = plan or (QUICK if args.quick else TrackingPlan()), NoiseRates()
    embed, about = embedder_of(args.weights)
    report = start_report(args, "cpu", f"appearance: {about}")
    report |= {"films": asdict(plan), "noise": asdict(rates), "appearance": about}
    print(", ".join(f"{key} {value}" for key, value in (report["films"] | report["noise"]).items()))
    seeds = range(args.seed, args.seed + plan.films)
    cases = [case for seed in seeds for case in film_cases(args.folder / f"film{seed}", plan.film(seed), rates)]
    report["trackers"] = {}
    for name, work in contestants(args.library, embed).items():
        report["trackers"][name] = measure(cases, work)
        print(row_text(name, report["trackers"][name]), flush=True)
    report["re-association"] = found_again(cases, embed)
    for gap, found in report["re-association"].items():
        print(
            f"found again after {gap}: rank-1 {100 * found['rank1']:.1f}, MRR {100 * found['mrr']:.1f}, {found['queries']} queries"
        )
    return save(args, report)


def embedder_of(weights: str | None) -> tuple[Embed, str]:
    """Return what embeds crops, and what it is."""
    if weights is None:
        return colour_histograms, "colour histograms"
    model = Embedder(weights)

    def embed(crops: list[np.ndarray]) -> np.ndarray:
        vectors = model(crops)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return embed, f"{model.name}, {weights}"


Work = Callable[[CameraCase, TrackerCost], list[np.ndarray]]


def contestants(library: str | None, embed: Embed) -> dict[str, Work]:
    """Return what gives ids to the boxes of a case, by name."""
    works: dict[str, Work] = {}
    if library is not None:
        for name, (tracker, settings) in LIBRARY.items():
            works[name] = partial(_by_library, library, tracker, settings)
    for name, (options, looks) in OURS.items():
        works[name] = partial(_by_us, options, embed if looks else None)
    return works


def _by_library(
    python: str, tracker: str, settings: Mapping[str, object], case: CameraCase, cost: TrackerCost
) -> list[np.ndarray]:
    return track_by_library(case, python, tracker, settings, cost)


def _by_us(options: TrackerOptions, embed: Embed | None, case: CameraCase, cost: TrackerCost) -> list[np.ndarray]:
    return track_case(case, options, embed, cost)


def measure(cases: list[CameraCase], work: Work) -> Report:
    """Return scores by person and by visit, and what the tracker took."""
    cost = TrackerCost()
    ids = {case.name: work(case, cost) for case in cases}
    return {
        "person": tracking_scores({case.name: to_sequence(case, ids[case.name], False) for case in cases}),
        "visit": tracking_scores({case.name: to_sequence(case, ids[case.name], True) for case in cases}),
        "ms per frame": 1000 * (cost.seconds - cost.embedding) / cost.frames,
        "embeddings per box": cost.embeddings / cost.boxes,
    }


def row_text(name: str, found: Report) -> str:
    """Return a line of the table."""
    person, visit = found["person"], found["visit"]
    figures = "  ".join(f"{key} {100 * person[key]:.1f}" for key in SHOWN)
    switches = f"switches {person['switches']}"
    by_visit = f"by visit: HOTA {100 * visit['HOTA']:.1f} IDF1 {100 * visit['IDF1']:.1f}"
    cost = f"{found['ms per frame']:.2f} ms a frame, {100 * found['embeddings per box']:.0f} % of the boxes embedded"
    return f"{name:<22} {figures}  {switches}  {by_visit}  {cost}"


def found_again(cases: list[CameraCase], embed: Embed) -> Report:
    """Return the re-association figures of true crops, per gap."""
    fps = cases[0].fps
    rows = [(number, *crop) for number, case in enumerate(cases) for crop in true_crops(case, fps)]
    cameras, frames, people = (np.array([row[place] for row in rows]) for place in range(3))
    vectors = np.concatenate(
        [embed([row[3] for row in rows[start : start + 256]]) for start in range(0, len(rows), 256)]
    )
    return {f"{gap:g} s": reassociation(vectors, people, frames, cameras, round(gap * fps), fps) for gap in GAPS}


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
