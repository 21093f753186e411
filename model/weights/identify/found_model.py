"""The model that a weight file holds, as options of the config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FoundModel:
    """A model into which the tensors of a file fit.

    Args:
        options: config key -> value: MODEL.NAME, what differs from the named model, and the pixels it expects.
        deployed: further options of a model that is not trained here: image size, neck.
        assumed: how values were chosen that the file does not state; empty if it states all.
    """

    options: Mapping[str, Any]
    deployed: Mapping[str, Any] = field(default_factory=dict)
    assumed: str = ""

    def words(self) -> list[str]:
        """Return all options as the words KEY VALUE of a command line.

        >>> FoundModel({"MODEL.NAME": "vit_tiny_patch16_224", "MODEL.DEPTH": 4}).words()
        ['MODEL.NAME', 'vit_tiny_patch16_224', 'MODEL.DEPTH', '4']
        """
        return [word for key, value in {**self.options, **self.deployed}.items() for word in (key, str(value))]

    def __str__(self) -> str:
        text = " ".join(f"{key} {_quoted(value)}" for key, value in self.options.items())
        return f"{text} ({self.assumed})" if self.assumed else text


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, tuple) else str(value)
