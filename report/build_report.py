"""What is known of one run, or of several -> a page and its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..common.errors import UserError
from .page.components import Section
from .page.html_page import page
from .page.images import to_png
from .page.sheet import sheet
from .run_contents import RunContents
from .sections.accuracy_section import camera_section, distance_section, headline_section
from .sections.comparison import comparison_section
from .sections.configuration_section import about_section, option_differences
from .sections.embedding_map import map_section
from .sections.model_section import attention_section, parts_section, position_section, side_section
from .sections.ranked_lists import difference_section, ranking_section
from .sections.training_curves import training_section

NUM_QUERIES = 6  # of the hardest and of the best


@dataclass(frozen=True, eq=False)
class Report:
    """A page, and its pictures as PNG files by their names."""

    html: str
    pictures: dict[str, bytes]


def build_report(run: RunContents, num_queries: int = NUM_QUERIES, map_method: str = "tsne") -> Report:
    """Return the report of one run.

    Args:
        num_queries: of the hardest and of the best queries that are shown.
        map_method: of the map of embeddings: "tsne", "pca", or "none".
    """
    accuracy = _of_test(run, num_queries, map_method)
    found = [*accuracy[:1], training_section([run]), *accuracy[1:], *_of_looks(run), about_section(run)]
    sections = [section for section in found if section is not None]
    return _assemble(f"Report: {run.name}", run.sentences, sections, run.missing)


def _of_test(run: RunContents, num_queries: int, map_method: str) -> list[Section]:
    if run.test is None:
        return []
    test = run.test
    found = [headline_section(test), distance_section(test), camera_section(test), ranking_section(test, num_queries)]
    if map_method != "none":
        found.append(map_section(test, map_method))
    return [section for section in found if section is not None]


def _of_looks(run: RunContents) -> list[Section]:
    if run.looks is None:
        return []
    makers: tuple[Callable, ...] = (attention_section, parts_section, side_section, position_section)
    return [section for make in makers if (section := make(run.looks)) is not None]


def build_comparison(runs: Sequence[RunContents], num_queries: int = NUM_QUERIES) -> Report:
    """Return the report that compares runs, the first of them with each other one.

    Raises:
        ValueError: fewer than two runs, or two of one name.
    """
    names = [run.name for run in runs]
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(f"a comparison needs two or more runs of different names, got {', '.join(names) or 'none'}")
    first, second = runs[0].test, runs[1].test
    differences = None
    if first is not None and second is not None and first.same_images(second) and len(runs) == 2:
        differences = difference_section(first, second, (names[0], names[1]), num_queries)
    found = [comparison_section(runs), training_section(runs), differences, option_differences(runs)]
    sections = [section for section in found if section is not None]
    sentences = list(dict.fromkeys(sentence for run in runs for sentence in run.sentences))
    missing = {f"{run.name}, {part}": reason for run in runs for part, reason in run.missing.items()}
    return _assemble(f"Comparison: {', '.join(names)}", sentences, sections, missing)


def _assemble(title: str, sentences: Sequence[str], sections: Sequence[Section], missing: Mapping[str, str]) -> Report:
    pictures = {f"{chart.name}.png": chart.png() for section in sections for chart in section.charts}
    for section in sections:
        pictures |= {f"{name}.png": to_png(sheet(strips)) for name, strips in section.sheets.items()}
    return Report(page(title, sentences, sections, missing), pictures)
