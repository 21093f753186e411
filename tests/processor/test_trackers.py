"""Experiment trackers and early stopping: what they get, what a resumed run continues, what their failures cost."""

import json
from typing import ClassVar

import pytest
from helpers import rows, run

from vitreid.configs import load_config
from vitreid.processor.runs import trackers
from vitreid.processor.runs.run_folder import RunFolder
from vitreid.processor.runs.trackers import OpenTrackers, check_trackers


class Memory:
    """A tracker that keeps what it gets."""

    runs: ClassVar[dict] = {}  # id -> (options, [(epoch, values)])
    fails = False

    def __init__(self, project, folder, options, id):
        self.id = id or f"{project}-{len(self.runs)}"
        self.logged = self.runs.setdefault(self.id, (options, []))[1]

    def log(self, values, epoch):
        if self.fails:
            raise ConnectionError("the server is gone")
        self.logged.append((epoch, values))

    def finish(self):
        self.logged.append("end")


@pytest.fixture
def memory(monkeypatch):
    """`json` stands for the tracker's package, which is installed everywhere."""
    monkeypatch.setattr(Memory, "runs", {})
    monkeypatch.setitem(trackers.TRACKERS, "json", Memory)
    return Memory


def test_each_epoch_goes_to_the_tracker_with_the_options_of_the_run(tiny, tmp_path, memory):
    run([*tiny, "LOG.TRACKERS", "json", "LOG.PROJECT", "door", "SOLVER.MAX_EPOCHS", "2"])
    ((id, (options, logged)),) = memory.runs.items()
    assert id == "door-0" and options["SOLVER.MAX_EPOCHS"] == 2
    (first, second, end) = logged
    written = rows(tmp_path / "run")
    assert end == "end" and [first[0], second[0]] == [1, 2]
    assert first[1]["loss"] == written[0]["loss"] and second[1]["mAP"] == written[1]["mAP"]


def test_a_resumed_run_continues_its_run_at_the_tracker_and_an_overwritten_one_does_not(tiny, memory):
    words = [*tiny, "LOG.TRACKERS", "json"]
    run([*words, "SOLVER.MAX_EPOCHS", "1"])
    run([*words, "SOLVER.MAX_EPOCHS", "2"], resume="auto")
    assert [entry if entry == "end" else entry[0] for entry in memory.runs["vitreid-0"][1]] == [1, "end", 2, "end"]
    run([*words, "SOLVER.MAX_EPOCHS", "1"], overwrite=True)
    assert set(memory.runs) == {"vitreid-0", "vitreid-1"}


def test_a_tracker_that_fails_costs_its_curves_and_not_the_training(tiny, tmp_path, memory, monkeypatch, caplog):
    monkeypatch.setattr(Memory, "fails", True)
    run([*tiny, "LOG.TRACKERS", "json", "SOLVER.MAX_EPOCHS", "2"])
    assert len(rows(tmp_path / "run")) == 2
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.count("LOG.TRACKERS json: the server is gone") == 1


def test_numbers_that_are_none_are_not_sent(tmp_path, memory):
    opened = OpenTrackers(["json"], "p", tmp_path, {})
    opened.log({"epoch": 3, "loss": float("nan"), "mAP": 0.5})
    opened.finish()
    assert memory.runs["p-0"][1] == [(3, {"mAP": 0.5}), "end"]


def test_a_tracker_without_its_package_or_of_no_name_is_refused_before_the_data_are_read(tiny, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'LOG\.TRACKERS wandb.*pip install "vitreid\[wandb\]"'):
        run([*tiny, "DATASETS.ROOT_DIR", "/nowhere", "LOG.TRACKERS", "wandb"])
    with pytest.raises(ValueError, match=r"LOG\.TRACKERS.*'neptune'.*mlflow, wandb"):
        check_trackers(["neptune"])


def test_a_tracker_that_cannot_be_opened_is_a_message(tmp_path, memory, monkeypatch):
    monkeypatch.setitem(trackers.TRACKERS, "json", lambda *_: 1 / 0)
    with pytest.raises(ValueError, match=r"LOG\.TRACKERS json: division by zero.*WANDB_MODE=offline"):
        OpenTrackers(["json"], "p", tmp_path, {})


@pytest.mark.slow
def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason='needs the extra: pip install "vitreid[wandb]"')
    monkeypatch.setenv("WANDB_MODE", "offline")
    for epoch in (1, 2):
        opened = OpenTrackers(["wandb"], "door", tmp_path, {"SOLVER.MAX_EPOCHS": 2})
        opened.log({"epoch": epoch, "mAP": 0.5, "Rank-1": 0.6})
        opened.finish()
    id = json.loads((tmp_path / "trackers.json").read_text())["wandb"]
    files = list(tmp_path.glob(f"wandb/offline-run-*-{id}/run-{id}.wandb"))
    assert len(files) == 2 and all(b"Rank-1" in file.read_bytes() for file in files)


@pytest.mark.slow
def test_mlflow_in_a_local_file(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason='needs the extra: pip install "vitreid[mlflow]"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    options = {f"SECTION.KEY_{number}": "x" * 900 for number in range(130)}
    for epoch in (1, 2):
        opened = OpenTrackers(["mlflow"], "door", tmp_path, options)
        opened.log({"epoch": epoch, "mAP": epoch / 4})
        opened.finish()
    client, id = mlflow.MlflowClient(), json.loads((tmp_path / "trackers.json").read_text())["mlflow"]
    assert [(one.step, one.value) for one in client.get_metric_history(id, "mAP")] == [(1, 0.25), (2, 0.5)]
    found = client.get_run(id)
    assert len(found.data.params) == 130 and found.info.status == "FINISHED"
    assert found.info.run_name == tmp_path.name


# --- early stopping ---------------------------------------------------------------------------------------------------


def test_training_stops_after_evaluations_without_a_better_map(tiny, tmp_path, monkeypatch):
    """The best epoch is the second; a resumed run waits as long as the first one would have, and stops again."""
    values = iter([0.2, 0.5, 0.4, 0.5, 0.3])
    words = [*tiny, "DATASETS.VAL_IDS", "3", "SOLVER.IMS_PER_BATCH", "8", "SOLVER.EVAL_PERIOD", "1"]
    folder = tmp_path / "run"
    original = RunFolder.write_epoch
    monkeypatch.setattr(RunFolder, "write_epoch", lambda self, row: original(self, {**row, "mAP": next(values)}))
    run([*words, "SOLVER.MAX_EPOCHS", "9", "SOLVER.PATIENCE", "2"])
    assert [row["mAP"] for row in rows(folder)] == [0.2, 0.5, 0.4, 0.5]
    assert "stopped early: 2 evaluations" in (folder / "log.txt").read_text()
    run([*words, "SOLVER.MAX_EPOCHS", "9", "SOLVER.PATIENCE", "2"], resume="auto")
    assert len(rows(folder)) == 4
    run([*words, "SOLVER.MAX_EPOCHS", "9", "SOLVER.PATIENCE", "3"], resume="auto")
    assert len(rows(folder)) == 5


def test_no_early_stopping_by_the_test_set(tiny):
    with pytest.raises(ValueError, match=r"SOLVER\.PATIENCE: 3 .*DATASETS\.VAL_IDS"):
        load_config(None, [*tiny, "SOLVER.PATIENCE", "3"])
