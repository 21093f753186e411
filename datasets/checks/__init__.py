"""Checks of a data set before training: findings with their severity and a remedy."""

from .check_report import CheckReport, check
from .checks_builder import build_check_names, build_checks
from .duplicates import MOST_BITS, NEAR_BITS, DuplicateGroup
from .finding import Finding
from .fix import conflicts_file, write_manifest
from .label_findings import BatchPlan
from .montage import check_name, draw_montage, write_montage

Checked, Copies, Plan, names_of_checks = CheckReport, DuplicateGroup, BatchPlan, build_check_names  # the former names

__all__ = [
    "MOST_BITS",
    "NEAR_BITS",
    "BatchPlan",
    "CheckReport",
    "Checked",
    "Copies",
    "DuplicateGroup",
    "Finding",
    "Plan",
    "build_check_names",
    "build_checks",
    "check",
    "check_name",
    "conflicts_file",
    "draw_montage",
    "names_of_checks",
    "write_manifest",
    "write_montage",
]
