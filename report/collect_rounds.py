"""rounds.csv and clusters.csv of a training without labels -> its rounds and last clusters for the report."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from yacs.config import CfgNode

from ..common.csv_file import path_for_csv
from ..common.inputs.regular_files import read_lines
from ..datasets import ReidData, build_data
from ..datasets.records import UNLABELLED
from ..labels.name_options import JUNK
from ..processor.runs.run_folder import CLUSTERS, ROUNDS
from .run_contents import ClusteredImages, ReadImage, TrainingRounds

logger = logging.getLogger(__name__)
PART = "Clusters of the last round"


def build_rounds(folder: Path, cfg: CfgNode, read: ReadImage | None, missing: dict[str, str]) -> TrainingRounds | None:
    """Return the rounds of a run folder, None if it has none; `missing` names what cannot be shown, with the reason."""
    if cfg.UNSUPERVISED.CLUSTERING == "none" or not (folder / ROUNDS).is_file():
        return None
    rows = [row for row in map(_numbers, _rows(folder / ROUNDS)) if "epoch" in row]
    try:
        data = build_data(cfg, draws=False)
        return TrainingRounds(rows, read_clusters(folder, data, read))
    except (OSError, ValueError) as error:  # it may list a folder, which the page's readers must not see
        logger.warning("report: the clusters of the last round cannot be shown: %s", error)
        missing[PART] = "they cannot be read, or are of other images; the log of the report has the reason."
        return TrainingRounds(rows)


def read_clusters(folder: Path, data: ReidData, read: ReadImage | None) -> ClusteredImages:
    """Return the clusters in a run folder.

    The images are those of the data set: names in a file must not choose what a page shows.

    Args:
        data: the training images.
    Raises:
        ValueError: the file has no column `fit`, as those of earlier versions, or other images than the data set.
        FileNotFoundError: there is no such file.
    """
    file = folder / CLUSTERS
    rows = list(_rows(file))
    records = data.target
    if rows and "fit" not in rows[0]:
        raise ValueError(f"{file} has no column fit; it was written by an earlier version")
    if [row.get("path") for row in rows] != [path_for_csv(Path(record.path), folder) for record in records]:
        raise ValueError(f"{file} lists other images than {data.name} has now")
    names = [data.person_names.get(record.pid, f"pid {record.pid}") for record in records]
    return ClusteredImages(
        name=data.name,
        paths=[record.path for record in records],
        clusters=np.array(["" if row["pid"] in (None, JUNK) else row["pid"] for row in rows]),
        fit=np.array([_number(row["fit"]) for row in rows]),
        cameras=[data.camera_names[record.camid] for record in records],
        people=np.array(
            ["" if record.pid == UNLABELLED else name for record, name in zip(records, names, strict=True)]
        ),
        read=read,
    )


def _rows(file: Path) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(read_lines(file)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file}: not a CSV file in UTF-8 ({error})") from error


def _numbers(row: Mapping[str, str]) -> dict[str, float]:
    """Return the numbers of a row; what is none is left out."""
    values = {name: _number(text) for name, text in row.items() if name}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except (TypeError, ValueError):
        return math.nan
