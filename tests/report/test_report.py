"""The report's own parts: what stands in a ranking, what a page is made of, what the pictures show."""

import re
from dataclasses import replace
from html import unescape
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from report_crowd import IMAGE, crowd, rounds_of

from vitreid import report
from vitreid.evaluation import evaluate_retrieval, paired_bootstrap
from vitreid.processor import FeatureSet
from vitreid.report import (
    PICTURES,
    CropAttention,
    EvaluatedSet,
    ModelPictures,
    OptionValue,
    RunContents,
    SieEffect,
    build_comparison,
    build_report,
)
from vitreid.report.page.charts import Chart, inline_svg
from vitreid.report.page.components import Section, Strip, Table, Tile
from vitreid.report.page.images import fitted, sheet
from vitreid.report.report_builder import page
from vitreid.report.sections import distance_histograms
from vitreid.report.sections.camera_grid import camera_section
from vitreid.report.sections.cmc_curve import cmc_chart, headline_section
from vitreid.report.sections.distance_histograms import distance_section
from vitreid.report.sections.embedding_map import draw_people, map_section
from vitreid.report.sections.model_section import mean_of_neighbours, mosaic
from vitreid.report.sections.ranked_lists import difference_section, ranked, ranking_section, strip
from vitreid.report.sections.training_curves import line_chart, loss_chart, points, training_section


def html_of(shown) -> str:
    """A section, or a component in a section, as it stands on the page."""
    section = shown if isinstance(shown, Section) else Section("s", "title", "reading", [shown])
    html = page("page", [], [section], {})
    return html[html.index("<main>") : html.index("</main>")]


def line_of_people(protocol="same-camera", **changes) -> EvaluatedSet:
    """One query at 0 and five gallery crops at 1, 2, … 5 on a line: right, junk, wrong, right, wrong; a second query at 9."""
    query, gallery = torch.tensor([[0.0, 0], [9, 0]]), torch.tensor([[1.0, 0], [2, 0], [3, 0], [4, 0], [5, 0]])
    labels = [np.array(values) for values in ([7, 8], [7, 7, 8, 7, 9], [0, 1], [1, 0, 0, 2, 0])]
    files = ["q0.jpg", "q1.jpg"], [f"g{i}.jpg" for i in range(5)]
    features = FeatureSet(
        "line", protocol, query, gallery, *labels, *files, camera_names=("line/c1", "line/c2", "line/c3")
    )
    result = evaluate_retrieval(*features.arrays, protocol=protocol)
    return EvaluatedSet(features, result, **{"read": lambda name: IMAGE, **changes})


EPOCHS = [
    {"epoch": 1, "id": 4.0, "triplet": 2.0, "accuracy": 0.1, "loss": 6.0, "lr": 0.1, "seconds": 30.0, "images_per_second": 80.0},
    {"epoch": 2, "id": 3.0, "triplet": 1.0, "accuracy": 0.2, "loss": 4.0, "lr": 0.01, "seconds": 34.0, "images_per_second": 90.0, "mAP": 0.25, "Rank-1": 0.5},
]  # fmt: skip


def model_pictures() -> ModelPictures:
    """One crop with all maps; a jigsaw of two parts; side information of three cameras; positions of 4 x 2 patches."""
    rng = np.random.default_rng(0)
    part = np.where(np.arange(8).reshape(4, 2) < 4, rng.random((4, 2)), np.nan)
    crop = CropAttention(
        IMAGE, "pid 7, c1", {"rollout": rng.random((4, 2)), "last block": rng.random((4, 2))}, [part, part]
    )
    places = rng.normal(size=(8, 5))
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    side = SieEffect(("c1", "c2", "c3"), np.eye(3), np.eye(3), np.eye(3) / 2, {"same person": (0.5, 0.6)}, 12)
    return ModelPictures([crop], (places @ places.T).reshape(4, 2, 4, 2), side)


def run_of(test=None, name="run", **changes) -> RunContents:
    options = [OptionValue("SOLVER.MAX_EPOCHS", 2, 120, "epochs"), OptionValue("SOLVER.SEED", 1234, 1234, "seed")]
    return RunContents(name, EPOCHS, options, {"model": "tiny"}, test, **changes)


