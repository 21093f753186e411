"""Show a model's stages: output shapes, parameters, multiply-adds, and the memory of a training step. No data is read.
With --weights the model is that of a file, and where it comes from is shown too: data, commit, commands, parent weights.

Examples:
    vitreid summary --config_file market/vit_transreid
    vitreid summary --weights logs/market_vit_base/best.safetensors
"""

from __future__ import annotations

import argparse
import sys

from yacs.config import CfgNode

from vitreid.common.errors import UserError
from vitreid.configs import load_config
from vitreid.model import build_model
from vitreid.processor import pick_device, pick_precision
from vitreid.processor.device import place
from vitreid.processor.embedding.weight_files import read_described, weights_path
from vitreid.processor.model_summary import summarise, table
from vitreid.processor.runs.provenance import provenance_lines
from vitreid.tools.cli.parser import command, new_parser, number_from


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__, config=True)
    add = parser.add_argument
    add(
        "--weights",
        metavar="FILE",
        default="",
        help="show the model in this file: best.safetensors, last.pth, hf-hub:owner/model",
    )
    add("--batch", metavar="N", type=int, help="images of the step; default: SOLVER.IMS_PER_BATCH")
    add(
        "--cameras",
        metavar="N",
        type=number_from(1),
        default=6,
        help="cameras of the side-information table, which depend on the data; default: 6",
    )
    add(
        "--views",
        metavar="N",
        type=number_from(1),
        default=2,
        help="viewpoints of the table, which has a row for each pair; default: 2",
    )
    return parser


def show_summary(args: argparse.Namespace) -> str:
    """Return the table of the model of the config, or of a file with its provenance."""
    if args.weights:
        if args.config_file:
            raise UserError("--weights shows the model of a file, --config_file that of a recipe: choose one")
        return summary_of_file(args.weights, args.batch)
    cfg = load_config(args.config_file, [*args.opts, "MODEL.PRETRAIN_CHOICE", "none"])
    return build_summary(cfg, args.batch, _names(args.cameras), _names(args.views))


def build_summary(cfg: CfgNode, batch: int | None, cameras: list[str], views: list[str]) -> str:
    """Return the table of the model of the config; `batch` None = SOLVER.IMS_PER_BATCH."""
    device = pick_device(cfg.MODEL.DEVICE)
    precision = pick_precision(cfg.SOLVER.PRECISION, device)
    model = place(build_model(cfg, cameras, views), device, precision)
    return f"{model.spec.title}\n" + table(
        summarise(model, cfg.SOLVER.IMS_PER_BATCH * cfg.DATALOADER.CLIP_FRAMES if batch is None else batch, precision)
    )


def summary_of_file(weights: str, batch: int | None) -> str:
    """Return the table of the model in a file, and where it comes from; `batch` None = one image."""
    found = read_described(weights_path(weights))
    if found is None or found.model.network is None:
        raise UserError(
            f"{weights} does not describe its layers; give the best.safetensors or last.pth of a run of vitreid"
        )
    network = found.model.network.to("cpu")
    lines = provenance_lines(found.about.get("provenance") or {})
    return "\n".join([network.spec.title, table(summarise(network, 1 if batch is None else batch)), *lines])


def _names(count: int) -> list[str]:
    return [f"{number}" for number in range(count)]


main = command(get_parser, show_summary)

if __name__ == "__main__":
    sys.exit(main())
