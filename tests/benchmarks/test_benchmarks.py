"""The benchmarks' machinery on tiny problems: labels, features, skipping, tables, arguments."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitreid.benchmarks import budget, data, evaluation, serving
from vitreid.benchmarks.common import contest_runner
from vitreid.benchmarks.common.checkouts import Checkout
from vitreid.benchmarks.common.contest_runner import Column, as_table
from vitreid.benchmarks.common.isolated_process import failure_of
from vitreid.benchmarks.common.measurement import OURS, Bar, MeasuredRow, Measurement, turns, verdict
from vitreid.benchmarks.contest import contestants, evaluation_setting
from vitreid.benchmarks.contest.cases import CASES, FLOOR, EvaluationCase, EvaluationProblem, quick
from vitreid.benchmarks.contest.contestants import CONTESTANTS, PEERS
from vitreid.benchmarks.contest.evaluation_setting import EvaluationSetting
from vitreid.benchmarks.contest.evaluation_worker import measure
from vitreid.benchmarks.contest.labels import DISTRACTOR, Labels, Size, cut, find_labels, synthetic_labels
from vitreid.benchmarks.contest.problems import read_problem, small_problem, write_problem

TINY = EvaluationProblem("market1501", Size(12, 60, 5, 4, 10))
ALONE = EvaluationSetting("cpu", {}, {})


def test_synthetic_labels_have_the_counts_asked_for():
    labels = synthetic_labels(TINY.size, np.random.default_rng(0))
    expected = {"num_queries": 12, "num_gallery": 60, "num_ids": 5, "num_distractors": 10, "labels": "synthetic"}
    assert labels.describe().items() >= expected.items()
    assert len({*zip(labels.q_pids, labels.q_camids)}) == 12  # one query per person and camera
    assert {*zip(labels.q_pids, labels.q_camids)} <= {*zip(labels.g_pids, labels.g_camids)}
    assert all(len({*labels.q_camids[labels.q_pids == pid]}) >= 2 for pid in labels.q_pids)


def test_labels_that_cannot_be_drawn_are_an_error():
    with pytest.raises(ValueError, match="two queries per person"):
        synthetic_labels(Size(5, 60, 5, 4, 0), np.random.default_rng(0))


def test_the_data_sets_own_labels_are_used_where_it_is(tmp_path):
    """The images are never opened."""
    for name in ("query/0005_c1s1_1.jpg", "bounding_box_test/0005_c2s1_1.jpg", "bounding_box_test/0000_c2s1_2.jpg"):
        (tmp_path / "market1501" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "market1501" / name).touch()
    rng = np.random.default_rng(0)
    labels = find_labels("market1501", TINY.size, tmp_path, rng)
    assert labels.source == "those of market1501" and labels.g_pids.tolist() == [0, 5]
    assert "synthetic (no msmt17 below" in find_labels("msmt17", TINY.size, tmp_path, rng).source


def test_a_data_set_is_cut_to_fewer_people():
    pids, camids = np.array([0, 7, 5, 9, 9, 0, 7]), np.array([0, 1, 2, 3, 0, 1, 2])
    labels = cut(Labels(np.array([9, 7, 5]), pids, np.array([0, 1, 2]), camids, "mine"), Size(0, 0, 2, 0, 1))
    assert labels.q_pids.tolist() == [7, 5] and labels.g_pids.tolist() == [0, 7, 5, 7]
    assert labels.source == "mine, in part"


def test_a_problem_is_the_same_for_the_same_seed_and_is_cut_to_a_gallery(tmp_path):
    problem = replace(TINY, distractors=7)
    about = write_problem(tmp_path, problem, None, 3)
    first = read_problem(tmp_path, None, "cpu")
    write_problem(tmp_path, problem, None, 3)
    again = read_problem(tmp_path, 20, "cpu")
    assert about["num_gallery"] == 67 and about["num_distractors"] == 17
    assert (first.g_pids[-7:] == DISTRACTOR).all() and DISTRACTOR not in first.q_pids
    assert torch.equal(first.gallery[:20], again.gallery) and len(again.g_pids) == len(again.g_camids) == 20
    assert torch.allclose(first.query.norm(dim=1), torch.ones(12))


def test_features_follow_identity():
    """Neither trivial nor hopeless, as asked of a benchmark's mAP."""
    assert 0.6 < contestants.rank(small_problem("cpu")) < 1


