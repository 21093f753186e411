"""What recipes learn in the same time: the clock drives the schedule, mistakes show before training."""

import json

import pytest

from vitreid.benchmarks import budget


def schedule(start, now, monkeypatch):
    monkeypatch.setattr(budget.time, "perf_counter", lambda: now)
    return budget.TimedSchedule(0.008, lambda progress: 1 - progress / 120, 5, 0.0, epochs=120, seconds=60, start=start)


@pytest.mark.parametrize(("now", "progress"), [(100, 0), (130, 60), (160, 120), (999, 120)])
def test_epochs_pass_with_the_clock(now, progress, monkeypatch):
    assert schedule(100, now, monkeypatch).progress(1, 0) == pytest.approx(progress)


def test_the_rate_is_that_of_the_epoch_on_the_clock(monkeypatch):
    assert schedule(100, 130, monkeypatch).lr(60) == pytest.approx(0.004)


@pytest.mark.slow
def test_recipes_learn_for_the_time_and_are_judged_on_people_held_out(tiny, tmp_path, capsys):
    recipe = "market/vit_base.yml " + " ".join(word.replace(" ", "") for word in tiny)
    words = ["--minutes", "0.01", "--val-ids", "3", "--data", tiny[tiny.index("DATASETS.ROOT_DIR") + 1]]
    assert budget.main([*words, "--recipe", recipe, "--recipe", recipe, "--json", str(tmp_path / "figures.json")]) == 0
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert len(rows) == 2 and capsys.readouterr().out.count(" mAP ") == 2
    assert all(row["images"] > 0 and 0.6 <= row["seconds"] < 20 and 0 < row["mAP"] <= 1 for row in rows)
