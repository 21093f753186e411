"""Say whether images show a known person of a gallery, a new one, or whether somebody has to decide.

Known are the people of the column `person` (see vitreid identities) that have enough good crops.

Example:
    vitreid identify galleries/crops --weights logs/market/best.safetensors --query person.jpg
    vitreid identify galleries/crops --weights logs/market/best.safetensors --query track/*.jpg --together
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from vitreid.common.errors import UserError
from vitreid.common.text import plain_values, share_text, table
from vitreid.gallery import Gallery
from vitreid.gallery.identities.known_people import EnrolmentOptions, Identification, enrol
from vitreid.gallery.identities.near_rows import AUTO
from vitreid.labels.camera_norm import CAMERA_NORMS
from vitreid.processor.embedding.embedder import Embedder
from vitreid.tools.cli.embedder_flags import add_device_flags, add_embedder_flags, embedder_options
from vitreid.tools.cli.gallery_arguments import check_queries_exist, gallery_folder
from vitreid.tools.cli.parser import command, new_parser, number_from


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("gallery", metavar="GALLERY", help="folder of the gallery, with the column person")
    add("--query", metavar="IMAGE", nargs="+", required=True, help="crops of people")
    add("--weights", metavar="FILE", required=True, help="the weights that the gallery was made with")
    add("--together", action="store_true", help="the images are a track: they show one person")
    add("--camera", metavar="NAME", help="camera of the queries, which a gallery normalised by camera needs")
    add("--camera-norm", choices=(AUTO, *CAMERA_NORMS), default="none", help="as for vitreid identities; default: none")
    add(
        "--far",
        metavar="RATE",
        type=float,
        default=0.01,
        help="share of new people that may be called known; default: 0.01",
    )
    add(
        "--miss",
        metavar="RATE",
        type=float,
        default=0.05,
        help="share of known people that may be called new; default: 0.05",
    )
    add(
        "--ask",
        metavar="RATE",
        type=float,
        default=0.1,
        help="share of new people for whom it asks at least; default: 0.1",
    )
    add(
        "--least",
        metavar="N",
        type=number_from(1),
        default=EnrolmentOptions.least,
        help="good crops that a known person needs",
    )
    add(
        "--templates",
        metavar="N",
        type=number_from(1),
        default=EnrolmentOptions.templates,
        help="most crops kept of a person",
    )
    add("--expire-after", metavar="SECONDS", type=float, help="older rows do not count")
    add("--confirmed", action="store_true", help="only rows that somebody has confirmed")
    add("--json", action="store_true", help="print JSON rather than a table")
    add_device_flags(parser)
    add_embedder_flags(parser)
    return parser


def identify(args: argparse.Namespace) -> str:
    """Return what each image, or all of them together, shows."""
    for name in ("far", "miss", "ask"):
        if not 0 < getattr(args, name) < 1:
            raise UserError(f"--{name}: a share between 0 and 1, got {getattr(args, name)}")
    check_queries_exist(args.query)
    gallery = Gallery.open(gallery_folder(args.gallery))
    options = EnrolmentOptions(args.least, args.templates, confirmed=args.confirmed, expire_after=args.expire_after)
    known = enrol(gallery, options, args.camera_norm)
    embedder = Embedder(args.weights, device=args.device, precision=args.precision, options=embedder_options(args))
    gallery.info.check_embedder(gallery.path, embedder)
    rows = gallery.project(embedder(args.query, args.camera))
    tracks = [rows] if args.together else list(rows[:, None])
    names = [", ".join(args.query)] if args.together else args.query
    found = [
        known.identify(track, [args.camera] * len(track), far=args.far, miss=args.miss, ask=args.ask)
        for track in tracks
    ]
    if args.json:
        return json.dumps(
            [plain_values({"query": name, **asdict(one)}) for name, one in zip(names, found, strict=True)], indent=1
        )
    head = ("query", "verdict", "person", "probability", "why")
    rows_shown = [(name, *_cells(one)) for name, one in zip(names, found, strict=True)]
    return f"{len(known.names)} known people\n{table([head, *rows_shown], left=None)}"


def _cells(found: Identification) -> tuple[str, ...]:
    probability = "-" if found.probability != found.probability else share_text(found.probability)
    return found.verdict, found.person or "-", probability, found.reason or "-"


main = command(get_parser, identify)

if __name__ == "__main__":
    sys.exit(main())
