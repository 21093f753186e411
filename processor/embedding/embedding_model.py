"""What the engine asks of a model that embeds images: our own, or one in the file of another runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from ...model import ReidModel
from .extract import EmbedSettings


class EmbeddingModel(Protocol):
    """A model and, as plain values, all that embedding images with it needs.

    Args:
        title: readable name.
        cameras, views: names of the rows that `camids` and `viewids` number; empty = they change nothing.
        devices, precisions: where and how it can compute, the names of `pick_device` and `pick_precision`.
        mirrors_inside: it averages with the mirror image itself, if its settings say so.
        network: the layers of our own models, for pictures and for export; None = not known.
    """

    mirrors_inside: bool

    @property
    def title(self) -> str: ...

    @property
    def cameras(self) -> Sequence[str]: ...

    @property
    def views(self) -> Sequence[str]: ...

    @property
    def devices(self) -> Sequence[str]: ...

    @property
    def precisions(self) -> Sequence[str]: ...

    @property
    def network(self) -> ReidModel | None: ...

    def to(self, *args: Any, **options: Any) -> Any:
        """Move the model, as `nn.Module.to`."""

    def eval(self) -> Any:
        """Switch to evaluation mode, as `nn.Module.eval`."""

    def width(self, global_only: bool) -> int:
        """Return D, the number of values of an embedding."""

    def embed(
        self, images: Tensor, camids: Tensor | None, viewids: Tensor | None, neck: str, global_only: bool
    ) -> Tensor:
        """Return the embeddings (B, D) of normalised RGB images (B, 3, H, W); camids and viewids (B,), -1 = unknown."""

    def settle(self, asked: EmbedSettings) -> EmbedSettings:
        """Return the settings that the model can follow: those asked for, except what its file fixes."""

    def fingerprint(self, preprocess: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
        """Return "sha256:…" of all that its embeddings depend on, except device and precision."""
