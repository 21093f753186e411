"""Weight decay, the teacher's momentum and its temperature as functions of the progress of pre-training, without state."""

from __future__ import annotations

from dataclasses import dataclass

from ...solver import cosine


def half_cosine(start: float, end: float, share: float) -> float:
    """Return the value after a `share` of the way, 0 to 1, on half a cosine from `start` to `end`.

    >>> [round(half_cosine(0.04, 0.4, share), 3) for share in (0.0, 0.5, 1.0)]
    [0.04, 0.22, 0.4]
    """
    return end + (start - end) * cosine(1)(share)


@dataclass(frozen=True)
class TeacherSchedule:
    """What changes during pre-training, besides the learning rate [DINO].

    Args:
        num_epochs: length of pre-training.
        momentum: share of the teacher that a step keeps, at the start; it rises to 1.
        weight_decay, weight_decay_end: at the start and at the end.
        warmup_temp, temp: temperature of the teacher's outputs, at the start and after `warmup_temp_epochs`.
    """

    num_epochs: int
    momentum: float = 0.996
    weight_decay: float = 0.04
    weight_decay_end: float = 0.4
    warmup_temp: float = 0.04
    temp: float = 0.04
    warmup_temp_epochs: int = 0

    def momentum_at(self, progress: float) -> float:
        """Return the momentum after `progress` epochs, which may be a fraction; the same for the others."""
        return half_cosine(self.momentum, 1.0, progress / self.num_epochs)

    def weight_decay_at(self, progress: float) -> float:
        """Return the weight decay."""
        return half_cosine(self.weight_decay, self.weight_decay_end, progress / self.num_epochs)

    def temp_at(self, progress: float) -> float:
        """Return the teacher's temperature."""
        if progress >= self.warmup_temp_epochs:
            return self.temp
        return self.warmup_temp + (self.temp - self.warmup_temp) * progress / self.warmup_temp_epochs
