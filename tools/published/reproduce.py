"""Run the commands of a published table for several seeds, and print it with mean and spread. Run it again after an
interruption: it resumes.

Example:
    vitreid reproduce demo --seeds 1 2 3
    vitreid reproduce dg --sets market1501 msmt17 cuhk03-np-labeled --root data --list
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vitreid.common.errors import UserError
from vitreid.tools.cli.parser import command, new_parser, number_from
from vitreid.tools.published.generalisation import (
    DG,
    RECIPE,
    SETS,
    as_row,
    generalise,
    plan,
    read_sets,
    trainings_config,
    who_saw_what,
)
from vitreid.tools.published.published_tables import PEERS, TABLES, Row
from vitreid.tools.published.repeat import fill, reproduce


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("table", nargs="?", choices=[*TABLES, DG], help="which one; --list shows what they run")
    add("opts", nargs="*", metavar="KEY VALUE", help=f"options of the trainings of the table {DG}")
    parser.add_argument("--list", action="store_true", help="show the tables and their commands, and run nothing")
    parser.add_argument(
        "--seeds", metavar="N", type=number_from(0), nargs="+", default=[1, 2, 3], help="default: 1 2 3"
    )
    parser.add_argument("--root", metavar="DIR", type=Path, default=Path("data"), help="folder of the data sets")
    output = Path("logs/reproduce")
    parser.add_argument("--output", metavar="DIR", type=Path, default=output, help="of the runs; delete it to restart")
    group = parser.add_argument_group(
        f"the table {DG}: trained on some data sets, tested on those that were never seen"
    )
    group.add_argument("--sets", metavar="NAME", nargs="+", help=f"data sets; default: {' '.join(SETS)}")
    group.add_argument("--config_file", metavar="FILE", help=f"recipe of the trainings; default: {RECIPE}")
    group.add_argument("--all-parts", action="store_true", help="train on the test people of the training sets too")
    for name in PEERS:
        parser.add_argument(f"--{name}", metavar="DIR", type=Path, help=f"checkout of {name}, for the table evaluation")
    return parser


def show(args: argparse.Namespace) -> str:
    """Return the table, or the list of tables."""
    root, output = args.root.expanduser().resolve(), args.output.expanduser().resolve()
    checkouts = {name: Path(folder).expanduser().resolve() for name in PEERS if (folder := getattr(args, name))}
    if args.table == DG:
        return _show_generalisation(args, root, output)
    for flag, is_given in (
        ("--sets", args.sets),
        ("--config_file", args.config_file),
        ("--all-parts", args.all_parts),
        ("KEY VALUE", args.opts),
    ):
        if is_given:
            raise UserError(f"{flag}: for the table {DG} only; leave it out")
    if args.list:
        names = [args.table] if args.table else list(TABLES)
        return "\n".join(line for name in names for line in _commands(name, root, output, args.seeds[0], checkouts))
    if not args.table:
        raise UserError(f"no table named; choose from {', '.join(TABLES)}, {DG}, or look at them with --list")
    if unused := checkouts.keys() - {name for row in TABLES[args.table] for name in row.peers}:
        raise UserError(f"--{min(unused)}: the table {args.table} measures no other project; leave it out")
    return reproduce(TABLES[args.table], args.seeds, root, output, checkouts)


def _show_generalisation(args: argparse.Namespace, root: Path, output: Path) -> str:
    recipe, args.opts = _absolute(args.config_file or RECIPE), list(map(_absolute, args.opts))
    parts = read_sets(args.sets or SETS, root, trainings_config(recipe, args.opts))
    if not args.list:
        return generalise(parts, recipe, args.opts, args.seeds, root, output, args.all_parts)
    rows = [as_row(run, recipe, args.opts, args.all_parts) for run in plan(parts, args.all_parts)]
    return "\n".join([*_lines(DG, rows, root, output, args.seeds[0], {}), who_saw_what(parts, args.all_parts)])


def _absolute(word: str) -> str:
    """Return a word, or the absolute path of the file that it names: commands run in another folder."""
    return str(Path(word).resolve()) if Path(word).is_file() else word


def _commands(name: str, root: Path, output: Path, seed: int, checkouts: Mapping[str, Path]) -> list[str]:
    """Return a table's name, and the commands of each row for one seed."""
    return _lines(name, TABLES[name], root, output, seed, checkouts)


def _lines(
    name: str, rows: Sequence[Row], root: Path, output: Path, seed: int, checkouts: Mapping[str, Path]
) -> list[str]:
    lines = [name]
    for row in rows:
        lines.append(f"  {row.label}")
        run_folder = output / f"{row.folder}-{seed}"
        lines += [f"    {shlex.join(words)}" for words in fill(row, run_folder, seed, root, checkouts)]
    return lines


main = command(get_parser, show)

if __name__ == "__main__":
    sys.exit(main())
