"""List the recipes that --config_file accepts by name, one line each.

Example:
    vitreid recipes
"""

from __future__ import annotations

import argparse
import sys

from vitreid.configs.load import shipped_recipes
from vitreid.tools.cli.parser import command, new_parser


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    return new_parser(__doc__)


def listing() -> str:
    """Return a line per recipe: its name and its description."""
    recipes = shipped_recipes()
    width = max(len(name) for name, _ in recipes)
    return "\n".join(f"{name:<{width}}  {description}" for name, description in recipes)


main = command(get_parser, lambda args: listing())

if __name__ == "__main__":
    sys.exit(main())
