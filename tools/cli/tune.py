"""Search for better values of options: several trainings, compared by the mAP of people held out of training.

The values are proposed by Optuna. All trials lie in OUTPUT_DIR; the same command continues an interrupted search, and a larger
--trials a finished one. OUTPUT_DIR/best.yml holds the best options.

Example:
    vitreid tune --config_file synthetic/vit_tiny --trials 20 --search SOLVER.BASE_LR=1e-4..1e-2:log --search LOSS.METRIC=triplet,circle DATASETS.VAL_IDS 20 OUTPUT_DIR logs/tune
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from vitreid.common.errors import UserError
from vitreid.common.text import table
from vitreid.configs import dump_config, flatten_config, load_config
from vitreid.processor.training.run import train
from vitreid.processor.training.tuning import BEST, OptionSearch, SearchedOption
from vitreid.report.collect import read_epochs
from vitreid.tools.cli.parser import command, new_parser


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__, config=True)
    add = parser.add_argument
    add("--trials", metavar="N", type=int, default=20, help="trainings in all; default: %(default)s")
    add(
        "--search",
        metavar="KEY=VALUES",
        action="append",
        required=True,
        help="an option and its values: KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=VALUE,VALUE; may be repeated",
    )
    return parser


def tune(args: argparse.Namespace) -> str:
    """Search; return the table of the trials."""
    base = flatten_config(load_config(args.config_file, args.opts))
    if not base["DATASETS.VAL_IDS"]:
        raise UserError(
            "DATASETS.VAL_IDS: 0 would choose the options by the test set, which makes its figures too good; hold people out, "
            "e.g. DATASETS.VAL_IDS 100"
        )
    if args.trials < 1:
        raise UserError(f"--trials: 1 or more trainings, got {args.trials}")

    def config_with(values: Mapping[str, Any], folder: Path) -> CfgNode:
        words = [str(word) for key, value in values.items() for word in (key, value)]
        return load_config(args.config_file, [*args.opts, *words, "OUTPUT_DIR", str(folder)])

    def train_with(values: Mapping[str, Any], folder: Path) -> float:
        last = train(config_with(values, folder), resume="auto")
        assert last is not None  # nosec B101 - VAL_IDS holds people out, so the training is evaluated
        return max([last.mAP, *(row["mAP"] for row in read_epochs(folder / "metrics.jsonl")[0] if "mAP" in row)])

    def recipe_with(values: Mapping[str, Any]) -> str:
        return dump_config(config_with(values, folder / "best"))

    folder, searched = Path(base["OUTPUT_DIR"]), [SearchedOption.of(text) for text in args.search]
    search = OptionSearch(folder, searched, train_with, recipe_with, base["SOLVER.SEED"])
    search.run(args.trials)
    if not search.done:
        raise UserError(f"no trial could be trained; {folder} has their logs")
    return f"{table(search.rows())}\nbest options: {folder / BEST}; train with them: --config_file {folder / BEST}"


main = command(get_parser, tune, steady=True)

if __name__ == "__main__":
    sys.exit(main())
