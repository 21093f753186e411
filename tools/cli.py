"""What the command-line tools share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from vitreid.processor import NonFiniteLoss, log_to_console

USER_ERRORS = (
    ValueError,
    OSError,
    ImportError,
    NonFiniteLoss,
)  # their messages say what to do; a traceback would hide that


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments of every tool: --config_file, --traceback, and KEY VALUE overrides."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--config_file", "--config-file", metavar="FILE", help="recipe, e.g. configs/market/vit_base.yml"
    )
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="options to change, e.g. SOLVER.MAX_EPOCHS 20")
    return parser


def run(action: Callable[[], object], traceback: bool) -> int:
    """Run `action`; print a user's mistake as one message. Return the exit status: 0, 2 for an error, 130 for Ctrl-C."""
    log_to_console()
    try:
        action()
    except KeyboardInterrupt:
        return 130
    except USER_ERRORS as error:
        if traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
