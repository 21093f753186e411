"""List the options of a training with their defaults, as a table or as JSON Schema for editors.

Example:
    vitreid options SOLVER
    vitreid options --json-schema
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap

from vitreid.common.errors import UserError
from vitreid.configs import OPTIONS
from vitreid.configs.json_schema import json_schema
from vitreid.tools.cli.parser import command, new_parser


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="list only the options with these words in key or meaning"
    )
    parser.add_argument("--json-schema", action="store_true", help="print the schema of a recipe (draft 2020-12)")
    return parser


def listing(args: argparse.Namespace) -> str:
    """Return the options with all of the words: key and default, the meaning below."""
    if args.json_schema:
        return json.dumps(json_schema(), indent=1, ensure_ascii=False)
    words = [word.lower() for word in args.words]
    found = [key for key, option in OPTIONS.items() if all(word in f"{key} {option.help}".lower() for word in words)]
    if not found:
        raise UserError(
            f"vitreid options: no option has the words {', '.join(args.words)}; without words all are listed"
        )
    meaning = {key: textwrap.indent(textwrap.fill(OPTIONS[key].help, 100), "    ") for key in found}
    return "\n".join(f"{key} {OPTIONS[key].default!r}\n{meaning[key]}" for key in found)


main = command(get_parser, listing)

if __name__ == "__main__":
    sys.exit(main())
