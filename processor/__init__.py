"""The loops: train, extract embeddings, evaluate; run folders and checkpoints."""

from .device import autocast, pick_device, pick_precision
from .embedder import Embedder
from .evaluate import Evaluator
from .export import export
from .extract import EmbedSettings, extract
from .features import FeatureSet, load_features, save_features
from .module import TrainingModule
from .ranking import RANKINGS, Rerank, rank
from .run_folder import RunFolder, log_to_console
from .scoring import Asked, Report, score
from .tables import result_table
from .test import test
from .train import train
from .trainer import NonFiniteLoss, Trainer

__all__ = [
    "RANKINGS",
    "Asked",
    "EmbedSettings",
    "Embedder",
    "Evaluator",
    "FeatureSet",
    "NonFiniteLoss",
    "Report",
    "Rerank",
    "RunFolder",
    "Trainer",
    "TrainingModule",
    "autocast",
    "export",
    "extract",
    "load_features",
    "log_to_console",
    "pick_device",
    "pick_precision",
    "rank",
    "result_table",
    "save_features",
    "score",
    "test",
    "train",
]
