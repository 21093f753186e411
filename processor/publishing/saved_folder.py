"""A model as a folder: model.safetensors, config.json and README.md, the card; `from_pretrained` reads it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ... import __version__
from ...common.errors import UserError
from ...common.files import write_text_atomically
from ...configs import OPTIONS, dump_config, parse_config
from ...model import save_deploy
from ...model.weights.hub import CARD
from ..embedding.extract import EmbedSettings
from ..embedding.weight_files import PRETRAINED, Weights
from .card_text import card_text

PRIVATE = ("people", "labels")  # names and numbers of the training people


def save_folder(weights: Weights, folder: str | Path, name: str = "", licence: str = "") -> Path:
    """Write the model to a folder, made if need be; return it. Earlier files of these names are replaced.

    The names of the training people and the paths of this machine are left out.

    Args:
        name: under which the card loads the model; empty = the folder's.
        licence: of the weights, e.g. `mit`.
    Raises:
        UserError: a finished model of another runtime, whose file is already what can be handed out.
    """
    network, folder = weights.model.network, Path(folder)
    if network is None:
        raise UserError(
            f"{weights.model.title}: only models of vitreid are saved as a folder; hand out the file itself"
        )
    about = public(weights.about)
    folder.mkdir(parents=True, exist_ok=True)
    save_deploy(folder / PRETRAINED, network, about)
    config = {
        "library_name": "vitreid",
        "model_type": "vitreid",
        "vitreid_version": __version__,
        "spec": network.spec.to_dict(),
        **about,
    }
    write_text_atomically(folder / "config.json", json.dumps(config, indent=2) + "\n")
    width = weights.model.width(EmbedSettings(**about["embed"]).global_only)
    card = card_text(name or str(folder), network.spec.title, width, about, licence)
    write_text_atomically(folder / CARD, card)
    return folder


def public(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a checkpoint without the training people and with the paths of its config at their defaults."""
    kept = {key: value for key, value in about.items() if key not in PRIVATE}
    paths = [word for key, option in OPTIONS.items() if option.is_path for word in (key, str(option.default))]
    if kept.get("config"):
        kept["config"] = dump_config(parse_config(kept["config"], [*paths, "MODEL.PRETRAIN_CHOICE", "none"]))
    return kept
