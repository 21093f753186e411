"""Read a weight file of another project or library (timm, torchvision, Hugging Face, CLIP, TransReID, fast-reid, …) into a model,
say what became of every tensor, and write a checkpoint that explains itself. Without a config and MODEL.NAME the model is read off
the file's tensors; without OUT nothing is written.

Example:
    vitreid convert dinov2_vits14.safetensors dinov2.safetensors
    vitreid convert transreid.pth vit_sie.safetensors --config_file market/vit_sie --cameras c1,c2,c3,c4,c5,c6
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vitreid.configs import load_config
from vitreid.model import LoadReport
from vitreid.model.weights.load_report import SHOWN
from vitreid.model.weights.read import read_weights
from vitreid.processor.embedding.convert_weights import Conversion, convert, recognise
from vitreid.tools.cli.parser import command, new_parser


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("source", metavar="IN", help="the file (.pth, .safetensors, .npz), or a folder of Hugging Face")
    add("words", nargs="*", metavar="OUT.safetensors KEY VALUE", help="the file to write, then options to change")
    add(
        "--config_file",
        "--config-file",
        metavar="FILE",
        help="recipe that describes the model: a file, or a shipped one's name; default: read off the tensors",
    )
    add("--dry-run", action="store_true", help="only say what would become of every tensor")
    add(
        "--cameras",
        metavar="NAMES",
        default="",
        help="cameras of the side-information table, in its order, with commas",
    )
    add("--views", metavar="NAMES", default="", help="the same for viewpoints")
    add("--backbone-only", action="store_true", help="the file comes from pretraining: no neck, no side information")
    add(
        "--plain",
        action="store_true",
        help="take the tensors out of an old torch file that holds other objects too; those are dropped, nothing is executed",
    )
    add(
        "--min-coverage",
        metavar="SHARE",
        type=float,
        default=1.0,
        help="least share of the backbone's numbers that the file must give; default 1",
    )
    add("--overwrite", action="store_true", help="replace an earlier file")
    return parser


def convert_file(args: argparse.Namespace) -> str:
    """Convert the file; return what became of its tensors."""
    has_target = bool(args.words) and args.words[0].endswith(".safetensors")
    order = Conversion(
        source=Path(args.source),
        target=Path(args.words[0]) if has_target else None,
        cameras=_names(args.cameras),
        views=_names(args.views),
        dry_run=args.dry_run,
        backbone_only=args.backbone_only,
        plain=args.plain,
        min_coverage=args.min_coverage,
        overwrite=args.overwrite,
    )
    file, options = read_weights(order.source, order.plain), args.words[has_target:]
    is_named = args.config_file is not None or "MODEL.NAME" in options
    found = None if is_named else recognise(file)
    cfg = load_config(args.config_file, [*(found.words() if found else ()), *options])
    report = describe(convert(cfg, file, order))
    head = [f"{order.source} fits {found}"] if found else []
    tail = [] if has_target else ["nothing written; name OUT.safetensors after the file to write it"]
    return "\n".join([*head, report, *tail])


def _names(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(",") if word.strip())


def describe(report: LoadReport) -> str:
    """Return the report, a line for each tensor that was not taken over as it is; many of one part share a line."""
    lists = {
        "resized": [f"{name} {how}" for name, how in report.resized.items()],
        "missing": report.missing,
        "unexpected": report.unexpected,
        "mismatched": [f"{name} {how}" for name, how in report.mismatched.items()],
        "left out": _by_part(report.left_out),
    }
    head = f"{report.source}: {report.project} names, {len(report.loaded)} tensors loaded, {report.coverage:.2%} of the backbone"
    lines = [head, *([f"  {report.note}"] if report.note else [])]
    return "\n".join([*lines, *(f"  {kind:<10} {name}" for kind, names in lists.items() for name in names)])


def _by_part(names: list[str]) -> list[str]:
    """Return the names, those of a part with many tensors as one line.

    >>> _by_part(["fc.weight", *(f"text_model.layers.{number}.bias" for number in range(197))])
    ['fc.weight', 'text_model.… (197 tensors)']
    """
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(name.partition(".")[0], []).append(name)
    short = {
        part: [f"{part}.… ({len(found)} tensors)"] if len(found) > SHOWN else found for part, found in parts.items()
    }
    return [line for lines in short.values() for line in lines]


main = command(get_parser, convert_file)

if __name__ == "__main__":
    sys.exit(main())
