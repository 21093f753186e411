"""Packs a data set and weights into files below a size: `python benchmarks/carried/pack_parts.py --data DATA --weights FILE --output PARTS`.

The data set is in Market-1501's layout. Weights are stored in half precision. `benchmarks/carried/train_parts.py` unpacks them.
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save

from vitreid.benchmarks.common.command import check_numbers, command, new_parser
from vitreid.common.errors import UserError
from vitreid.common.replace_folder import scratch_folder
from vitreid.datasets import read_dataset
from vitreid.datasets.records import Record
from vitreid.model.weights.read import read_weights

NAME = "part-{:02d}.tar"
WEIGHTS = "weights.safetensors"
FOLDERS = {"train": "bounding_box_train", "gallery": "bounding_box_test", "query": "query"}
FEW = 20  # people, with --quick
BLOCK = 512  # bytes: tar's


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, f"only {FEW} people for training and {FEW} queried ones")
    add = parser.add_argument
    add("--data", metavar="DIR", type=Path, required=True, help="folder of market1501, or one above it")
    add("--weights", metavar="FILE", type=Path, required=True, help="what MODEL.PRETRAIN_PATH takes")
    add("--output", metavar="DIR", type=Path, required=True, help="gets the parts; must not exist")
    add("--megabytes", metavar="N", type=float, default=64, help="most of a part; default: 64")
    return parser


def run(args: argparse.Namespace) -> None:
    """Write the parts and say how large they are."""
    check_numbers(args, "megabytes")
    if args.output.exists():
        raise UserError(f"--output: {args.output} exists; name a new folder")
    for path in pack(args.data, args.weights, args.output, int(args.megabytes * 1e6), FEW if args.quick else None):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def pack(data: Path, weights: Path, output: Path, most: int, few: int | None = None) -> list[Path]:
    """Write `part-01.tar`, … into a new folder, which is there once all are written; return their paths.

    Args:
        most: bytes of a part.
        few: people of the training part and of the queries; None = all, and the distractors.
    Raises:
        UserError: one file alone is larger.
        FileNotFoundError, ValueError: as the readers of data sets and weights.
    """
    parts: list[list[tuple[str, bytes | Path, int]]] = []
    room = 0
    for name, content, size in _members(data, weights, few):
        taken = BLOCK + -(-size // BLOCK) * BLOCK
        if taken + 2 * tarfile.RECORDSIZE > most:
            raise UserError(
                f"--megabytes: {name} has {size / 1e6:.1f} MB, the parts at most {most / 1e6:g}; allow larger parts"
            )
        if taken > room:
            parts.append([])
            room = most - 2 * tarfile.RECORDSIZE  # the end of a file is filled up to a whole record
        parts[-1].append((name, content, size))
        room -= taken
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(output) as scratch:
        made = scratch / "parts"
        made.mkdir()
        for number, members in enumerate(parts, 1):
            with tarfile.open(made / NAME.format(number), "w", format=tarfile.USTAR_FORMAT) as tar:
                for name, content, size in members:
                    about = tarfile.TarInfo(name)
                    about.size = size
                    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
                        tar.addfile(about, file)
        made.rename(output)
    return sorted(output.iterdir())


def _members(data: Path, weights: Path, few: int | None) -> Iterator[tuple[str, bytes | Path, int]]:
    """Yield name, content or file, and size of all that is carried: training images, gallery, queries, weights."""
    content = _in_half_precision(weights)
    found = read_dataset("market1501", data)
    chosen = [*_first(found.train, few), *_first(found.query, few)]
    for part, folder in FOLDERS.items():
        for record in getattr(found, part):
            if few and record.pid not in chosen:
                continue
            path = Path(record.path)
            yield f"market1501/{folder}/{path.name}", path, path.stat().st_size
    yield WEIGHTS, content, len(content)


def _first(records: list[Record], few: int | None) -> list[int]:
    """Return the first people."""
    return list(dict.fromkeys(record.pid for record in records))[:few]


def _in_half_precision(weights: Path) -> bytes:
    state = read_weights(weights).tensors
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    if wrong := [
        name for name, tensor in half.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]:
        raise UserError(f"{weights}: {wrong[0]} has values beyond those of half precision, 65504; use other weights")
    return save({name: tensor.contiguous() for name, tensor in half.items()})


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
