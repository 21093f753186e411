"""Embeddings kept on disk, searched, served on a page."""

from .compress import Cost, cost, fit_pca, to_int8
from .formats import FORMATS, export_as
from .health import Problem, verify
from .info import GalleryInfo
from .life import compact, merge
from .pool import pool_tracklets
from .projection import Projection
from .store import Gallery

__all__ = [
    "FORMATS",
    "Cost",
    "Gallery",
    "GalleryInfo",
    "Problem",
    "Projection",
    "compact",
    "cost",
    "export_as",
    "fit_pca",
    "merge",
    "pool_tracklets",
    "to_int8",
    "verify",
]