def test_the_floor_multiplies_everything(monkeypatch):
    seen = []
    monkeypatch.setattr(contestants, "blocks", lambda *size: iter([(0, 2), (2, 3)]))
    monkeypatch.setattr(torch, "mm", lambda left, right, out: seen.append((len(left), right.shape, out.shape)))
    contestants.multiply(torch.ones(3, 2), torch.ones(4, 2))
    assert seen == [(2, (2, 4), (2, 4)), (1, (2, 4), (1, 4))]


@pytest.mark.parametrize("task", CONTESTANTS)
@pytest.mark.slow
def test_floor_and_ours_are_measured_and_the_others_say_why_not(task, tmp_path):
    write_problem(tmp_path, replace(TINY, distractors=0), None, 0)
    skipped = ALONE.contestants(task, (12, 60))
    assert skipped["TransReID"] == "no checkout given (--transreid)" and skipped[FLOOR] == skipped[OURS] == ""
    floor, own = (measure(ALONE.job(name, task, str(tmp_path), None)) for name in (FLOOR, OURS))
    assert floor["mAP"] is None and 0 < own["mAP"] <= 1 and own["seconds"] > 0


def test_contestants_take_turns_and_one_that_fails_is_not_asked_again():
    asked = []

    def fake(name: str, number: int) -> Measurement:
        asked.append((name, number))
        return Measurement(failure="too tired") if name == OURS else Measurement({"seconds": 1.0})

    rows = turns({FLOOR: "", OURS: "", "TransReID": "no checkout"}, 3, fake)
    assert asked == [(FLOOR, 0), (OURS, 0), (FLOOR, 1), (FLOOR, 2)]
    assert "vitreid: too tired" in as_table(rows, [Column("seconds", "seconds")])


def test_only_chosen_contestants_are_measured_with_floor_and_ours():
    setting = replace(ALONE, only=frozenset({"OML"}))
    assert [*setting.contestants("ranking", (12, 60))] == [FLOOR, OURS, "OML"]
    assert [*ALONE.contestants("ranking", (12, 60), has_peers=False)] == [FLOOR, OURS]


def test_a_peer_that_would_not_fit_is_skipped(monkeypatch, tmp_path):
    monkeypatch.setattr(evaluation_setting, "available_memory", lambda: 2**30)
    setting = EvaluationSetting("cpu", {"transreid": Checkout(tmp_path)}, {})
    contestant = CONTESTANTS["ranking"]["TransReID"]
    assert "would not fit: needs 19 GiB" in evaluation_setting.reason_to_skip(
        contestant, setting, 11_659 * 82_161, 93_820
    )
    assert evaluation_setting.reason_to_skip(contestant, setting, 1000, 100) == ""


def test_a_peers_file_is_loaded_without_its_packages_and_without_what_it_does_not_need(tmp_path):
    """Its packages' __init__ files would fail; a missing library is replaced only if it is named."""
    package = tmp_path / "some_peer" / "parts"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError")
    (package / "one.py").write_text("import not_there.deep\nfrom .two import VALUE\nthing = not_there.Thing")
    (package / "two.py").write_text("VALUE = 2")
    with pytest.raises(ModuleNotFoundError, match="not_there"):
        Checkout(tmp_path).load("some_peer.parts.one")
    assert Checkout(tmp_path).load("some_peer.parts.one", stubs=("not_there", "not_there.deep")).VALUE == 2


def test_failures_are_told_in_one_line():
    assert failure_of(MemoryError()) == "out of memory: MemoryError"
    assert failure_of(RuntimeError("DefaultCPUAllocator: can't allocate memory\nx")).startswith("out of memory")
    assert failure_of(KeyError("pid")) == "KeyError: 'pid'"


def test_a_table_shows_medians_and_extremes():
    runs = [{"seconds": 3.0, "peak_mb": 100.0, "mAP": 0.5}, {"seconds": 9.0, "peak_mb": 90.0, "mAP": 0.5}]
    runs += [{"seconds": 4.0, "peak_mb": 80.0, "mAP": 0.5}]
    floor = MeasuredRow(FLOOR, [{"seconds": 2.0, "peak_mb": 64.0, "gpu_mb": None}])
    rows = [floor, MeasuredRow(OURS, runs), MeasuredRow("TransReID", skipped="no checkout")]
    head, *lines = as_table(rows, evaluation.COLUMNS).splitlines()
    assert "GPU MB" not in head
    assert lines[1].split() == ["vitreid", "4.000", "(3.000", "-", "9.000)", "2.00", "90", "0.50000", "3"]
    assert lines[2] == "TransReID: no checkout"
    bars = [
        (Bar("seconds", most=1.8, than=FLOOR), "seconds of vitreid / floor, at most 1.8: 2, missed"),
        (Bar("peak_mb", most=150), "peak_mb of vitreid, at most 150: 90, met"),
        (Bar("seconds", most=0.1, than="TransReID"), "seconds of vitreid / TransReID, at most 0.1: not measured"),
    ]
    assert [bar.judge(rows) for bar, _ in bars] == [line for _, line in bars]


