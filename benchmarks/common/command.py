"""What the benchmarks' command lines share. Imports nothing whose memory would count in a measurement."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path


def command(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], object], argv: list[str] | None
) -> int:
    """Run a benchmark; return the exit status: 0 or the number that `run` returns, 2 for a mistake in the arguments, 130 for Ctrl-C.

    Args:
        parser: has `--json`, whose file is looked at before anything is measured.
        argv: None = the words of the command line.
    """
    args = parser.parse_args(argv)
    try:
        check_json(args.json)
        status = run(args)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return status if isinstance(status, int) else 0


def check_json(path: Path | None) -> None:
    """Raise ValueError if no file can be written there."""
    if path and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise ValueError(f"--json: {path} is a folder, or lies in none; give a file in an existing folder")
