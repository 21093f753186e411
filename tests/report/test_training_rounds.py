"""The report of a training without labels: its rounds, and clusters of the last one as strips."""

import csv
import re
import shutil

import numpy as np
import pytest
from helpers import run
from report_crowd import rounds_of
from unlabelled_runs import WORDS

from vitreid.report.page.components import Strip, Table, Text
from vitreid.report.page.images import sheet
from vitreid.report.sections.training_rounds import (
    cluster_strips,
    count_chart,
    rounds_section,
    rounds_table,
    share_chart,
)
from vitreid.tools import report as report_tool


def names_of(strips):
    return [strip.title.partition(":")[0] for strip in strips]


def test_clusters_are_shown_by_fit_and_with_labels_by_purity():
    strips = cluster_strips(rounds_of().images, 2)
    assert names_of(strips["clusters-fitting"]) == ["cluster 0", "cluster 1"]
    assert names_of(strips["clusters-mixed"]) == ["cluster 3", "cluster 2"]
    assert names_of(strips["clusters-pure"]) == ["cluster 0", "cluster 2"]
    assert names_of(strips["clusters-impure"]) == ["cluster 3", "cluster 1"]
    assert strips["clusters-impure"][0].title == "cluster 3: 4 images, 2 cameras, fit -0.20, purity 75.0%"
    tiles = strips["clusters-impure"][0].tiles
    assert [tile.kind for tile in tiles] == ["right", "right", "right", "wrong"]
    assert tiles[3].lines == ["c2", "fit -0.23", "pid 12"] and "pid 12 in camera c2" in tiles[3].alt


def test_without_labels_there_is_no_purity_and_no_verdict():
    strips = cluster_strips(rounds_of(people=False).images, 3)
    assert strips["clusters-pure"] == strips["clusters-impure"] == []
    assert names_of(strips["clusters-fitting"]) == ["cluster 0", "cluster 1", "cluster 2"]
    assert names_of(strips["clusters-mixed"]) == ["cluster 3"], "none stands twice"
    assert {tile.kind for strip in strips["clusters-mixed"] for tile in strip.tiles} == {"plain"}
    assert sheet(strips["clusters-mixed"]).ndim == 3


def test_of_a_large_cluster_some_images_are_shown_the_best_and_the_worst_among_them():
    images = rounds_of(fits=(0.5,)).images
    many = 25
    images = type(images)(
        "crowd",
        ["a.jpg"] * many,
        np.array(["cluster 0"] * many),
        np.linspace(1, -1, many),
        ["c1"] * many,
        np.array([""] * many),
    )
    (strip,) = cluster_strips(images, 1)["clusters-fitting"]
    assert "25 images, 10 shown, 1 camera," in strip.title and len(strip.tiles) == 10
    assert (strip.tiles[0].lines[1], strip.tiles[-1].lines[1]) == ("fit 1.00", "fit -1.00")
    assert strip.tiles[0].image is None


def test_the_table_has_what_is_known():
    table = rounds_table(rounds_of().rows)
    assert table.rows[0] == [
        "round",
        "epoch",
        "clusters",
        "mean size",
        "outliers",
        "of one camera",
        "change",
        "score",
        "pairwise F",
        "NMI",
    ]
    assert table.rows[1] == ["1", "0", "3", "4.0", "6", "1", "-", "0.900", "10.0%", "0.500"]
    assert rounds_table(rounds_of(people=False).rows).rows[0][-1] == "score"
    assert not table.folded and rounds_table(13 * rounds_of().rows[:1]).folded


def test_the_kept_round_is_the_best_after_some_training():
    section = rounds_section(rounds_of(), 1)
    (text, *_) = [part.text for part in section.parts if isinstance(part, Text)]
    assert "the model of round 2, after epoch 1, which has the best score, 0.500" in text
    assert "is 20.0%; the best of all rounds is 30.0%, after epoch 2" in text
    assert len([part for part in section.parts if isinstance(part, Strip)]) == 4
    assert [type(part) for part in rounds_section(rounds_of(), 0).parts if isinstance(part, (Strip, Table))] == [Table]


def test_curves_are_of_the_rounds():
    assert "4 clusters, 0 of one camera, 2 outliers" in count_chart(rounds_of().rows).alt
    assert "pairwise F 0.300" in share_chart(rounds_of().rows).alt
    assert "pairwise F" not in share_chart(rounds_of(people=False).rows).alt


@pytest.fixture
def finished(tiny, people, tmp_path):
    crops = people / "synthetic" / "bounding_box_train"
    run([*tiny, *WORDS, "DATASETS.NAMES", "crops", "DATASETS.ROOT_DIR", str(crops), "SOLVER.MAX_EPOCHS", "1"])
    return tmp_path / "run"


def page_of(folder, *words):
    assert report_tool.main([str(folder), "--no-model", "--queries", "2", "--traceback", *words]) == 0
    return (folder / "report.html").read_text()


def test_a_run_without_labels_has_rounds_and_strips_in_its_report(finished):
    html = page_of(finished)
    assert "Rounds of clustering" in html and "of people from crops" in html
    with (finished / "clusters.csv").open() as file:
        rows = list(csv.DictReader(file))
    fit = {}
    for row in rows:
        if row["pid"] != "-1":
            fit.setdefault(row["pid"], []).append(float(row["fit"]))
    best = max(fit, key=lambda name: (np.mean(fit[name]), len(fit[name])))
    shown = re.findall(r"<h3>(cluster \d+): ", html)
    assert shown[0] == best and 'src="data:image/jpeg' in html
    assert (finished / "report_pictures" / "clusters-fitting.png").is_file()


def test_labels_of_the_data_are_used_for_the_strips_alone(tiny, tmp_path):
    run([*tiny, *WORDS, "SOLVER.MAX_EPOCHS", "1"])
    html = page_of(tmp_path / "run")
    assert "purity" in html and "Its pairwise F against the labels" in html


def test_nobody_is_shown_where_pictures_are_not_wanted(finished):
    assert 'src="data:image' not in page_of(finished, "--no-pictures")


def test_a_list_of_other_files_shows_none_of_them(finished, tmp_path, people):
    """Names in a file of the run folder must not choose what the page shows."""
    private = tmp_path / "private.jpg"
    shutil.copy(next((people / "synthetic" / "query").glob("*.jpg")), private)
    lines = (finished / "clusters.csv").read_text().splitlines()
    lines[1] = f"{private},{lines[1].split(',', 1)[1]}"
    (finished / "clusters.csv").write_text("\n".join(lines))
    html = page_of(finished)
    assert "Clusters of the last round" in html and "Rounds of clustering" in html and 'src="data:image' not in html


def test_clusters_of_an_earlier_version_are_named_as_left_out(finished):
    lines = [line.rpartition(",")[0] for line in (finished / "clusters.csv").read_text().splitlines()]
    (finished / "clusters.csv").write_text("\n".join(lines))
    assert "Clusters of the last round" in page_of(finished)
