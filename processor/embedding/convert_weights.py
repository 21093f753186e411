"""Convert a weight file of another project to a deploy checkpoint of vitreid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

from ... import __version__
from ...common.errors import UserError
from ...common.files import check_output_file
from ...configs import marked_config
from ...datasets import build_preprocess
from ...model import LoadReport, ReidModel, build_spec, save_deploy
from ...model.weights.identify.found_model import FoundModel
from ...model.weights.identify.identify import identify
from ...model.weights.load_weights import load_state
from ...model.weights.naming.key_names import SIE_TABLE
from ...model.weights.naming.recognise_project import translate
from ...model.weights.read import WeightsFile
from ..runs.provenance import parents_of, provenance_of
from .extract import build_embed_settings


@dataclass(frozen=True)
class Conversion:
    """Files and options of a conversion; without a target it only reports.

    Args:
        cameras, views: names in the order of the rows of the file's side-information table, if the model has one.
        dry_run: only report; write nothing.
        backbone_only: the file has no neck and no side information (pretraining); they keep their initial values.
        plain: see `read_weights`.
        min_coverage: see `load_weights`.
    """

    source: Path
    target: Path | None = None
    cameras: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    dry_run: bool = False
    backbone_only: bool = False
    plain: bool = False
    min_coverage: float = 1.0
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.min_coverage <= 1:
            raise UserError(f"--min-coverage: {self.min_coverage} is no share; give a number from 0 to 1")
        if self.target is not None and not self.dry_run:
            check_output_file("OUT", self.target, self.overwrite)


def recognise(file: WeightsFile) -> FoundModel:
    """Return the model that a weight file holds.

    Raises:
        ValueError: no model of timm's or ours has its tensors.
    """
    ours = translate(file.tensors)
    if file.spec is not None:
        raise UserError(
            f"{file.path} holds {file.spec.title} and says so; it is ready for use, so there is nothing to convert"
        )
    found = identify(ours, file.config, whole_family=True)
    if found is None:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in list(file.tensors.items())[:3])
        raise UserError(
            f"{file.path}: neither timm nor vitreid has a model with exactly these tensors ({ours.project} names; {shapes}, … "
            f"{len(file.tensors)} in all); name the nearest one, MODEL.NAME …, and the message lists what differs"
        )
    return found


def convert(cfg: CfgNode, file: WeightsFile, order: Conversion) -> LoadReport:
    """Load the tensors of a file into the model of the config, and write it with its metadata.

    Raises:
        FileExistsError: the target; ValueError: the file does not fit the model.
    """
    sides = build_sides(cfg)
    if any(sides):
        _check_names(sides, order, translate(file.tensors).state)
    model = ReidModel(build_spec(cfg, order.cameras, order.views))
    report = load_state(model, file, not order.backbone_only, order.min_coverage)
    if order.target is not None and not order.dry_run:
        about = {
            "config": marked_config(cfg),
            "preprocess": build_preprocess(cfg).to_dict(),
            "embed": build_embed_settings(cfg).to_dict(),
            "dataset": "",
            "labels": {},
            "metrics": {},
            "source": f"{order.source.name} ({report.project})",
            "versions": {"vitreid": __version__},
            "provenance": provenance_of(parents_of(order.source)),
        }
        save_deploy(order.target, model, about)
    return report


def build_sides(cfg: CfgNode) -> tuple[bool, bool]:
    """Return whether the model uses cameras and views as side information."""
    return cfg.MODEL.SIE_CAMERA, cfg.MODEL.SIE_VIEW


def _check_names(sides: tuple[bool, bool], order: Conversion, state: dict) -> None:
    cameras, views = (len(names) if uses else 1 for uses, names in zip(sides, (order.cameras, order.views)))
    rows = len(state[SIE_TABLE]) if SIE_TABLE in state else cameras * views
    if cameras * views != rows or not rows:
        raise UserError(
            f"MODEL.SIE_CAMERA, MODEL.SIE_VIEW: the file has a row for each of {rows} cameras, views or pairs of them; name them "
            f"in its order: --cameras market1501/c1,market1501/c2,... and --views; got {len(order.cameras)} and {len(order.views)}"
        )
