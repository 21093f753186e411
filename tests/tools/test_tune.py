"""The search for option values: what it accepts, that it can be interrupted, and what it leaves."""

import json

import pytest

from vitreid.configs import load_config, parse_config
from vitreid.processor.training.tuning import OptionSearch, SearchedOption
from vitreid.tools.cli import main as program
from vitreid.tools.cli.tune import main

optuna = pytest.importorskip("optuna", reason='needs the extra: pip install "vitreid[tune]"')
RATE = SearchedOption.of("SOLVER.BASE_LR=0.001..0.1:log")


def closeness(values, folder):
    """The best value is 0.01."""
    return 1 - abs(values["SOLVER.BASE_LR"] - 0.01)


def search_in(folder, train=closeness, searched=(RATE,)):
    return OptionSearch(folder, searched, train, describe=json.dumps)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SOLVER.BASE_LR", r"KEY=LOW\.\.HIGH"),
        ("SOLVER.BASE_RL=1..2", "'SOLVER.BASE_RL'"),
        ("SOLVER.BASE_LR=0.1..0.01", "0.1..0.01 must be rising"),
        ("SOLVER.BASE_LR=0..1:log", "above 0"),
        ("SOLVER.BASE_LR=0..1:lin", "'lin'"),
        ("SOLVER.BASE_LR=a..b", "'a..b' is no range"),
        ("SOLVER.PRECISION=bf16,int4", "SOLVER.PRECISION.*'int4'"),
        ("SOLVER.BASE_LR=-1..1", "SOLVER.BASE_LR.*at least 0"),
    ],
)
def test_a_search_that_cannot_be_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        SearchedOption.of(text)


def test_whole_numbers_stay_whole():
    trial = optuna.create_study().ask()
    assert SearchedOption.of("MODEL.DEPTH=2..4").suggest(trial) in (2, 3, 4)
    assert SearchedOption.of("SOLVER.EMA=0.9,0.99").suggest(trial) in (0.9, 0.99)


def test_an_interrupted_trial_is_finished_first_with_its_values(tmp_path):
    seen = []

    def killed(values, folder):
        seen.append((values, folder.name))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return closeness(values, folder)

    with pytest.raises(KeyboardInterrupt):
        search_in(tmp_path, killed).run(5)
    search_in(tmp_path, killed).run(5)
    assert [name for _, name in seen] == ["trial_000", "trial_001", "trial_002", "trial_002", "trial_003", "trial_004"]
    assert seen[2] == seen[3]
    search_in(tmp_path, killed).run(5)
    assert len(seen) == 6, "a finished search trains no more"


def test_the_best_values_are_written_and_the_table_begins_with_them(tmp_path):
    search = search_in(tmp_path)
    search.run(8)
    best = json.loads((tmp_path / "best.yml").read_text().partition("\n")[2])
    rows = search.rows()
    assert rows[0] == ["trial", "mAP", "SOLVER.BASE_LR"] and len(rows) == 9
    assert float(rows[1][2]) == pytest.approx(best["SOLVER.BASE_LR"], rel=1e-3)
    assert search.study.best_value > 0.97


def test_values_that_do_not_go_together_are_a_failed_trial(tmp_path):
    from vitreid.common.errors import UserError

    def refuse(values, folder):
        raise UserError("no")

    search = search_in(tmp_path, refuse)
    search.run(2)
    assert search.done == 0 and len(search.study.trials) == 2 and not (tmp_path / "best.yml").exists()


def test_a_folder_with_a_search_for_other_options_is_refused(tmp_path):
    search_in(tmp_path).run(1)
    with pytest.raises(ValueError, match=r"holds a search for SOLVER\.BASE_LR.*MODEL\.DEPTH"):
        search_in(tmp_path, searched=(SearchedOption.of("MODEL.DEPTH=2..4"),))


def test_the_command_needs_people_held_out(tiny, capsys):
    assert main(["--search", "SOLVER.BASE_LR=0.001..0.1:log", *tiny]) == 2
    assert "DATASETS.VAL_IDS" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_trains_trials_and_leaves_a_recipe(tiny, tmp_path, capsys):
    folder = tmp_path / "tune"
    words = [*tiny, "DATASETS.VAL_IDS", "3", "SOLVER.IMS_PER_BATCH", "8", "SOLVER.MAX_EPOCHS", "1"]
    arguments = ["--search", "SOLVER.BASE_LR=0.001,0.0001", *words, "OUTPUT_DIR", str(folder)]
    assert main(["--trials", "1", *arguments]) == 0
    assert main(["--trials", "2", *arguments]) == 0
    assert sorted(path.name for path in folder.glob("trial_*")) == ["trial_000", "trial_001"]
    table = capsys.readouterr().out
    assert "SOLVER.BASE_LR" in table and f"--config_file {folder / 'best.yml'}" in table
    best = load_config(folder / "best.yml")
    assert best.SOLVER.MAX_EPOCHS == 1 and str(folder / "best") == best.OUTPUT_DIR
    assert best.SOLVER.BASE_LR in (0.001, 0.0001)
    assert parse_config((folder / "trial_000" / "config.yml").read_text()).DATASETS.VAL_IDS == 3


def test_options_are_listed_by_words(capsys):
    assert program.main(["options", "early", "stop"]) == 2
    assert program.main(["options", "solver", "patience"]) == 0
    assert capsys.readouterr().out.startswith("SOLVER.PATIENCE 0\n    evaluations without a better mAP")
