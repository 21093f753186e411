"""A model as a folder and on the hub: the same embeddings come back, and nothing private is handed out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import vitreid
from vitreid.configs import load_config
from vitreid.datasets import ReidData
from vitreid.model import ModelSpec, ReidModel, load_deploy, save_deploy
from vitreid.model.weights import hub
from vitreid.processor.embedding import weight_files
from vitreid.processor.embedding.embedder import Embedder
from vitreid.processor.publishing import hub_upload
from vitreid.processor.runs.checkpoint import describe_model

WORDS = [
    "INPUT.SIZE_TEST",
    "(32,16)",
    "INPUT.SIZE_TRAIN",
    "(32,16)",
    "DATASETS.ROOT_DIR",
    "/home/me/secret",
    "MODEL.DEVICE",
    "cpu",
]
PROVENANCE = {
    "data": [{"name": "market1501", "terms": "research only"}],
    "parents": [{"name": "vit.pth", "sha256": "ab12"}],
    "commands": ["vitreid train"],
    "commit": "f" * 40,
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "best.safetensors"
    torch.manual_seed(0)
    spec = ModelSpec("vit_tiny_patch16_224", (32, 16), embed_dim=16, depth=1, num_heads=2)
    data = ReidData("market1501", [], [], [], ())
    about = describe_model(load_config(None, WORDS), data, {7: 0}, {"mAP": 0.5, "Rank-1": 0.75}, PROVENANCE)
    save_deploy(path, ReidModel(spec), {**about, "people": {"7": "Ann"}})
    return path


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [np.random.default_rng(seed).integers(0, 255, (40, 20, 3)).astype(np.uint8) for seed in (0, 1)]


def embedder(source: object) -> Embedder:
    return vitreid.from_pretrained(str(source), device="cpu", precision="fp32")


def test_a_saved_folder_gives_the_same_embeddings(weights: Path, images: list[np.ndarray], tmp_path: Path):
    first = embedder(weights)
    folder = first.save_pretrained(tmp_path / "model")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    second = embedder(folder)
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second(images), first(images))


def test_the_folder_holds_no_people_and_no_paths(weights: Path, tmp_path: Path):
    folder = embedder(weights).save_pretrained(tmp_path / "model")
    about = load_deploy(folder / "model.safetensors")[1]
    assert not {"people", "labels"} & about.keys() and "written by this user" not in about["config"]
    for path in folder.iterdir():
        content = path.read_bytes()
        assert b"Ann" not in content and b"/home/me/secret" not in content


def test_the_card_says_what_the_checkpoint_knows(weights: Path, tmp_path: Path):
    folder = embedder(weights).save_pretrained(tmp_path / "model", licence="mit")
    text = (folder / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "library_name": "vitreid",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["person-re-identification"],
        "license": "mit",
        "datasets": ["market1501"],
    }
    for line in (
        "data: market1501 (research only)",
        "started from: vit.pth (SHA-256 ab12)",
        f"commit of vitreid: {'f' * 40}",
        "market1501: mAP 50.0 %, Rank-1 75.0 %",
        "RGB, 32 x 16 pixels",
        "embedding: 16 values",
    ):
        assert line in body


def test_the_config_can_be_read_without_the_weights(weights: Path, tmp_path: Path):
    folder = embedder(weights).save_pretrained(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    assert config["spec"]["name"] == "vit_tiny_patch16_224" and config["preprocess"]["size"] == [32, 16]
    assert config["provenance"]["parents"] == PROVENANCE["parents"]


def test_a_model_of_the_hub_is_an_embedder(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: list[np.ndarray]
):
    folder = embedder(weights).save_pretrained(tmp_path / "model")
    monkeypatch.setattr(weight_files, "fetch_model", lambda name: folder)
    np.testing.assert_array_equal(embedder("hf-hub:owner/model")(images), embedder(weights)(images))


def test_a_folder_of_another_library_names_the_conversion(tmp_path: Path):
    save_file({"embeddings.cls_token": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"convert it first: vitreid convert .*model\.safetensors OUT"):
        embedder(tmp_path)


# --- upload ---------------------------------------------------------------------------------------------------------------


class FakeHub:
    """Records what is uploaded."""

    calls: ClassVar[list[Any]] = []

    def __init__(self, token: str | None = None) -> None:
        self.calls.append(("token", token))

    def create_repo(self, repo: str, private: bool, exist_ok: bool) -> str:
        self.calls.append((repo, private))
        return f"https://hub.example/{repo}"

    def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> None:
        self.calls.append(sorted(path.name for path in Path(folder_path).iterdir()))
        self.calls.append((Path(folder_path) / "README.md").read_text())


def test_an_upload_is_the_saved_folder_in_a_private_repository(weights: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub_upload, "hub_failure", lambda: "")
    monkeypatch.setattr(hub_upload, "HfApi", FakeHub)
    FakeHub.calls.clear()
    assert embedder(weights).push_to_hub("owner/model", token="t") == "https://hub.example/owner/model"
    token, repo, files, card = FakeHub.calls
    assert (token, repo) == (("token", "t"), ("owner/model", True))
    assert files == ["README.md", "config.json", "model.safetensors"]
    assert 'vitreid.from_pretrained("hf-hub:owner/model")' in card


def test_an_upload_without_a_network_ends_at_once_and_names_the_folder(weights: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub_upload, "hub_failure", lambda: "hub.example:443: connection refused")
    with pytest.raises(ConnectionError, match=r"connection refused.*save_pretrained"):
        embedder(weights).push_to_hub("owner/model")
    with pytest.raises(ValueError, match="expected owner/model"):
        embedder(weights).push_to_hub("model")


def test_a_refused_upload_names_the_login(weights: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: FakeHub, repo: str, **options: Any) -> str:
        raise OSError("401 Unauthorized")

    monkeypatch.setattr(hub_upload, "hub_failure", lambda: "")
    monkeypatch.setattr(hub_upload, "HfApi", FakeHub)
    monkeypatch.setattr(FakeHub, "create_repo", refuse)
    with pytest.raises(ConnectionError, match=r"401 Unauthorized.*hf auth login"):
        embedder(weights).push_to_hub("owner/model")


def test_a_name_of_the_hub_that_is_not_cached_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(hub, "hub_failure", lambda: "hub.example:443: connection refused")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConnectionError, match="hf-hub:owner/model is not in the cache"):
        embedder("hf-hub:owner/model")
