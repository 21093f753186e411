"""The loops: train, extract embeddings, evaluate; run folders and checkpoints."""

from .device import autocast, pick_device, pick_precision
from .evaluate import Evaluator, Rerank, result_table
from .extract import EmbedSettings, extract
from .module import TrainingModule
from .run_folder import RunFolder, log_to_console
from .test import test
from .train import train
from .trainer import NonFiniteLoss, Trainer

__all__ = [
    "EmbedSettings",
    "Evaluator",
    "NonFiniteLoss",
    "Rerank",
    "RunFolder",
    "Trainer",
    "TrainingModule",
    "autocast",
    "extract",
    "log_to_console",
    "pick_device",
    "pick_precision",
    "result_table",
    "test",
    "train",
]
