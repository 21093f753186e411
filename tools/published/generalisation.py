"""Domain generalisation: models trained on some data sets and tested on those that they have never seen.

Each data set alone, and all but one together (leave one out, as Zhao et al., CVPR 2021, do).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

from vitreid.common.errors import UserError
from vitreid.configs import load_config
from vitreid.datasets import ReidData, read_dataset
from vitreid.datasets.data_builders import build_read_options
from vitreid.datasets.readers.dataset_registry import resolve_names
from vitreid.datasets.readers.merge import with_test_people
from vitreid.datasets.records import UNLABELLED
from vitreid.datasets.same_files import number_contents
from vitreid.tools.published.published_tables import Row, train_command
from vitreid.tools.published.repeat import run_row, spread

DG = "dg"  # name of the table
SETS = ("market1501", "msmt17", "cuhk03-np-labeled", "cuhk-sysu")
RECIPE = "market/vit_small_dinov2"
AT_THE_END = 10**6  # epochs between evaluations: no epoch is chosen by the test set
CHOSEN_HERE = {
    "DATASETS.NAMES": "use --sets",
    "DATASETS.TEST": "use --sets",
    "DATASETS.TRAIN_PARTS": "use --all-parts",
    "DATASETS.ROOT_DIR": "use --root",
    "DATASETS.VAL_IDS": "whole data sets are tested on",
    "SOLVER.SEED": "use --seeds",
    "SOLVER.EVAL_PERIOD": "the test sets are evaluated after the last epoch only",
    "OUTPUT_DIR": "use --output",
}


@dataclass(frozen=True)
class DomainRun:
    """One training, and the data sets that it is tested on.

    Args:
        trained, tested: names of data sets.
    """

    trained: tuple[str, ...]
    tested: tuple[str, ...]


def testable(parts: Mapping[str, ReidData]) -> list[str]:
    """Return the names of the data sets with a query and a gallery."""
    return [name for name, data in parts.items() if data.query and data.gallery]


def plan(parts: Mapping[str, ReidData], all_parts: bool = False) -> list[DomainRun]:
    """Return the trainings: each data set alone, then all but one, for each that can be tested on.

    Args:
        all_parts: test people are trained on too, so that a model is not tested on a data set that it was trained on.
    Raises:
        UserError: fewer than two data sets, or none to train or to test on.
    """
    tested = testable(parts)
    sources = [name for name, data in parts.items() if data.train or (all_parts and name in tested)]
    if len(parts) < 2 or not tested or not sources:
        raise UserError(
            f"--sets: {', '.join(parts) or 'nothing'}; name two data sets or more, at least one with images to train on and "
            "another with a query and a gallery"
        )
    mixes: list[tuple[str, ...]] = [(name,) for name in sources]
    mixes += [tuple(one for one in sources if one != name) for name in tested]
    runs = []
    for mix in dict.fromkeys(mixes):
        if set(tested) - set(mix):
            runs.append(DomainRun(mix, tuple(one for one in tested if not (all_parts and one in mix))))
    return [run for run in runs if run.trained]


def as_row(run: DomainRun, recipe: str, options: Sequence[str], all_parts: bool = False) -> Row:
    """Return a run as a row of a published table: its commands and the folder of its figures."""
    unseen = next(one for one in run.tested if one not in run.trained)
    sets = f"DATASETS.NAMES {shlex.quote(str(run.trained))} DATASETS.TEST {shlex.quote(str((unseen,)))}"
    parts = f"DATASETS.TRAIN_PARTS {'all' if all_parts else 'train'} SOLVER.EVAL_PERIOD {AT_THE_END}"
    kept = shlex.join(options).replace("{", "{{").replace("}", "}}")
    test = f"vitreid test --weights {{run}}/best.safetensors DATASETS.TEST {shlex.quote(str(run.tested))} DATASETS.ROOT_DIR {{root}}"
    names = "+".join(run.trained)
    return Row(
        names, f"dg{'-all' if all_parts else ''}-{names}", (train_command(recipe, f"{sets} {parts} {kept}"), test)
    )


def trainings_config(recipe: str, options: Sequence[str]) -> CfgNode:
    """Return the config of the trainings.

    Raises:
        UserError: an unknown option, or one that the table chooses itself.
    """
    for key in options[::2]:
        if key in CHOSEN_HERE:
            raise UserError(f"{key}: the table {DG} sets it ({CHOSEN_HERE[key]}); leave it out")
    return load_config(recipe, list(options))


def generalise(
    parts: Mapping[str, ReidData],
    recipe: str,
    options: Sequence[str],
    seeds: Sequence[int],
    root: Path,
    output: Path,
    all_parts: bool = False,
) -> str:
    """Train and test what is not done yet; return the tables.

    Args:
        parts: the data sets by name.
        recipe, options: of the trainings.
        root: folder of the data sets.
        output: folder of the runs.
        all_parts: see `plan`.
    """
    cfg, runs, tested = trainings_config(recipe, options), plan(parts, all_parts), testable(parts)
    seen = who_saw_what(parts, all_parts)
    rows = []
    for run in runs:
        folders, minutes = run_row(as_row(run, recipe, options, all_parts), seeds, root, output)
        figures = [_figures(folder / "metrics.json", run.tested) for folder in folders]
        cells = [_cell(run, name, [one[name] for one in figures]) if name in run.tested else "-" for name in tested]
        rows.append(["+".join(run.trained), *cells, spread(minutes)])
    head = (
        f"mAP / Rank-1 in percent after the last epoch, seeds {', '.join(map(str, seeds))}; {recipe}, {build_origin(cfg)}.\n"
        "In brackets: the training part of this data set was trained on."
    )
    return "\n".join([head, "", _markdown(["trained on", *tested, "minutes"], rows), "", seen])


def build_origin(cfg: CfgNode) -> str:
    """Return the backbone and what it started from, for the table's heading."""
    return f"{cfg.MODEL.NAME}, pretrained: {Path(cfg.MODEL.PRETRAIN_PATH).name or cfg.MODEL.PRETRAIN_CHOICE}"


