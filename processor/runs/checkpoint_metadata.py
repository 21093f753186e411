"""The metadata of a checkpoint: config, preprocessing, labels, metrics and versions."""

from __future__ import annotations

from typing import Any

import timm
import torch
from yacs.config import CfgNode

from ... import __version__
from ...configs import dump_config
from ...datasets import ReidData, build_preprocess
from ..embedding.extract import build_embed_settings


def describe_model(cfg: CfgNode, data: ReidData, labels: dict[int, int], metrics: dict[str, float]) -> dict[str, Any]:
    """Return the metadata of a checkpoint, in plain types."""
    versions = {"vitreid": __version__, "torch": str(torch.__version__), "timm": timm.__version__}
    return {
        "config": dump_config(cfg),
        "preprocess": build_preprocess(cfg).to_dict(),
        "embed": build_embed_settings(cfg).to_dict(),
        "dataset": data.name,
        "evaluated": data.evaluated,
        "labels": {str(pid): label for pid, label in labels.items()},
        "people": {str(pid): name for pid, name in data.person_names.items() if pid in labels},
        "metrics": metrics,
        "versions": versions,
    }
