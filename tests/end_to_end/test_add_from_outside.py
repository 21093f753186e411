"""A new part from outside the package: its own few lines, and one line in one dict of vitreid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vitreid.datasets import DATASETS, Record, ReidData
from vitreid.evaluation import RetrievalData, RetrievalResult, evaluate_retrieval
from vitreid.loss import HEADS, METRICS, SoftmaxHead
from vitreid.model.backbones.registry import CNNS
from vitreid.processor.scoring.reranking import RANKINGS, Ranking, Rerank
from vitreid.solver import OPTIMIZERS, SCHEDULES
from vitreid.tools import report as report_tool
from vitreid.tools import test as test_tool
from vitreid.tools import train as train_tool

# --- a loss ---------------------------------------------------------------------------------------------------------


class ContrastiveLoss(nn.Module):
    """Pull pairs of a person together, push others apart up to a margin (Hadsell et al., CVPR 2006)."""

    name = "contrastive"

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of each branch (K,), of features (K, B, D) with labels (B,)."""
        squares = features.square().sum(-1)
        products = features @ features.mT
        distances = (squares[..., :, None] + squares[..., None, :] - 2 * products).clamp(min=1e-12).sqrt()
        same = labels[:, None] == labels[None, :]
        return torch.where(same, distances.square(), (self.margin - distances).clamp(min=0).square()).mean((-2, -1))


def add_loss(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setitem(METRICS, "contrastive", lambda cfg: ContrastiveLoss(cfg.LOSS.MARGIN))
    return ["LOSS.METRIC", "contrastive"]


# --- an ID classifier -----------------------------------------------------------------------------------------------


class NormalisedSoftmax(SoftmaxHead):
    """Classifier by the scaled cosine, without a margin (NormFace, Wang et al., 2017)."""

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        return 16 * F.linear(F.normalize(features), F.normalize(self.weight))


def add_head(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setitem(HEADS, "normface", lambda cfg, dim, classes: NormalisedSoftmax(dim, classes))
    return ["LOSS.ID", "normface"]


# --- an optimizer ---------------------------------------------------------------------------------------------------


class SignSGD(torch.optim.Optimizer):
    """Steps along the sign of the momentum (Bernstein et al., ICML 2018)."""

    def __init__(self, params: object, lr: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:
        for group in self.param_groups:
            for parameter in (p for p in group["params"] if p.grad is not None):
                state = self.state[parameter]
                mean = state.setdefault("mean", torch.zeros_like(parameter))
                mean.lerp_(parameter.grad, 0.1)
                parameter.add_(mean.sign(), alpha=-group["lr"])


def add_optimizer(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setitem(OPTIMIZERS, "SignSGD", lambda cfg, groups, fused: SignSGD(groups, cfg.SOLVER.BASE_LR))
    return ["SOLVER.OPTIMIZER_NAME", "SignSGD"]


# --- a schedule -----------------------------------------------------------------------------------------------------


def add_schedule(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setitem(
        SCHEDULES, "linear", lambda cfg: lambda progress: max(0.0, 1 - progress / (2 * cfg.SOLVER.MAX_EPOCHS))
    )
    return ["SOLVER.SCHEDULE", "linear"]


# --- a backbone -----------------------------------------------------------------------------------------------------


def small_cnn(num_classes: int = 0, drop_path_rate: float = 0.0) -> nn.Module:
    """Images (B, 3, H, W) -> features (B, 8)."""
    return nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def add_backbone(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setitem(CNNS, "small_cnn", small_cnn)
    plain = ["MODEL.EMBED_DIM", "0", "MODEL.DEPTH", "0", "MODEL.NUM_HEADS", "0"]  # what the tiny ViT set
    return ["MODEL.NAME", "small_cnn", *plain]


# --- a data set -----------------------------------------------------------------------------------------------------


def load_mine(root: str) -> ReidData:
    """Read images called PID_cCAMERA….jpg in three folders."""
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    lists = {}
    for split, folder in folders.items():
        words = [(path, *path.stem.split("_")[:2]) for path in sorted(Path(root, folder).glob("*.jpg"))]
        lists[split] = [Record(str(p), int(pid), int(camera[1]) - 1) for p, pid, camera in words if int(pid) >= 0]
    return ReidData("mine", **lists, camera_names=("mine/c1", "mine/c2", "mine/c3"))


def add_data_set(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setitem(DATASETS, "mine", lambda root, options: load_mine(root))
    return ["DATASETS.NAMES", "mine"]


# --- a re-ranking ---------------------------------------------------------------------------------------------------


def centred(data: RetrievalData, rerank: Rerank) -> RetrievalResult:
    """Rank without the mean of the gallery."""
    mean = data.gallery.mean(0)
    return evaluate_retrieval(replace(data, query=data.query - mean, gallery=data.gallery - mean))


def add_ranking(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setitem(RANKINGS, "centred", Ranking(centred))
    return ["TEST.RERANK", "centred"]


ADD = {
    function.__name__: function
    for function in (add_loss, add_head, add_optimizer, add_schedule, add_backbone, add_data_set, add_ranking)
}


@pytest.mark.parametrize("name", ADD)
def test_a_part_from_outside_is_refused_by_name_until_its_line_is_in_the_dict(name, tiny, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        key, value, *_ = words = ADD[name](patch)
    assert train_tool.main([*tiny, *words]) == 2
    error = capsys.readouterr().err
    assert key in error and value in error


@pytest.mark.parametrize("option", [("SOLVER.LAYER_DECAY", "0.75"), ("MODEL.FREEZE_BLOCKS", "1")])
def test_layers_of_a_backbone_from_outside_are_known_only_if_it_says_so(option, tiny, monkeypatch, capsys):
    words = add_backbone(monkeypatch)
    assert train_tool.main([*tiny, *words, *option]) == 2
    error = capsys.readouterr().err
    assert (
        option[0] in error and "Sequential does not say which layers follow each other (method group_matcher" in error
    )


@pytest.mark.slow
def test_parts_from_outside_train_evaluate_and_are_reported(tiny, tmp_path, monkeypatch, caplog):
    """One part of each kind, together: in the log, in metrics.jsonl, in the checkpoint and in the report."""
    words = [word for add in ADD.values() for word in add(monkeypatch)]
    assert train_tool.main([*tiny, *words, "SOLVER.MAX_EPOCHS", "1", "--traceback"]) == 0
    run = tmp_path / "run"
    row = json.loads((run / "metrics.jsonl").read_text())
    assert row["contrastive"] > 0 and row["id"] > 0 and 0 < row["mAP"] <= 1
    assert f"contrastive {row['contrastive']:.3f}" in (run / "log.txt").read_text()
    assert test_tool.main(["--weights", str(run / "best.safetensors"), "--traceback"]) == 0
    assert json.loads((run / "metrics.json").read_text())["mAP"] == pytest.approx(row["mAP"], abs=1e-6)
    assert report_tool.main([str(run), "--traceback"]) == 0
    page = (run / "report.html").read_text()
    assert "contrastive" in page and "small_cnn" in page
    resumed = [*tiny, *words, "SOLVER.MAX_EPOCHS", "2", "--resume", "--no-report", "--traceback"]
    assert train_tool.main(resumed) == 0
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
