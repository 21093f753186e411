"""What the commands share: their parsers, and how an error becomes a message and an exit status."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import IO, Any, Protocol, cast

import torch

from vitreid.common.errors import MissingPackageError, UserError
from vitreid.common.machine.processor_share import measured_share
from vitreid.common.text import first_line, printable
from vitreid.processor import NonFiniteLoss, RankFailed, Stopped, log_to_console

logger = logging.getLogger(__name__)
OPENMP = "OMP_NUM_THREADS"
USER_ERRORS = (
    UserError,
    OSError,
    MissingPackageError,
    NonFiniteLoss,
    RankFailed,
)  # their messages name the cause and the next step; a traceback would hide that

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # in torch's messages
MEMORY_REMEDY = (
    "what was saved is intact; set SOLVER.MICRO_BATCH (e.g. 16), or lower it, lower TEST.IMS_PER_BATCH, set "
    "MODEL.CHECKPOINT_BLOCKS True, or DATALOADER.CACHE off"
)  # of a command that takes KEY VALUE
FLAGS = {  # config key -> the option of the commands that have no config
    "DATASETS.ROOT_DIR": "--root",
    "DATASETS.CAMERA_PATTERN": "--camera-pattern",
    "UNSUPERVISED.SOURCE_DIR": "--source-root",
    "MODEL.DEVICE": "--device",
    "OUTPUT_DIR": "--output",
    "SOLVER.PRECISION": "--precision",
}
SMALLER_BATCH, NO_REMEDY = "lower --batch-size", "end other programs, or take a machine with more memory"


def new_parser(text: str | None, config: bool = False) -> argparse.ArgumentParser:
    """Return a command's parser, with --traceback and --threads.

    Args:
        text: the docstring of the command's module: description, then a paragraph `Example:` with one command per line.
        config: add --config_file and the KEY VALUE overrides.
    """
    parser = argparse.ArgumentParser(**layout(text or ""))
    add_common_flags(parser)
    if config:
        parser.add_argument(
            "--config_file",
            "--config-file",
            metavar="FILE",
            help="recipe: a YAML file, or the name of a shipped one, e.g. market/vit_base (`vitreid recipes` lists them)",
        )
        parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="options to change, e.g. SOLVER.MAX_EPOCHS 20")
    return parser


def add_common_flags(parser: argparse.ArgumentParser, **options: Any) -> None:
    """Add the options of all commands.

    Args:
        options: of `add_argument`; a subcommand must not replace what its command was given: `default=argparse.SUPPRESS`.
    """
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error arose", **options)
    parser.add_argument(
        "--threads",
        metavar="N",
        type=number_from(1),
        help="threads of this command; default: the processors that other programs leave free",
        **options,
    )


@contextmanager
def threads(count: int | None, steady: bool = False) -> Iterator[int]:
    """Compute with `count` threads; None = as many as `Share` allows, unless OMP_NUM_THREADS says it already.

    Args:
        steady: do not measure the load, since the number of threads changes the last bits of a training.
    """
    said = os.environ.get(OPENMP, "")
    if count is None and said.isdecimal():
        yield int(said)
        return
    share = measured_share(load=not steady)
    number = count or share.threads
    if count is None and number < share.cores:
        logger.info("threads: %s; --threads N takes another number", share)
    before = torch.get_num_threads()
    os.environ[OPENMP] = str(number)  # of libraries that are loaded later, and of other processes
    torch.set_num_threads(number)
    try:
        yield number
    finally:
        torch.set_num_threads(before)
        os.environ.pop(OPENMP) if not said else os.environ.update({OPENMP: said})


def layout(text: str) -> dict[str, Any]:
    """Return the arguments of a parser, or of a subcommand's: `text` as in `new_parser`, its examples at the end of --help."""
    description, mark, examples = text.partition("Example")
    return {
        "description": description,
        "epilog": mark.lower() + examples.rstrip(),
        "formatter_class": _ExamplesAsWritten,
        "allow_abbrev": False,  # --overwrit, or an option of a later version, is no --overwrite
    }


