"""tools/published/reproduce.py: published tables, made again."""

import importlib
import json
import re

import pytest

from vitreid.benchmarks.contest import contestants
from vitreid.common.errors import UserError
from vitreid.configs import load_config
from vitreid.tools.cli.main import COMMANDS
from vitreid.tools.published import repeat
from vitreid.tools.published.published_tables import PEERS, TABLES, Row
from vitreid.tools.published.reproduce import main

ROWS = (
    Row("plain", "mine", ("vitreid train --seed {seed}", "vitreid test {run}"), "plain.json"),
    Row("re-ranked", "mine", ("vitreid train --seed {seed}", "vitreid test {run} --reranked"), "reranked.json"),
)


@pytest.fixture
def started(monkeypatch):
    """Commands that were started; each test command leaves figures that follow from the seed."""
    commands = []

    def execute(command, log):
        commands.append(command)
        log.write_text("output")
        if command[:2] == ["vitreid", "test"]:
            seed = int(log.parent.name.rpartition("-")[2])
            name = "reranked.json" if "--reranked" in command else "plain.json"
            figures = dict.fromkeys(("mAP", "mINP", "Rank-1"), seed / 10)
            (log.parent / name).write_text(json.dumps(figures))
        return 60.0

    monkeypatch.setattr(repeat, "_execute", execute)
    return commands


def test_figures_are_averaged_over_the_seeds_in_percent(started, tmp_path):
    table = repeat.reproduce(ROWS[:1], [1, 2, 3], tmp_path, tmp_path)
    assert table.splitlines()[-1] == "| plain | 1, 2, 3 | 20.0 ± 10.0 | 20.0 ± 10.0 | 20.0 ± 10.0 | 2.0 ± 0.0 |"


def test_what_is_done_is_not_done_again(started, tmp_path):
    first = repeat.reproduce(ROWS, [1], tmp_path, tmp_path)
    assert [command[1] for command in started] == ["train", "test", "test"]  # one training
    started.clear()
    assert repeat.reproduce(ROWS, [1], tmp_path, tmp_path) == first
    assert started == []


@pytest.mark.slow
def test_a_command_that_fails_is_named_and_can_be_run_again(tmp_path):
    row = Row("wrong", "wrong", ("vitreid train --no-such-option",))
    with pytest.raises(OSError, match=r"no-such-option.*\b2\b.*train\.txt"):
        repeat.reproduce([row], [1], tmp_path, tmp_path)
    assert "unrecognized arguments" in (tmp_path / "wrong-1" / "train.txt").read_text()
    assert not (tmp_path / "wrong-1" / repeat.DONE).exists()


def test_the_seconds_of_an_interrupted_call_count(monkeypatch, tmp_path):
    seconds = iter([0.0, 90.0, 90.0])  # the clock: an interrupted call of 90 seconds, and the start of the next

    def interrupt(command, log):
        raise KeyboardInterrupt

    monkeypatch.setattr(repeat.time, "perf_counter", lambda: next(seconds))
    row = Row("speed", "speed", ("python benchmarks/gallery.py",), "")
    monkeypatch.setattr(repeat, "_execute", interrupt)
    with pytest.raises(KeyboardInterrupt):
        repeat.reproduce([row], [1], tmp_path, tmp_path)
    monkeypatch.setattr(repeat, "_execute", lambda command, log: log.write_text("output") and 30.0)
    assert repeat.reproduce([row], [1], tmp_path, tmp_path).splitlines()[-1].endswith("| 2.0 |")


def test_checkouts_of_peers_are_passed_on_where_they_are_measured(started, tmp_path, capsys):
    assert {"shipping", "budget"} <= TABLES.keys() and set(PEERS) == set(contestants.PEERS)
    words = ["--seeds", "1", "--output", str(tmp_path), "--transreid", str(tmp_path / "peer")]
    assert main(["evaluation", "--list", *words]) == 0
    assert f"--transreid {tmp_path / 'peer'}" in capsys.readouterr().out
    assert main(["demo", *words]) == 2
    assert re.search(r"--transreid: .*\bdemo\b", capsys.readouterr().err)
    assert started == []
    (row,) = TABLES["evaluation"]
    repeat.reproduce([row], [1], tmp_path, tmp_path, {"transreid": tmp_path / "peer"})
    assert started[0][-2:] == ["--transreid", str(tmp_path / "peer")]


def test_a_benchmark_shows_its_own_table(started, tmp_path):
    table = repeat.reproduce([Row("speed", "speed", ("python benchmarks/gallery.py",), "")], [1], tmp_path, tmp_path)
    assert table.startswith("output\n")


@pytest.mark.parametrize("name", TABLES)
def test_the_commands_of_every_table_parse(name, tmp_path):
    for row in TABLES[name]:
        for words in repeat.fill(row, tmp_path, 1, tmp_path):
            module = COMMANDS[words[1]].module if words[0] == "vitreid" else ""
            module = f"tools.{module}" if module else words[1].removesuffix(".py").replace("/", ".")
            args = importlib.import_module(f"vitreid.{module}").get_parser().parse_intermixed_args(words[2:])
            if "opts" in args:
                assert load_config(args.config_file, args.opts)


def test_a_benchmark_that_an_installation_does_not_have_is_an_error_before_anything_runs(
    started, monkeypatch, tmp_path
):
    monkeypatch.setattr(repeat, "ROOT", tmp_path)
    with pytest.raises(UserError, match=r"benchmarks/serving\.py: .*clone vitreid's repository"):
        repeat.reproduce([*TABLES["demo"], *TABLES["serving"]], [1], tmp_path, tmp_path)
    assert started == []


@pytest.mark.slow
def test_a_command_runs_as_it_is_shown(tmp_path):
    seconds = repeat._execute(["vitreid", "recipes"], tmp_path / "recipes.txt")
    assert seconds > 0 and "market/vit_base" in (tmp_path / "recipes.txt").read_text()


def test_the_list_shows_commands_and_runs_nothing(started, capsys):
    assert main(["--list", "demo", "--seeds", "7"]) == 0
    shown = capsys.readouterr().out
    assert (
        "    vitreid train --config_file synthetic/vit_tiny" in shown
        and "SOLVER.SEED 7" in shown
        and "market" not in shown
    )
    assert started == []


def test_no_table_is_an_error_that_names_them(capsys):
    assert main([]) == 2
    assert "demo, market-scratch" in capsys.readouterr().err