@pytest.fixture
def undrawn(monkeypatch):
    """Charts take most of the time; a test that reads text needs none."""
    monkeypatch.setattr(Chart, "svg", lambda self: "<svg></svg>")
    monkeypatch.setattr(Chart, "png", lambda self: b"")


@pytest.fixture(scope="module")
def full():
    """A report with every section."""
    return build_report(
        run_of(
            crowd(),
            model_pictures=model_pictures(),
            rounds=rounds_of(),
            missing={"Something": "it is <not> there."},
        ),
        num_queries=2,
    )


# --- rankings -----------------------------------------------------------------------------------------------------


def test_junk_stands_in_the_ranking_and_does_not_count():
    found = ranked(line_of_people(), 0, shown=3)
    assert [(one.item, one.kind) for one in found] == [(0, "right"), (1, "junk"), (2, "wrong"), (3, "right")]
    assert [one.distance for one in found] == [1, 2, 3, 4]


def test_without_the_protocol_nothing_is_junk():
    found = ranked(line_of_people(protocol="none"), 0, shown=2)
    assert [one.kind for one in found] == ["right", "right"]


def test_a_gallery_smaller_than_what_is_shown_is_shown_whole():
    assert len(ranked(line_of_people(), 0, shown=50)) == 5


def test_equal_distances_stand_in_gallery_order():
    test = line_of_people()
    test.features.gallery[:] = 1
    assert [one.item for one in ranked(test, 0)] == [0, 1, 2, 3, 4]


def test_tiles_tell_rank_distance_camera_and_mark_without_colour():
    html = html_of(strip(line_of_people(), 0, "title"))
    assert re.findall(r'class="tile (\w+)"', html) == ["query", "right", "junk", "wrong", "right", "wrong"]
    assert [m for m in ("✓ right", "✗ wrong", "– junk") if m not in html] == []
    assert "<span>rank 1</span><span>1.000 c2</span>" in html
    assert "<span>not counted</span><span>2.000 c1</span>" in html
    assert "<span>rank 3</span><span>4.000 c3</span>" in html
    assert 'alt="rank 2: pid 8 in camera c1, distance 3.000, wrong"' in html


def test_people_with_names_are_called_by_them():
    """In titles, below crops, for screen readers and in the legend of the map; without a name it is the pid."""
    test = line_of_people()
    named = replace(test, features=replace(test.features, person_names={7: "Ann Lee", 9: "visitor-028"}))
    html = html_of(ranking_section(named, 1))
    assert "Ann Lee in c1: AP" in html and "<span>visitor-028</span>" in html
    assert "<span>pid 8</span>" in html and "pid 7" not in html and 'alt="query: Ann Lee in camera c1"' in html
    people = crowd(person_names={pid: f"person-{pid:03d}" for pid in range(10)})
    assert "person-003" in html_of(map_section(people, "pca"))


def test_long_names_of_cameras_do_not_run_together(undrawn):
    """Labels that do not fit next to each other stand upright, and a wide table has the whole width of the page."""
    names = tuple(f"parking level {i} north side" for i in range(3))
    long, short = camera_section(crowd(camera_names=names)), camera_section(crowd())
    assert (long.parts[0].kind, short.parts[0].kind) == ("stack", "columns")
    figure = Figure()
    for section, rotation in ((long, 90), (short, 0)):
        axes = figure.add_subplot()
        section.charts[0].draw(axes)
        assert {label.get_rotation() for label in axes.get_xticklabels()} == {rotation}


def test_a_legend_of_long_names_lies_in_its_chart():
    people = crowd(num_people=14, person_names={pid: f"Bartholomew Featherstone {pid:03d}" for pid in range(14)})
    chart = map_section(people, "pca").charts[0]
    figure = chart._figure()
    figure.draw_without_rendering()
    box = figure.axes[0].get_legend().get_window_extent()
    assert figure.bbox.contains(box.x0, box.y0) and figure.bbox.contains(box.x1, box.y1)
    assert figure.axes[0].get_window_extent().width > 0.6 * figure.bbox.width


