"""What processor/test_distributed.py runs on one and on two processes: `python distributed_cases.py FOLDER CASE …`."""

import copy
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from vitreid.configs import load_config
from vitreid.datasets import CorruptImageError
from vitreid.datasets.loading import shared_memory
from vitreid.datasets.synthetic.dataset import SyntheticPlan, generate
from vitreid.processor.distributed.consistency import check_same
from vitreid.processor.distributed.ddp import gather
from vitreid.processor.distributed.process_group import Ranks, joined_ranks
from vitreid.processor.scoring.evaluator import build_evaluator
from vitreid.processor.training.run import build_session

ARGUMENTS = [
    *("MODEL.NAME", "vit_tiny_patch16_224", "MODEL.PRETRAIN_CHOICE", "none", "MODEL.DEVICE", "cpu"),
    *("MODEL.EMBED_DIM", "32", "MODEL.DEPTH", "2", "MODEL.NUM_HEADS", "2", "MODEL.DROP_PATH", "0.0"),
    *("INPUT.SIZE_TRAIN", "(64, 32)", "INPUT.SIZE_TEST", "(64, 32)", "INPUT.PADDING", "2"),
    *("SOLVER.IMS_PER_BATCH", "16", "SOLVER.MAX_EPOCHS", "5", "SOLVER.WARMUP_EPOCHS", "0", "SOLVER.EVAL_PERIOD", "100"),
    *("SOLVER.PRECISION", "fp32", "DATALOADER.NUM_WORKERS", "0", "SOLVER.BASE_LR", "0.002"),
]
PARTS = ["MODEL.SIE_CAMERA", "True", "MODEL.JPM", "True", "LOSS.CENTER_WEIGHT", "0.0005", "SOLVER.EMA", "0.9"]
TRAININGS = {
    "all parts": PARTS,
    "arcface": ["LOSS.ID", "arcface", "SOLVER.GRAD_CLIP", "1.0"],
    "accumulated": [*PARTS, "SOLVER.ACCUMULATE", "2"],
    "micro-batches": [*PARTS, "SOLVER.MICRO_BATCH", "3"],
    "both": ["SOLVER.ACCUMULATE", "2", "SOLVER.MICRO_BATCH", "3"],
    "shards": [*PARTS, "SOLVER.FSDP", "True", "SOLVER.GRAD_CLIP", "1.0"],
    "thawed": ["SOLVER.HEAD_EPOCHS", "2", "MODEL.FREEZE_STEM", "True"],
}


def config(folder: Path, *arguments: str):
    return load_config(None, [*ARGUMENTS, "DATASETS.ROOT_DIR", str(folder / "synthetic"), *arguments])


def training(folder: Path, ranks: Ranks, arguments: list[str]) -> dict:
    """Train 20 steps; return every batch's loss and the sums of the last weights."""
    session = build_session(config(folder, *arguments), ranks=ranks)
    trainer, losses = session.trainer, []
    step = trainer.step

    def recorded(*args):
        terms, stats = step(*args)
        losses.append(float(sum(terms.values())))
        return terms, stats

    trainer.step = recorded
    for epoch in range(1, 6):
        trainer.train_epoch(epoch, tqdm(disable=True))
    state = trainer.state_dict()
    weights = {**state["module"], **{f"ema.{k}": v for k, v in (state["ema"] or {"model": {}})["model"].items()}}
    return {
        "losses": losses,
        "weights": {k: v.double().abs().sum().item() for k, v in weights.items() if v is not None},
    }


def gathering(folder: Path, ranks: Ranks) -> dict:
    """The gradient of a function of the whole batch, averaged as DDP does it, and that of plain autograd."""
    rows = torch.arange(12.0).view(6, 2).sin()
    factor = torch.tensor([1.5, -0.5], requires_grad=True)
    expected = torch.autograd.grad(torch.cdist(rows * factor, rows * factor).square().sum().exp().log(), factor)[0]
    mine = rows.chunk(ranks.size)[ranks.rank]
    whole = gather(mine * factor, ranks) if ranks.size > 1 else mine * factor
    torch.cdist(whole, whole).square().sum().exp().log().backward()
    found = sum(torch.tensor(g) for g in ranks.gather_objects(factor.grad.tolist())) / ranks.size
    return {"found": found.tolist(), "expected": expected.tolist()}


def extraction(folder: Path, ranks: Ranks) -> dict:
    """The embeddings of 7 query images, and of a single gallery image: one of two processes has none."""
    cfg = config(folder, "TEST.IMS_PER_BATCH", "1")
    session = build_session(cfg, ranks=ranks)
    data = copy.copy(session.data)
    object.__setattr__(data, "query", data.query[:7])
    object.__setattr__(
        data, "gallery", [r for r in data.gallery if r.pid == data.query[0].pid and r.camid != data.query[0].camid][:1]
    )
    model = session.module.model
    evaluator = build_evaluator(cfg, data, model, session.device, session.precision, ranks=ranks)
    features = evaluator.extract(model)
    result = evaluator.rank(features)
    return {
        "query": features.query.tolist() if features else None,
        "gallery": features.gallery.tolist() if features else None,
        "mAP": result.mAP,
    }


