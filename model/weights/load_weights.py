"""Loads any weight file into a model, with a report of every tensor."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import Tensor

from ...common.errors import UserError
from ..model_spec import ModelSpec
from ..reid_model import ReidModel
from .fit_tensors import copied_branch, fit, last_norm_of_the_model, unknown_row, with_norm_eps
from .heads import is_head
from .identify.identify import identify
from .load_report import SHOWN, LoadReport
from .naming.key_names import NET, State
from .naming.recognise_project import TranslatedWeights, translate
from .read import WeightsFile, read_weights

logger = logging.getLogger(__name__)

REMEDIES = {  # part of the model -> options to check if file and model differ there
    f"{NET}blocks.": "MODEL.NAME, MODEL.DEPTH, MODEL.EMBED_DIM",
    f"{NET}patch_embed.": "MODEL.STEM, MODEL.PATCH_SIZE",
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
    ours, target = translate(file.tensors), model.state_dict()
    note = "; ".join(filter(None, (file.note, ours.note)))
    report = LoadReport(file.path, ours.project, classifiers=ours.classifiers, left_out=ours.left_out, note=note)
    accepted = _fitted(model, ours, target, file.spec, report, strict)
    _refuse_damaged(accepted, file, ours)
    report.missing = [
        name
        for name in target
        if name not in accepted and name not in report.mismatched and not name.endswith("num_batches_tracked")
    ]
    sizes = {name: value.numel() for name, value in target.items() if name.startswith(NET)}
    report.coverage = sum(size for name, size in sizes.items() if name in accepted) / max(sum(sizes.values()), 1)
    _check(model, ours, file, report, strict, min_coverage)
    model.load_state_dict({**target, **accepted})
    logger.info("%s", report)
    return report


def _fitted(
    model: ReidModel, ours: TranslatedWeights, target: State, spec: ModelSpec | None, report: LoadReport, strict: bool
) -> State:
    """Return the tensors that the model takes, and note in the report what becomes of each one of the file."""
    found, moved = last_norm_of_the_model(ours.state, target)
    report.resized.update({"the last norm": moved} if moved else {})
    accepted: State = {}
    for name, value in found.items():
        if name in target:
            fitted, how = fit(model, name, found, target[name], spec, strict)
            _note(report, name, value, fitted, target[name], how)
            accepted.update({name: fitted} if name not in report.mismatched else {})
        elif name.startswith(NET) and is_head(model.backbone.net, name.removeprefix(NET), value):
            report.left_out.append(name)
        else:
            report.unexpected.append(name)
    accepted.update(_derive(accepted, target, report, strict))
    variances, change = with_norm_eps(accepted, model.backbone.net, ours.hints.norm_eps)
    report.resized.update({f"{len(variances)} running variances": change} if variances else {})
    return {**accepted, **variances}


def _refuse_damaged(accepted: State, file: WeightsFile, ours: TranslatedWeights) -> None:
    """Raise ValueError if a tensor that the model takes has an infinite number or none in some place."""
    bad = [name for name, value in accepted.items() if not value.isfinite().all()]
    if not bad:
        return
    unused = set(ours.left_out)
    theirs = [name for name, value in file.tensors.items() if name not in unused and not value.isfinite().all()]
    shown = ", ".join(theirs[:SHOWN]) + (f" and {len(theirs) - SHOWN} more" if len(theirs) > SHOWN else "")
    raise UserError(
        f"{file.path}: NaN or infinite numbers in {shown or ', '.join(bad[:SHOWN])}, so its training had failed or the file is "
        f"damaged; take an earlier checkpoint, or download it again"
    )


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


def _check(
    model: ReidModel, ours: TranslatedWeights, file: WeightsFile, report: LoadReport, strict: bool, min_coverage: float
) -> None:
    part = "" if strict else NET
    is_enough = min_coverage < 1 and report.coverage >= min_coverage
    lacking = [name for name in report.missing if not (is_enough and name.startswith(NET))]
    wrong = [name for name in (*lacking, *report.unexpected, *report.mismatched) if name.startswith(part)]
    if not wrong:
        return
    remedies = [key for area, key in REMEDIES.items() if any(name.startswith(area) for name in wrong)]
    asked = ""
    if report.coverage < min_coverage:
        asked = f" It gives {report.coverage:.2%} of the backbone, {min_coverage:.2%} are asked for."
    raise UserError(
        f"{report.source} ({report.project} names) does not fit the model {model.spec.name}{_fitting(model, ours, file)}. Differences: "
        f"{report.problems(part)}.{asked} The file has {_shape(ours.state)}, the model {_shape(model.state_dict())}. Set "
        f"{', '.join(remedies) or 'MODEL.NAME'} as the file needs it, or choose another file"
    )


def _fitting(model: ReidModel, ours: TranslatedWeights, file: WeightsFile) -> str:
    """Return the end of a sentence about the model that the file holds."""
    if file.spec is not None:
        return f", but {file.spec.title}, as it says"
    found = identify(ours, file.config, like=model.spec.name)
    return f", but {found}" if found else ""


def _shape(state: State) -> str:
    """Return e.g. "12 blocks of width 768"."""
    blocks = {name: value for name, value in state.items() if name.startswith(f"{NET}blocks.")}
    count = len({name.split(".")[3] for name in blocks})
    width = next((len(value) for name, value in blocks.items() if name.endswith("norm1.weight")), 0)
    return f"{count} blocks of width {width}" if blocks else "no transformer blocks"
