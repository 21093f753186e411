"""Config -> checks of its data sets."""

from __future__ import annotations

from yacs.config import CfgNode

from ..data_builders import build_read_options, build_test_set_names
from ..readers.dataset_registry import read_dataset, resolve_names
from .check_report import CheckReport, check
from .duplicates import NEAR_BITS
from .label_findings import BatchPlan


def build_checks(cfg: CfgNode, near_bits: int | None = NEAR_BITS) -> list[CheckReport]:
    """Check each data set of DATASETS.NAMES and DATASETS.TEST separately, as it is on disk.

    Args:
        near_bits: bits of 64 by which near copies may differ; None = do not look for them.
    """
    root, options, plan = cfg.DATASETS.ROOT_DIR, build_read_options(cfg), _build_batch_plan(cfg)
    sets = (read_dataset(name, root, options) for name in build_check_names(cfg))
    return [check(data, plan, cfg.DATALOADER.NUM_WORKERS, near_bits) for data in sets]


def build_check_names(cfg: CfgNode) -> list[str]:
    """Return the names of DATASETS.NAMES and DATASETS.TEST, each once."""
    return list(dict.fromkeys([*resolve_names(cfg.DATASETS.NAMES, "DATASETS.NAMES"), *build_test_set_names(cfg)]))


def _build_batch_plan(cfg: CfgNode) -> BatchPlan:
    if cfg.DATALOADER.SAMPLER == "shuffle":
        return BatchPlan(cfg.SOLVER.IMS_PER_BATCH, 0)
    return BatchPlan(cfg.SOLVER.IMS_PER_BATCH // cfg.DATALOADER.NUM_INSTANCE, cfg.DATALOADER.NUM_INSTANCE)
