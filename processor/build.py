"""The parts of a run that both training and testing need, from a config."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from yacs.config import CfgNode

from .. import __version__
from ..configs import dump_config
from ..datasets import Preprocess, ReidData, build_eval_loader, build_preprocess
from ..model import PlainBackbone, ReidModel, set_fused_attention
from .evaluate import Evaluator
from .extract import EmbedSettings
from .ranking import Rerank
from .ranks import ALONE, Ranks


def place(model: ReidModel, device: torch.device, precision: torch.dtype) -> ReidModel:
    """Move the model to the device, with the attention kernel and the order of convolutions' weights that are fastest there.

    Channels-last convolutions are 1.1 to 1.2 times as fast in a ResNet-50 on a CPU, and what a GPU's matrix units work on.
    """
    set_fused_attention(model, fused=prefers_fused_attention(device, precision))
    if isinstance(model.backbone, PlainBackbone):
        model.to(memory_format=torch.channels_last)
    return model.to(device)


def prefers_fused_attention(device: torch.device, precision: torch.dtype) -> bool:
    """Return whether torch's fused attention is the faster one.

    Measured on blocks of ViT-Base, batch 8, one thread of a CPU with AVX512_BF16: plain products take 0.87 (129 tokens) and 0.92
    (211) of fused attention's time in bfloat16 training, 0.94 and 0.97 in inference; in float32 1.01 to 1.04. A rule and
    not a measurement at the start, whose noise would change the last bits of a run.
    """
    return device.type != "cpu" or precision is torch.float32


def embed_settings(cfg: CfgNode) -> EmbedSettings:
    """Return what the test embedding is."""
    return EmbedSettings(
        neck=cfg.TEST.NECK_FEAT, normalize=cfg.TEST.FEAT_NORM, flip=cfg.TEST.FLIP, global_only=cfg.TEST.GLOBAL_ONLY
    )


def rerank_settings(cfg: CfgNode) -> Rerank:
    """Return what follows the plain ranking."""
    test = cfg.TEST
    return Rerank(test.RERANK, test.RERANK_K1, test.RERANK_K2, test.RERANK_LAMBDA, test.QE_K, test.QE_ALPHA)


def build_evaluator(
    cfg: CfgNode,
    data: ReidData,
    model: ReidModel,
    device: torch.device,
    precision: torch.dtype,
    preprocess: Preprocess | None = None,
    ranks: Ranks = ALONE,
) -> Evaluator:
    """Return the evaluator of the data's query and gallery images.

    Args:
        preprocess: overrides the config's.
        ranks: the processes that share the images.
    """
    check_answerable(data, rerank_settings(cfg))
    preprocess = preprocess or build_preprocess(cfg)
    cameras, views = model.spec.cameras, model.spec.views
    query, gallery = (
        build_eval_loader(cfg, data, share, cameras, views, device, preprocess) if share else ()
        for share in (records[ranks.rank :: ranks.size] for records in (data.query, data.gallery))
    )
    return Evaluator(
        query,
        gallery,
        data,
        settings=embed_settings(cfg),
        device=device,
        precision=precision,
        rerank=rerank_settings(cfg),
        about={"preprocess": preprocess.to_dict()},
        ranks=ranks,
    )


def check_answerable(data: ReidData, rerank: Rerank) -> None:
    """Raise ValueError, before hours of work rather than after, if query and gallery cannot be evaluated."""
    remedy = "add some, or hold people out of training with DATASETS.VAL_IDS"
    if not data.query or not data.gallery:
        raise ValueError(f"{data.evaluated}: {len(data.query)} query and {len(data.gallery)} gallery images; {remedy}")
    if not _has_match(data):
        raise ValueError(f"{data.evaluated}: no query has its person in the gallery, seen by another camera; {remedy}")
    rerank.check(len(data.query), len(data.gallery))


def _has_match(data: ReidData) -> bool:
    cameras = defaultdict(set)
    for record in data.gallery:
        cameras[record.pid].add(record.camid)
    has_junk = data.protocol == "same-camera"
    return any(cameras[record.pid] - ({record.camid} if has_junk else set()) for record in data.query)


def describe_model(cfg: CfgNode, data: ReidData, labels: dict[int, int], metrics: dict[str, float]) -> dict[str, Any]:
    """Return what a checkpoint says about itself, in plain types."""
    import timm

    versions = {"vitreid": __version__, "torch": str(torch.__version__), "timm": timm.__version__}
    return {
        "config": dump_config(cfg),
        "preprocess": build_preprocess(cfg).to_dict(),
        "embed": embed_settings(cfg).to_dict(),
        "dataset": data.name,
        "evaluated": data.evaluated,
        "labels": {str(pid): label for pid, label in labels.items()},
        "people": {str(pid): name for pid, name in data.person_names.items() if pid in labels},
        "metrics": metrics,
        "versions": versions,
    }
