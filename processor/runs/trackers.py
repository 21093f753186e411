"""Experiment trackers in addition to TensorBoard: the numbers of each epoch for Weights & Biases and MLflow."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from ...common.errors import MissingPackageError, UserError, choose
from ...common.files import write_text_atomically
from ...common.inputs.regular_files import read_json

logger = logging.getLogger(__name__)
RUN_IDS = "trackers.json"  # in the run folder: tracker -> its id of the run, which a resumed run continues
MOST_CHARACTERS = 500  # of an option's value, the limit of older MLflow servers


class ExperimentTracker(Protocol):
    """An open run of a tracker.

    Args:
        id: the run's, at the tracker.
    """

    id: str

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Send the numbers of an epoch."""

    def finish(self) -> None:
        """End the run."""


class WandbTracker:
    """A run of Weights & Biases; with WANDB_MODE=offline its files lie in the run folder until `wandb sync` sends them.

    Args:
        id: of an earlier run to continue; None = a new one.
    """

    def __init__(self, project: str, folder: Path, options: Mapping[str, Any], id: str | None) -> None:
        wandb = import_module("wandb")
        settings = wandb.Settings(silent=True)
        place = {"project": project, "name": folder.resolve().name, "dir": str(folder)}
        self._run = wandb.init(**place, id=id, resume="allow", config=dict(options), settings=settings)
        self.id: str = self._run.id

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Send the numbers of an epoch."""
        self._run.log(dict(values), step=epoch)

    def finish(self) -> None:
        """End the run; waits until all is sent or written."""
        self._run.finish()


class MlflowTracker:
    """A run of MLflow, at MLFLOW_TRACKING_URI or in the working folder.

    Args:
        id: of an earlier run to continue; None = a new one.
    """

    def __init__(self, project: str, folder: Path, options: Mapping[str, Any], id: str | None) -> None:
        mlflow = import_module("mlflow")
        self._client, self._metric = mlflow.MlflowClient(), mlflow.entities.Metric
        if id is None:
            found = self._client.get_experiment_by_name(project)
            experiment = found.experiment_id if found else self._client.create_experiment(project)
            id = self._client.create_run(experiment, run_name=folder.resolve().name).info.run_id
            params = [mlflow.entities.Param(key, str(value)[:MOST_CHARACTERS]) for key, value in options.items()]
            for start in range(0, len(params), 100):  # at most 100 at once
                self._client.log_batch(id, params=params[start : start + 100])
        else:
            self._client.update_run(id, status="RUNNING")
        self.id = str(id)

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Send the numbers of an epoch."""
        now = int(1000 * time.time())
        self._client.log_batch(self.id, metrics=[self._metric(key, value, now, epoch) for key, value in values.items()])

    def finish(self) -> None:
        """End the run."""
        self._client.set_terminated(self.id)


TRACKERS: dict[str, Callable[[str, Path, Mapping[str, Any], str | None], ExperimentTracker]] = {
    "mlflow": MlflowTracker,
    "wandb": WandbTracker,
}


def check_trackers(names: Sequence[str]) -> None:
    """Raise UserError for a tracker that does not exist, MissingPackageError for one whose package is not installed."""
    for name in names:
        choose("LOG.TRACKERS", name, TRACKERS)
        if find_spec(name) is None:
            raise MissingPackageError(f'LOG.TRACKERS {name}: needs the extra: pip install "vitreid[{name}]"')


class OpenTrackers:
    """The trackers of a run. Once they are open, a failure of one ends it with a warning and not the training.

    Raises:
        UserError: a tracker cannot be opened, e.g. without a log-in.
    """

    def __init__(self, names: Sequence[str], project: str, folder: Path, options: Mapping[str, Any]) -> None:
        check_trackers(names)
        file = folder / RUN_IDS
        ids = read_json(file) if names and file.is_file() else {}
        self._open: dict[str, ExperimentTracker] = {}
        for name in names:
            try:
                self._open[name] = TRACKERS[name](project, folder, options, ids.get(name))
            except Exception as error:  # each library has its own errors
                raise UserError(
                    f"LOG.TRACKERS {name}: {error}; log in, choose its offline mode (WANDB_MODE=offline, MLFLOW_TRACKING_URI=sqlite:///mlflow.db), "
                    f"or leave {name} out"
                ) from error
        if names:
            write_text_atomically(file, json.dumps(ids | {name: one.id for name, one in self._open.items()}) + "\n")

    def log(self, row: Mapping[str, float]) -> None:
        """Send the finite numbers of an epoch to each tracker."""
        epoch = int(row["epoch"])
        values = {key: float(value) for key, value in row.items() if key != "epoch" and math.isfinite(value)}
        for name in list(self._open):
            self._try(name, lambda name=name: self._open[name].log(values, epoch))  # type: ignore[misc]

    def finish(self) -> None:
        """End the run at each tracker."""
        for name in list(self._open):
            self._try(name, self._open[name].finish)
        self._open = {}

    def _try(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # the training is worth more than its curves elsewhere
            logger.warning("LOG.TRACKERS %s: %s; it gets no more numbers, metrics.jsonl has them all", name, error)
            del self._open[name]
