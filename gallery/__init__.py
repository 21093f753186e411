"""Embeddings kept on disk, searched, served on a page."""

from .maintenance.compress import Cost, cost, fit_pca, to_int8
from .maintenance.export_formats import FORMATS, export_as
from .maintenance.merge_compact import compact, merge
from .maintenance.projection import Projection
from .maintenance.tracklets import pool_tracklets
from .maintenance.verify import Problem, verify
from .storage.gallery import Gallery
from .storage.metadata import GalleryInfo

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
