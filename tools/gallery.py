"""Maintain a gallery. `vitreid gallery COMMAND --help` shows the arguments of a command.

Exit status: 0 = done, 1 = `verify` found a problem, 2 = an error.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from typing import Any

from vitreid.common.errors import UserError
from vitreid.common.files import check_output_file
from vitreid.common.text import table
from vitreid.gallery import FORMATS, Gallery, compact, cost, export_as, fit_pca, pool_tracklets, to_int8, verify
from vitreid.gallery.maintenance.merge_compact import merge_rows
from vitreid.gallery.milvus.milvus_collections import INDEXES
from vitreid.gallery.milvus.milvus_gallery import MilvusGallery
from vitreid.gallery.milvus.transfer import from_folder, to_folder
from vitreid.labels.camera_norm import CAMERA_NORMS, OFF, postprocess_name
from vitreid.tools.cli.gallery_arguments import gallery_folder
from vitreid.tools.cli.parser import command
from vitreid.tools.cli.subcommands import Subcommand, subcommand_parser
from vitreid.tools.keeping import add_images, exchange_commands, row_commands
from vitreid.tools.keeping.row_commands import open_folder, opened


def verify_files(args: argparse.Namespace) -> bool:
    """Print the problems of a gallery; return whether there are none."""
    problems = verify(gallery_folder(args.gallery), images=not args.no_images)
    print("\n".join(map(str, problems)) if problems else f"{args.gallery}: complete, no problem found")
    return not problems


def show_info(args: argparse.Namespace) -> None:
    """Print the description of a gallery."""
    with opened(args.gallery) as gallery:
        info = gallery.info
        names = (
            "dimension",
            "dtype",
            "metric",
            "model_name",
            "model",
            "camera_norm",
            "projection",
            "created",
            "version",
        )
        facts = {"rows": len(gallery), **{name: getattr(info, name) for name in names}}
        facts |= {"threshold": info.limit, "columns": gallery.columns}
        if isinstance(gallery, Gallery):
            facts |= {"removed": len(gallery.state.removed)}
        facts |= {"suppressed": len(gallery.suppressed)}
    if args.json:
        print(json.dumps(facts, indent=1))
        return
    facts["columns"] = ", ".join(facts["columns"])
    facts["threshold"] = "not calibrated" if info.limit is None else json.dumps(info.limit)
    print(
        table([(name.replace("_", " "), str(value)) for name, value in facts.items() if value is not None], left=None)
    )


def normalise_cameras(args: argparse.Namespace) -> None:
    """Compare rows and queries normalised by their cameras, or as they are."""
    gallery = open_folder(args.gallery)
    gallery.set_info(camera_norm=args.mode)
    about = "compared as they are" if args.mode == OFF else f"compared normalised by camera ({args.mode})"
    name = postprocess_name(args.mode)
    hint = (
        f"; no threshold: vitreid test --calibrate FMR TEST.CAMERA_NORM {args.mode}, then vitreid export again"
        * bool(name)
    )
    print(f"{args.gallery}: {len(gallery)} rows, {about}{hint if gallery.info.limit is None else ''}")


def merge_into(args: argparse.Namespace) -> None:
    """Add the rows of other galleries."""
    target = open_folder(args.gallery)
    added, present, suppressed = merge_rows(target, [open_folder(source) for source in args.sources])
    left = f", {present} were there already" * bool(present)
    left += f", {suppressed} stay out because they were removed earlier" * bool(suppressed)
    print(f"{args.gallery}: {added} rows added{left}, {len(target)} in all")


def compact_folder(args: argparse.Namespace) -> None:
    """Free the space of removed rows."""
    gallery = open_folder(args.gallery)
    before = _megabytes(gallery)
    count = compact(gallery)
    print(f"{args.gallery}: {count} removed rows dropped, {len(gallery)} left, {before} -> {_megabytes(gallery)}")


def compress(args: argparse.Namespace) -> None:
    """Make a smaller gallery; print its accuracy and size, before and after."""
    if args.int8 == (args.dim is not None):
        raise UserError("--int8, --dim: give one of them; compress the result again for both")
    gallery = open_folder(args.gallery)
    if args.int8:
        smaller = to_int8(gallery, args.output, overwrite=args.overwrite)
    else:
        smaller = fit_pca(gallery, args.output, args.dim, overwrite=args.overwrite)
    print(f"{args.output}: {len(smaller)} rows x {smaller.info.dimension} {smaller.info.dtype}, {_megabytes(smaller)}")
    if not args.no_cost:
        try:
            print(cost(gallery, smaller))
        except UserError as error:  # the gallery is made; rows without pid and camera have no accuracy
            print(f"accuracy not measured: {error}")


def pool(args: argparse.Namespace) -> None:
    """Make a gallery with one row per tracklet."""
    gallery = open_folder(args.gallery)
    pooled = pool_tracklets(gallery, args.output, args.how, args.overwrite)
    print(f"{args.output}: {len(pooled)} rows from {len(gallery)} crops")


def convert(args: argparse.Namespace) -> None:
    """Write the live rows as one file."""
    gallery = open_folder(args.gallery)
    file = check_output_file("FILE", args.file, args.overwrite)
    export_as(gallery, file, args.format or file.suffix.lstrip("."))
    print(f"{file}: {len(gallery)} rows, {file.stat().st_size / 1e6:.1f} MB")


def copy_to_milvus(args: argparse.Namespace) -> None:
    """Copy a gallery folder to Milvus."""
    with closing(from_folder(open_folder(args.gallery), args.milvus, args.overwrite, args.index)) as made:
        print(f"{args.milvus}: {len(made)} rows")


def copy_from_milvus(args: argparse.Namespace) -> None:
    """Copy a gallery in Milvus to a folder."""
    with closing(MilvusGallery.open(args.milvus)) as source:
        print(f"{args.output}: {len(to_folder(source, args.output, args.overwrite))} rows")


def _megabytes(gallery: Gallery) -> str:
    return f"{sum(file.stat().st_size for file in gallery.files) / 1e6:.1f} MB"


ARGUMENTS: dict[str, dict[str, Any]] = {
    "gallery": {
        "metavar": "GALLERY",
        "help": "folder of the gallery; info, list, remove, update, allow and stats also take milvus:…",
    },
    "sources": {"metavar": "SOURCE", "nargs": "+", "help": "folders of the galleries to add; they stay unchanged"},
    "mode": {"choices": tuple(CAMERA_NORMS), "help": "; ".join(f"{key}: {text}" for key, text in CAMERA_NORMS.items())},
    "output": {"metavar": "OUTPUT", "help": "folder of the new gallery"},
    "file": {"metavar": "FILE", "help": "file to write"},
    "milvus": {"metavar": "MILVUS", "help": "milvus:FILE.db or milvus:http://HOST:PORT, then #NAME for another name"},
    "--no-images": {"action": "store_true", "help": "do not check that the image files exist"},
    "--json": {"action": "store_true", "help": "print JSON rather than a table"},
    "--int8": {"action": "store_true", "help": "one byte per value"},
    "--dim": {"metavar": "D", "type": int, "help": "D values per row, by PCA"},
    "--no-cost": {"action": "store_true", "help": "do not measure mAP and Rank-1 before and after"},
    "--how": {
        "choices": ("mean", "quality"),
        "default": "mean",
        "help": "weights of a tracklet's crops; default: mean",
    },
    "--format": {"choices": sorted(FORMATS), "help": "default: the suffix of FILE"},
    "--index": {"choices": tuple(INDEXES), "default": "FLAT", "help": "index in Milvus; default: FLAT, which is exact"},
    "--overwrite": {"action": "store_true", "help": "replace an existing output"},
    **row_commands.ARGUMENTS,
    **add_images.ARGUMENTS,
    **exchange_commands.ARGUMENTS,
}
COMMANDS = {
    **row_commands.COMMANDS,
    **add_images.COMMANDS,
    "verify": Subcommand(
        verify_files,
        "read all files and list what is missing or damaged",
        "galleries/crops",
        ("gallery", "--no-images"),
    ),
    "info": Subcommand(show_info, "show size, model, threshold and columns", "galleries/crops", ("gallery", "--json")),
    "merge": Subcommand(
        merge_into,
        "add the rows of other galleries of the same model",
        "galleries/week galleries/monday galleries/tuesday",
        ("gallery", "sources"),
    ),
    "camera-norm": Subcommand(
        normalise_cameras,
        "compare embeddings without what all images of a camera have in common",
        "galleries/crops full",
        ("gallery", "mode"),
    ),
    "compact": Subcommand(compact_folder, "free the space of removed rows; ids stay", "galleries/crops", ("gallery",)),
    "compress": Subcommand(
        compress,
        "make a smaller gallery and measure its accuracy",
        "galleries/crops galleries/small --dim 128",
        ("gallery", "output", "--int8", "--dim", "--no-cost", "--overwrite"),
    ),
    "pool": Subcommand(
        pool,
        "make a gallery with one row per tracklet",
        "galleries/crops galleries/tracklets --how quality",
        ("gallery", "output", "--how", "--overwrite"),
    ),
    "convert": Subcommand(
        convert,
        "write the rows as one file for other programs",
        "galleries/crops crops.npz",
        ("gallery", "file", "--format", "--overwrite"),
    ),
    "to-milvus": Subcommand(
        copy_to_milvus,
        "copy a gallery folder to Milvus",
        "galleries/crops milvus:crops.db",
        ("gallery", "milvus", "--index", "--overwrite"),
    ),
    "from-milvus": Subcommand(
        copy_from_milvus,
        "copy a gallery in Milvus to a folder",
        "milvus:crops.db galleries/crops",
        ("milvus", "output", "--overwrite"),
    ),
    **exchange_commands.COMMANDS,
}


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments: one subcommand each."""
    return subcommand_parser("vitreid gallery", __doc__, COMMANDS, ARGUMENTS)


main = command(get_parser, lambda args: COMMANDS[args.command].action(args), intermixed=False)

if __name__ == "__main__":
    sys.exit(main())
