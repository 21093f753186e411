"""The command `vitreid`: `vitreid train --config_file market/vit_base`, also `python -m vitreid train …`."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module
from typing import NamedTuple

from vitreid import __version__


class Command(NamedTuple):
    """A subcommand: the module with its `main(argv)`, and one line about it."""

    module: str
    summary: str


COMMANDS = {
    "train": Command("train", "train a recipe; the results are one folder"),
    "pretrain": Command("cli.pretrain", "pre-train a backbone on crops without labels: DINO, iBOT"),
    "test": Command("test", "evaluate weights or saved features: CMC, mAP, mINP and more"),
    "export": Command("export", "embed images, a data set or the people in recordings into a gallery"),
    "track": Command("video.track", "follow people through recordings: tracks, annotated video, training data"),
    "film": Command("video.film", "draw a film of several cameras with ground truth, and judge the paths found in it"),
    "search": Command("search", "find the crops of a gallery that are most like an image"),
    "gallery": Command(
        "gallery", "list, add, change, remove, merge, verify, compress or convert the rows of a gallery"
    ),
    "identities": Command("people.identities", "find out which rows of a gallery show one person"),
    "identify": Command("people.identify", "say whether an image, or a track, shows a known person, a new one, or ask"),
    "attributes": Command("people.attributes", "learn attributes such as a hat from labelled people, and predict them"),
    "adapt": Command("people.adapt", "adapt a model to your cameras with crops without names"),
    "serve": Command("serve", "search a gallery in a web browser or through a JSON API"),
    "report": Command("report", "write one HTML page about a run, or compare several runs"),
    "check-data": Command("check_data", "check a data set before training"),
    "summary": Command("summary", "show a model's layers, parameters, multiply-adds and memory"),
    "convert": Command("convert", "convert weights of another project"),
    "export-model": Command("export_model", "export a model to ONNX, OpenVINO, TorchScript or torch.export"),
    "benchmark": Command("edge.benchmark", "measure images per second and latency of a model by batch and runtime"),
    "tune": Command("cli.tune", "search for better values of options in several trainings"),
    "options": Command("cli.option_list", "list the options, or print their JSON Schema"),
    "recipes": Command("cli.recipes", "list the recipes that --config_file accepts by name"),
    "datasets": Command(
        "published.dataset_page", "list the published data sets that are read, unpack one, or write their page"
    ),
    "backbones": Command("published.backbones", "list the tested backbones, or write their table"),
    "reproduce": Command("published.reproduce", "run the commands of a published table again"),
}
ALIASES = {"check_data": "check-data", "export_model": "export-model"}


def main(argv: list[str] | None = None) -> int:
    """Run the subcommand that the first argument names; return its exit status."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] == "--version":
        print(f"vitreid {__version__}")
        return 0
    name = ALIASES.get(words[0], words[0])
    if name not in COMMANDS:
        print(f"error: {_unknown(words[0])}", file=sys.stderr)
        return 2
    tool = import_module(f"vitreid.tools.{COMMANDS[name].module}")
    given, sys.argv = sys.argv, [f"vitreid {name}", *words[1:]]  # argparse takes the program's name from it
    try:
        return tool.main(words[1:])
    finally:
        sys.argv = given


def usage() -> str:
    """Return the list of subcommands."""
    lines = "\n".join(f"  {name:<13} {command.summary}" for name, command in COMMANDS.items())
    return f"""usage: vitreid COMMAND [ARGUMENTS]

Person re-identification with vision transformers.

{lines}

vitreid COMMAND --help shows the arguments and an example; vitreid --version shows the version."""


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean `vitreid {close[0]}`?" if close else f"choose from {', '.join(COMMANDS)}"
    return f"vitreid: unknown command {name!r}; {hint}"


if __name__ == "__main__":
    sys.exit(main())
