"""What a recipe learns in a given time: `python benchmarks/budget.py --data DIR [--minutes 10] [--quick] [--json FILE]`.

Every recipe trains for the same minutes on the same machine, its schedule stretched or squeezed to the time (its
learning rate follows the minutes), without pretrained weights, and is evaluated on people of the training set that no recipe saw. The recipes
compared if none is given: the original TransReID's (ViT-Base/16 at 256x128 with SGD), the same with the smallest ViT that
is common, and ours for training without pretrained weights.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm
from yacs.config import CfgNode

from vitreid.benchmarks.common.command import command
from vitreid.benchmarks.common.hardware import describe_hardware
from vitreid.common.files import write_text_atomically
from vitreid.configs import load_config
from vitreid.evaluation import RetrievalResult
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
    fields = {**vars(trainer.schedule), "epochs": cfg.SOLVER.MAX_EPOCHS, "seconds": seconds}
    schedule = TimedSchedule(**{**fields, "start": time.perf_counter()})
    trainer.schedule = schedule
    images, epoch = 0, 0

    def check_clock() -> None:
        if schedule.used >= 1:
            raise TimeIsOver

    with tqdm(desc="train", unit="it", disable=None) as bar:
        try:
            while True:
                epoch += 1
                trainer.train_epoch(epoch, bar, check_clock)
                images += trainer.progress.images
        except TimeIsOver:
            images += trainer.progress.images
    return session, images, time.perf_counter() - schedule.start


def evaluate(cfg: CfgNode, session: TrainingSession) -> RetrievalResult:
    """Return the figures on the people held out."""
    average = session.trainer.average
    model: Any = average.model if average else session.module.model
    assert isinstance(model, ReidModel)
    return build_evaluator(cfg, session.data, model, session.device, session.precision)(model)


def measure(recipe: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate one recipe."""
    cfg = config_of(recipe, args)
    session, images, seconds = train_for(cfg, 60 * args.minutes)
    result = evaluate(cfg, session)
    parameters = sum(p.numel() for p in session.module.model.parameters())
    return {
        "recipe": recipe,
        "precision": str(session.precision).removeprefix("torch."),
        "parameters": parameters,
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
    parser = argparse.ArgumentParser(description="What recipes learn in the same time, without pretrained weights.")
    parser.add_argument("--data", metavar="DIR", type=Path, help="folder that holds market1501/ (DATASETS.ROOT_DIR)")
    parser.add_argument(
        "--minutes", type=float, help="of training, for each recipe: 10 if not given (5 seconds if quick)"
    )
    parser.add_argument(
        "--recipe",
        metavar="'FILE [KEY VALUE …]'",
        action="append",
        help="instead of the three built in; may be given again. FILE as it lies, or below configs/",
    )
    parser.add_argument("--val-ids", type=int, default=100, help="training people held out to evaluate on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="synthetic people, 5 seconds each")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to this file, after each recipe")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return the exit status: 0, 2 for a mistake in the arguments, 130 for Ctrl-C."""
    return command(get_parser(), run, argv)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the recipes, print a line for each, and return what goes into the JSON file."""
    args.minutes = args.minutes if args.minutes is not None else 5 / 60 if args.quick else 10
    if args.minutes <= 0:
        raise ValueError(f"--minutes: more than 0, got {args.minutes:g}")
    if not args.data and not args.quick:
        raise ValueError("--data: give the folder that holds market1501/, or --quick for synthetic people")
    recipes = args.recipe or list(RECIPES)
    for recipe in recipes:
        config_of(recipe, args)  # a mistake shows before the first is trained
    hardware = describe_hardware(pick_device(config_of(recipes[0], args).MODEL.DEVICE).type)
    print(f"seed {args.seed}", *(f"{key} {value}" for key, value in hardware.items()), sep=" | ", flush=True)
    rows: list[dict[str, Any]] = []
    for recipe in recipes:
        row = measure(recipe, args)
        rows.append(row)
        print(
            f"{100 * row['mAP']:5.1f} mAP {100 * row['Rank-1']:5.1f} Rank-1 | {row['epochs']:6.2f} epochs, "
            f"{row['images'] / row['seconds']:6.1f} img/s, {row['parameters'] / 1e6:.1f} M parameters, {row['precision']} | {recipe}",
            flush=True,
        )
        if args.json:
            report = {
                "seed": args.seed,
                "minutes": args.minutes,
                "val_ids": args.val_ids,
                "hardware": hardware,
                "rows": rows,
            }
            write_text_atomically(args.json, json.dumps(report, indent=1))
    return {"rows": rows}


if __name__ == "__main__":
    sys.exit(main())
