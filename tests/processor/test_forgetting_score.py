"""Choosing images for pre-training: those whose features change least."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from vitreid.configs import load_config
from vitreid.datasets import Record, build_data
from vitreid.model import load_deploy, save_deploy
from vitreid.processor import Embedder
from vitreid.processor.pretraining.forgetting_score import forgetting_scores, highest, score_records
from vitreid.tools.cli.main import main


def test_the_score_falls_with_the_angle_between_the_features():
    before = np.array([[1.0, 0.0]] * 3)
    after = np.array([[5.0, 0.0], [3.0, 4.0], [-1.0, 0.0]])
    assert forgetting_scores(before, after).tolist() == pytest.approx([1, np.exp(-0.8), np.exp(-4)])


def test_the_highest_share_is_kept_in_order():
    scores = np.array([0.1, 0.9, 0.5, 0.5, 0.7])
    assert highest(scores, 0.6).tolist() == [1, 2, 4]
    assert highest(scores, 0.01).tolist() == [1] and len(highest(scores, 1.0)) == 5


def test_images_are_scored_block_by_block():
    records = [Record(str(number), 0, 0) for number in range(600)]
    sizes = []

    def angle(part):
        sizes.append(len(part))
        return np.array([[1.0, float(one.path)] for one in part])

    scores = score_records(records, lambda part: np.array([[1.0, 0.0]] * len(part)), angle)
    assert len(scores) == 600 and (np.diff(scores) < 0).all() and max(sizes) == 256


@pytest.fixture
def changed(checkpoint, tmp_path):
    """The checkpoint with other weights."""
    model, about = load_deploy(checkpoint)
    torch.manual_seed(3)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    save_deploy(tmp_path / "changed.safetensors", model, about)
    return tmp_path / "changed.safetensors"


def test_a_manifest_of_the_chosen_images_is_written_and_read(tiny, checkpoint, changed, tmp_path):
    output = tmp_path / "chosen.csv"
    words = [*tiny, "--choose", str(output), "--keep", "0.25", "--before", str(checkpoint), "--after", str(changed)]
    assert main(["pretrain", *words]) == 0
    records = build_data(load_config(None, tiny)).train
    with output.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(records) // 4
    paths, cameras = [one.path for one in records], [f"c{one.camid + 1}" for one in records]
    features = [Embedder(path, "cpu")(paths, cameras) for path in (checkpoint, changed)]
    best = {paths[place] for place in highest(forgetting_scores(*features), 0.25)}
    assert {str((output.parent / row["path"]).resolve()) for row in rows} == {str(path) for path in best}
    manifest = [*tiny, "DATASETS.NAMES", "manifest", "DATASETS.MANIFEST", str(output)]
    assert len(build_data(load_config(None, manifest), unlabelled=True).train) == len(rows)
    assert main(["pretrain", *words]) == 2, "the file is not replaced"


def test_the_models_and_the_share_are_checked(tiny, checkpoint, tmp_path, capsys):
    given = ["--choose", str(tmp_path / "a.csv"), "--before", str(checkpoint)]
    assert main(["pretrain", *tiny, *given]) == 2
    assert main(["pretrain", *tiny, *given, "--after", str(checkpoint), "--keep", "0"]) == 2
    assert main(["pretrain", *tiny, "--before", str(checkpoint)]) == 2
    said = capsys.readouterr().err
    assert "--after" in said and "--keep" in said and "--choose" in said
