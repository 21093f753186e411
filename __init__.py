"""vitreid: person re-identification with vision transformers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .gallery import Gallery
    from .processor.embedding.embedder import Embedder, from_pretrained

__version__ = "0.1.0"
__all__ = ["Embedder", "Gallery", "__version__", "from_pretrained"]

_HOMES = {  # imported when first asked for
    "Embedder": ".processor.embedding.embedder",
    "Gallery": ".gallery",
    "from_pretrained": ".processor.embedding.embedder",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
