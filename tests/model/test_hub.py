"""Names of the hub: the cache, folders and an endpoint that refuses; nothing here needs a network."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest
import timm
from huggingface_hub import constants
from safetensors.torch import save_file

from vitreid.model import ModelSpec, ReidModel, load_weights
from vitreid.model.weights import hub
from vitreid.model.weights.hub import cache_only, fetch_model, hub_failure

SPEC = ModelSpec("vit_tiny_patch16_224", (64, 32), embed_dim=16, depth=1, num_heads=2)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an endpoint that refuses every connection."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


def cached(cache: Path, repo: str = "models--owner--model") -> Path:
    """A model as the hub's library stores it; returns the folder of its snapshot."""
    snapshot = cache / repo / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (cache / repo / "refs").mkdir()
    (cache / repo / "refs" / "main").write_text("a" * 40)
    net = timm.create_model(SPEC.name, img_size=(64, 32), embed_dim=16, depth=1, num_heads=2)
    save_file(net.state_dict(), snapshot / "model.safetensors")
    return snapshot


def test_an_endpoint_that_refuses_is_said_at_once(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """The library's pauses between its tries would take a minute; none is made."""
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waited {seconds} s"))
    with pytest.raises(
        ConnectionError, match=r"hf-hub:owner/model is not in the cache, and the hub cannot be reached .*refused"
    ):
        fetch_model("hf-hub:owner/model")


def test_an_endpoint_that_never_answers_is_given_up_soon(monkeypatch: pytest.MonkeyPatch):
    def wait(*_: Any) -> None:
        time.sleep(60)

    monkeypatch.setattr(socket, "create_connection", wait)
    assert "no answer within 0.05 seconds" in hub_failure(0.05)


def test_a_model_in_the_cache_needs_no_network(cache: Path):
    snapshot = cached(cache)
    assert fetch_model("hf-hub:owner/model") == snapshot
    model = ReidModel(SPEC)
    assert load_weights(model, "hf-hub:owner/model", strict=False).coverage == 1.0


def test_the_cache_is_asked_for_a_revision_too(cache: Path):
    snapshot = cached(cache)
    assert fetch_model(f"hf-hub:owner/model@{'a' * 40}") == snapshot
    with pytest.raises(ConnectionError, match="not in the cache"):
        fetch_model("hf-hub:owner/model@v2")


def test_a_proxy_is_called_in_place_of_the_hub(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    called: list[Any] = []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        called.append(address)
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.example")
    assert hub_failure() == "" and called == [("proxy.example", 3128)]


@pytest.mark.parametrize("name", ["hf-hub:model", "hf-hub:owner/../x", "hf-hub:a/b/c", "hf-hub:"])
def test_a_name_of_another_form_is_refused(name: str):
    with pytest.raises(ValueError, match=r"expected hf-hub:owner/model"):
        fetch_model(name)


def test_of_several_forms_of_the_weights_one_is_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    files = ["README.md", "config.json", "flax_model.msgpack", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx"]
    files += ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    asked: dict[str, Any] = {}

    def download(repo: str, **options: Any) -> str:
        asked.update(options, repo=repo)
        return str(tmp_path)

    monkeypatch.setattr(hub, "hub_failure", lambda: "")
    monkeypatch.setattr(hub.HfApi, "list_repo_files", lambda self, repo, revision: files)
    monkeypatch.setattr(hub, "snapshot_download", download)
    assert fetch_model("hf-hub:owner/model@v1") == tmp_path
    assert asked["repo"] == "owner/model" and asked["revision"] == "v1"
    assert sorted(asked["allow_patterns"]) == sorted(files[:2] + files[6:])
    files[:] = ["tf_model.h5"]
    with pytest.raises(ValueError, match=r"none of model\.safetensors"):
        fetch_model("hf-hub:owner/model")


def test_the_hubs_settings_are_as_before_afterwards():
    with cache_only("no network"):
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
