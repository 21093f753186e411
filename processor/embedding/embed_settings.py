"""How a test embedding is made of what the model returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EmbedSettings:
    """Definition of the test embedding; stored in the checkpoint.

    Args:
        neck: "before" or "after" the BN-neck.
        normalize: scale embeddings to unit length.
        flip: average the (normalised) embeddings of the image and its mirror image.
        global_only: with JPM, use only the global branch.
    """

    neck: str = "before"
    normalize: bool = True
    flip: bool = False
    global_only: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON types."""
        return asdict(self)
