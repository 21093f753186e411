"""Parity with other projects: do their weights give the same embeddings here? `python benchmarks/parity.py --data DIR --transreid DIR ...`.

Each project's code builds a model of full size with random weights, saved in the project's release format. Our importer reads the
file, and both models embed the same real crops. Projects without a checkout are listed and left out.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitreid.benchmarks.common.checkouts import Checkout
from vitreid.benchmarks.common.command import command, new_parser
from vitreid.benchmarks.common.isolated_process import failure_of, last_line
from vitreid.benchmarks.common.project_models import CAMERAS, CASES, PROJECTS, ProjectCase, ProjectModel
from vitreid.common.errors import UserError
from vitreid.common.files import write_text_atomically
from vitreid.common.text import table
from vitreid.configs import load_config
from vitreid.datasets.loading.image_cache import decode_all
from vitreid.datasets.loading.preprocess import Preprocess
from vitreid.model import LoadReport, ReidModel, build_spec, load_weights
from vitreid.tools.published.backbones import PARITY

TOLERANCE = 1e-5
INTRODUCTION = """
Written by `python benchmarks/parity.py --data DIR --transreid DIR --clipreid DIR --t2t DIR --solider DIR --torchreid DIR
--fastreid DIR --ssl DIR --pass DIR --crops {count} --document docs/backbones.md`; each DIR is a checkout of a project.

The project's code builds the model in full size. Every weight, norm statistic and position embedding is random. The file is saved in
the project's format, the importer of the second column loads it, and both models embed {count} crops of Market-1501 in float32.

- Coverage: share of the backbone's numbers that come from the file.
- Tensors: loaded / resized / left out. An embedder does not need the tensors left out.
- Difference: the largest difference between the two embeddings of a crop, divided by the original's largest number.
- Between crops: the same for the embeddings of two different crops.

| weights of | importer | `MODEL.NAME` | coverage | tensors | difference | between crops |
|---|---|---|---:|---:|---:|---:|
"""
HEAD = ("weights of", "importer", "our backbone", "coverage", "largest difference", "between crops")
WIDTHS = (38, 18, 38, 9, 19, 13)


@dataclass(frozen=True)
class ParityResult:
    """Result of a case; `skipped` and `failed` give the reason for absent figures.

    Args:
        figures: `importer` and `backbone`, names; `coverage`, share of our backbone's numbers that the file gave, 0-1;
            `loaded`, `resized`, `left_out`, numbers of tensors; `difference`, largest difference between the two
            embeddings of a crop, in units of the largest number in the original's; `variety`, the same between two
            consecutive crops, by the original, for comparison; `num_crops` and `embed_dim` of the compared embeddings;
            `seconds` of the whole case.
        skipped: the project's model could not be built here.
        failed: error in our import or comparison.
    """

    case: str
    figures: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""
    failed: str = ""

    def cells(self) -> list[str]:
        """Return the figures of the table that is printed."""
        found = self.figures
        numbers = f"{found['coverage']:.2%}", f"{found['difference']:.1e}", f"{found['variety']:.1e}"
        return [self.case, found["importer"], found["backbone"], *numbers]


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "one model of each project, few crops")
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="folder that holds market1501")
    for project, option in PROJECTS.items():
        if option:
            parser.add_argument(option, metavar="DIR", type=Path, help=f"checkout of {project}")
    parser.add_argument("--crops", metavar="N", type=int, default=16, help="crops that are embedded; default: 16")
    parser.add_argument("--document", metavar="FILE", type=Path, help="put the table at the end of this page")
    parser.add_argument("--only", metavar="PROJECT", choices=PROJECTS, help="one project, in this process; prints JSON")
    return parser


def crop_paths(data: Path, count: int) -> list[Path]:
    """Return that many query crops of Market-1501, evenly spread over its sorted file names.

    Raises:
        FileNotFoundError: there are none.
        UserError: `count` is below 2; with one crop there is nothing to compare a difference with.
    """
    if count < 2:
        raise UserError(f"--crops: {count}; give 2 or more")
    folder = next((place for place in sorted(data.rglob("query")) if place.is_dir()), data / "market1501" / "query")
    found = sorted(folder.glob("*.jpg"))
    if not found:
        raise FileNotFoundError(f"--data: no crops at {folder}/*.jpg; name the folder that holds Market-1501")
    return found[:: max(len(found) // count, 1)][:count]


def run(args: argparse.Namespace) -> int:
    """Run one project in this process, or each in a separate one; return the exit status: 1 if embeddings differ or ours failed."""
    paths = crop_paths(args.data, 4 if args.quick else args.crops)
    if args.only:
        print(json.dumps([asdict(result) for result in run_project(args.only, args, paths)]))
        return 0
    return run_all(args)


def run_all(args: argparse.Namespace) -> int:
    """Print the table as it grows, write the files asked for, and return the exit status."""
    print(table([HEAD], left=None, widths=WIDTHS))
    results: list[ParityResult] = []
    for project, option in PROJECTS.items():
        results += run_apart(project, option, args)
    for result in results:
        if not result.figures:
            print(f"{'failed' if result.failed else 'skipped'}: {result.case}: {result.failed or result.skipped}")
    broken = [result.case for result in results if result.failed]
    failures: list[str] = []
    if args.transreid and not args.quick:
        logging.getLogger(load_config.__module__).setLevel(logging.ERROR)  # a line for each key that is renamed
        count, failures = check_recipes(args.transreid)
        print("\n".join([f"recipes of TransReID that load and build: {count - len(failures)} of {count}", *failures]))
    if args.json:
        write_text_atomically(args.json, json.dumps([asdict(result) for result in results], indent=1) + "\n")
    if args.document and not broken:
        put_into(args.document, results)
    different = [result.case for result in results if result.figures and not result.figures["difference"] <= TOLERANCE]
    if different:
        print(f"above {TOLERANCE:.0e}: {', '.join(different)}")
    return 1 if different or failures or broken else 0


def cases_of(project: str, is_quick: bool) -> dict[str, ProjectCase]:
    """Return the cases of a project, in the short run or all."""
    return {name: case for name, case in CASES.items() if case.project == project and (case.quick or not is_quick)}


def run_apart(project: str, option: str, args: argparse.Namespace) -> list[ParityResult]:
    """Return the results of a project's cases, and print them."""
    names = cases_of(project, args.quick)
    folder = getattr(args, option.removeprefix("--"), None)
    if option and folder is None:
        return [ParityResult(name, skipped=f"no checkout; give {option} DIR") for name in names]
    if not names:
        return []
    words = ["--data", str(args.data), "--crops", str(args.crops), "--only", project]
    words += [option, str(folder)] if option else []
    words += ["--quick"] if args.quick else []
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
    if done.returncode:
        return [ParityResult(name, failed=f"its process failed: {last_line(done.stderr)}") for name in names]
    results = [ParityResult(**values) for values in json.loads(done.stdout.splitlines()[-1])]
    for result in results:
        if result.figures:
            print(table([result.cells()], left=None, widths=WIDTHS), flush=True)
    return results


