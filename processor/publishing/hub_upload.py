"""Upload of a model's folder to the Hugging Face hub."""

from __future__ import annotations

import tempfile
from pathlib import Path

from huggingface_hub import HfApi

from ...common.errors import UserError
from ...common.text import first_line
from ...model.weights.hub import FETCH_ERRORS, HUB, NAME, hub_failure
from ..embedding.weight_files import Weights
from .saved_folder import save_folder


def upload(
    weights: Weights, name: str, private: bool = True, token: str | None = None, licence: str = "", message: str = ""
) -> str:
    """Upload the model as the repository `owner/model`, made if need be; return its address.

    Args:
        private: whether a new repository is visible to its owner only.
        token: of the hub; None = the one that `hf auth login` stored.
        licence: of the weights, e.g. `mit`.
        message: of the commit.
    Raises:
        ConnectionError: the hub does not answer, or refuses; UserError: another form of name, or no model of vitreid.
    """
    match = NAME.fullmatch(name.removeprefix(HUB))
    if match is None or match["revision"]:
        raise UserError(f"{name}: expected owner/model")
    if failure := hub_failure():
        raise ConnectionError(
            f"the hub cannot be reached ({failure}); save_pretrained writes the same folder to the disk"
        )
    repo, api = match["repo"], HfApi(token=token)
    with tempfile.TemporaryDirectory() as place:
        folder = save_folder(weights, Path(place) / "model", f"{HUB}{repo}", licence)
        try:
            url = api.create_repo(repo, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message or "Upload a model of vitreid")
        except FETCH_ERRORS as error:
            raise ConnectionError(
                f"{name}: the hub refuses the upload ({first_line(error)}); `hf auth login` stores a token"
            ) from error
    return str(url)