class _ExamplesAsWritten(argparse.HelpFormatter):
    """Wraps descriptions; leaves the lines of the examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example") else super()._fill_text(text, width, indent)


def number_from(least: int) -> Callable[[str], int]:
    """Return the type of an option that takes a whole number, `least` or more."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"a whole number, {least} or more, got {text!r}")
        return number

    return read


class Main(Protocol):
    """The `main` of a command: arguments (None = those of the process) -> exit status."""

    def __call__(self, argv: list[str] | None = None) -> int: ...


def command(
    get_parser: Callable[[], argparse.ArgumentParser],
    action: Callable[[argparse.Namespace], object],
    intermixed: bool = True,
    steady: bool = False,
) -> Main:
    """Return the `main` of a command: it parses its arguments, runs `action` on them and returns the exit status.

    Text that `action` returns is printed; False becomes status 1.

    Args:
        intermixed: options may stand between positional arguments; not possible with subcommands.
        steady: the command trains, see `threads`.
    """

    def main(argv: list[str] | None = None) -> int:
        parser = get_parser()
        args = parser.parse_intermixed_args(argv) if intermixed else parser.parse_args(argv)
        results: list[object] = []

        def act() -> None:
            with threads(args.threads, steady):
                results.append(action(args))
            if isinstance(results[0], str):
                print(results[0], flush=True)  # here, so that a closed pipe is an error message too

        status = run(act, args.traceback, memory_remedy(args), lambda message: fitted(message, args))
        return status or int(results == [False])

    return main


class PrintableStream:
    """A stream that shows control characters, as they may stand in names, as their codes: a terminal would obey them."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text; see `printable`."""
        return self._stream.write(printable(text))

    def __getattr__(self, name: str) -> Any:
        """Return what the stream has."""
        return getattr(self._stream, name)


def fitted(message: str, args: argparse.Namespace) -> str:
    """Return a message of a command without KEY VALUE, with its own options in the place of config keys.

    >>> fitted("DATASETS.ROOT_DIR: no folder", argparse.Namespace(root=None))
    '--root: no folder'
    """
    if hasattr(args, "opts"):
        return message
    for key, flag in FLAGS.items():
        if hasattr(args, flag.strip("-").replace("-", "_")):
            message = message.replace(key, flag)
    return message


def memory_remedy(args: argparse.Namespace) -> str:
    """Return what the user of a command can do if memory is too small: options that it has."""
    if hasattr(args, "opts"):
        return MEMORY_REMEDY
    return SMALLER_BATCH if hasattr(args, "batch_size") else NO_REMEDY


def run(
    action: Callable[[], object], traceback: bool, remedy: str = NO_REMEDY, reword: Callable[[str], str] = str
) -> int:
    """Run `action`; print a user's mistake as one message. Any other error is a defect and keeps its traceback.

    Args:
        remedy: what to do where memory is too small.
        reword: fits a message to the command.

    Returns:
        The exit status: 0; 2 for an error; 128 + signal if it was stopped: 130 for Ctrl-C, 143 for SIGTERM.
    """
    log_to_console()
    try:
        with redirect_stdout(cast(IO[str], PrintableStream(sys.stdout))):
            action()
    except Stopped as stopped:
        return stopped.status
    except KeyboardInterrupt:
        return 130
    except USER_ERRORS as error:
        if traceback:
            raise
        print(f"error: {printable(reword(str(error)))}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if traceback or not is_out_of_memory(error):
            raise
        print(f"error: out of memory: {first_line(error)}; {remedy}", file=sys.stderr)
        return 2
    return 0


def is_out_of_memory(error: Exception) -> bool:
    """Return whether memory, the device's or the machine's, was too small; torch raises a RuntimeError for it."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