def run_project(project: str, args: argparse.Namespace, paths: list[Path]) -> list[ParityResult]:
    """Return the results of one project, in this process."""
    option = PROJECTS[project].removeprefix("--")
    checkout = Checkout(getattr(args, option) if option else Path())
    return [result_of(name, case, checkout, paths) for name, case in cases_of(project, args.quick).items()]


def result_of(name: str, case: ProjectCase, checkout: Checkout, paths: list[Path]) -> ParityResult:
    """Return a case's result: skipped if the project's own model cannot be built, failed if anything else goes wrong."""
    start = time.perf_counter()
    try:
        original = case.build(checkout)
    except Exception as error:  # another project's code may raise any kind
        return ParityResult(name, skipped=failure_of(error))
    try:
        figures = compare(original, case.strict, paths)
    except Exception as error:  # any kind is a result
        return ParityResult(name, failed=failure_of(error))
    return ParityResult(name, {**figures, "seconds": round(time.perf_counter() - start, 1)})


def check_recipes(checkout: Path) -> tuple[int, list[str]]:
    """Load every YAML file of the original TransReID and build its model, weights aside.

    Returns:
        how many files there are, and a line for each that fails.
    """
    files, built, failures = sorted((checkout / "configs").rglob("*.yml")), set(), []
    for file in files:
        try:
            cfg = load_config(file, ["MODEL.PRETRAIN_CHOICE", "none", "MODEL.PRETRAIN_PATH", ""])
            spec = build_spec(cfg, CAMERAS, ("front", "rear"))
            if spec not in built:
                ReidModel(spec)
            built.add(spec)
        except Exception as error:  # any kind is a result
            failures.append(f"{file.relative_to(checkout)}: {failure_of(error)}")
    return len(files), failures


@torch.inference_mode()
def compare(original: ProjectModel, strict: bool, paths: list[Path]) -> dict[str, Any]:
    """Save the original, import it, embed the same crops with both, and return the figures."""
    images, camids = read_crops(paths, original.spec.img_size)
    theirs = original.embed(images, camids)
    model, report = import_weights(original, strict)
    ours = model.embed(images, camids, neck="after")
    tensors = {name: len(getattr(report, name)) for name in ("loaded", "resized", "left_out")}
    return {
        "importer": report.project,
        "backbone": original.spec.name,
        "coverage": report.coverage,
        **tensors,
        "difference": _relative(ours - theirs, theirs) if ours.shape == theirs.shape else float("inf"),
        "variety": _relative(theirs.roll(1, 0) - theirs, theirs),
        "num_crops": len(ours),
        "embed_dim": ours.shape[1],
    }


def _relative(difference: Tensor, to: Tensor) -> float:
    return (difference.abs().amax(1) / to.abs().amax(1)).max().item()


def import_weights(original: ProjectModel, strict: bool) -> tuple[ReidModel, LoadReport]:
    """Return our model with the original's weights, which go through a file."""
    model = ReidModel(original.spec)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save(original.pack(original.module.state_dict()), path)
        report = load_weights(model, path, strict)
    return model.eval(), report


def read_crops(paths: list[Path], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return normalised crops (B, 3, H, W) and their cameras (B,), from 0."""
    preprocess = Preprocess(size)
    pixels = torch.from_numpy(decode_all([str(path) for path in paths], preprocess))
    cameras = [int(path.name.split("_c")[1][0]) - 1 for path in paths]
    return preprocess.normalise(pixels), torch.tensor(cameras)


def put_into(document: Path, results: list[ParityResult]) -> None:
    """Write the results as a chapter of the page, in place of the chapter's earlier text."""
    before = document.read_text(encoding="utf-8").partition(PARITY)[0].rstrip()
    write_text_atomically(document, f"{before}\n\n{chapter(results)}")


def chapter(results: list[ParityResult]) -> str:
    """Return the figures as Markdown."""
    cells = "| {case} | {importer} | `{backbone}` | {coverage:.2%} | {loaded} / {resized} / {left_out} "
    cells += "| {difference:.1e} | {variety:.1e} |"
    lines = [cells.format(case=row.case, **row.figures) for row in results if row.figures]
    skipped = [f"\nNot run: {row.case} ({row.skipped})." for row in results if row.skipped]
    count = max((row.figures.get("num_crops", 0) for row in results), default=0)
    return "\n".join([PARITY + INTRODUCTION.format(count=count).rstrip("\n"), *lines, *skipped, ""])


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
