"""Reading weight files of strangers: tensors come out, code never runs."""

from __future__ import annotations

import argparse
import collections
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vitreid.model.weights.read import read_weights


class Evil:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_tensors_are_taken_out_of_an_old_file_without_running_it(tmp_path: Path):
    state = {"weight": torch.rand(3), "half": nn.Parameter(torch.rand(2).half())}
    content = {
        "state_dict": state,
        "args": argparse.Namespace(lr=0.1),
        "best": np.float64(0.9),
        "x": Evil(tmp_path / "made"),
    }
    for number, zipped in enumerate((True, False)):
        path = tmp_path / f"old{number}.pth.tar"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r"refused.*convert --plain"):
            read_weights(path)
        tensors = read_weights(path, plain=True).tensors
        assert tensors.keys() == state.keys() and torch.equal(tensors["half"], state["half"])
    assert not (tmp_path / "made").exists()


def test_files_that_torch_would_run_or_unpack_are_refused(tmp_path: Path):
    """A TorchScript archive, whose code would run, and torch's first format, a tar archive, which would be unpacked."""
    script, archive = tmp_path / "script.pth", tmp_path / "old.pth"
    torch.save({"x": Evil(tmp_path / "made")}, script)
    with zipfile.ZipFile(script, "a") as zipped:
        zipped.writestr("script/constants.pkl", b"")
    (tmp_path / "storages").write_bytes(b"")
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "storages", "storages")
    for plain in (True, False):
        with pytest.raises(ValueError, match=r"script\.pth.*TorchScript.*state_dict"):
            read_weights(script, plain)
        with pytest.raises(ValueError, match=r"old\.pth.*tar archive"):
            read_weights(archive, plain)
    assert not (tmp_path / "made").exists()


def test_containers_of_old_files_are_read(tmp_path: Path):
    content = {"model": collections.defaultdict(list, weight=torch.ones(2)), "x": argparse.Namespace(net=nn.ReLU())}
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "old.pth", plain=True).tensors["weight"].tolist() == [1, 1]


def test_a_damaged_npz_is_named(tmp_path: Path):
    """A broken stream of packed numbers, and one that ends early."""
    np.savez_compressed(tmp_path / "x.npz", a=np.random.default_rng(0).random(1000))
    whole = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(whole[:500] + b"\xff" * 40 + whole[540:])
    with pytest.raises(ValueError, match=r"x\.npz.*damaged"):
        read_weights(tmp_path / "x.npz")


def test_npz_with_objects_is_refused(tmp_path: Path):
    np.savez(tmp_path / "x.npz", a=np.array([Evil(tmp_path / "made")], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"x\.npz.*arrays of numbers"):
        read_weights(tmp_path / "x.npz")
    assert not (tmp_path / "made").exists()
