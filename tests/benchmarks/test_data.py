"""The data benchmark's machinery on a few synthetic people: every task, skipping, tables, bars, arguments."""

import json
from dataclasses import replace

import pytest
from vitreid.benchmarks import data
from vitreid.benchmarks.data import CASES, LoadingCase, LoadingFigures, format_table, job_of, judge
from vitreid.benchmarks.workers import data_worker
from vitreid.benchmarks.workers.data_worker import OURS, TASKS, LoadingJob, LoadingOutcome
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
    return LoadingJob("", OURS, str(tmp_path), "", "cpu", 16, 4, 1, 1, 2, 400, 40, model, 0.0, options)


@pytest.mark.parametrize("task", TASKS)
def test_ours_is_measured_in_every_task(job, task, monkeypatch):
    monkeypatch.setattr(Trainer, "step", Trainer.step)  # the first-step measurement replaces it
    figures = TASKS[task][OURS][0](replace(job, task=task))
    shown = {name for case in CASES if case.task == task for name in case.shown}
    assert shown <= set(figures)
    assert all(value >= 0 for name, value in figures.items() if name != "longer")


def test_a_job_travels_as_json_and_its_failure_is_a_result(job, capsys):
    words = json.dumps({**vars(replace(job, task="train batches")), "data": "nowhere"})
    assert data_worker.main([words]) == 0
    outcome = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert outcome["figures"] == {} and "nowhere" in outcome["failure"]


def test_everything_is_printed_and_written_and_what_is_left_out_is_said(tmp_path, people, capsys):
    (tmp_path / "market1501").symlink_to(people / "synthetic")
    args = data.get_parser().parse_args(
        ["--quick", "--cases", "train,sampler", "--data", str(tmp_path), "--json", str(tmp_path / "figures.json")]
    )
    data.run(args, lambda job: LoadingOutcome({"img/s": 900.0, "seconds": 0.5}))
    printed = capsys.readouterr().out
    assert "vitreid                   img/s 900 (900 - 900)" in printed
    assert "TransReID                 no checkout given (--transreid)" in printed
    assert "100,000 images of 10,000 people" in printed and "left out: test, decoding" in printed
    report = json.loads((tmp_path / "figures.json").read_text())
    assert [case["case"] for case in report["cases"]] == ["train", "sampler"]
    assert report["cases"][0]["contestants"][0]["runs"] == [{"img/s": 900.0, "seconds": 0.5}]


def test_without_data_people_are_drawn(monkeypatch, capsys):
    monkeypatch.setattr(data, "QUICK_PEOPLE", data.SyntheticPlan(4, 2, 0, 2, 1, (64, 32)))
    seen = []

    def measure(job):
        seen.append(sum(1 for _ in (data.Path(job.data) / "market1501" / "bounding_box_train").glob("*.jpg")))
        return LoadingOutcome({"img/s": 1.0})

    data.run(data.get_parser().parse_args(["--quick", "--cases", "train"]), measure)
    assert seen == [8] and "synthetic people (no --data)" in capsys.readouterr().out


def test_contestants_take_turns_and_one_that_fails_is_not_asked_again(tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "make_dataloader.py").touch()
    args = data.get_parser().parse_args(["--transreid", str(tmp_path), "--rounds", "2"])
    asked = []

    def measure(job):
        asked.append((job.contestant, job.checkout))
        return LoadingOutcome({}, "too tired") if job.checkout else LoadingOutcome({"img/s": 1.0})

    rows = data.compare(LoadingJob("train batches", OURS, ""), args, measure)
    assert asked == [(OURS, ""), ("TransReID", str(tmp_path)), (OURS, "")]
    assert rows[1].skipped == "too tired" and len(rows[0].runs) == 2


def test_ratios_and_bars():
    speed = LoadingCase("train", "train batches", "", ("img/s",), {}, ("TransReID", 8))
    rows = [
        LoadingFigures(OURS, [{"img/s": 9000.0}, {"img/s": 8000.0}, {"img/s": 9500.0}]),
        LoadingFigures("TransReID", [{"img/s": 1000.0}]),
    ]
    assert "9,000 (8,000 - 9,500)" in format_table(speed, rows) and "vitreid is 9 x as fast" in format_table(
        speed, rows
    )
    assert judge(speed, rows) == ["at least 8 x TransReID: 9 x, met"]
    assert judge(speed, [rows[0], LoadingFigures("TransReID", skipped="no checkout")])[0].endswith(
        "to compare with: no checkout"
    )
    share = LoadingCase("waiting", "waiting", "", ("waiting", "longer"), {}, None, 0.03)
    row = LoadingFigures(OURS, [{"waiting": 0.06, "longer": -0.01}])
    assert "waiting 6.00 % (6.00 - 6.00)" in format_table(share, [row])
    assert judge(share, [row]) == ["waiting below 0.03: 0.06, missed by 100 %"]
    times = LoadingCase("sampler", "sampler", "", ("seconds",), {}, None, 1.0)
    two = [LoadingFigures(OURS, [{"seconds": 0.5}]), LoadingFigures("TransReID", [{"seconds": 24.0}])]
    assert "vitreid is 48 x as fast" in format_table(times, two)


def test_quick_jobs_are_small(tmp_path):
    quick, full = (data.get_parser().parse_args(words) for words in (["--quick"], []))
    by_name = {case.name: case for case in CASES}
    for name in data.QUICK:
        job_of(by_name[name], quick, tmp_path, ())
    assert (
        job_of(by_name["sampler"], quick, tmp_path, ()).images < job_of(by_name["sampler"], full, tmp_path, ()).images
    )
    assert job_of(by_name["waiting-base"], full, tmp_path, ()).model == data.LARGE


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rounds", "0"], "--rounds: 1 or more"),
        (["--workers", "-1"], "--workers: 0 or more"),
        (["--cases", "train,nonsense"], "--cases: unknown case 'nonsense'; choose from train,test"),
        (["--data", "nowhere"], "--data: nowhere holds no market1501"),
        (["--json", "nowhere/figures.json"], "--json: nowhere/figures.json"),
        (["--transreid", "nowhere"], "--transreid: nowhere holds no datasets/make_dataloader.py"),
    ],
)
def test_bad_arguments_are_errors(words, message, capsys):
    assert data.main(words) == 2
    assert message in capsys.readouterr().err
