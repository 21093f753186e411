"""Pictures for people: what a run learned and how well, as one HTML page and as PNG files. Imports only `evaluation`."""

from ..processor.runs.run_folder import REPORT_PICTURES as PICTURES
from .build_report import Report, build_comparison, build_report
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
