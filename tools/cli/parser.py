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

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # in torch's messages
MEMORY_REMEDY = (
    "what was saved is intact; set SOLVER.MICRO_BATCH (e.g. 16), or lower it, lower TEST.IMS_PER_BATCH, set "
    "MODEL.CHECKPOINT_BLOCKS True, or DATALOADER.CACHE off"
)


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
    except (MemoryError, RuntimeError) as error:
        if traceback or not is_out_of_memory(error):
            raise
        print(f"error: out of memory: {_first_line(error)}; {MEMORY_REMEDY}", file=sys.stderr)
        return 2
    return 0


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory, the device's or the machine's, was too small; torch raises a RuntimeError for it."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
