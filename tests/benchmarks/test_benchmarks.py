"""The benchmarks' machinery on tiny problems: labels, features, skipping, tables, arguments."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from vitreid.benchmarks import evaluation
from vitreid.benchmarks.common.checkouts import Checkout
from vitreid.benchmarks.common.isolated_process import failure_of
from vitreid.benchmarks.contest import ours, rounds
from vitreid.benchmarks.contest.cases import CASES, EvaluationBar, EvaluationCase, EvaluationProblem, quick
from vitreid.benchmarks.contest.contestants import CONTESTANTS, FLOOR, OURS, PEERS
from vitreid.benchmarks.contest.evaluation_table import format_table, judge, plain_rows
from vitreid.benchmarks.contest.evaluation_worker import EvaluationJob, EvaluationMeasurement, measure
from vitreid.benchmarks.contest.labels import DISTRACTOR, Labels, Size, cut, find_labels, synthetic_labels
from vitreid.benchmarks.contest.problems import read_problem, small_problem, write_problem
from vitreid.benchmarks.contest.rounds import EvaluationRow, EvaluationSetting, compare

TINY = EvaluationProblem("market1501", Size(12, 60, 5, 4, 10))


@pytest.fixture
def alone():
    """EvaluationSetting without peers that measures in this process."""
    return EvaluationSetting("cpu", 1, {}, {}, measure)


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
    assert 0.6 < ours.rank(small_problem("cpu")) < 1


def test_the_floor_multiplies_everything(monkeypatch):
    seen = []
    monkeypatch.setattr(ours, "blocks", lambda *size: iter([(0, 2), (2, 3)]))
    monkeypatch.setattr(torch, "mm", lambda left, right, out: seen.append((len(left), right.shape, out.shape)))
    ours.multiply(torch.ones(3, 2), torch.ones(4, 2))
    assert seen == [(2, (2, 4), (2, 4)), (1, (2, 4), (1, 4))]


@pytest.mark.parametrize("task", CONTESTANTS)
@pytest.mark.slow
def test_floor_and_ours_are_measured_and_the_others_say_why_not(task, alone, tmp_path):
    write_problem(tmp_path, replace(TINY, distractors=0), None, 0)
    rows = {row.contestant: row for row in compare(alone, EvaluationJob(task, FLOOR, str(tmp_path)), (12, 60))}
    assert [len(rows[name].runs) for name in (FLOOR, OURS, "TransReID")] == [1, 1, 0]
    assert rows["TransReID"].skipped == "no checkout given (--transreid)"
    assert 0 < rows[OURS].spread("mAP")[0] <= 1 and rows[FLOOR].spread("mAP") is None


def test_contestants_take_turns_and_one_that_fails_is_not_asked_again():
    asked = []

    def fake(job: EvaluationJob) -> EvaluationMeasurement:
        asked.append(job.contestant)
        return EvaluationMeasurement(failure="too tired") if job.contestant == OURS else EvaluationMeasurement(1.0)

    rows = compare(EvaluationSetting("cpu", 3, {}, {}, fake), EvaluationJob("ranking", FLOOR, ""), (12, 60))
    assert asked == [FLOOR, OURS, FLOOR, FLOOR]
    assert "too tired" in format_table(rows, "cpu")


def test_only_chosen_contestants_stand_beside_floor_and_ours():
    setting = EvaluationSetting("cpu", 1, {}, {}, lambda job: EvaluationMeasurement(1.0), frozenset({"OML"}))
    rows = compare(setting, EvaluationJob("ranking", FLOOR, ""), (12, 60))
    assert [row.contestant for row in rows] == [FLOOR, OURS, "OML"]


def test_a_peer_that_would_not_fit_is_skipped(monkeypatch, tmp_path):
    monkeypatch.setattr(rounds, "available_memory", lambda: 2**30)
    setting = EvaluationSetting("cpu", 1, {"transreid": Checkout(tmp_path)}, {}, measure)
    contestant = CONTESTANTS["ranking"]["TransReID"]
    assert "would not fit: needs 19 GiB" in rounds.reason_to_skip(contestant, setting, 11_659 * 82_161, 93_820)
    assert rounds.reason_to_skip(contestant, setting, 1000, 100) == ""


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
    rows = [
        EvaluationRow(FLOOR, [EvaluationMeasurement(2.0, 64.0)]),
        EvaluationRow(
            OURS,
            [
                EvaluationMeasurement(3.0, 100.0, None, 0.5),
                EvaluationMeasurement(9.0, 90.0, None, 0.5),
                EvaluationMeasurement(4.0, 80.0, None, 0.5),
            ],
        ),
        EvaluationRow("TransReID", skipped="no checkout"),
    ]
    lines = format_table(rows, "cpu").splitlines()
    assert lines[2].split() == ["vitreid", "4.000", "3.000", "-", "9.000", "2.00", "90", "0.50000", "3"]
    assert lines[3].split() == ["TransReID", "no", "checkout"]
    assert plain_rows(rows)[1]["times_floor"] == 2.0
    bars = judge(rows, EvaluationBar(1.8, 150, {"TransReID": 10}))
    assert bars == ["at most 1.8 times the floor: 2, missed by 11 %", "at most 150 MB above the inputs: 90, met"]


def test_quick_cases_are_small_and_have_no_bars():
    cases = quick([case for cases in CASES.values() for case in cases])
    assert all(case.bar == EvaluationBar() and case.problem.size.num_gallery < 10_000 for case in cases)
    for case in cases:
        labels = synthetic_labels(case.problem.size, np.random.default_rng(0))
        assert (case.gallery or 0) <= len(labels.g_pids) + case.problem.distractors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rounds", "0"], "--rounds: 1 or more"),
        (["--contestants", "TransRID"], "--contestants: unknown name 'TransRID'; choose from OML,TransReID"),
        (["--limit", "0"], "--limit: seconds above 0"),
        (["--seed", "-1"], "--seed: 0 or more"),
        (["--cases", "market,nonsense"], "unknown case 'nonsense'; choose from market,"),
        (["--data", "nowhere"], "--data: no folder nowhere"),
        (["--json", "nowhere/figures.json"], "--json: nowhere/figures.json"),
        *((["--" + name, "nowhere"], f"--{name}: nowhere holds no {peer.marker}") for name, peer in PEERS.items()),
    ],
)
def test_bad_arguments_are_errors(words, message, capsys):
    assert evaluation.main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_everything_is_printed_and_written(monkeypatch, tmp_path, capsys):
    case = EvaluationCase("market", TINY, bar=EvaluationBar(1000))
    monkeypatch.setitem(CASES, "market", [case])
    monkeypatch.setattr(evaluation, "in_fresh_process", lambda limit: measure)
    assert evaluation.main(["--cases", "market", "--rounds", "1", "--json", str(tmp_path / "figures.json")]) == 0
    report = json.loads((tmp_path / "figures.json").read_text())
    assert report["cases"][0]["contestants"][1]["contestant"] == OURS and report["hardware"]["torch"]
    printed = capsys.readouterr().out
    assert (
        "12 queries x 60 gallery, 768-d float32; labels: synthetic, 5 people" in printed and "bar: at most" in printed
    )
