"""The loops: train, extract embeddings, evaluate; run folders and checkpoints."""

from __future__ import annotations

from importlib import import_module

from .device import autocast, pick_device, pick_precision
from .distributed.failures import RankFailed
from .embedding.embedder import Embedder
from .embedding.extract import EmbedSettings, extract
from .runs.run_folder import RunFolder, log_to_console
from .runs.signals import Stopped
from .scoring.evaluation_run import test
from .scoring.evaluator import Evaluator
from .scoring.feature_file import FeatureSet, load_features, save_features
from .scoring.figures import ScoreOptions, ScoreReport, score
from .scoring.reranking import RANKINGS, Rerank, rank
from .scoring.result_tables import result_table
from .training.nonfinite import NonFiniteLoss
from .training.profiling import StepProfile, profile
from .training.run import train
from .training.trainer import LogOptions, StepOptions, Trainer
from .training.training_module import TrainingModule

Asked, Report = ScoreOptions, ScoreReport  # earlier names

__all__ = [
    "RANKINGS",
    "Asked",
    "EmbedSettings",
    "Embedder",
    "Evaluator",
    "FeatureSet",
    "LogOptions",
    "NonFiniteLoss",
    "RankFailed",
    "Report",
    "Rerank",
    "RunFolder",
    "ScoreOptions",
    "ScoreReport",
    "StepOptions",
    "StepProfile",
    "Stopped",
    "Trainer",
    "TrainingModule",
    "autocast",
    "export",
    "extract",
    "load_features",
    "log_to_console",
    "pick_device",
    "pick_precision",
    "profile",
    "rank",
    "result_table",
    "save_features",
    "score",
    "test",
    "train",
]


def __getattr__(name: str) -> object:
    """Return `export`, which lives above this room in `gallery/export`; its old import stays valid."""
    if name != "export":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("..gallery.export.export_job", __name__).export
