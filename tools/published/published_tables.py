"""The tables that are published, as commands: what to run for each row, and where its figures are."""

from __future__ import annotations

from dataclasses import dataclass

RETRIEVAL = ("mAP", "mINP", "Rank-1")
PEERS = ("transreid", "fastreid", "torchreid", "oml")  # projects that take part in the table `evaluation`


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        label: what it is, in the table.
        folder: the name of its runs' folders; rows with the same one share what their commands have in common.
        commands: {run} is the folder for a seed, {seed} the seed, {root} the data's folder.
        metrics: the JSON file in that folder that holds the figures, fractions 0-1; empty = the table that
            the last command prints is shown.
        peers: projects with a checkout that the last command takes, as options of these names.
    """

    label: str
    folder: str
    commands: tuple[str, ...]
    metrics: str = "metrics.json"
    peers: tuple[str, ...] = ()


def train_command(recipe: str, options: str = "") -> str:
    """Return the command that trains; `--resume` continues an interrupted run."""
    return f"vitreid train --config_file {recipe} --resume auto SOLVER.SEED {{seed}} OUTPUT_DIR {{run}} DATASETS.ROOT_DIR {{root}} {options}".strip()


def _benchmark(label: str, name: str, options: str = "", peers: tuple[str, ...] = ()) -> tuple[Row, ...]:
    """Return the table that a benchmark prints."""
    command = f"python benchmarks/{name}.py --seed {{seed}} {options} --json {{run}}/figures.json"
    return (Row(label, name, (command,), "", peers),)


_TEST = "vitreid test --weights {run}/best.safetensors"
_RERANK = f"{_TEST} --output {{run}}/reranked.json TEST.RERANK k-reciprocal"
_SYNTHETIC, _UNTRAINED = "synthetic/vit_tiny", "SOLVER.BASE_LR 0.0 SOLVER.MAX_EPOCHS 1 SOLVER.WARMUP_EPOCHS 0"
_SCRATCH = train_command("market/vit_tiny_scratch")

TABLES: dict[str, tuple[Row, ...]] = {
    "demo": (
        Row("synthetic people", "demo", (train_command(_SYNTHETIC), _TEST)),
        Row("the same model untrained", "untrained", (train_command(_SYNTHETIC, _UNTRAINED), _TEST)),
    ),
    "market-scratch": (
        Row("Market-1501, nothing pretrained", "market-scratch", (_SCRATCH, _TEST)),
        Row("the same, k-reciprocal re-ranking", "market-scratch", (_SCRATCH, _RERANK), "reranked.json"),
    ),
    "evaluation": _benchmark("speed and memory of evaluation", "evaluation", "--data {root}", PEERS),
    "galleries": _benchmark("speed of galleries", "gallery"),
    "serving": _benchmark("waiting times of many clients", "serving"),
    "shipping": _benchmark("parity and latency of exported models", "shipping"),
    "budget": _benchmark("what recipes learn in ten minutes", "budget", "--data {root} --minutes 10"),
}
