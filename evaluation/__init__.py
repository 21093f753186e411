"""Embeddings and labels -> numbers: CMC, mAP, mINP, verification, open set, re-ranking."""

from ..labels.protocol import PROTOCOLS, Protocol
from .confidence_intervals import bootstrap, paired_bootstrap
from .cross_camera import CameraPairs, camera_pairs
from .drawn_galleries import evaluate_drawn_per_camera
from .postprocess.camera_normalisation import normalise_cameras
from .postprocess.fusion import evaluate_fused
from .postprocess.neighbour_features import centralise, centralise_queries
from .reranking.expansion import augment_database, expand_queries
from .reranking.rerank import k_reciprocal
from .retrieval import evaluate_distances, evaluate_reranked, evaluate_retrieval
from .retrieval_data import RetrievalData
from .retrieval_result import RetrievalResult
from .single_shot import evaluate_drawn_galleries, evaluate_single_shot
from .streaming import RetrievalMetric
from .verification.open_set import OpenSetResult, evaluate_open_set
from .verification.probability import match_probability
from .verification.roc import VerificationResult, verify
from .verification.threshold import Threshold, ThresholdReport, calibrate, judge

__all__ = [
    "PROTOCOLS",
    "CameraPairs",
    "OpenSetResult",
    "Protocol",
    "RetrievalData",
    "RetrievalMetric",
    "RetrievalResult",
    "Threshold",
    "ThresholdReport",
    "VerificationResult",
    "augment_database",
    "bootstrap",
    "calibrate",
    "camera_pairs",
    "centralise",
    "centralise_queries",
    "evaluate_distances",
    "evaluate_drawn_galleries",
    "evaluate_drawn_per_camera",
    "evaluate_fused",
    "evaluate_open_set",
    "evaluate_reranked",
    "evaluate_retrieval",
    "evaluate_single_shot",
    "expand_queries",
    "judge",
    "k_reciprocal",
    "match_probability",
    "normalise_cameras",
    "paired_bootstrap",
    "verify",
]
