"""What a GPU has to show, in one command: `python benchmarks/gpu.py [--minutes 8] [--quick] [--transreid DIR] [--json FILE]`.

Agreements: float32 with the CPU, half precision with float32, one rank with none, resumed with uninterrupted, pixels after
asynchronous copies. Aims: the estimate of memory, images per second next to the original's, use of the matrix units. Parts run in
the order of their value, each in a process that may fail alone; those that no longer fit the time are left out. The exit status is 1
if a part failed, or an agreement or an aim was missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

from vitreid.benchmarks.common.command import check_numbers, command, new_parser, save, start_report
from vitreid.benchmarks.device.findings import DeviceJob
from vitreid.benchmarks.device.part_runner import FAILED, LEFT_OUT, SKIPPED, Part, PartResult, run_parts
from vitreid.common.errors import UserError

ORIGINAL = "model/backbones/vit_pytorch.py"  # by which its checkout is recognised
HERE = "vitreid.benchmarks.device"
NO_STREAMS = "a CPU has no page-locked memory and no streams"
PARTS = [
    Part("forward", f"{HERE}.agreement:forward", 20, 60),
    Part("losses", f"{HERE}.agreement:losses", 5, 30),
    Part("gradients", f"{HERE}.agreement:gradients", 5, 40),
    Part("training", f"{HERE}.agreement:training", 20, 60),
    Part("augmentation", f"{HERE}.stream_copies:augmentation", 5, 30),
    Part("prefetch", f"{HERE}.stream_copies:prefetch", 10, 40),
    Part("streams", f"{HERE}.stream_copies:streams", 10, 40, NO_STREAMS),
    Part("half-precision", f"{HERE}.half_precision:losses", 15, 60),
    Part("loss-scaling", f"{HERE}.half_precision:scaling", 5, 30),
    Part("memory", f"{HERE}.memory_use:estimates", 30, 90),
    Part("resume", f"{HERE}.exact_resume:resume", 15, 60),
    Part("one-rank", f"{HERE}.one_rank:replicas", 10, 40),
    Part("shards", f"{HERE}.one_rank:shards", 10, 40),
    Part("batch-norms", f"{HERE}.one_rank:batch_norms", 5, 30, "torch has SyncBatchNorm for GPUs only"),
    Part("speed", f"{HERE}.device_speed:training_speed", 90, 180),
    Part("evaluation", f"{HERE}.ranking_agreement:evaluation", 10, 30),
    Part("re-ranking", f"{HERE}.ranking_agreement:reranking", 10, 40),
    Part("search", f"{HERE}.ranking_agreement:search", 5, 30),
    Part("loader", f"{HERE}.device_speed:loading", 20, 60),
    Part("extraction", f"{HERE}.device_speed:extraction", 30, 90),
    Part("compile", f"{HERE}.device_speed:compiled", 80, 150),
    Part("million", f"{HERE}.device_speed:million", 30, 90),
]


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(
        __doc__, "small models and few steps, without aims: checks that everything runs", "of weights and images"
    )
    add = parser.add_argument
    add(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="cpu: the parts that make sense there, compared with the CPU",
    )
    add("--minutes", metavar="N", type=float, default=8, help="time of all parts together")
    add("--parts", metavar="NAMES", help=f"some of {','.join(part.name for part in PARTS)}")
    add("--transreid", metavar="DIR", type=Path, help="checkout of the original TransReID, to be measured next to ours")
    return parser


def run(args: argparse.Namespace) -> int:
    """Do the parts, print what they find, write it; return 1 if something failed or was missed."""
    check_numbers(args, "minutes")
    parts = chosen(args.parts)
    if args.transreid and not (args.transreid / ORIGINAL).is_file():
        raise UserError(f"--transreid: {args.transreid} holds no {ORIGINAL}; give the root folder of its checkout")
    if args.device == "cpu" and not args.quick:
        raise UserError("--device cpu: the sizes are those of a GPU; add --quick")
    started = time.monotonic()
    report = start_report(args, args.device, f"{args.minutes:g} min")
    job = DeviceJob(args.device, args.quick, args.seed, str(args.transreid.absolute()) if args.transreid else None)
    results: list[PartResult] = []
    for result in run_parts(parts, job, 60 * args.minutes, partial(print, flush=True)):
        results.append(result)
        seconds = time.monotonic() - started
        save(
            args, report | {"seconds": seconds, "missed": missed_of(results), "parts": [one.plain() for one in results]}
        )
    print(summary(results), flush=True)
    return int(bool(missed_of(results)) or any(result.status == FAILED for result in results))


def chosen(names: str | None) -> list[Part]:
    """Return the parts of --parts, in the order of their value; all without it.

    Raises:
        UserError: there is no part of that name.
    """
    wanted = dict.fromkeys(names.split(",")) if names else {part.name: None for part in PARTS}
    known = [part.name for part in PARTS]
    if unknown := [name for name in wanted if name not in known]:
        raise UserError(f"--parts: unknown part {unknown[0]!r}; choose from {','.join(known)}")
    return [part for part in PARTS if part.name in wanted]


def missed_of(results: list[PartResult]) -> list[str]:
    """Return the agreements and aims that were missed, each with its part."""
    return [line for result in results for line in result.missed]


def summary(results: list[PartResult]) -> str:
    """Return the parts by what became of them, and what was missed."""
    lines = [f"missed: {line}" for line in missed_of(results)]
    lines += [f"failed: {result.part}: {result.reason}" for result in results if result.status == FAILED]
    for status in (LEFT_OUT, SKIPPED):
        if names := [result.part for result in results if result.status == status]:
            lines.append(f"{status}: {', '.join(names)}")
    held = sum(len(result.findings) for result in results)
    lines.append(f"{len(results)} parts, {held} findings, {len(missed_of(results))} missed")
    return "\n" + "\n".join(lines)


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
