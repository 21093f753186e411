"""What is known of one run, or of several -> a page and its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..common.errors import UserError
from ..common.pictures import encode
from .page.components import Section
from .page.images import data_uri, sheet
from .run_contents import EvaluatedSet, ModelPictures, RunContents
from .sections.camera_grid import camera_section, why_no_cameras
from .sections.cmc_curve import headline_section
from .sections.comparison import comparison_section
from .sections.configuration_section import about_section, option_differences
from .sections.distance_histograms import distance_section
from .sections.embedding_map import map_section
from .sections.model_section import attention_section, parts_section, position_section, side_section
from .sections.ranked_lists import difference_section, ranking_section
from .sections.training_curves import training_section
from .sections.training_rounds import rounds_section

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "page"),
    autoescape=True,
    undefined=StrictUndefined,
    keep_trailing_newline=True,
)
_TEMPLATES.filters["data_uri"] = data_uri
NUM_QUERIES = 6  # shown of the hardest queries, and as many of the best


@dataclass(frozen=True, eq=False)
class HtmlReport:
    """A page, and its pictures as the content of PNG files by their names."""

    html: str
    pictures: dict[str, bytes]


def build_report(run: RunContents, num_queries: int = NUM_QUERIES, map_method: str = "tsne") -> HtmlReport:
    """Return the report of one run.

    Args:
        num_queries: number of the hardest queries shown, and of the best; of clusters too.
        map_method: of the map of embeddings: "tsne", "pca", or "none".
    """
    cameras = camera_section(run.test) if run.test else None
    missing = dict(run.missing)
    if run.test and cameras is None:
        missing["From camera to camera"] = why_no_cameras(run.test)
    accuracy = _test_sections(run.test, cameras, num_queries, map_method) if run.test else []
    pictures = _model_sections(run.model_pictures) if run.model_pictures else []
    rounds = rounds_section(run.rounds, num_queries) if run.rounds else None
    found = [*accuracy[:1], training_section([run]), rounds, *accuracy[1:], *pictures, about_section(run)]
    return _assemble(f"Report: {run.name}", run.sentences, found, missing)


def _test_sections(
    test: EvaluatedSet, cameras: Section | None, num_queries: int, map_method: str
) -> list[Section | None]:
    found = [headline_section(test), distance_section(test), cameras, ranking_section(test, num_queries)]
    return found if map_method == "none" else [*found, map_section(test, map_method)]


def _model_sections(pictures: ModelPictures) -> list[Section | None]:
    return [make(pictures) for make in (attention_section, parts_section, side_section, position_section)]


def build_comparison(runs: Sequence[RunContents], num_queries: int = NUM_QUERIES) -> HtmlReport:
    """Return the report that compares the first run with each other one.

    Raises:
        ValueError: fewer than two runs, or two of one name.
    """
    names = [run.name for run in runs]
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(f"a comparison needs two or more runs of different names, got {', '.join(names) or 'none'}")
    first, second = runs[0].test, runs[1].test
    differences = None
    if first is not None and second is not None and first.features.same_images(second.features) and len(runs) == 2:
        differences = difference_section(first, second, (names[0], names[1]), num_queries)
    found = [comparison_section(runs), training_section(runs), differences, option_differences(runs)]
    sentences = list(dict.fromkeys(sentence for run in runs for sentence in run.sentences))
    missing = {f"{run.name}, {part}": reason for run in runs for part, reason in run.missing.items()}
    return _assemble(f"Comparison: {', '.join(names)}", sentences, found, missing)


def _assemble(
    title: str, sentences: Sequence[str], found: Sequence[Section | None], missing: Mapping[str, str]
) -> HtmlReport:
    sections = [section for section in found if section is not None]
    pictures = {f"{chart.name}.png": chart.png() for section in sections for chart in section.charts}
    for section in sections:
        pictures |= {f"{name}.png": encode(sheet(strips)) for name, strips in section.sheets.items()}
    return HtmlReport(page(title, sentences, sections, missing), pictures)


def page(title: str, sentences: Sequence[str], sections: Sequence[Section], missing: Mapping[str, str]) -> str:
    """Return the HTML file, which needs no network and no script.

    Args:
        sentences: what the reader should know first.
        missing: what is left out, with the reason.
    """
    template = _TEMPLATES.get_template("page.html.j2")
    return template.render(title=title, sentences=sentences, sections=sections, missing=missing)