def test_a_drawn_label_lies_in_the_chart_and_touches_no_other():
    names = tuple(f"parking level {i} north side" for i in range(3))
    figure = camera_section(crowd(camera_names=names)).charts[0]._figure()
    figure.draw_without_rendering()
    (axes, *_) = figure.axes
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        boxes = [label.get_window_extent() for label in labels]
        assert all(figure.bbox.contains(box.x0, box.y0) and figure.bbox.contains(box.x1, box.y1) for box in boxes)
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))


def test_the_meaning_of_an_option_is_seen_on_a_phone(full):
    """Tables of texts have the headings of their cells in the cells, for pages where rows become blocks."""
    assert '<td role="cell" data-label="meaning">epochs</td>' in full.html
    assert ".texts tr { display: grid" in full.html


def test_hardest_queries_come_first_and_none_stands_twice():
    test = crowd(noise=0.8)
    section = ranking_section(test, 3)
    titles = [[s.title for s in section.sheets[f"queries-{name}"]] for name in ("hardest", "best")]
    order = np.sort(test.result.ap)
    expected = [order[:3], order[::-1][:3]]
    for found, wanted in zip(titles, expected):
        assert [re.search(r"AP ([\d.]+)%", title)[1] for title in found] == [f"{100 * ap:.1f}" for ap in wanted]
    assert not set(titles[0]) & set(titles[1])
    few = ranking_section(line_of_people(), 5).sheets
    assert sum(map(len, few.values())) == line_of_people().result.num_valid


def test_no_queries_asked_for_no_section():
    assert ranking_section(crowd(), 0) is None


def test_a_picture_that_is_gone_is_said_not_drawn():
    html = html_of(strip(line_of_people(read=lambda name: None), 0, "t"))
    assert "<img" not in html
    assert html.count("no picture") == 6


# --- figures ------------------------------------------------------------------------------------------------------


def test_headline_table_has_the_figures_with_their_intervals():
    test = crowd(noise=0.8)
    html = html_of(headline_section(test))
    assert f"{100 * test.result.mAP:.1f}%" in html
    assert "10 queries against 50 gallery images" in html
    assert len(re.findall(r'<td role="cell">([\d.]+% to [\d.]+%|-)</td>', html)) == 6


def test_a_large_test_set_is_drawn_from_and_the_page_says_how_much(monkeypatch):
    monkeypatch.setattr(distance_histograms, "MOST_PAIRS", 45)
    assert "45 pairs of different people, 10.0% of all, at random with seed 0" in html_of(distance_section(crowd()))


def test_cameras_without_a_second_pair_have_no_section():
    assert camera_section(line_of_people()) is not None
    assert camera_section(crowd(q_camids=np.zeros(10, int), g_camids=np.ones(50, int))) is None


