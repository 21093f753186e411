"""Runs of training without labels: their options, what they write, and whether two are the same."""

import csv

import torch
from helpers import rows

from vitreid.configs import load_config
from vitreid.datasets import build_data
from vitreid.model import load_deploy
from vitreid.processor.runs.checkpoint import load_last

WORDS = ["UNSUPERVISED.CLUSTERING", "dbscan", "UNSUPERVISED.K1", "6", "UNSUPERVISED.K2", "2"]
ONLY = ["LOSS.ID", "none", "LOSS.METRIC", "none"]
TIMES = {"seconds", "images_per_second"}
SOURCE = [
    *("MODEL.EMBED_DIM", "48", "MODEL.STEM", "conv", "INPUT.RE_PROB", "0", "SOLVER.IMS_PER_BATCH", "32"),
    *("SOLVER.OPTIMIZER_NAME", "AdamW", "SOLVER.NO_DECAY", "True", "TEST.NECK_FEAT", "after"),
    *("SOLVER.PER_ITERATION", "True", "SOLVER.MAX_EPOCHS", "12", "SOLVER.EVAL_PERIOD", "12"),
]


def rounds(folder):
    with (folder / "rounds.csv").open() as file:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]


def losses(folder):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows(folder)]


def weights(folder):
    return load_last(folder / "last.pth")["trainer"]["module"]


def assert_same_run(one, other):
    assert rounds(one) == rounds(other) and losses(one) == losses(other)
    assert (one / "clusters.csv").read_text() == (other / "clusters.csv").read_text()
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    best = [load_deploy(folder / "best.safetensors") for folder in (one, other)]
    assert best[0][1]["metrics"] == best[1][1]["metrics"]
    tensors = [model.state_dict() for model, _ in best]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def write_manifest(words, path, with_pids):
    """The training and test images as a manifest; pids of the training images may be left out."""
    data = build_data(load_config(None, words))
    lines = ["path,pid,camid,split"]
    for split in ("train", "query", "gallery"):
        for record in getattr(data, split):
            pid = record.pid if with_pids or split != "train" else ""
            lines.append(f"{record.path},{pid},{data.camera_names[record.camid]},{split}")
    path.write_text("\n".join(lines))
    return ["DATASETS.NAMES", "manifest", "DATASETS.MANIFEST", str(path)]
