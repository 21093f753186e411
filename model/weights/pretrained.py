"""Initial weights of a model: none, ImageNet (a file or timm), or a re-ID checkpoint. A missing file is an error, never random weights."""

from __future__ import annotations

import logging
from pathlib import Path

import timm

from ...common.errors import UserError
from ...common.text import first_line
from ..backbones.registry import OWN
from ..reid_model import ReidModel
from .hub import FETCH_ERRORS, cache_only, hub_failure, is_hub_name
from .load_report import LoadReport
from .load_weights import load_state, load_weights
from .read import WeightsFile

logger = logging.getLogger(__name__)


def load_initial(model: ReidModel, choice: str, path: str = "") -> LoadReport | None:
    """Fill `model` with initial weights.

    Args:
        choice: `none` leaves the random ones; `imagenet` takes `path`, or timm's weights of the model's name if it is
            empty; `self` takes a re-ID checkpoint at `path`.
    Raises:
        FileNotFoundError: nothing at `path`.
        ConnectionError: timm's weights cannot be fetched.
        ValueError: no path given, or weights of another model.
    """
    if choice == "none":
        return None
    if path and not is_hub_name(path) and not Path(path).exists():
        raise FileNotFoundError(
            f"MODEL.PRETRAIN_PATH: no file or folder at {path}; correct the path, or set MODEL.PRETRAIN_CHOICE none to start from random weights"
        )
    if path:
        return load_weights(model, path, strict=False)
    if choice == "self":
        raise UserError("MODEL.PRETRAIN_PATH: MODEL.PRETRAIN_CHOICE self needs the file of a re-ID checkpoint here")
    return load_state(model, fetch_timm(model.spec.name), strict=False)


def fetch_timm(name: str) -> WeightsFile:
    """Return timm's pretrained weights of the model `name`, downloaded once and then from its cache.

    Raises:
        ConnectionError: offline, or the hub does not have them.
        ValueError: one of our backbones; nobody hosts weights under that name.
    """
    if name in OWN:
        raise UserError(
            f"MODEL.PRETRAIN_PATH: MODEL.PRETRAIN_CHOICE imagenet needs a weight file here, since timm has none for {name}; "
            f"docs/backbones.md lists files that fit it; or set MODEL.PRETRAIN_CHOICE none to start from random weights"
        )
    failure = hub_failure()
    logger.info(
        "timm's weights of %s: %s", name, f"from the cache, as {failure}" if failure else "from the hub or its cache"
    )
    try:
        with cache_only(failure):
            net = timm.create_model(name, pretrained=True)
    except FETCH_ERRORS as error:
        raise ConnectionError(
            f"MODEL.PRETRAIN_CHOICE imagenet: timm's weights of {name} cannot be fetched ({'; '.join(filter(None, (first_line(error), failure)))}). "
            f"Download them on a machine with access and set MODEL.PRETRAIN_PATH to the file, or set MODEL.PRETRAIN_CHOICE none to "
            f"start from random weights"
        ) from error
    return WeightsFile(f"timm's {name}", net.state_dict(), None)
