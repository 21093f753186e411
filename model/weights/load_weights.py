"""Loads any weight file into a model, with a report of every tensor."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from ...common.errors import UserError
from ..reid_model import ReidModel
from .fit_tensors import copied_branch, fit, norm_before_the_mean, unknown_row
from .key_names import NET, State
from .load_report import LoadReport
from .read import WeightsFile, read_weights
from .recognise_project import translate

logger = logging.getLogger(__name__)

# tensors that an embedder does not use: classifiers, poolers, decoders, and tokens that the model does not have
HEADS = (
    "head.",
    "head_dist.",
    "fc.",
    "classifier.",
    "pre_logits.",
    "attn_pool.",
    "decoder_",
    "cls_token",
    "dist_token",
    "mask_token",
)
REMEDIES = {  # part of the model -> options to check if file and model differ there
    f"{NET}blocks.": "MODEL.NAME, MODEL.DEPTH, MODEL.EMBED_DIM",
    f"{NET}patch_embed.": "MODEL.STEM",
    "backbone.jigsaw.": "MODEL.JPM",
    "backbone.sie.": "MODEL.SIE_CAMERA, MODEL.SIE_VIEW",
    "backbone.projection.": "MODEL.PROJECTION",
    f"{NET}global_pool.": "MODEL.POOL",
    "neck.": "MODEL.NECK",
}


def load_weights(model: ReidModel, path: str | Path, strict: bool = True, min_coverage: float = 1.0) -> LoadReport:
    """Fill `model` from a file of ours or of another project, see `recognise_project.PROJECTS`.

    Position embeddings are resampled to the model's grid. Rows of the side-information table are matched by camera and view
    names if the file has them, else by position; cameras unknown to the file get the mean row.

    Args:
        strict: every tensor of the model must come from the file, and every one of the file must have a place
            (classifiers aside). False, for initial weights, asks this of the backbone only: the neck and the
            side information may keep their initial values, and local branches start as copies of the last block.
        min_coverage: share of the backbone's numbers that the file must give; below 1, tensors of the backbone that
            it lacks are accepted and keep their initial values.
    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged file, or weights of another model; the model is then as it was before.
    """
    return load_state(model, read_weights(path), strict, min_coverage)


def read_classifiers(path: str | Path) -> State:
    """Return the ID classifiers (C, D) in a file of ours or of another project, by branch: "0" is the global one."""
    return find_classifiers(read_weights(path).tensors)


def find_classifiers(tensors: State) -> State:
    """Return the ID classifiers among the tensors of a file, as `read_classifiers`."""
    return {str(branch): weight for branch, weight in sorted(translate(tensors).classifiers.items())}


def load_state(model: ReidModel, file: WeightsFile, strict: bool = True, min_coverage: float = 1.0) -> LoadReport:
    """Fill `model` from tensors already read; see `load_weights`."""
    found, classifiers, project, left_out = translate(file.tensors)
    target = model.state_dict()
    found = norm_before_the_mean(found, target)
    report = LoadReport(file.path, project, classifiers=classifiers, left_out=left_out)
    accepted: State = {}
    for name in found:
        if name in target:
            fitted, how = fit(model, name, found, target[name], file.spec, strict)
            _note(report, name, found[name], fitted, target[name], how)
            if name not in report.mismatched:
                accepted[name] = fitted
        else:
            (report.left_out if _is_head(model, name) else report.unexpected).append(name)
    accepted.update(_derive(accepted, target, report, strict))
    report.missing = [
        name
        for name in target
        if name not in accepted and name not in report.mismatched and not name.endswith("num_batches_tracked")
    ]
    sizes = {name: value.numel() for name, value in target.items() if name.startswith(NET)}
    report.coverage = sum(size for name, size in sizes.items() if name in accepted) / max(sum(sizes.values()), 1)
    _check(model, found, report, strict, min_coverage)
    model.load_state_dict({**target, **accepted})
    logger.info("%s", report)
    return report


def _note(report: LoadReport, name: str, value: Tensor, fitted: Tensor, target: Tensor, how: str) -> None:
    if fitted.shape != target.shape:
        report.mismatched[name] = f"{tuple(value.shape)} in the file, {tuple(target.shape)} in the model"
    elif how:
        report.resized[name] = how
    else:
        report.loaded.append(name)


def _derive(accepted: State, target: State, report: LoadReport, strict: bool) -> State:
    """Return missing tensors that can be derived from others."""
    row = unknown_row(accepted, target)
    branch = {} if strict else copied_branch(accepted, target)
    if row:
        report.resized["the row for unknown cameras"] = "= the mean row"
    if branch:
        report.resized["local branches"] = "= copies of the last block"
    return {**row, **branch}


def _is_head(model: ReidModel, name: str) -> bool:
    net: Any = model.backbone.net
    own = (getattr(net, "pretrained_cfg", None) or {}).get("classifier") or ()
    own = (own,) if isinstance(own, str) else tuple(own)
    return name.startswith(tuple(NET + head for head in (*HEADS, *(f"{layer}." for layer in own))))


def _check(model: ReidModel, found: State, report: LoadReport, strict: bool, min_coverage: float) -> None:
    part = "" if strict else NET
    is_enough = min_coverage < 1 and report.coverage >= min_coverage
    lacking = [name for name in report.missing if not (is_enough and name.startswith(NET))]
    wrong = [name for name in (*lacking, *report.unexpected, *report.mismatched) if name.startswith(part)]
    if not wrong:
        return
    remedies = [key for area, key in REMEDIES.items() if any(name.startswith(area) for name in wrong)]
    asked = ""
    if report.coverage < min_coverage:
        asked = f"It gives {report.coverage:.2%} of the backbone, {min_coverage:.2%} are asked for. "
    raise UserError(
        f"{report.source} does not fit the model {model.spec.name}: {report.problems(part)}. {asked}The file has {_shape(found)}, the "
        f"model {_shape(model.state_dict())}. Set {', '.join(remedies) or 'MODEL.NAME'} as the file needs it, or choose another file"
    )


def _shape(state: State) -> str:
    """Return e.g. "12 blocks of width 768"."""
    blocks = {name: value for name, value in state.items() if name.startswith(f"{NET}blocks.")}
    count = len({name.split(".")[3] for name in blocks})
    width = next((len(value) for name, value in blocks.items() if name.endswith("norm1.weight")), 0)
    return f"{count} blocks of width {width}" if blocks else "no transformer blocks"
