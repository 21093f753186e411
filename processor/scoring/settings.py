"""The parts of a run that both training and testing need, from a config."""

from __future__ import annotations

from yacs.config import CfgNode

from ..embedding.extract import EmbedSettings
from .reranking import Rerank


def embed_settings(cfg: CfgNode) -> EmbedSettings:
    """Return what the test embedding is."""
    return EmbedSettings(
        neck=cfg.TEST.NECK_FEAT, normalize=cfg.TEST.FEAT_NORM, flip=cfg.TEST.FLIP, global_only=cfg.TEST.GLOBAL_ONLY
    )


def rerank_settings(cfg: CfgNode) -> Rerank:
    """Return what follows the plain ranking."""
    test = cfg.TEST
    return Rerank(test.RERANK, test.RERANK_K1, test.RERANK_K2, test.RERANK_LAMBDA, test.QE_K, test.QE_ALPHA)
