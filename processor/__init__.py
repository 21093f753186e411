"""The loops: train, extract embeddings, evaluate; run folders and checkpoints."""

from .device import autocast, pick_device, pick_precision
from .embedder import Embedder
from .evaluate import Evaluator
from .export import export
from .extract import EmbedSettings, extract
from .features import FeatureSet, load_features, save_features
from .finite import NonFiniteLoss
from .module import TrainingModule
from .profiling import StepProfile, profile
from .ranking import RANKINGS, Rerank, rank
from .ranks import RankFailed
from .run_folder import RunFolder, log_to_console
from .scoring import Asked, Report, score
from .signals import Stopped
from .tables import result_table
from .test import test
from .train import train
from .trainer import Trainer

__all__ = [
    "RANKINGS",
    "Asked",
    "EmbedSettings",
    "Embedder",
    "Evaluator",
    "FeatureSet",
    "NonFiniteLoss",
    "RankFailed",
    "Report",
    "Rerank",
    "RunFolder",
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
