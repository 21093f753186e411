"""What the command-line tools share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from vitreid.processor import NonFiniteLoss, RankFailed, Stopped, log_to_console

USER_ERRORS = (
    ValueError,
    OSError,
    ImportError,
    NonFiniteLoss,
    RankFailed,
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
    """Run `action`; print a user's mistake as one message.

    Returns:
        The exit status: 0; 2 for an error; 128 + signal if it was stopped: 130 for Ctrl-C, 143 for SIGTERM.
    """
    log_to_console()
    try:
        action()
    except Stopped as stopped:
        return stopped.status
    except KeyboardInterrupt:
        return 130
    except USER_ERRORS as error:
        if traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