def who_saw_what(parts: Mapping[str, ReidData], all_parts: bool = False) -> str:
    """Return a table of what is trained on: images, people, cameras, and images that test parts hold too, byte for byte."""
    tested = testable(parts)
    sources = {name: with_test_people(data) if all_parts else data for name, data in parts.items()}
    groups = {("train", name): data.train for name, data in sources.items()}
    groups |= {("test", name): [*parts[name].query, *parts[name].gallery] for name in tested}
    owners = [(key, path) for key, records in groups.items() for record in records for path in record.files]
    numbers = number_contents([path for _, path in owners], [0] * len(owners))
    found: dict[tuple[str, str], set[int]] = {key: set() for key in groups}
    for (key, _), number in zip(owners, numbers, strict=True):
        found[key].add(number)
    rows, warnings = [], []
    for name, data in sources.items():
        people = {one.pid for one in data.train if one.pid != UNLABELLED}
        shared = {other: len(found["train", name] & found["test", other]) for other in tested}
        counts = (len(data.train), len(people), len(data.train_cameras), *shared.values())
        rows.append([name, *(f"{count:,}" for count in counts)])
        warnings += [
            f"Warning: {count:,} images of {other}'s test part are trained on with {name}: it is not new to such a model."
            for other, count in shared.items()
            if count and not (all_parts and other == name)
        ]
    head = ["trained on", "images", "people", "cameras", *(f"images of {one}'s test part" for one in tested)]
    return "\n".join(["Who saw what:", "", _markdown(head, rows), *warnings])


def read_sets(names: Sequence[str], root: Path, cfg: CfgNode) -> dict[str, ReidData]:
    """Read data sets with the options of a config; errors as `read_dataset`, and UserError for a name that stands twice."""
    known = resolve_names(names, "--sets")
    if len(set(known)) < len(known):
        raise UserError(f"--sets: {', '.join(names)} names a data set twice; name each once")
    options = build_read_options(cfg)
    try:
        return {name: read_dataset(name, root, options) for name in known}
    except FileNotFoundError as error:
        raise FileNotFoundError(str(error).replace("DATASETS.ROOT_DIR", "--root", 1)) from error


def _figures(path: Path, tested: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the figures of each test set, from the metrics.json of `vitreid test`, which has them in this order."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return dict(zip(tested, [content] if len(tested) == 1 else content.values(), strict=True))


def _cell(run: DomainRun, name: str, figures: Sequence[Mapping[str, float]]) -> str:
    text = " / ".join(spread([100 * one[key] for one in figures]) for key in ("mAP", "Rank-1"))
    return f"({text})" if name in run.trained else text


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])
