"""LOSS.DISTILL: a run learns a teacher's embeddings of the training images."""

import json
import shutil
from hashlib import sha256

import pytest
import torch
from safetensors.torch import load_file

from vitreid.configs import load_config
from vitreid.datasets import build_data
from vitreid.processor import Embedder, train
from vitreid.processor.training import teacher as teacher_of_run

TWICE = ("SOLVER.MAX_EPOCHS", "1")


def options(tiny, teacher, *more):
    return load_config(None, [*tiny, *TWICE, "LOSS.DISTILL", str(teacher), *more])


def weights_of(run):
    return load_file(run / "best.safetensors")


def test_the_kept_embeddings_are_those_of_the_teacher(tiny, tmp_path, checkpoint):
    cfg = options(tiny, checkpoint)
    train(cfg)
    (row,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert row["distill"] > 0 and row["relation"] > 0
    data = build_data(cfg)
    expected = Embedder(checkpoint)(
        [record.path for record in data.train], [data.camera_names[record.camid] for record in data.train]
    )
    found = load_file(tmp_path / "run" / "teacher.safetensors")["embeddings"]
    assert torch.equal(found, torch.from_numpy(expected))
    parents = Embedder(tmp_path / "run" / "best.safetensors").about["provenance"]["parents"]
    assert parents == [{"name": "teacher best.safetensors", "sha256": sha256(checkpoint.read_bytes()).hexdigest()}]


def test_they_are_computed_once_and_lead_to_the_same_weights(tiny, tmp_path, checkpoint, monkeypatch):
    train(options(tiny, checkpoint))
    first = weights_of(tmp_path / "run")
    monkeypatch.setattr(teacher_of_run, "_embed", None)
    train(options(tiny, checkpoint), overwrite=True)
    assert all(torch.equal(first[name], tensor) for name, tensor in weights_of(tmp_path / "run").items())
    kept = shutil.copy(tmp_path / "run" / "teacher.safetensors", tmp_path / "kept.safetensors")
    train(options(tiny, kept), overwrite=True)
    assert all(torch.equal(first[name], tensor) for name, tensor in weights_of(tmp_path / "run").items())


def test_a_run_is_resumed_with_its_teacher(tiny, tmp_path, checkpoint, monkeypatch):
    train(options(tiny, checkpoint, "SOLVER.MAX_EPOCHS", "2"))
    whole = weights_of(tmp_path / "run")
    train(options(tiny, checkpoint, "SOLVER.MAX_EPOCHS", "2", "SOLVER.KEEP_LAST", "2"), overwrite=True)
    monkeypatch.setattr(teacher_of_run, "_embed", None)
    train(options(tiny, checkpoint, "SOLVER.MAX_EPOCHS", "2"), resume=str(tmp_path / "run" / "last_epoch_001.pth"))
    assert all(torch.equal(whole[name], tensor) for name, tensor in weights_of(tmp_path / "run").items())


def test_embeddings_of_other_images_are_refused(tiny, tmp_path, checkpoint):
    train(options(tiny, checkpoint))
    kept = shutil.copy(tmp_path / "run" / "teacher.safetensors", tmp_path / "kept.safetensors")
    with pytest.raises(ValueError, match=r"LOSS\.DISTILL.*other training images"):
        train(options(tiny, kept, "DATASETS.VAL_IDS", "2"), overwrite=True)


def test_a_damaged_file_beside_the_run_is_named(tiny, tmp_path, checkpoint):
    train(options(tiny, checkpoint))
    kept = tmp_path / "run" / "teacher.safetensors"
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"teacher\.safetensors.*remove it"):
        train(options(tiny, checkpoint), overwrite=True)


@pytest.mark.parametrize("name", ["nowhere.onnx", "nowhere.safetensors"])
def test_a_missing_teacher_is_named_with_its_key(tiny, name):
    with pytest.raises(ValueError, match=rf"LOSS\.DISTILL.*{name}"):
        train(options(tiny, name))


def test_a_teacher_without_weights_of_its_terms_is_refused(tiny, checkpoint):
    with pytest.raises(ValueError, match=r"LOSS\.DISTILL_WEIGHT 0"):
        options(tiny, checkpoint, "LOSS.DISTILL_WEIGHT", "0", "LOSS.RELATION_WEIGHT", "0")


def test_a_student_may_learn_from_the_teacher_alone(tiny, tmp_path, checkpoint):
    train(options(tiny, checkpoint, "LOSS.ID", "none", "LOSS.METRIC", "none"))
    (row,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert {"distill", "relation"} <= set(row) and "id" not in row
