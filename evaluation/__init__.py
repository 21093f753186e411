"""Embeddings and labels -> numbers: CMC, mAP, mINP, verification, open set, re-ranking."""

from .bootstrap import bootstrap, paired_bootstrap
from .cameras import CameraPairs, camera_pairs
from .expansion import augment_database, expand_queries
from .matches import PROTOCOLS
from .metric import RetrievalMetric
from .open_set import OpenSetResult, evaluate_open_set
from .rerank import k_reciprocal
from .result import RetrievalResult
from .retrieval import evaluate_distances, evaluate_reranked, evaluate_retrieval
from .single_shot import evaluate_single_shot
from .threshold import Threshold, ThresholdReport, calibrate, judge
from .verification import VerificationResult, verify

__all__ = [
    "PROTOCOLS",
    "CameraPairs",
    "OpenSetResult",
    "RetrievalMetric",
    "RetrievalResult",
    "Threshold",
    "ThresholdReport",
    "VerificationResult",
    "augment_database",
    "bootstrap",
    "calibrate",
    "camera_pairs",
    "evaluate_distances",
    "evaluate_open_set",
    "evaluate_reranked",
    "evaluate_retrieval",
    "evaluate_single_shot",
    "expand_queries",
    "judge",
    "k_reciprocal",
    "paired_bootstrap",
    "verify",
]
