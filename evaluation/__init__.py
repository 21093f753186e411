"""Embeddings and labels -> numbers: CMC, mAP, mINP, re-ranking."""

from .matches import PROTOCOLS
from .rerank import k_reciprocal
from .result import RetrievalResult
from .retrieval import evaluate_distances, evaluate_retrieval

__all__ = ["PROTOCOLS", "RetrievalResult", "evaluate_distances", "evaluate_retrieval", "k_reciprocal"]
