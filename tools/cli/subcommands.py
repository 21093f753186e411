"""Subcommands of a command, as tables: a function, one line about it, and its arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vitreid.tools.cli.parser import add_common_flags, layout, new_parser


class Subcommand(NamedTuple):
    """A function, one line about it, the arguments of an example, and its arguments, keys of a table of them.

    Args:
        extend: adds further arguments to the subcommand's parser.
    """

    action: Callable[[argparse.Namespace], Any]
    summary: str
    example: str
    arguments: tuple[str, ...]
    extend: Callable[[argparse.ArgumentParser], object] | None = None


def subcommand_parser(
    program: str, text: str | None, commands: Mapping[str, Subcommand], arguments: Mapping[str, Mapping[str, Any]]
) -> argparse.ArgumentParser:
    """Return the parser of a command with subcommands.

    Args:
        program: the command, for the examples.
        text: its description.
        arguments: flag or name -> the options of `add_argument`.
    """
    examples = "\n".join(f"    {program} {name} {one.example}" for name, one in commands.items())
    parser = new_parser(f"{text}\nExamples:\n{examples}")
    below = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, one in commands.items():
        shown = layout(f"{one.summary.capitalize()}.\n\nExample:\n    {program} {name} {one.example}")
        added = below.add_parser(name, help=one.summary, **shown)
        for argument in one.arguments:
            added.add_argument(argument, **arguments[argument])
        if one.extend:
            one.extend(added)
        add_common_flags(added, default=argparse.SUPPRESS)
    return parser
