"""The config's data sets, checked: the only file of this folder that reads the yacs node."""

from __future__ import annotations

from yacs.config import CfgNode

from ..build_data import DATASETS, names_of_test_sets
from .check import Checked, check
from .duplicates import NEAR_BITS
from .label_findings import Plan


def build_checks(cfg: CfgNode, near_bits: int | None = NEAR_BITS) -> list[Checked]:
    """Check each data set of DATASETS.NAMES and DATASETS.TEST on its own, as it lies on disk.

    Args:
        near_bits: bits of 64 by which near copies may differ; None = do not look for them.
    Raises:
        ValueError, FileNotFoundError: an unknown name, or what the data set's parser says.
    """
    names = names_of_checks(cfg)
    return [check(DATASETS[name](cfg), _plan(cfg), cfg.DATALOADER.NUM_WORKERS, near_bits) for name in names]


def names_of_checks(cfg: CfgNode) -> list[str]:
    """Return the names of DATASETS.NAMES and DATASETS.TEST, each once."""
    return list(dict.fromkeys([*_training_sets(cfg), *names_of_test_sets(cfg)]))


def _training_sets(cfg: CfgNode) -> list[str]:
    """Return the names of DATASETS.NAMES, by the same rules as those of the test sets."""
    alike = cfg.clone()
    alike.defrost()
    alike.DATASETS.TEST = cfg.DATASETS.NAMES
    return names_of_test_sets(alike)


def _plan(cfg: CfgNode) -> Plan:
    if cfg.DATALOADER.SAMPLER == "shuffle":
        return Plan(cfg.SOLVER.IMS_PER_BATCH, 0)
    return Plan(cfg.SOLVER.IMS_PER_BATCH // cfg.DATALOADER.NUM_INSTANCE, cfg.DATALOADER.NUM_INSTANCE)
