"""How a test embedding is made of what the model returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from ...common.errors import UserError

NECKS = ("before", "after")


@dataclass(frozen=True)
class EmbedSettings:
    """Definition of the test embedding; stored in the checkpoint.

    Args:
        neck: "before" or "after" the BN-neck.
        normalize: scale embeddings to unit length.
        flip: average the (normalised) embeddings of the image and its mirror image.
        global_only: with JPM, use only the global branch.
    Raises:
        UserError: a value is none of these.
    """

    neck: str = "before"
    normalize: bool = True
    flip: bool = False
    global_only: bool = False

    def __post_init__(self) -> None:
        if self.neck not in NECKS:
            raise UserError(f"neck: unknown value {self.neck!r}; choose from {', '.join(NECKS)}")
        for name in ("normalize", "flip", "global_only"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"{name}: {getattr(self, name)!r}; give true or false")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON types."""
        return asdict(self)


def views_of(model: Any, images: Tensor, settings: EmbedSettings) -> list[Tensor]:
    """Return what is embedded of images (B, 3, H, W): themselves and, with `flip`, their mirror images."""
    mirrors = settings.flip and not getattr(model, "mirrors_inside", False)
    return [images, images.flip(-1)] if mirrors else [images]