@pytest.mark.parametrize(
    ("value", "least", "most"), [(1.0, 1.0, None), (0.9, 1.0, None), (1.0, None, 1.0), (0, None, 0)]
)
def test_a_bar_that_is_just_reached_is_met(value, least, most):
    assert verdict("x", value, least=least, most=most).endswith("missed" if value == 0.9 else "met")


def test_quick_cases_are_small_and_have_no_bars():
    cases = quick([case for cases in CASES.values() for case in cases])
    assert all(case.bars == () and case.problem.size.num_gallery < 10_000 for case in cases)
    for case in cases:
        labels = synthetic_labels(case.problem.size, np.random.default_rng(0))
        assert (case.gallery or 0) <= len(labels.g_pids) + case.problem.distractors


NOWHERE = ["--json", "nowhere/figures.json"]


@pytest.mark.parametrize(
    ("benchmark", "words", "message"),
    [
        (evaluation, ["--rounds", "0"], "--rounds: 0"),
        (evaluation, ["--contestants", "TransRID"], "unknown name 'TransRID'; choose from OML,TransReID"),
        (evaluation, ["--limit", "0"], "--limit: 0"),
        (evaluation, ["--seed", "-1"], "--seed: -1"),
        (evaluation, ["--cases", "market,nonsense"], "unknown case 'nonsense'; choose from market,"),
        (evaluation, ["--data", "nowhere"], "--data: no folder nowhere"),
        *((evaluation, [f"--{name}", "nowhere"], f"--{name}: nowhere holds no {file}") for name, file in PEERS.items()),
        (data, ["--rounds", "0"], "--rounds: 0"),
        (data, ["--workers", "-1"], "--workers: -1"),
        (data, ["--cases", "train,nonsense"], "unknown case 'nonsense'; choose from train,test"),
        (data, ["--data", "nowhere"], "--data: nowhere holds no market1501"),
        (data, ["--transreid", "nowhere"], "--transreid: nowhere holds no datasets/make_dataloader.py"),
        (budget, ["--minutes", "0", "--quick"], "--minutes: 0"),
        (budget, [], "--data: give the folder"),
        (
            budget,
            ["--quick", "--recipe", "market/vit_base.yml SOLVER.BASE_LRR 1"],
            "SOLVER.BASE_LRR: unknown config key",
        ),
        (budget, ["--quick", "--recipe", "nowhere.yml"], "nowhere.yml"),
        (serving, ["--clients", "0"], "--clients: 0"),
        (serving, ["--seconds", "-1"], "--seconds: -1"),
        (serving, ["--rows", "0"], "--rows: 0"),
        *((one, NOWHERE, "--json: nowhere/figures.json") for one in (budget, data, evaluation, serving)),
    ],
)
def test_bad_arguments_are_errors_before_anything_is_measured(benchmark, words, message, capsys):
    assert benchmark.main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_everything_is_printed_and_written(monkeypatch, tmp_path, capsys):
    case = EvaluationCase("market", TINY, bars=(Bar("seconds", most=1000, than=FLOOR),))
    monkeypatch.setitem(CASES, "market", [case])
    monkeypatch.setattr(contest_runner, "ask", lambda worker, job, limit: Measurement(measure(job)))
    assert evaluation.main(["--cases", "market", "--rounds", "1", "--json", str(tmp_path / "figures.json")]) == 0
    report = json.loads((tmp_path / "figures.json").read_text())
    own = report["cases"][0]["contestants"][1]
    assert own["contestant"] == OURS and own["x floor"] > 0 and report["hardware"]["torch"]
    printed = capsys.readouterr().out
    assert "12 queries x 60 gallery, 768-d float32; labels: synthetic, 5 people" in printed
    assert "bar: seconds of vitreid / floor, at most" in printed and "left out: msmt17" in printed
