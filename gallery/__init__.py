"""Embeddings on disk: stored, searched, maintained, exported, and served on a web page."""

from .maintenance.compress import Cost, cost, fit_pca, to_int8
from .maintenance.export_formats import FORMATS, export_as
from .maintenance.merge_compact import compact, merge
from .maintenance.tracklets import pool_tracklets
from .maintenance.verify import GalleryProblem, verify
from .storage.gallery import Gallery
from .storage.metadata import GalleryInfo
from .storage.projection import Projection

Problem = GalleryProblem  # its earlier name

__all__ = [
    "FORMATS",
    "Cost",
    "Gallery",
    "GalleryInfo",
    "GalleryProblem",
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
