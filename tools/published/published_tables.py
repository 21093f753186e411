"""The tables that are published, as commands: what to run for each row, and where its figures are."""

from __future__ import annotations

from dataclasses import dataclass

RETRIEVAL = ("mAP", "mINP", "Rank-1")
PEERS = ("transreid", "fastreid", "torchreid", "oml")  # whose checkouts tools/published/reproduce.py passes on


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        label: what it is, in the table.
        folder: the name of its runs' folders; rows with the same one share what their commands have in common.
        commands: {run} is the folder for a seed, {seed} the seed, {root} the data's folder.
        metrics: the JSON file in that folder that holds the figures, fractions 0-1; empty = the last command prints
            a table of its own, which is shown.
        peers: whose checkouts the last command takes, as options of these names.
    """

    label: str
    folder: str
    commands: tuple[str, ...]
    metrics: str = "metrics.json"
    peers: tuple[str, ...] = ()


def _train(config: str, options: str = "") -> str:
    """Return the command that trains; `--resume` goes on if it was interrupted."""
    return f"tools/train.py --config_file {config} --resume auto SOLVER.SEED {{seed}} OUTPUT_DIR {{run}} DATASETS.ROOT_DIR {{root}} {options}".strip()


_TEST = "tools/test.py --weights {run}/best.safetensors"
_RERANK = f"{_TEST} --output {{run}}/reranked.json TEST.RERANK k-reciprocal"
_SYNTHETIC = "configs/synthetic/vit_tiny.yml"
_SCRATCH = _train("configs/market/vit_tiny_scratch.yml")

TABLES: dict[str, tuple[Row, ...]] = {
    "demo": (
        Row("synthetic people", "demo", (_train(_SYNTHETIC), _TEST)),
        Row(
            "the same model untrained",
            "untrained",
            (_train(_SYNTHETIC, "SOLVER.BASE_LR 0.0 SOLVER.MAX_EPOCHS 1 SOLVER.WARMUP_EPOCHS 0"), _TEST),
        ),
    ),
    "market-scratch": (
        Row("Market-1501, nothing pretrained", "market-scratch", (_SCRATCH, _TEST)),
        Row("the same, k-reciprocal re-ranking", "market-scratch", (_SCRATCH, _RERANK), "reranked.json"),
    ),
    "evaluation": (
        Row(
            "speed and memory of evaluation",
            "evaluation",
            ("benchmarks/evaluation.py --seed {seed} --data {root} --json {run}/figures.json",),
            "",
            PEERS,
        ),
    ),
    "galleries": (
        Row(
            "speed of galleries",
            "galleries",
            ("benchmarks/gallery.py --seed {seed} --json {run}/figures.json",),
            "",
        ),
    ),
    "serving": (
        Row(
            "waiting times of many clients",
            "serving",
            ("benchmarks/serving.py --seed {seed} --json {run}/figures.json",),
            "",
        ),
    ),
    "shipping": (
        Row(
            "parity and latency of shipped models",
            "shipping",
            ("benchmarks/shipping.py --seed {seed} --json {run}/figures.json",),
            "",
        ),
    ),
    "budget": (
        Row(
            "what recipes learn in ten minutes",
            "budget",
            ("benchmarks/budget.py --seed {seed} --data {root} --minutes 10 --json {run}/figures.json",),
            "",
        ),
    ),
}
