"""How far a training run has come."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor


class RunningMeans:
    """Means of named scalars, summed on their device: reading them is what waits for it."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, values: dict[str, Tensor]) -> None:
        """Add one value per name."""
        for name, value in values.items():
            number = value.detach().float()
            self._sums[name] = self._sums[name] + number if name in self._sums else number
            self._counts[name] += 1

    def sums(self) -> list[Tensor]:
        """Return the sums, where they are."""
        return list(self._sums.values())

    def read(self) -> dict[str, float]:
        """Return the mean per name."""
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the sums and how many values are in each."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a `state_dict()`."""
        self._sums, self._counts = dict(state["sums"]), defaultdict(int, state["counts"])


@dataclass
class Counts:
    """What has been done of one epoch.

    Args:
        epoch: counted from 1; 0 = none was begun.
        batches: of this epoch, done.
        images: in those batches, of all processes.
        seconds: spent on them.
        skipped: batches of this epoch whose loss was not a number.
        skipped_before: the same, in earlier epochs of the run.
    """

    epoch: int = 0
    batches: int = 0
    images: int = 0
    seconds: float = 0.0
    skipped: int = 0
    skipped_before: int = 0


@dataclass
class Progress(Counts):
    """The counts of an epoch and the running means of its terms and stats."""

    means: RunningMeans = field(default_factory=RunningMeans)

    @property
    def skipped_in_all(self) -> int:
        """Batches of the run whose loss was not a number."""
        return self.skipped_before + self.skipped

    @property
    def images_per_second(self) -> float:
        """Images of this epoch over the time spent on them."""
        return self.images / self.seconds if self.seconds else 0.0

    def of_epoch(self, epoch: int) -> Progress:
        """Return this progress if it is of `epoch`, else that of an epoch about to begin."""
        return self if self.epoch == epoch else Progress(epoch, skipped_before=self.skipped_in_all)

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain types."""
        counts = {name: getattr(self, name) for name in asdict(Counts())}
        return {"counts": counts, "means": self.means.state_dict()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Progress:
        """Return what `state_dict()` was taken of."""
        progress = cls(**state["counts"])
        progress.means.load_state_dict(state["means"])
        return progress
