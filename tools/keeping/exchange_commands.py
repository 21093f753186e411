"""`vitreid gallery from-file | to-qdrant | from-qdrant | to-fiftyone | from-fiftyone`: galleries to and from other programs."""

from __future__ import annotations

import argparse
from typing import Any

from vitreid.common.errors import UserError
from vitreid.gallery import Gallery, GalleryInfo
from vitreid.gallery.exchange.fiftyone import from_fiftyone, to_fiftyone
from vitreid.gallery.exchange.plain_files import from_file
from vitreid.gallery.exchange.qdrant import from_qdrant, to_qdrant
from vitreid.gallery.storage.metadata import METRICS
from vitreid.tools.cli.subcommands import Subcommand
from vitreid.tools.keeping.row_commands import open_folder


def make_from_file(args: argparse.Namespace) -> str:
    """Make a gallery of the rows of a file."""
    return _made(args.output, from_file(args.source, args.output, origin_of(args), args.overwrite))


def copy_to_qdrant(args: argparse.Namespace) -> str:
    """Copy a gallery folder to Qdrant."""
    return f"{args.qdrant}: {to_qdrant(open_folder(args.gallery), args.qdrant, args.overwrite)} rows"


def copy_from_qdrant(args: argparse.Namespace) -> str:
    """Copy a collection of Qdrant to a folder."""
    return _made(args.output, from_qdrant(args.qdrant, args.output, args.overwrite, origin_of(args)))


def copy_to_fiftyone(args: argparse.Namespace) -> str:
    """Copy a gallery folder to FiftyOne."""
    count, left = to_fiftyone(open_folder(args.gallery), args.fiftyone, args.overwrite)
    more = f", {left} boxes of videos left out, because they are no image files; export with crops" * bool(left)
    return f"{args.fiftyone}: {count} samples{more}"


def copy_from_fiftyone(args: argparse.Namespace) -> str:
    """Copy a dataset of FiftyOne to a folder."""
    return _made(args.output, from_fiftyone(args.fiftyone, args.output, args.overwrite, origin_of(args), args.field))


def origin_of(args: argparse.Namespace) -> GalleryInfo | None:
    """Return what --like or --model say of the embeddings, None = they say nothing.

    Raises:
        UserError: both are given, or --metric without --model.
    """
    if args.like and args.model:
        raise UserError("--like, --model: give one of the two")
    if args.metric and not args.model:
        raise UserError("--metric: only with --model; a gallery and a file that vitreid wrote say it themselves")
    if args.like:
        return open_folder(args.like).info
    if args.model:  # the dimension becomes that of the rows
        return GalleryInfo(args.model, 1, metric=args.metric or "cosine", model_name=args.model)
    return None


def _made(output: str, gallery: Gallery) -> str:
    return f"{output}: {len(gallery)} rows x {gallery.info.dimension}, compared by {gallery.info.metric}"


ARGUMENTS: dict[str, dict[str, Any]] = {
    "source": {"metavar": "FILE", "help": ".parquet, .npz or .csv with embeddings, paths and any other columns"},
    "qdrant": {"metavar": "QDRANT", "help": "qdrant:FOLDER or qdrant:http://HOST:PORT, then #NAME for another name"},
    "fiftyone": {"metavar": "FIFTYONE", "help": "fiftyone:NAME of a dataset"},
    "--like": {"metavar": "GALLERY", "help": "a gallery of the model that made the embeddings"},
    "--model": {
        "metavar": "NAME",
        "help": "name of the model that made the embeddings; only embeddings can be searched",
    },
    "--metric": {"choices": METRICS, "help": "how embeddings of --model are compared; default: cosine"},
    "--field": {"metavar": "FIELD", "default": "embedding", "help": "field with the embeddings; default: embedding"},
}
ORIGIN = ("--like", "--model", "--metric", "--overwrite")
COMMANDS = {
    "from-file": Subcommand(
        make_from_file,
        "make a gallery of a file of embeddings",
        "crops.parquet galleries/crops",
        ("source", "output", *ORIGIN),
    ),
    "to-qdrant": Subcommand(
        copy_to_qdrant,
        "copy a gallery folder to Qdrant",
        "galleries/crops qdrant:vectors",
        ("gallery", "qdrant", "--overwrite"),
    ),
    "from-qdrant": Subcommand(
        copy_from_qdrant,
        "copy a collection of Qdrant to a folder",
        "qdrant:vectors galleries/crops",
        ("qdrant", "output", *ORIGIN),
    ),
    "to-fiftyone": Subcommand(
        copy_to_fiftyone,
        "copy a gallery folder to FiftyOne",
        "galleries/crops fiftyone:crops",
        ("gallery", "fiftyone", "--overwrite"),
    ),
    "from-fiftyone": Subcommand(
        copy_from_fiftyone,
        "copy a dataset of FiftyOne to a folder",
        "fiftyone:crops galleries/crops",
        ("fiftyone", "output", "--field", *ORIGIN),
    ),
}
