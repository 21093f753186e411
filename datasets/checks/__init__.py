"""Look at a data set before training: what is wrong, how bad it is, what to do."""

from .build_checks import build_checks, names_of_checks
from .check import Checked, check
from .duplicates import NEAR_BITS, Copies
from .finding import Finding
from .fix import conflicts_file, write_manifest
from .hash_search import MOST_BITS
from .label_findings import Plan
from .montage import check_name, draw_montage, write_montage

__all__ = [
    "MOST_BITS",
    "NEAR_BITS",
    "Checked",
    "Copies",
    "Finding",
    "Plan",
    "build_checks",
    "check",
    "check_name",
    "conflicts_file",
    "draw_montage",
    "names_of_checks",
    "write_manifest",
    "write_montage",
]
