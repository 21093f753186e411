"""Pictures for people: what a run learned and how well, as one HTML page and as PNG files. Imports only `evaluation`."""

from .build_report import PICTURES, Report, build_comparison, build_report
from .run_contents import Change, Looks, Person, RunContents, SideEffect, TestSet

__all__ = [
    "PICTURES",
    "Change",
    "Looks",
    "Person",
    "Report",
    "RunContents",
    "SideEffect",
    "TestSet",
    "build_comparison",
    "build_report",
]
