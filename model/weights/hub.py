"""Models of the Hugging Face hub by name, `hf-hub:owner/model`: downloaded once, from the cache afterwards or without a network.

huggingface_hub tries again and again for a minute where there is no network. So the hub is called first, for seconds at most;
if it does not answer, only the cache counts, at once.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ...common.errors import UserError
from ...common.text import first_line
from .model_folder import CONFIGS, PIXELS, WEIGHTS

logger = logging.getLogger(__name__)

HUB = "hf-hub:"
NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
PATIENCE = 4.0  # seconds for an answer of the hub
CARD = "README.md"
UNKNOWN = (RepositoryNotFoundError, RevisionNotFoundError)
# Errors of the file system and network (OSError), of timm (RuntimeError: it has no weights of that name), and of the HTTP library,
# which depends on the version of huggingface_hub.
FETCH_ERRORS: tuple[type[BaseException], ...] = (OSError, RuntimeError, *HfHubHTTPError.__bases__)
MISSING: tuple[type[BaseException], ...] = (*FETCH_ERRORS, LocalEntryNotFoundError)


def is_hub_name(source: object) -> bool:
    """Return whether `source` names a model of the hub.

    >>> is_hub_name("hf-hub:owner/model"), is_hub_name("owner/model")
    (True, False)
    """
    return str(source).startswith(HUB)


def fetch_model(name: str) -> Path:
    """Return the folder of the model `hf-hub:owner/model` or `hf-hub:owner/model@revision` in the cache, downloaded if need be.

    Of several forms of the weights only one is downloaded, safetensors first.

    Raises:
        ConnectionError: not in the cache, and the hub does not answer; UserError: no such model, or no weights in it.
    """
    match = NAME.fullmatch(name.removeprefix(HUB))
    if match is None:
        raise UserError(f"{name}: expected {HUB}owner/model or {HUB}owner/model@revision")
    repo, revision, failure = match["repo"], match["revision"], hub_failure()
    try:
        if failure:
            return Path(snapshot_download(repo, revision=revision, local_files_only=True))
        files = HfApi().list_repo_files(repo, revision=revision)
        return Path(snapshot_download(repo, revision=revision, allow_patterns=_wanted(name, files)))
    except UNKNOWN as error:
        raise UserError(f"{name}: the hub has no such model, or it needs a login ({first_line(error)})") from error
    except MISSING as error:
        raise ConnectionError(
            f"{name} is not in the cache, and the hub cannot be reached ({failure or first_line(error)}); download it on a machine "
            f"with access, and name its folder instead"
        ) from error


def _wanted(name: str, files: list[str]) -> list[str]:
    """Return the files to download: the best form of the weights, its shards, the configs and the card."""
    weights = next((one for one in WEIGHTS if one in files), None)
    if weights is None:
        raise UserError(f"{name} has none of {', '.join(WEIGHTS)}, so it holds no weights that can be read")
    suffix = weights.removesuffix(".index.json").rpartition(".")[2]
    shards = [
        one for one in files if weights.endswith(".index.json") and re.fullmatch(rf"[\w-]+-of-\d+\.{suffix}", one)
    ]
    return [weights, *shards, *(one for one in (*CONFIGS, PIXELS, CARD) if one in files)]


def hub_failure(patience: float = PATIENCE) -> str:
    """Return why the hub cannot be reached, after a few seconds at most; empty if it answers."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    host, port = _address()
    answers: list[str] = []

    def call() -> None:
        try:
            socket.create_connection((host, port), patience).close()
            answers.append("")
        except OSError as error:
            answers.append(f"{host}:{port}: {first_line(error)}")

    thread = threading.Thread(target=call, daemon=True)  # the search for an address has no time limit
    thread.start()
    thread.join(patience)
    return answers[0] if answers else f"{host}:{port}: no answer within {patience:g} seconds"


def _address() -> tuple[str, int]:
    """Return host and port of the hub, or of the proxy in front of it."""
    url = urlsplit(constants.ENDPOINT)
    proxy = getproxies().get(url.scheme)
    if proxy and not proxy_bypass(url.hostname or ""):
        url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)


@contextmanager
def cache_only(failure: str) -> Iterator[None]:
    """Let libraries read only the hub's cache while there is a failure; they would try for a minute."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or bool(failure)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
