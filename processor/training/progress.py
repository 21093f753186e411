"""Progress of a training run: counts and mean losses of the current epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


class RunningMeans:
    """Means of named scalars. The sums stay on their device; only `read` waits for it."""

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
        """Return the sums, on their device."""
        return list(self._sums.values())

    def read(self) -> dict[str, float]:
        """Return the mean per name."""
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the sums and how many values are in each."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict()`."""
        self._sums, self._counts = dict(state["sums"]), defaultdict(int, state["counts"])


@dataclass
class Progress:
    """What has been done of one epoch, and the running means of its terms and stats.

    Args:
        epoch: counted from 1; 0 = no epoch has started.
        batches, images, seconds: done: batches, their images of all ranks, time spent on them.
        skipped: batches of this epoch with a loss that is NaN or infinite.
        skipped_before: the same, in earlier epochs of the run.
    """

    epoch: int = 0
    batches: int = 0
    images: int = 0
    seconds: float = 0.0
    skipped: int = 0
    skipped_before: int = 0
    means: RunningMeans = field(default_factory=RunningMeans)

    @property
    def skipped_in_all(self) -> int:
        """Batches of the run with a loss that is NaN or infinite."""
        return self.skipped_before + self.skipped

    @property
    def images_per_second(self) -> float:
        """Images of this epoch over the time spent on them."""
        return self.images / self.seconds if self.seconds else 0.0

    def of_epoch(self, epoch: int) -> Progress:
        """Return this progress if it is in `epoch`, else that of an epoch about to start."""
        return self if self.epoch == epoch else Progress(epoch, skipped_before=self.skipped_in_all)

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain types."""
        counts = {name: value for name, value in vars(self).items() if name != "means"}
        return {"counts": counts, "means": self.means.state_dict()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Progress:
        """Return the progress that `state_dict()` described."""
        progress = cls(**state["counts"])
        progress.means.load_state_dict(state["means"])
        return progress


def epoch_line(row: Mapping[str, float], num_epochs: int) -> str:
    """Return the log line of an epoch from its row of metrics.jsonl: terms, stats, `loss`, rates, metrics.

    >>> epoch_line({"epoch": 1, "id": 4.0, "circle": 1.0, "accuracy": 0.1, "loss": 5.0, "lr": 0.1, "images_per_second": 80.0, "seconds": 2.0}, 3)
    'epoch 1/3  loss 5.000 id 4.000 circle 1.000  accuracy 10.0%  lr 1.00e-01  80 img/s  2.0 s'
    """
    names = list(row)
    terms = [name for name in names[: names.index("loss")] if name not in ("epoch", "accuracy")]
    parts = [
        f"epoch {row['epoch']}/{num_epochs}",
        " ".join(f"{name} {row[name]:.3f}" for name in ("loss", *terms)),
        f"accuracy {100 * row['accuracy']:.1f}%" if "accuracy" in row else "",
        f"lr {row['lr']:.2e}",
        f"{row['images_per_second']:.0f} img/s",
        f"{row['seconds']:.1f} s",
        f"mAP {100 * row['mAP']:.1f}%  Rank-1 {100 * row['Rank-1']:.1f}%" if "mAP" in row else "",
    ]
    return "  ".join(part for part in parts if part)