def test_the_map_is_of_few_people_the_same_ones_each_time():
    test = crowd(num_people=30)
    first, again = draw_people(test, 0, 5, 20), draw_people(test, 0, 5, 20)
    assert (len(np.unique(first.pids)), len(first.pids)) == (5, 20)
    np.testing.assert_array_equal(first.embeddings, again.embeddings)
    np.testing.assert_allclose(np.linalg.norm(first.embeddings, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_the_map_says_how_it_was_made(method):
    html = html_of(map_section(crowd(), method))
    assert "60 crops of 10 people" in html
    assert {"tsne": "t-SNE, perplexity 20", "pca": "of the variance"}[method] in html


def test_too_few_crops_make_no_map():
    assert map_section(line_of_people()) is None


# --- curves -------------------------------------------------------------------------------------------------------


def test_an_epoch_without_an_evaluation_is_no_point():
    assert points(EPOCHS, "mAP") == ([2], [0.25])


def test_curves_of_rows_without_some_numbers_leave_those_charts_out():
    section = training_section([RunContents("r", [{"epoch": 1, "loss": 3.0}])])
    assert [chart.name for chart in section.charts] == ["training-loss"]
    assert training_section([RunContents("r")]) is None


# --- comparison ---------------------------------------------------------------------------------------------------


def test_paired_interval_of_equal_runs_is_zero_and_that_of_a_constant_gain_the_gain():
    result = crowd(noise=0.8).result
    assert set(paired_bootstrap(result, result).values()) == {(0.0, 0.0)}
    better = type(result)(**{**vars(result), "ap": result.ap + 0.125})
    assert paired_bootstrap(result, better)["mAP"] == pytest.approx((0.125, 0.125))


def test_paired_interval_is_narrower_than_that_of_the_figures():
    from vitreid.evaluation import bootstrap

    first, second = crowd(noise=0.8).result, crowd(noise=0.85).result
    low, high = paired_bootstrap(first, second)["mAP"]
    own_low, own_high = bootstrap(first)["mAP"]
    assert high - low < own_high - own_low


def test_paired_interval_refuses_other_queries():
    with pytest.raises(ValueError, match="different queries"):
        paired_bootstrap(crowd().result, crowd(num_people=8).result)
    with pytest.raises(ValueError, match="level"):
        paired_bootstrap(crowd().result, crowd().result, level=2)


def test_runs_on_one_test_set_are_compared_query_by_query(undrawn):
    runs = [run_of(crowd(noise=0.2), "a"), run_of(crowd(noise=0.9, seed=1), "b")]
    html = build_comparison(runs, 1).html
    assert "b minus a, in percentage points" in html
    assert "Queries that the runs judge differently" in html
    assert "worse" in html
    assert "queries-differences.png" in build_comparison(runs, 1).pictures


def test_runs_on_other_images_are_not_compared_query_by_query(undrawn):
    other = crowd(g_names=[f"other{i}.jpg" for i in range(50)])
    html = build_comparison([run_of(crowd(), "a"), run_of(other, "b")], 1).html
    assert "b was evaluated on other images than a" in html
    assert "minus" not in html
    assert "better</h2>" not in html and "CMC curve" not in html, "the figures do not say which one is better"


def test_of_three_runs_those_on_the_same_images_are_compared(undrawn):
    other = crowd(noise=0.2, dataset="others", g_names=[f"other{i}.jpg" for i in range(50)])
    html = build_comparison([run_of(crowd(), "a"), run_of(other, "b"), run_of(crowd(noise=0.9, seed=1), "c")], 1).html
    assert "b was evaluated on other images than a, c" in html
    assert "c minus a" in html and "b minus" not in html and "minus b" not in html
    assert "of each run on its own test set" in html


def test_the_same_images_in_another_folder_are_the_same():
    moved = crowd(q_names=[name.replace("somewhere", "else") for name in crowd().features.q_names])
    assert crowd().features.same_images(moved.features)


def test_options_that_differ_are_named(undrawn):
    other = RunContents("b", EPOCHS, [OptionValue("SOLVER.MAX_EPOCHS", 3, 120), OptionValue("SOLVER.SEED", 1234, 1234)])
    html = build_comparison([run_of(name="a"), other]).html
    assert 'role="rowheader">SOLVER.MAX_EPOCHS</th><td role="cell">2</td><td role="cell">3</td>' in html
    assert "SOLVER.SEED" not in html


def test_a_comparison_needs_two_names():
    with pytest.raises(ValueError, match=r"different names.*\ba, a"):
        build_comparison([run_of(name="a"), run_of(name="a")])


def test_equal_runs_judge_no_query_differently():
    assert difference_section(crowd(), crowd(), ("a", "b"), 5) is None


# --- the page -----------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_elsewhere(full):
    assert "<script" not in full.html
    assert set(re.findall(r'\b(?:src|xlink:href|href)="(\w+:)?', full.html)) <= {"data:", ""}
    assert "@import" not in full.html
    assert not re.search(r"url\((?!#)", full.html)
    assert "DOCTYPE svg" not in full.html
    assert not re.search(r"https?://(?!www\.w3\.org/)", full.html)


def test_every_anchor_leads_somewhere_and_no_id_stands_twice(full):
    ids = re.findall(r'\bid="([^"]+)"', full.html)
    assert len(ids) == len(set(ids))
    targets = re.findall(r'(?:href="#|url\(#)([^")]+)', full.html)
    assert targets
    assert set(targets) <= set(ids)


def test_everything_is_told_in_words_too(full):
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall(r"<img[^>]*>", full.html))
    assert all(re.search(r'role="img" aria-label="[^"]+"', svg) for svg in re.findall(r"<svg[^>]*>", full.html))
    assert full.html.count("<table ") == full.html.count("<caption>") > 3
    assert full.html.count("<h1>") == 1
    assert 'lang="en"' in full.html


def test_every_section_begins_with_what_to_read_from_it(full):
    sections = re.findall(r"<section.*?</section>", full.html, re.DOTALL)
    assert len(sections) == 13
    assert all('class="reading"' in section for section in sections if 'id="left-out"' not in section)


def test_what_is_left_out_is_said_with_its_reason(full):
    assert "<b>Something</b>: it is &lt;not&gt; there." in full.html


def test_pictures_are_png_files(full):
    assert {"training-loss.png", "accuracy-cmc.png", "queries-hardest.png", "attention.png", "parts.png"} <= set(
        full.pictures
    )
    assert {"side-rows.png", "positions.png", "map-people.png", "distances.png"} <= set(full.pictures)
    assert all(content.startswith(b"\x89PNG") for content in full.pictures.values())
    assert full.pictures.keys() == PICTURES - {"queries-differences.png"}


def test_changed_options_stand_first_and_the_others_are_folded(full):
    assert full.html.index("SOLVER.MAX_EPOCHS") < full.html.index("<details>") < full.html.index("SOLVER.SEED")


@pytest.mark.slow
def test_two_reports_of_one_run_are_the_same_page():
    first, second = (build_report(run_of(model_pictures=model_pictures())) for _ in range(2))
    assert first.html == second.html
    assert first.pictures == second.pictures


def test_a_script_in_any_text_is_shown_as_text():
    """Camera names, identities of a folder, options and reasons come from files that anybody may have made."""
    evil = "<script>alert('x')</script>"
    cameras = tuple(f"{evil}{i}" for i in range(3))
    run = run_of(
        crowd(dataset=evil, camera_names=cameras),
        model_pictures=ModelPictures([CropAttention(IMAGE, evil, {evil: np.eye(2)})]),
        missing={evil: evil},
        sentences=[evil],
    )
    html = build_report(
        replace(run, name=evil, options=[OptionValue(evil, evil, evil, evil)], environment={evil: evil}), 1
    ).html
    assert "<script" not in html and "alert(&#39;x&#39;)" in html
    assert evil in unescape(html)


def test_earlier_names_of_the_room_stay():
    assert (report.Report, report.TestSet, report.Looks) == (report.HtmlReport, EvaluatedSet, ModelPictures)
    assert (report.Person, report.Change, report.SideEffect) == (CropAttention, OptionValue, SieEffect)


def test_names_are_text_not_html():
    html = build_report(RunContents("<b>run</b>", sentences=["a & b"])).html
    assert "<b>run" not in html
    assert "a &amp; b" in html
    assert '<td role="cell">&lt;i&gt;</td>' in html_of(Table("c", [["a", "b"], ["c", "<i>"]]))


def test_a_chart_takes_the_pages_colour_and_keeps_its_ids_to_itself():
    chart = Chart("my-chart", "caption", 'says "5 < 6"', lambda axes: axes.plot([1, 2], [1, 2], marker="o"))
    svg = chart.svg()
    assert svg.startswith('<svg viewBox="')
    assert 'aria-label="says &quot;5 &lt; 6&quot;"' in svg
    assert "currentColor" in svg
    assert "#010203" not in svg
    assert all(name.startswith("my-chart-") for name in re.findall(r'\bid="([^"]+)"', svg))
    assert svg == chart.svg()


def test_a_backslash_in_a_caption_is_text():
    assert r'aria-label="a\1b"' in inline_svg('<?xml?><svg width="1pt" viewBox="0 0 1 1"></svg>', "n", r"a\1b")


# --- pictures -----------------------------------------------------------------------------------------------------


def test_a_large_crop_is_shrunk_and_a_small_one_left():
    assert fitted(np.zeros((384, 128, 3), np.uint8)).shape == (160, 53, 3)
    assert fitted(IMAGE) is IMAGE


def test_a_mosaic_has_a_tile_for_each_patch():
    picture = mosaic(np.arange(2 * 2 * 2 * 2).reshape(2, 2, 2, 2).astype(float))
    assert picture.shape == (5, 5)
    np.testing.assert_array_equal(picture[:2, :2], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(picture[3:, 3:], [[12, 13], [14, 15]])
    assert np.isnan(picture[2]).all()


def test_neighbours_are_beside_and_above_each_other():
    similarity = np.eye(4).reshape(2, 2, 2, 2) * 0.5
    similarity[0, 0, 0, 1] = 1  # one of four pairs of neighbours
    assert mean_of_neighbours(similarity) == 0.25


def test_a_sheet_has_a_frame_for_each_kind():
    tiles = [Tile(IMAGE, kind, ["a line"], "alt") for kind in ("query", "right", "wrong", "junk")]
    picture = sheet([Strip("a title", tiles), Strip("another", [Tile(None, "plain", [], "none")])])
    colours = {tuple(colour) for colour in picture.reshape(-1, 3)}
    assert {(46, 158, 79), (204, 59, 48), (154, 154, 154), (47, 111, 208), (90, 90, 90)} <= colours


# --- what was wrong once -------------------------------------------------------------------------------------------


def drawn(section_or_chart) -> Axes:
    """Return the axes that a chart draws into."""
    axes = Figure(layout="constrained").add_subplot()
    section_or_chart.draw(axes)
    return axes


@pytest.mark.parametrize(
    "make", [lambda runs: loss_chart(runs), lambda runs: cmc_chart({r.name: r.test for r in runs})]
)
def test_runs_whose_names_begin_with_an_underscore_are_in_the_legend(make):
    axes = drawn(make([run_of(line_of_people(), "_old"), run_of(line_of_people(), "_new")]))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["_old", "_new"]


def test_cameras_whose_names_begin_with_an_underscore_are_in_the_legend():
    axes = drawn(map_section(crowd(camera_names=("_c1", "_c2", "_c3")), "pca").charts[1])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["_c1", "_c2", "_c3"]


def test_a_single_evaluation_stands_at_its_whole_epoch():
    chart = line_chart("a", "b", "c", {"mAP": ([2], [0.5])}, "", is_share=True)
    axes = drawn(chart)
    low, high = axes.get_xlim()
    ticks = [float(tick) for tick in axes.get_xticks() if low <= tick <= high]
    assert 2 in ticks and all(tick.is_integer() for tick in ticks)


def test_crops_are_printed_too(full):
    assert "data:image/jpeg" in full.html and "loading=" not in full.html


def test_a_page_of_nothing_does_not_promise_a_repetition():
    html = build_report(RunContents("run", missing={"Configuration": "nowhere."})).html
    assert "can be repeated" not in html and "<h2>Left out</h2>" in html


def test_a_figure_that_no_query_disputes_has_no_interval():
    """Both queries find their person among the first ten; 100% to 100% would claim that everybody is."""
    group, *texts = headline_section(line_of_people()).parts
    rows = {row[0]: row[1:] for row in group.parts[0].rows}
    assert rows["Rank-1"] == ["50.0%", "0.0% to 100.0%"]
    assert rows["Rank-10"] == ["100.0%", "-"]
    assert "no interval" in texts[-1].text


def test_the_chart_says_whether_all_pairs_are_drawn(monkeypatch):
    assert distance_section(crowd()).charts[0].caption == "Distances of all pairs of a query and a gallery image"
    monkeypatch.setattr(distance_histograms, "MOST_PAIRS", 20)
    assert "different people drawn at random, of a query" in distance_section(crowd()).charts[0].caption


def test_a_strip_says_that_its_order_is_not_that_of_its_figures():
    test = replace(crowd(), ranking="k-reciprocal")
    (strip_,) = ranking_section(test, 1).sheets["queries-hardest"]
    assert strip_.title.endswith("re-ranked by k-reciprocal; below, by distance")
    other = replace(test, result=replace(test.result, ap=test.result.ap / 2))
    section = difference_section(test, other, ("a", "b"), 1)
    assert all(part.title.endswith("by distance") for part in section.parts)


def test_side_information_is_compared_with_the_row_of_an_unknown_camera(full):
    assert "with the row of an unknown camera" in full.html
    assert "without SIE" not in full.html and "without side information" not in full.html
