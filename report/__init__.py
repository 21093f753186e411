"""A run, or several, as one HTML page and PNG files: what was learned and how well."""

from ..processor.runs.run_folder import REPORT_PICTURES as PICTURES
from .collect import ReportOptions
from .report_builder import HtmlReport, build_comparison, build_report
from .run_contents import CropAttention, EvaluatedSet, ModelPictures, OptionValue, RunContents, SieEffect
from .write import try_to_report, write_report

# earlier names, kept for existing imports
Change = OptionValue
Looks = ModelPictures
Person = CropAttention
Report = HtmlReport
SideEffect = SieEffect
TestSet = EvaluatedSet

__all__ = [
    "PICTURES",
    "Change",
    "CropAttention",
    "EvaluatedSet",
    "HtmlReport",
    "Looks",
    "ModelPictures",
    "OptionValue",
    "Person",
    "Report",
    "ReportOptions",
    "RunContents",
    "SideEffect",
    "SieEffect",
    "TestSet",
    "build_comparison",
    "build_report",
    "try_to_report",
    "write_report",
]