def draws(folder: Path, ranks: Ranks) -> dict:
    """The next random number of each process, twice over, and whether other weights are noticed."""
    numbers = []
    for _ in range(2):
        session = build_session(config(folder), ranks=ranks)
        numbers.append(torch.rand(()).item())
    error = ""
    if ranks.rank == 1:
        with torch.no_grad():
            session.module.loss.heads[0].weight[0, 0] += 1
    try:
        check_same(session.module, ranks)
    except ValueError as found:
        error = str(found)
    return {"numbers": ranks.gather_objects(numbers), "error": error}


def clusters(folder: Path, ranks: Ranks, *more: str) -> dict:
    """The clusters of two rounds, and every batch's loss in the epochs after them."""
    words = ["UNSUPERVISED.CLUSTERING", "dbscan", "UNSUPERVISED.K1", "6", "UNSUPERVISED.K2", "2", *more]
    session = build_session(config(folder, *words, "SOLVER.BASE_LR", "0.0005"), ranks=ranks)
    labels, trainer, found = session.pseudo_labels, session.trainer, []
    neck = session.module.model.neck.running_mean.tolist()
    for epoch in (1, 2):
        labels.adopt(labels.find(session.module.model, epoch - 1), trainer.optimizers)
        means = trainer.train_epoch(epoch, tqdm(disable=True))
        found.append([labels.groups.tolist(), means["cluster"], session.module.loss.clusters.centroids.sum().item()])
    return {"rounds": found, "neck": neck}


def proxies(folder: Path, ranks: Ranks) -> dict:
    """The same with camera-aware proxies."""
    return clusters(folder, ranks, "UNSUPERVISED.PROXIES", "camera")


def source(folder: Path, ranks: Ranks) -> dict:
    """The same next to labelled people of a source."""
    place, plan = folder / "labelled" / "DukeMTMC-reID", SyntheticPlan(6, 2, 0, 2, 2, (64, 32), seed=5)
    ranks.from_first(lambda: None if place.exists() else generate(place, plan))
    return clusters(
        folder, ranks, "UNSUPERVISED.SOURCE", "dukemtmc", "UNSUPERVISED.SOURCE_DIR", str(folder / "labelled")
    )


def deciding(folder: Path, ranks: Ranks) -> dict:
    return {
        "any": [ranks.any(False), ranks.any(ranks.rank == ranks.size - 1)],
        "objects": ranks.gather_objects(f"of {ranks.rank}"),
        "first": ranks.from_first(lambda: f"of {ranks.rank}"),
    }


def failing(folder: Path, ranks: Ranks) -> dict:
    """The second process fails while the first waits in a collective operation."""
    if ranks.rank == 1:
        time.sleep(0.5)
        raise ValueError("the second has had enough")
    return {"never": ranks.any(True)}


def gone(folder: Path, ranks: Ranks) -> dict:
    """The second process is killed while the first waits."""
    if ranks.rank == 1:
        os._exit(9)
    return {"never": ranks.any(True)}


def _share(folder: Path, ranks: Ranks, fill) -> np.ndarray:
    shared_memory.MEMORY = tempfile.tempdir = str(folder / "memory")
    array = shared_memory.share_array((4, 1), ranks.of_machine(), fill, lambda: "")
    assert isinstance(array, np.ndarray)
    return array


def sharing(folder: Path, ranks: Ranks) -> dict:
    """Every rank writes its number into its rows of the machine's array."""

    def fill(array, rows):
        array[list(rows)] = ranks.rank

    place = ranks.of_machine()
    return {"array": _share(folder, ranks, fill)[:, 0].tolist(), "place": [place.rank, place.size]}


def undecodable(folder: Path, ranks: Ranks) -> dict:
    """The second process meets a corrupt image."""

    def fill(array, rows):
        if ranks.rank == 1:
            raise CorruptImageError("a.jpg: the image is empty")

    return {"never": _share(folder, ranks, fill).tolist()}


def killed_while_decoding(folder: Path, ranks: Ranks) -> dict:
    def fill(array, rows):
        if ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    return {"never": _share(folder, ranks, fill).tolist()}


CASES = {
    case.__name__: case
    for case in (
        *(gathering, extraction, draws, clusters, proxies, source, deciding, failing, gone),
        *(sharing, undecodable, killed_while_decoding),
    )
}


def run(folder: Path, ranks: Ranks, names) -> dict:
    return {
        name: training(folder, ranks, TRAININGS[name]) if name in TRAININGS else CASES[name](folder, ranks)
        for name in names
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined_ranks() as ranks:
        results = ranks.gather_objects(run(Path(sys.argv[1]), ranks, sys.argv[2:]))
        if ranks.is_first:
            (Path(sys.argv[1]) / "results.json").write_text(json.dumps(results))
