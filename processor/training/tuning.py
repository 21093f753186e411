"""Search for good values of options: trainings with values that Optuna proposes, compared on people held out of training.

A study is a folder: study.db with all trials, trial_000, trial_001 … with their runs, best.yml with the best options so far.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from ...common.errors import MissingPackageError, UserError
from ...common.files import write_text_atomically
from ...configs import OPTIONS

logger = logging.getLogger(__name__)
STUDY, BEST = "study.db", "best.yml"


@dataclass(frozen=True)
class SearchedOption:
    """An option whose value is searched for.

    Args:
        key: the option.
        choices: its possible values; or
        low, high: the ends of its range, whole numbers if the option is one.
        is_log: search evenly in the logarithm.
    Raises:
        UserError: no such option, a value that it does not accept, or an empty range.
    """

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    is_log: bool = False

    def __post_init__(self) -> None:
        if self.key not in OPTIONS:
            raise UserError(f"--search: unknown option {self.key!r}; vitreid options lists them")
        for value in self.choices or (self.low, self.high):
            OPTIONS[self.key].accept(self.key, value)
        if not self.choices and (self.low >= self.high or (self.is_log and self.low <= 0)):
            least = "above 0 and " if self.is_log else ""
            raise UserError(f"--search {self.key}: the range {self.low:g}..{self.high:g} must be {least}rising")

    @classmethod
    def of(cls, text: str) -> SearchedOption:
        """Read KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=VALUE,VALUE,…

        >>> SearchedOption.of("SOLVER.BASE_LR=1e-4..1e-2:log").is_log
        True
        >>> SearchedOption.of("LOSS.METRIC=triplet,circle").choices
        ('triplet', 'circle')
        """
        key, equals, values = text.partition("=")
        if not equals or not values:
            raise UserError(f"--search {text}: expected KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=VALUE,VALUE")
        if ".." not in values:
            return cls(key, tuple(yaml.safe_load(value) for value in values.split(",")))
        ends, _, how = values.partition(":")
        if how not in ("", "log"):
            raise UserError(f"--search {text}: unknown {how!r} behind the range; log or nothing is accepted")
        try:
            low, high = (float(end) for end in ends.split(".."))
        except ValueError:
            raise UserError(f"--search {text}: {ends!r} is no range of two numbers such as 0.1..0.5") from None
        whole = key in OPTIONS and isinstance(OPTIONS[key].default, int)
        if whole:
            low, high = int(low), int(high)
        return cls(key, (), low, high, how == "log")

    def suggest(self, trial: Any) -> Any:
        """Return the value that an Optuna trial proposes."""
        if self.choices:
            return trial.suggest_categorical(self.key, self.choices)
        if isinstance(self.low, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.is_log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.is_log)


class OptionSearch:
    """A study in a folder. `run` continues it: an interrupted trial is finished first.

    Args:
        train: trains with options into a folder, from where an earlier call stopped, and returns the value to be maximised.
        describe: returns the recipe with options as YAML text.
    Raises:
        MissingPackageError: Optuna is not installed.
        UserError: the folder holds a study of other options.
    """

    def __init__(
        self,
        folder: Path,
        searched: Sequence[SearchedOption],
        train: Callable[[Mapping[str, Any], Path], float],
        describe: Callable[[Mapping[str, Any]], str],
        seed: int = 0,
    ) -> None:
        if find_spec("optuna") is None:
            raise MissingPackageError('vitreid tune: needs the extra: pip install "vitreid[tune]"')
        self._optuna = import_module("optuna")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self.folder, self.searched, self.train = folder, searched, train
        self.describe = describe
        folder.mkdir(parents=True, exist_ok=True)
        self.study = self._optuna.create_study(
            storage=f"sqlite:///{(folder / STUDY).resolve()}",
            study_name="vitreid",
            direction="maximize",
            load_if_exists=True,
            sampler=self._optuna.samplers.TPESampler(seed=seed),
        )
        keys = sorted(option.key for option in searched)
        before = self.study.user_attrs.get("options", keys)
        if before != keys:
            raise UserError(
                f"OUTPUT_DIR: {folder} holds a search for {', '.join(before)}, asked for is {', '.join(keys)}; choose another folder"
            )
        self.study.set_user_attr("options", keys)

    def run(self, num_trials: int) -> None:
        """Train until `num_trials` trials are complete; failed ones count."""
        states = self._optuna.trial.TrialState
        for trial in self.study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            if len(trial.params) == len(self.searched):
                self._train(trial.number, trial.params)
            else:  # killed before it had its values
                self.study.tell(trial.number, state=states.FAIL)
        while len(self.study.get_trials(deepcopy=False)) < num_trials:
            trial = self.study.ask()
            self._train(trial.number, {option.key: option.suggest(trial) for option in self.searched})

    def _train(self, number: int, values: Mapping[str, Any]) -> None:
        shown = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
        )
        logger.info("trial %d: %s", number, shown)
        try:
            found = self.train(values, self.folder / f"trial_{number:03d}")
        except UserError as error:  # these values do not go together
            logger.warning("trial %d failed: %s", number, error)
            self.study.tell(number, state=self._optuna.trial.TrialState.FAIL)
            return
        self.study.tell(number, found if math.isfinite(found) else 0.0)
        self._write_best()

    def _write_best(self) -> None:
        text = f"# the best of {self.done} trials: mAP {100 * self.study.best_value:.1f}% of the people held out\n"
        write_text_atomically(self.folder / BEST, text + self.describe(self.study.best_params))

    @property
    def done(self) -> int:
        """Number of complete trials."""
        return sum(trial.value is not None for trial in self.study.get_trials(deepcopy=False))

    def rows(self) -> list[list[str]]:
        """Return the trials as rows of a table with headings, best first."""
        keys = [option.key for option in self.searched]
        trials = [trial for trial in self.study.get_trials(deepcopy=False) if trial.value is not None]
        trials.sort(key=lambda trial: -trial.value)
        body = [[str(t.number), f"{100 * t.value:.1f}%", *(_text(t.params[key]) for key in keys)] for t in trials]
        return [["trial", "mAP", *keys], *body]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
