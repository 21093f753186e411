"""benchmarks/carried: a data set and weights packed into small files, unpacked, and trained from."""

import json
import tarfile

import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file, save_file

from vitreid.benchmarks.carried import pack_parts, train_parts
from vitreid.configs import load_config
from vitreid.datasets import build_data, read_dataset
from vitreid.model import build_model

MOST = 150_000  # bytes of a part
OPTIONS = [word for pair in zip(TINY[::2], TINY[1::2]) for word in pair if pair[0] != "DATASETS.NAMES"]


@pytest.fixture(scope="module")
def weights(people, tmp_path_factory):
    """Weights of the tiny backbone, as timm names them."""
    cfg = load_config(None, [*TINY, "DATASETS.ROOT_DIR", str(people / "synthetic")])
    state = build_model(cfg, build_data(cfg).train_cameras).backbone.net.state_dict()
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file({name: tensor.clone() for name, tensor in state.items()}, path)
    return path


@pytest.fixture
def parts(people, weights, tmp_path):
    folder = tmp_path / "parts"
    pack_parts.pack(people / "synthetic", weights, folder, MOST)
    return folder


def test_all_files_come_out_as_they_went_in(people, weights, parts, tmp_path):
    assert len(list(parts.iterdir())) > 1 and all(path.stat().st_size <= MOST for path in parts.iterdir())
    train_parts.unpack(parts, tmp_path / "out")
    for folder in pack_parts.FOLDERS.values():
        before = {path.name: path.read_bytes() for path in (people / "synthetic" / folder).glob("*.jpg")}
        after = {path.name: path.read_bytes() for path in (tmp_path / "out" / "market1501" / folder).iterdir()}
        assert after == before
    full, half = load_file(weights), load_file(tmp_path / "out" / pack_parts.WEIGHTS)
    assert full.keys() == half.keys()
    assert all(torch.equal(half[name], full[name].half()) for name in full if full[name].is_floating_point())


@pytest.mark.slow
def test_a_training_from_parts_reports_its_figures(parts, tmp_path, capsys):
    words = [str(parts), *OPTIONS, "MODEL.PRETRAIN_CHOICE", "imagenet", "--output", str(tmp_path / "out")]
    words += ["--config_file", "market/vit_base", "--json", str(tmp_path / "figures.json"), "--seed", "3"]
    assert train_parts.main(words) == 1  # a tiny model misses the aims
    report = json.loads((tmp_path / "figures.json").read_text())
    rows = (tmp_path / "out" / "run" / "metrics.jsonl").read_text().splitlines()
    assert report["epochs"] == 2 and report["seed"] == 3 and report["missed"] == ["mAP", "Rank-1"]
    assert report["mAP"] == json.loads(rows[-1])["mAP"] and "missed mAP, Rank-1" in capsys.readouterr().out
    assert train_parts.main([*words, "--quick"]) == 0  # it is done: nothing is trained again
    assert (tmp_path / "out" / "run" / "metrics.jsonl").read_text().splitlines() == rows


@pytest.mark.parametrize(
    "harm, message", [("gap", "part-01.tar is missing"), ("end", "the last part"), ("cut", "damaged")]
)
def test_missing_and_damaged_parts_are_named(harm, message, parts, tmp_path, capsys):
    paths = sorted(parts.iterdir())
    if harm == "cut":
        paths[1].write_bytes(paths[1].read_bytes()[:1000])
    else:
        paths[0 if harm == "gap" else -1].unlink()
    assert train_parts.main([str(parts), *OPTIONS, "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_wrong_words_are_refused(people, weights, parts, tmp_path, capsys):
    words = ["--data", str(people / "synthetic"), "--weights", str(weights)]
    assert pack_parts.main([*words, "--output", str(parts)]) == 2 and "exists" in capsys.readouterr().err
    assert pack_parts.main([*words, "--output", str(tmp_path / "b"), "--megabytes", "0.03"]) == 2
    assert "weights.safetensors has" in capsys.readouterr().err and not (tmp_path / "b").exists()
    assert train_parts.main([str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "no part-01.tar" in capsys.readouterr().err
    save_file({"a": torch.tensor([1e6])}, tmp_path / "large.safetensors")
    words[-1] = str(tmp_path / "large.safetensors")
    assert pack_parts.main([*words, "--output", str(tmp_path / "c")]) == 2 and "65504" in capsys.readouterr().err


def test_few_people_can_be_queried(people, weights, tmp_path):
    pack_parts.pack(people / "synthetic", weights, tmp_path / "few", MOST, few=2)
    train_parts.unpack(tmp_path / "few", tmp_path / "out")
    data = read_dataset("market1501", tmp_path / "out")
    assert {one.pid for one in data.query} == {one.pid for one in data.gallery}
    assert [len({one.pid for one in part}) for part in (data.train, data.query)] == [2, 2]


def test_the_parts_are_files_of_tar_without_owners(parts):
    with tarfile.open(parts / "part-01.tar") as tar:
        assert all(one.isfile() and not one.uname and not one.mtime for one in tar)
