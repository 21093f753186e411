"""Two processes compute what one does: losses, weights, embeddings; and where one fails, all end."""

import json
import os
import socket
import subprocess
import sys
from unittest.mock import Mock

import distributed_cases as cases
import pytest
import torch
from helpers import ROOT, rows, run_tool
from torch import nn

from vitreid.common.errors import UserError
from vitreid.configs import load_config
from vitreid.datasets import Record, ReidData
from vitreid.model import ModelSpec, ReidModel
from vitreid.processor.distributed.consistency import check_agreed
from vitreid.processor.distributed.fsdp import distribute_training
from vitreid.processor.distributed.image_digest import image_digests
from vitreid.processor.distributed.process_group import Ranks
from vitreid.processor.runs.run_folder import ReadOnlyFolder
from vitreid.processor.runs.signals import StopSignals
from vitreid.processor.training.epoch_loop import Run
from vitreid.processor.training.run import build_run_options, read_checkpoint
from vitreid.processor.training.training_module import TrainingModule
from vitreid.tools import test as test_tool

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed"),
]
SCRIPT = cases.__file__
TOGETHER = ["gathering", "extraction", "draws", "clusters", "proxies", "source", "deciding", "sharing"]


def start(arguments: list[str], num_ranks: int = 2, per_machine: int = 2) -> list[subprocess.Popen]:
    """Start the processes as torchrun does, without its seconds of overhead; several "machines" are this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    place = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_WORLD_SIZE": str(per_machine),
    }
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **own, **place, "RANK": str(rank), "LOCAL_RANK": str(rank % per_machine)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(num_ranks)
    ]


def finish(processes: list[subprocess.Popen]) -> list[str]:
    """Return the output of each; none may hang."""
    try:
        return [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()


def launch(arguments: list[str]) -> None:
    processes = start(arguments)
    outputs = finish(processes)
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)[-4000:]


@pytest.fixture(scope="module")
def memory(people):
    """The folder that stands for /dev/shm."""
    (people / "memory").mkdir()
    return people / "memory"


@pytest.fixture(scope="module")
def of_two(people, memory):
    """The results of all cases on two processes, [rank][case]; one start for all, as starting is what takes time."""
    launch([SCRIPT, str(people), *cases.TRAININGS, *TOGETHER])
    return json.loads((people / "results.json").read_text())


def of_one(people, name):
    return cases.run(people, Ranks(), [name])[name]


@pytest.mark.parametrize("name", cases.TRAININGS)
def test_two_processes_learn_what_one_does(people, of_two, name):
    """The same batch in halves: every loss of 20 steps and the last weights, with all statistics and mining."""
    one = of_one(people, name)
    assert len(one["losses"]) == 20
    assert of_two[0][name]["losses"] == pytest.approx(one["losses"], abs=1e-4)
    assert of_two[0][name]["losses"] == of_two[1][name]["losses"]
    assert of_two[0][name]["weights"] == pytest.approx(one["weights"], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in cases.TRAININGS if name != "shards"])
def test_processes_have_the_same_weights_to_the_last_bit(of_two, name):
    assert of_two[0][name]["weights"] == of_two[1][name]["weights"]


def test_sharded_weights_are_whole_in_the_state_dict(people, of_two):
    """FSDP: rank 0 has all names; the others none of the sharded tensors."""
    assert of_two[0]["shards"]["weights"].keys() == of_one(people, "all parts")["weights"].keys()
    assert of_two[1]["shards"]["weights"].keys() < of_two[0]["shards"]["weights"].keys()


def test_a_gathered_batch_carries_the_gradient_of_the_whole(of_two):
    for result in of_two:
        assert result["gathering"]["found"] == pytest.approx(result["gathering"]["expected"], rel=1e-5)


def test_each_image_is_embedded_once_and_keeps_its_place(people, of_two):
    """7 images on two ranks, then 1 image, so that rank 1 gets none: bit for bit, in order."""
    one = of_one(people, "extraction")
    assert len(one["query"]) == 7 and len(one["gallery"]) == 1
    assert of_two[0]["extraction"] == one
    assert of_two[1]["extraction"] == {"query": None, "gallery": None, "mAP": one["mAP"]}


@pytest.mark.parametrize("name", ["clusters", "proxies", "source"])
def test_images_without_labels_have_the_same_clusters_on_all_processes(people, of_two, name):
    one, rounds = of_one(people, name)["rounds"], [result[name]["rounds"] for result in of_two]
    assert rounds[0] == rounds[1]
    assert [groups for groups, _, _ in rounds[0]] == [groups for groups, _, _ in one]
    assert rounds[0][1][1:] == pytest.approx(one[1][1:], rel=1e-3, abs=1e-5)  # some are near 0
    necks = [result[name]["neck"] for result in (*of_two, {name: of_one(people, name)})]
    assert necks[0] == necks[1] == pytest.approx(necks[2], rel=1e-4, abs=1e-5)


def test_dropout_differs_between_processes_and_not_between_runs(people, of_two):
    first, second = of_two[0]["draws"]["numbers"]
    assert first[0] == first[1] and second[0] == second[1] and first != second
    assert first == of_one(people, "draws")["numbers"][0], "the first process draws what a single one would"


def test_different_first_weights_are_noticed_on_all_processes(of_two):
    for result in of_two:
        assert "processes 0 and 1 begin with other weights (loss.heads.0.weight, 1 in all)" in result["draws"]["error"]


def test_batch_norms_on_several_cpu_processes_are_refused():
    """Before the ranks meet: torch synchronises batch norms on GPUs only."""
    model = ReidModel(ModelSpec("test_resnet", (64, 32)))
    with pytest.raises(UserError, match=r"MODEL\.NAME.*batch norms.*\b\d+ in all.*cpu"):
        distribute_training(
            TrainingModule(model, nn.Identity()), None, Ranks(0, 2), torch.device("cpu"), torch.float32, False
        )


class Two(Ranks):
    """This rank and another one with other values."""

    other = None

    def gather_objects(self, value):
        return [value, {**value, **self.other}]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"SOLVER.SEED": "8"},
            r"processes 0 and 1 .*settings \(SOLVER\.SEED, 1 in all\): 7 and 8",
        ),
        ({"MORE": "1", "LESS": "2"}, r"settings \(MORE, 2 in all\): None and 1"),
    ],
)
def test_what_processes_do_not_agree_on_is_named(monkeypatch, other, message):
    monkeypatch.setattr(Two, "other", other)
    with pytest.raises(ValueError, match=message):
        check_agreed(lambda: {"SOLVER.SEED": 7}, Two(0, 2), "settings")


def test_a_run_goes_on_only_where_all_machines_have_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(Two, "gather_objects", lambda self, value: [value, True])
    with pytest.raises(FileNotFoundError, match=r"process 1 finds a run.*\b0 does not"):
        read_checkpoint(ReadOnlyFolder(str(tmp_path)), "auto", Two(0, 2))


@pytest.mark.parametrize(("size", "expected"), [(1, ["evaluate"]), (2, ["save", "evaluate"])])
def test_several_processes_save_before_they_evaluate(monkeypatch, size, expected):
    """Signals do not interrupt their evaluation, and torchrun waits 30 s: an epoch that is not due is saved too."""
    run, done = Run.__new__(Run), []
    cfg = load_config(None, ["SOLVER.MAX_EPOCHS", "10", "SOLVER.CHECKPOINT_PERIOD", "10", "SOLVER.EVAL_PERIOD", "1"])
    run.options, run.trainer, run.evaluator = build_run_options(cfg), Mock(), Mock()
    run.ranks, run.signals, run.best, run.folder = Ranks(0, size), StopSignals(), 0.0, Mock()
    monkeypatch.setattr(Run, "should_stop", lambda self: False)
    monkeypatch.setattr(Run, "_save_last", lambda self, epoch: done.append("save"))
    monkeypatch.setattr(Run, "_evaluate", lambda self, epoch, row: done.append("evaluate"))
    row = {"epoch": 3, "loss": 1.0, "lr": 0.1, "images_per_second": 1.0, "seconds": 1.0}
    run._close_epoch(row)
    assert done == expected


def test_processes_may_see_their_images_in_other_folders_but_no_others(tmp_path):
    def images(folder, count):
        records = [Record(str(tmp_path / folder / f"{k}.jpg"), k, 0) for k in range(count)]
        return image_digests(ReidData("mine", records, [], [], ("a",)))

    assert images("a", 3) == images("b", 3)
    assert images("a", 3)["training images"] != images("a", 2)["training images"]
    assert images("a", 3)["training images"].startswith("3 (")


def test_decisions_are_made_together(of_two):
    for result in of_two:
        assert result["deciding"] == {"any": [False, True], "objects": ["of 0", "of 1"], "first": "of 0"}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("failing", "process 1 of 2 failed: ValueError: the second has had enough"),
        ("undecodable", "process 1 of 2 failed: CorruptImageError: a.jpg: the image is empty"),
        ("gone", "another process of this run is gone"),
        ("killed_while_decoding", "another process of this run is gone"),
    ],
)
def test_a_process_that_fails_ends_all(people, memory, case, message):
    processes = start([SCRIPT, str(people), case])
    outputs = finish(processes)  # within minutes; the group's timeout is an hour
    assert all(process.returncode != 0 for process in processes)
    assert f"RankFailed: {message}" in outputs[0]
    assert not list(memory.iterdir())


def test_images_are_shared_by_the_ranks_of_one_machine(people, memory, of_two):
    assert [result["sharing"] for result in of_two] == [{"array": [0, 1, 0, 1], "place": [k, 2]} for k in (0, 1)]
    processes = start([SCRIPT, str(people), "sharing"], num_ranks=4)
    outputs = finish(processes)
    assert [process.returncode for process in processes] == [0] * 4, "\n".join(outputs)[-4000:]
    found = [result["sharing"] for result in json.loads((people / "results.json").read_text())]
    assert [result["array"] for result in found] == [[0, 1, 0, 1]] * 2 + [[2, 3, 2, 3]] * 2
    assert [result["place"] for result in found] == [[0, 2], [1, 2]] * 2
    assert not list(memory.iterdir())


def test_a_run_goes_on_with_another_number_of_processes(tiny, tmp_path):
    """2 -> 1 -> 2, in copies and in parts: the losses of a run on one process throughout; one folder, written once."""
    arguments = [*tiny, "MODEL.DROP_PATH", "0.0", "SOLVER.EMA", "0.9", "SOLVER.MAX_EPOCHS", "4"]
    arguments += [
        "SOLVER.SCHEDULE",
        "multistep",
        "SOLVER.STEPS",
        "(9,)",
    ]  # its rates do not depend on the number of epochs
    script, whole = str(ROOT / "tools" / "train.py"), [*arguments, "OUTPUT_DIR", str(tmp_path / "whole")]
    stop = ["--traceback", "--resume"]
    run_tool(whole)
    launch([script, *arguments, *stop, "SOLVER.MAX_EPOCHS", "2"])
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"config.yml", "log.txt", "metrics.jsonl", "last.pth", "best.safetensors"}
    assert len([name for name in names if name.startswith("events")]) == 1
    run_tool([*arguments, "SOLVER.MAX_EPOCHS", "3"], "--resume")
    launch([script, *arguments, *stop, "SOLVER.FSDP", "True"])
    assert (tmp_path / "run" / "log.txt").read_text().count("epoch 2/2") == 1
    found, expected = ([(row["epoch"], row["loss"]) for row in rows(tmp_path / name)] for name in ("run", "whole"))
    assert [epoch for epoch, _ in found] == [1, 2, 3, 4]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], rel=1e-4)


def test_an_evaluation_on_two_processes_finds_the_same_numbers(tiny, checkpoint, tmp_path):
    numbers = []
    for name in ("one", "two"):
        arguments = [
            "--weights",
            str(checkpoint),
            "--output",
            str(tmp_path / name),
            "--save-features",
            str(tmp_path / f"{name}.safetensors"),
        ]
        if name == "one":
            assert test_tool.main(arguments) == 0
        else:
            launch([str(ROOT / "tools" / "test.py"), *arguments])
        numbers.append(json.loads((tmp_path / name).read_text()))
    assert numbers[0] == numbers[1]
