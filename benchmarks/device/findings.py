"""What a part finds: figures, and agreements and aims with their bars. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vitreid.benchmarks.common.measurement import verdict

AGREEMENT, AIM, FIGURE = "agreement", "aim", "figure"


@dataclass(frozen=True)
class DeviceJob:
    """What every part is given.

    Args:
        device: "cuda" or "cpu".
        quick: small models and few steps, which check that everything runs.
        seed: of weights and images.
        transreid: folder of the original's checkout; None = there is none.
    """

    device: str
    quick: bool = False
    seed: int = 0
    transreid: str | None = None

    @property
    def is_gpu(self) -> bool:
        """Whether the device is a GPU: it has its own memory, streams and page-locked copies."""
        return self.device == "cuda"


@dataclass(frozen=True)
class DeviceFinding:
    """A figure and, for an agreement or an aim, what it must be: `least` or more, or `most` or less.

    Args:
        value: None = not measured; `text` has the reason.
    """

    what: str
    value: float | None = None
    unit: str = ""
    kind: str = FIGURE
    least: float | None = None
    most: float | None = None
    text: str = ""

    @property
    def is_missed(self) -> bool:
        """Whether the bar is missed; a value that is not a number misses every bar."""
        if self.value is None or self.kind == FIGURE:
            return False
        return self.line().endswith("missed")

    def line(self) -> str:
        """Return the finding as a line.

        >>> DeviceFinding("loss", 0.5, kind=AGREEMENT, most=0.1).line()
        'agreement: loss, at most 0.1: 0.5, missed'
        >>> DeviceFinding("speed", 1234.5, "images/s").line()
        'speed: 1,234 images/s'
        """
        if self.value is None:
            return f"{self.what}: {self.text or 'not measured'}"
        if self.kind == FIGURE:
            value = f"{self.value:,.0f}" if abs(self.value) >= 100 else f"{self.value:.3g}"
            return " ".join(filter(None, [f"{self.what}: {value}", self.unit, self.text and f"({self.text})"]))
        return f"{self.kind}: {verdict(self.what, self.value, least=self.least, most=self.most)}"

    def plain(self) -> dict[str, Any]:
        """Return the finding as JSON types."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


def agreement(what: str, difference: float, most: float) -> DeviceFinding:
    """Return a difference that must be at most `most`."""
    return DeviceFinding(what, difference, kind=AGREEMENT, most=most)


def aim(what: str, value: float, least: float | None = None, most: float | None = None) -> DeviceFinding:
    """Return a figure that should be `least` or more, or `most` or less."""
    return DeviceFinding(what, value, kind=AIM, least=least, most=most)


def not_measured(what: str, reason: str) -> DeviceFinding:
    """Return a finding without a value, and why."""
    return DeviceFinding(what, text=reason)
