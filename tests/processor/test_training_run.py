"""What a training run logs, and what it checks before the work."""

from __future__ import annotations

import json

import pytest

from vitreid.configs import load_config
from vitreid.processor import train


@pytest.mark.parametrize("metric", ["triplet", "circle"])
def test_every_loss_term_of_the_metrics_file_is_in_the_log(tiny, tmp_path, metric):
    words = ["SOLVER.MAX_EPOCHS", "1", "LOSS.METRIC", metric, "LOSS.CENTER_WEIGHT", "0.0005"]
    train(load_config(None, [*tiny, *words]))
    (row,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    (line,) = [line for line in (tmp_path / "run" / "log.txt").read_text().splitlines() if "epoch 1/1" in line]
    terms = {name: row[name] for name in ("loss", "id", metric, "center")}
    assert " ".join(f"{name} {value:.3f}" for name, value in terms.items()) in line
    assert f"accuracy {100 * row['accuracy']:.1f}%" in line


@pytest.mark.parametrize(
    "key", ["LOSS.ID", "LOSS.METRIC", "SOLVER.OPTIMIZER_NAME", "SOLVER.SCHEDULE", "TEST.RERANK", "DATASETS.NAMES"]
)
def test_an_unknown_name_is_an_error_before_the_data_are_read(tiny, key):
    words = ["DATASETS.ROOT_DIR", "/nowhere", key, "tripplet"]
    with pytest.raises(ValueError, match=rf"{key}.*'tripplet'"):
        train(load_config(None, [*tiny, *words]))
