"""List the data sets that are read, unpack one, or write their page: counts, layout, protocol, terms, the original's figures, recipes.

Examples:
    vitreid datasets
    vitreid datasets --unpack cuhk03 /data
    vitreid datasets --output docs/datasets.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vitreid.common.errors import choose
from vitreid.common.files import write_text_atomically
from vitreid.configs import shipped_recipes
from vitreid.datasets.dataset_terms import terms_of
from vitreid.datasets.published.catalog import PUBLISHED
from vitreid.datasets.published.classic.cuhk03_archive import UNPACKERS
from vitreid.datasets.published.published_dataset import PublishedDataset
from vitreid.labels.protocol import PROTOCOLS
from vitreid.labels.setting import Setting
from vitreid.tools.cli.parser import command, new_parser

RECIPES = {"market1501": "market", "dukemtmc": "duke"}  # data set: folder of its recipes, if it has another name
REFERENCES = {  # data set: the figures of TransReID's repository, ViT-Base at 256x128 or 256x256, baseline and TransReID*
    "market1501": "mAP 87.1, Rank-1 94.6; 89.0, 95.1",
    "dukemtmc": "mAP 79.6, Rank-1 89.0; 82.2, 90.7",
    "msmt17": "mAP 61.8, Rank-1 81.8; 67.8, 85.3",
    "occ_duke": "mAP 53.8, Rank-1 61.1; 59.5, 67.4",
    "veri-views": "mAP 79.0, Rank-1 96.6; 82.1, 97.4",
    "vehicleid": "Rank-1 83.5, Rank-5 96.7; 85.2, 97.4",
}
INTRODUCTION = """# Data sets

Written by `vitreid datasets --output docs/datasets.md`; do not edit. [Own data](train.md) need no reader.

`DATASETS.NAMES` takes the names below and `DATASETS.ROOT_DIR` the folder that holds the data set's folder. Case, dots, dashes and
underscores of folder names do not matter, nor a folder of the same name inside. `vitreid check-data` compares the counts with the published ones.
Nothing is downloaded: the images are given out by their authors. `vitreid datasets --unpack cuhk03 /data` unpacks CUHK03's archive
`/data/cuhk03/cuhk03_release/cuhk-03.mat` once; it needs `pip install "vitreid[hdf5]"`. *TransReID's figures* are those of its repository, of the
baseline and of TransReID* with ViT-Base; they are not ours.

| `DATASETS.NAMES` | images (or tracklets): train / query / gallery | identities: train / query | cameras | junk for a query, by setting | TransReID's figures | recipes |
|---|---|---|---:|---|---|---|
"""
SETTINGS = """A `?` is a number that is not published, or that we could not confirm; it is not compared. Where a data set has several
settings, each is a row of `vitreid test`, and the first gives the figures that training reports. Who is junk for a query:
"""


def row(published: PublishedDataset) -> str:
    """Return a data set's line of the table."""
    counts = _slashed(published.counts) if published.counts else "not compared"
    counts += " tracklets" * (published.items == "tracklets")
    people = _slashed(published.people) if published.people else ""
    junk = _junk(published.settings or (Setting(),))
    reference = REFERENCES.get(published.name, "")
    cells = (
        _names(published),
        counts,
        people,
        str(published.cameras or ""),
        junk,
        reference,
        recipes_of(published.name),
    )
    return f"| {' | '.join(cells)} |"


def _names(published: PublishedDataset) -> str:
    """Return a data set's name, and those of its other splits."""
    others = [one.name for one in PUBLISHED.values() if one.family == published.name != one.name]
    return f"`{published.name}`" + (f", `{others[0]}` … `{others[-1]}`" if others else "")


def _slashed(counts: Sequence[int | None]) -> str:
    return " / ".join("?" if count is None else f"{count:,}" for count in counts)


def _junk(settings: Sequence[Setting]) -> str:
    """Return settings in words, those with one rule together: who is junk, and how their galleries are drawn."""
    names: dict[str, list[str]] = {}
    for setting in settings:
        words = f"`{setting.protocol}`" + (f", {setting.about}" if setting.about else "")
        names.setdefault(words, []).append(setting.name + _cameras(setting))
    return "; ".join(f"{', '.join(found)}: {words}".removeprefix(": ") for words, found in names.items())


def _cameras(setting: Setting) -> str:
    """Return the cameras of a setting whose queries and gallery are from the same few; "" of others, which their names explain."""
    cameras = [name.rpartition("/")[2] for name in setting.query_cameras]
    few = 0 < len(cameras) < 3 and setting.query_cameras == setting.gallery_cameras
    return f" ({' and '.join(cameras)})" if few else ""


def recipes_of(name: str) -> str:
    """Return the names of the recipes of a data set, as `--config_file` takes them."""
    folder = RECIPES.get(name, name.partition("-")[0])
    found = [recipe for recipe, _ in shipped_recipes() if recipe.startswith(f"{folder}/")]
    return f"`{folder}/…` ({len(found)})" if found else ""


def paragraph(published: PublishedDataset) -> str:
    """Return what a data set's folder holds, under which terms, and where to ask for it."""
    folder = published.folders[0]
    return (
        f"**`{published.name}`**: in `{folder}`, {published.expected}. Terms: {terms_of(published.name)}. Source: "
        f"{published.source}.\n"
    )


def page() -> str:
    """Return the page."""
    shown = [published for published in PUBLISHED.values() if published.family == published.name]
    table = "".join(f"{row(published)}\n" for published in shown)
    rules = "".join(f"- `{rule.name}`: {rule.about}.\n" for rule in PROTOCOLS.values())
    return INTRODUCTION + table + f"\n{SETTINGS}\n{rules}\n" + "\n".join(map(paragraph, shown))


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    parser.add_argument("--output", metavar="FILE", type=Path, help="page to write, e.g. docs/datasets.md")
    parser.add_argument(
        "--unpack",
        metavar=("NAME", "ROOT"),
        nargs=2,
        help=f"unpack a data set's archive in the folder ROOT, once, into the folders that are read: {', '.join(UNPACKERS)} "
        '(cuhk-03.mat; needs pip install "vitreid[hdf5]")',
    )
    return parser


def write_or_list(args: argparse.Namespace) -> str:
    """Unpack what --unpack names, or write the page if --output names one; otherwise return a line per data set."""
    if args.unpack:
        name, root = args.unpack
        return choose("--unpack", name, UNPACKERS)(root)
    if args.output:
        write_text_atomically(args.output, page())
        return f"{args.output}: {len(PUBLISHED)} data sets"
    return "\n".join(f"{name:<20}{terms_of(name)}" for name in PUBLISHED)


main = command(get_parser, write_or_list)

if __name__ == "__main__":
    sys.exit(main())
