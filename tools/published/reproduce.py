"""Run the commands of a published table for several seeds, and print it with mean and spread. Run it again after an
interruption: it resumes.

Example:
    vitreid reproduce demo --seeds 1 2 3
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from vitreid.common.errors import UserError
from vitreid.tools.cli.parser import command, new_parser, number_from
from vitreid.tools.published.published_tables import PEERS, TABLES
from vitreid.tools.published.repeat import fill, reproduce


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    parser.add_argument("table", nargs="?", choices=TABLES, help="which one; --list shows what they run")
    parser.add_argument("--list", action="store_true", help="show the tables and their commands, and run nothing")
    parser.add_argument(
        "--seeds", metavar="N", type=number_from(0), nargs="+", default=[1, 2, 3], help="default: 1 2 3"
    )
    parser.add_argument("--root", metavar="DIR", type=Path, default=Path("data"), help="folder of the data sets")
    output = Path("logs/reproduce")
    parser.add_argument("--output", metavar="DIR", type=Path, default=output, help="of the runs; delete it to restart")
    for name in PEERS:
        parser.add_argument(f"--{name}", metavar="DIR", type=Path, help=f"checkout of {name}, for the table evaluation")
    return parser


def show(args: argparse.Namespace) -> str:
    """Return the table, or the list of tables."""
    root, output = args.root.expanduser().resolve(), args.output.expanduser().resolve()
    checkouts = {name: Path(folder).expanduser().resolve() for name in PEERS if (folder := getattr(args, name))}
    if args.list:
        names = [args.table] if args.table else list(TABLES)
        return "\n".join(line for name in names for line in _commands(name, root, output, args.seeds[0], checkouts))
    if not args.table:
        raise UserError(f"no table named; choose from {', '.join(TABLES)}, or look at them with --list")
    if unused := checkouts.keys() - {name for row in TABLES[args.table] for name in row.peers}:
        raise UserError(f"--{min(unused)}: the table {args.table} measures no other project; leave it out")
    return reproduce(TABLES[args.table], args.seeds, root, output, checkouts)


def _commands(name: str, root: Path, output: Path, seed: int, checkouts: Mapping[str, Path]) -> list[str]:
    """Return a table's name, and the commands of each row for one seed."""
    lines = [name]
    for row in TABLES[name]:
        lines.append(f"  {row.label}")
        run_folder = output / f"{row.folder}-{seed}"
        lines += [f"    {shlex.join(words)}" for words in fill(row, run_folder, seed, root, checkouts)]
    return lines


main = command(get_parser, show)

if __name__ == "__main__":
    sys.exit(main())
