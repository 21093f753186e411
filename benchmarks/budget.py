"""What a recipe learns in a given time: `python benchmarks/budget.py --data DIR [--minutes 10] [--quick] [--json FILE]`.

Every recipe trains for the same minutes on the same machine, its schedule stretched or squeezed to the time (its
learning rate follows the minutes), without pretrained weights, and is evaluated on people of the training set that no recipe saw. The recipes
compared if none is given: the original TransReID's (ViT-Base/16 at 256x128 with SGD), the same with the smallest ViT that
is common, and ours for training without pretrained weights.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm
from yacs.config import CfgNode

from vitreid.benchmarks.common.command import Report, check_numbers, collect, command, new_parser, start_report
from vitreid.common.errors import UserError
from vitreid.configs import load_config
from vitreid.model import ReidModel
from vitreid.processor.device import pick_device
from vitreid.processor.scoring.evaluator import build_evaluator
from vitreid.processor.training.epoch_loop import TrainingSession
from vitreid.processor.training.run import build_session
from vitreid.solver import Schedule

RECIPES = (
    "market/vit_base.yml MODEL.PRETRAIN_CHOICE none",
    "market/vit_base.yml MODEL.PRETRAIN_CHOICE none MODEL.NAME vit_tiny_patch16_224",
    "market/vit_tiny_scratch.yml",
)
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@dataclass(frozen=True)
class TimedSchedule(Schedule):
    """A schedule by the clock: `epochs` epochs pass in `seconds` from `start`.

    This holds for the learning rates. Options that start at an epoch (SOLVER.HEAD_EPOCHS, SOLVER.SWA_START) count trained
    epochs.
    """

    epochs: int = 1
    seconds: float = 1.0
    start: float = 0.0

    @property
    def used(self) -> float:
        """Fraction of the time that is over."""
        return (time.perf_counter() - self.start) / self.seconds

    def progress(self, epoch: int, iteration: int) -> float:
        """Return the epochs that have passed by the clock."""
        return self.epochs * min(self.used, 1.0)


class TimeIsOver(Exception):
    """Ends the training."""


def train_for(cfg: CfgNode, seconds: float) -> tuple[TrainingSession, int, float]:
    """Train a config for a time; return the session, the number of images and the seconds."""
    session = build_session(cfg)
    session.compile()
    trainer = session.trainer
    clock = {"epochs": cfg.SOLVER.MAX_EPOCHS, "seconds": seconds, "start": time.perf_counter()}
    trainer.schedule = schedule = TimedSchedule(**{**vars(trainer.schedule), **clock})
    images = 0

    def check_clock() -> None:
        if schedule.used >= 1:
            raise TimeIsOver

    with tqdm(desc="train", unit="it", disable=None) as bar, contextlib.suppress(TimeIsOver):
        for epoch in itertools.count(1):
            try:
                trainer.train_epoch(epoch, bar, check_clock)
            finally:
                images += trainer.progress.images
    return session, images, time.perf_counter() - schedule.start


def measure(recipe: str, args: argparse.Namespace) -> Report:
    """Train one recipe, and evaluate it on the people held out."""
    cfg = config_of(recipe, args)
    session, images, seconds = train_for(cfg, 60 * args.minutes)
    average = session.trainer.average
    model: Any = average.model if average else session.module.model
    assert isinstance(model, ReidModel)
    result = build_evaluator(cfg, session.data, model, session.device, session.precision)(model)
    return {
        "recipe": recipe,
        "precision": str(session.precision).removeprefix("torch."),
        "parameters": sum(p.numel() for p in session.module.model.parameters()),
        "images": images,
        "epochs": images / len(session.data.train),
        "seconds": seconds,
        **result.summary(),
    }


def config_of(recipe: str, args: argparse.Namespace) -> CfgNode:
    """Return the config of `FILE [KEY VALUE …]`, with the data, the split and the seed of this benchmark.

    Raises:
        ValueError: an option is wrong; FileNotFoundError: there is no such file.
    """
    name, *opts = shlex.split(recipe)
    path = Path(name) if Path(name).is_file() else CONFIGS / name
    shared = ["DATASETS.VAL_IDS", str(args.val_ids), "SOLVER.SEED", str(args.seed)]
    if args.data:
        shared += ["DATASETS.ROOT_DIR", str(args.data)]
    quick = [text for pair in QUICK.items() for text in pair] if args.quick else []
    return load_config(path, [*opts, *shared, *quick])


QUICK = {  # options with which any recipe runs in seconds
    "DATASETS.NAMES": "synthetic",
    "DATASETS.VAL_IDS": "8",
    "DATASETS.ROOT_DIR": "data",
    "MODEL.NAME": "vit_tiny_patch16_224",
    "INPUT.SIZE_TRAIN": "(64, 32)",
    "INPUT.SIZE_TEST": "(64, 32)",
    "INPUT.PADDING": "2",
}


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "synthetic people, 5 seconds each", "of all recipes")
    parser.add_argument("--data", metavar="DIR", type=Path, help="folder that holds market1501/ (DATASETS.ROOT_DIR)")
    parser.add_argument(
        "--minutes", type=float, help="training time of each recipe, 10 if not given (quick: 5 seconds)"
    )
    parser.add_argument(
        "--recipe",
        metavar="'FILE [KEY VALUE …]'",
        action="append",
        help="instead of the three built in; may be given again. FILE as it lies, or below configs/",
    )
    parser.add_argument("--val-ids", type=int, default=100, help="training people held out to evaluate on")
    return parser


def run(args: argparse.Namespace) -> Report:
    """Measure the recipes, print a line for each, and return what goes into the JSON file."""
    args.minutes = args.minutes if args.minutes is not None else 5 / 60 if args.quick else 10
    check_numbers(args, "minutes")
    if not args.data and not args.quick:
        raise UserError("--data: give the folder that holds market1501/, or --quick for synthetic people")
    recipes = args.recipe or list(RECIPES)
    for recipe in recipes:
        config_of(recipe, args)  # a mistake shows before the first is trained
    report = start_report(args, pick_device(config_of(recipes[0], args).MODEL.DEVICE).type)
    report |= {"minutes": args.minutes, "val_ids": args.val_ids}
    return collect(args, report, rows_of(recipes, args), "rows")


def rows_of(recipes: list[str], args: argparse.Namespace) -> Iterator[Report]:
    """Measure and print the recipes; yield the figures of each."""
    for recipe in recipes:
        row = measure(recipe, args)
        print(
            f"{100 * row['mAP']:5.1f} mAP {100 * row['Rank-1']:5.1f} Rank-1 | {row['epochs']:6.2f} epochs, "
            f"{row['images'] / row['seconds']:6.1f} img/s, {row['parameters'] / 1e6:.1f} M parameters, {row['precision']} | {recipe}",
            flush=True,
        )
        yield row


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
