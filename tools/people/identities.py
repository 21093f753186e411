"""Find out which rows of a gallery show one person, and write it into the column `person` of its records.

New rows join the people that are there, or found new ones; `pid` stays as it is.

Example:
    vitreid identities galleries/crops
    vitreid identities galleries/crops --threshold 0.6 --regroup --dry-run
    vitreid identities galleries/crops --to-manifest people.csv
"""

from __future__ import annotations

import argparse
import json
import sys

from vitreid.common.text import plain_values
from vitreid.gallery import Gallery
from vitreid.gallery.identities.group_people import GroupingOptions, group_people
from vitreid.gallery.identities.grouping_report import report_of
from vitreid.gallery.identities.near_rows import AUTO, SEARCHES
from vitreid.gallery.identities.person_columns import write_people
from vitreid.gallery.identities.training_manifest import ManifestOptions, write_manifest
from vitreid.labels.camera_norm import CAMERA_NORMS
from vitreid.tools.cli.gallery_arguments import gallery_folder
from vitreid.tools.cli.parser import command, new_parser, number_from


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("gallery", metavar="GALLERY", help="folder of the gallery")
    _add_grouping(parser)
    add(
        "--resamples",
        metavar="N",
        type=number_from(0),
        help="measure the stability N times; default: 5 up to 200,000 rows",
    )
    add("--seed", type=number_from(0), default=0, help="of the resamples and of the people held out")
    add(
        "--to-manifest",
        metavar="FILE.csv",
        help="only write the people that are there as training data, split by person",
    )
    add(
        "--test-share",
        metavar="S",
        type=float,
        default=ManifestOptions.test_share,
        help="share of the people held out for the test",
    )
    add(
        "--least",
        metavar="N",
        type=number_from(2),
        default=ManifestOptions.least,
        help="images that a person needs in the manifest",
    )
    add("--confirmed", action="store_true", help="only confirmed rows in the manifest")
    add("--dry-run", action="store_true", help="print the report only")
    add("--json", action="store_true", help="print JSON rather than a table")
    return parser


def _add_grouping(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `GroupingOptions`."""
    add = parser.add_argument
    add(
        "--threshold",
        metavar="T",
        default=AUTO,
        help="auto; fmr=0.001: only pairs within the gallery's distance for this false match rate count; or the "
        "distance, between 0 and 1, up to which two groups merge",
    )
    add("--regroup", action="store_true", help="group all rows again but the confirmed ones")
    add("--window", metavar="SECONDS", type=float, help="rows further apart in time are not compared")
    add(
        "--time-weight",
        metavar="W",
        type=float,
        default=GroupingOptions.time_weight,
        help="how much the time between two rows counts next to their similarity, by the times that people take between "
        "cameras, which are learned from the gallery; 0 = not",
    )
    add("--k1", metavar="K", type=number_from(1), default=GroupingOptions.k1, help="neighbours considered per row")
    add("--k2", metavar="K", type=number_from(1), default=GroupingOptions.k2, help="neighbours averaged per row")
    add(
        "--camera-norm",
        choices=(AUTO, *CAMERA_NORMS),
        default=AUTO,
        help="remove what all images of a camera have in common; auto: the gallery's mode, else full if every camera has enough rows",
    )
    add(
        "--index",
        choices=tuple(SEARCHES),
        default=AUTO,
        help="how the nearest rows are found; auto: exactly for up to 100,000 rows, else by lists, which misses some",
    )


def identities(args: argparse.Namespace) -> str:
    """Group the rows, write the people, and return the report."""
    gallery = Gallery.open(gallery_folder(args.gallery))
    if args.to_manifest:
        return manifest(gallery, args)
    names = ("threshold", "k1", "k2", "window", "time_weight", "camera_norm", "index", "regroup")
    found = group_people(gallery, GroupingOptions(**{name: getattr(args, name) for name in names}))
    report = report_of(gallery, found, args.resamples, args.seed)
    changed = 0 if args.dry_run else write_people(gallery, found.before, found.after)
    if args.json:
        return json.dumps(plain_values({**report.to_dict(), "changed": changed}), indent=1)
    done = "nothing written (--dry-run)" if args.dry_run else f"{changed} rows have another person than before"
    return f"{report}\n{args.gallery}: {done}"


def manifest(gallery: Gallery, args: argparse.Namespace) -> str:
    """Write the people as a manifest; return what it holds."""
    made = write_manifest(
        gallery, args.to_manifest, ManifestOptions(args.test_share, args.seed, args.least, args.confirmed)
    )
    lines = ", ".join(f"{count} {split}" for split, count in made.num_lines.items())
    missing = f"; {made.num_missing} rows left out, their images are missing" * bool(made.num_missing)
    return (
        f"{args.to_manifest}: {made.num_train_people} people to train on, {made.num_test_people} held out ({lines} images){missing}; "
        f"vitreid train DATASETS.NAMES manifest DATASETS.MANIFEST {args.to_manifest}"
    )


main = command(get_parser, identities)

if __name__ == "__main__":
    sys.exit(main())
