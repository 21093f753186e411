"""The data benchmark's machinery on a few synthetic people: every task, skipping, tables, bars, arguments."""

import json
from dataclasses import replace

import pytest

from vitreid.benchmarks import data
from vitreid.benchmarks.common import contest_runner
from vitreid.benchmarks.common.contest_runner import as_table
from vitreid.benchmarks.common.isolated_process import reply
from vitreid.benchmarks.common.measurement import OURS, MeasuredRow, Measurement
from vitreid.benchmarks.data import CASES, job_of
from vitreid.benchmarks.workers.data_worker import TASKS, LoadingJob, measure
from vitreid.processor import Trainer

SMALL = (
    *("MODEL.EMBED_DIM", "32", "MODEL.DEPTH", "1", "MODEL.NUM_HEADS", "2", "SOLVER.PRECISION", "fp32"),
    *("INPUT.SIZE_TRAIN", "(64, 32)", "INPUT.SIZE_TEST", "(64, 32)", "SOLVER.MAX_EPOCHS", "8"),
)


@pytest.fixture
def job(people, tmp_path):
    (tmp_path / "market1501").symlink_to(people / "synthetic")
    options = (*SMALL, "OUTPUT_DIR", str(tmp_path / "run"))
    model = "vit_tiny_patch16_224"
    return LoadingJob("", OURS, str(tmp_path), "", "cpu", 16, 4, 1, (1, 2), (400, 40), model, 0.0, options)


@pytest.mark.parametrize("task", TASKS)
def test_ours_is_measured_in_every_task(job, task, monkeypatch):
    monkeypatch.setattr(Trainer, "step", Trainer.step)  # the first-step measurement replaces it
    figures = TASKS[task][OURS](replace(job, task=task))
    shown = {name for case in CASES.values() if case.task == task for name in case.shown}
    assert shown <= set(figures)
    assert all(value >= 0 for name, value in figures.items() if name != "longer")


def test_a_job_travels_as_json_and_its_failure_is_a_result(job, capsys):
    words = json.dumps({**vars(replace(job, task="train batches")), "data": "nowhere"})
    assert reply(LoadingJob, measure, [words]) == 0
    outcome = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert outcome["figures"] == {} and "nowhere" in outcome["failure"]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the benchmark with a stand-in for the fresh processes; return the report."""

    def run(words, answer):
        monkeypatch.setattr(contest_runner, "ask", lambda worker, job, limit: answer(job))
        file = tmp_path / "figures.json"
        assert data.main([*words, "--json", str(file)]) == 0
        return json.loads(file.read_text())

    return run


def test_everything_is_printed_and_written_and_what_is_left_out_is_said(run, tmp_path, people, capsys):
    (tmp_path / "market1501").symlink_to(people / "synthetic")
    words = ["--quick", "--cases", "train,sampler", "--data", str(tmp_path)]
    report = run(words, lambda job: Measurement({"img/s": 900.0, "seconds": 0.5}))
    printed = capsys.readouterr().out
    assert "900 (900 - 900)" in printed and "TransReID: no checkout given (--transreid)" in printed
    assert "100,000 images of 10,000 people" in printed and "left out: test, decoding" in printed
    assert [case["case"] for case in report["cases"]] == ["train", "sampler"]
    assert report["cases"][0]["contestants"][0]["runs"] == [{"img/s": 900.0, "seconds": 0.5}]


def test_without_data_people_are_drawn(run, monkeypatch, capsys):
    monkeypatch.setattr(data, "QUICK_PEOPLE", data.SyntheticPlan(4, 2, 0, 2, 1, (64, 32)))
    seen = []

    def measure(job):
        seen.append(sum(1 for _ in (data.Path(job.data) / "market1501" / "bounding_box_train").glob("*.jpg")))
        return Measurement({"img/s": 1.0})

    run(["--quick", "--cases", "train"], measure)
    assert seen == [8] and "synthetic people (no --data)" in capsys.readouterr().out


def test_contestants_take_turns_and_one_that_fails_is_not_asked_again(run, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "PEOPLE", data.SyntheticPlan(4, 2, 0, 2, 1, (64, 32)))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "make_dataloader.py").touch()
    asked = []

    def measure(job):
        asked.append((job.contestant, job.checkout))
        return Measurement({}, "too tired") if job.checkout else Measurement({"img/s": 1.0})

    report = run(["--cases", "train", "--transreid", str(tmp_path), "--rounds", "2"], measure)
    assert asked == [(OURS, ""), ("TransReID", str(tmp_path)), (OURS, "")]
    ours, theirs = report["cases"][0]["contestants"]
    assert theirs["skipped"] == "too tired" and len(ours["runs"]) == 2


@pytest.mark.parametrize(
    ("name", "own", "other", "texts"),
    [
        (
            "train",
            [{"img/s": 9e3}, {"img/s": 8e3}, {"img/s": 9.5e3}],
            {"img/s": 1e3},
            ("9,000 (8,000 - 9,500)", " 9.00 "),
        ),
        ("sampler", [{"seconds": 0.5}], {"seconds": 24.0}, ("0.50 (0.50 - 0.50)", " 48.00 ")),
        ("waiting-small", [{"waiting": 0.06, "longer": -0.01}], {}, ("6.00% (6.00% - 6.00%)", "-1.00%")),
    ],
)
def test_ratios_and_bars(name, own, other, texts):
    rows = [MeasuredRow(OURS, own), MeasuredRow("TransReID", [other] if other else [], "" if other else "no checkout")]
    printed = as_table(rows, CASES[name].columns())
    assert all(text in printed for text in texts)
    (bar,) = CASES[name].bars
    assert bar.judge(rows).endswith("0.06, missed" if name == "waiting-small" else "met")


def test_quick_jobs_are_small(tmp_path):
    quick, full = (data.get_parser().parse_args(["--data", str(tmp_path), *words]) for words in (["--quick"], []))
    for name in data.QUICK:
        job_of(CASES[name], quick, tmp_path)
    assert job_of(CASES["sampler"], quick, tmp_path).crowd < job_of(CASES["sampler"], full, tmp_path).crowd
    assert job_of(CASES["waiting-base"], full, tmp_path).model == data.LARGE
