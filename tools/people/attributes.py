"""Predict attributes of people, such as a hat or the colour of the trousers, from the embeddings of a gallery.

`fit` learns them from labelled people, `test` compares predictions with labels, and `predict` writes columns that searches filter by.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from vitreid.common.files import check_output_file
from vitreid.common.text import percent, table
from vitreid.gallery.attributes.attribute_columns import (
    fit_attributes,
    predict_attributes,
    score_attributes,
)
from vitreid.gallery.attributes.attribute_heads import AttributeHeads, AttributeScores
from vitreid.gallery.attributes.attribute_labels import PROBABILITY, read_labels
from vitreid.tools.cli.parser import command
from vitreid.tools.cli.subcommands import Subcommand, subcommand_parser
from vitreid.tools.keeping.row_commands import open_folder


def fit(args: argparse.Namespace) -> None:
    """Fit heads on the labelled rows of a gallery, and print what to expect of new people."""
    output = check_output_file("--output", args.output, args.overwrite)
    heads = fit_attributes(open_folder(args.gallery), read_labels(args.labels), args.only or (), args.balanced)
    heads.save(output)
    print(f"people that a head was not fitted on, in {len(heads.heads)} heads of {output}:")
    print(_scores({head.name: head.scores for head in heads.heads}))


def test(args: argparse.Namespace) -> None:
    """Print how well heads predict the labelled rows of another gallery."""
    scores = score_attributes(open_folder(args.gallery), AttributeHeads.load(args.heads), read_labels(args.labels))
    print(json.dumps({name: asdict(one) for name, one in scores.items()}, indent=1) if args.json else _scores(scores))


def predict(args: argparse.Namespace) -> None:
    """Write predictions into the columns of a gallery."""
    heads = AttributeHeads.load(args.heads)
    count = predict_attributes(open_folder(args.gallery), heads, args.again)
    first = heads.heads[0].name
    print(
        f"{args.gallery}: {count} rows written; columns {first}, {first}{PROBABILITY} and so on, {len(heads.heads)} attributes"
    )


def _scores(scores: Mapping[str, AttributeScores]) -> str:
    """Return a table of the scores, with their mean."""
    head = ("attribute", "rows", "accuracy", "balanced", "commonest value")
    rows = [
        (name, f"{one.rows:,}", percent(one.accuracy), percent(one.balanced), percent(one.commonest))
        for name, one in scores.items()
    ]
    means = np.mean([(one.accuracy, one.balanced, one.commonest) for one in scores.values()], axis=0)
    return table([head, *rows, ("mean", "", *(percent(float(mean)) for mean in means))])


ARGUMENTS: dict[str, dict[str, Any]] = {
    "gallery": {"metavar": "GALLERY", "help": "folder of the gallery"},
    "--labels": {
        "metavar": "FILE",
        "required": True,
        "help": "CSV with the column pid and one column for each attribute, market_attribute.mat or duke_attribute.mat",
    },
    "--heads": {"metavar": "FILE", "required": True, "help": "what vitreid attributes fit has written"},
    "--output": {"metavar": "FILE", "required": True, "help": "file of the heads, .npz"},
    "--only": {"metavar": "NAME", "nargs": "+", "help": "these attributes; default: all"},
    "--balanced": {
        "action": "store_true",
        "help": "all values weigh the same: rare ones are found more often, more rows get a wrong one, and probabilities are too high for rare ones",
    },
    "--again": {"action": "store_true", "help": "also rows that have values already"},
    "--json": {"action": "store_true", "help": "print JSON rather than a table"},
    "--overwrite": {"action": "store_true", "help": "replace an existing output"},
}
COMMANDS = {
    "fit": Subcommand(
        fit,
        "learn attributes from the labelled people of a gallery",
        "galleries/train --labels attributes.csv --output attributes.npz",
        ("gallery", "--labels", "--output", "--only", "--balanced", "--overwrite"),
    ),
    "test": Subcommand(
        test,
        "compare predictions with labels",
        "galleries/crops --labels attributes.csv --heads attributes.npz",
        ("gallery", "--labels", "--heads", "--json"),
    ),
    "predict": Subcommand(
        predict,
        "write the attributes of each row and their probabilities into columns",
        "galleries/crops --heads attributes.npz",
        ("gallery", "--heads", "--again"),
    ),
}


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments: one subcommand each."""
    return subcommand_parser("vitreid attributes", __doc__, COMMANDS, ARGUMENTS)


main = command(get_parser, lambda args: COMMANDS[args.command].action(args), intermixed=False)

if __name__ == "__main__":
    sys.exit(main())
