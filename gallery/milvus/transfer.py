"""Copy a gallery from a folder to Milvus, and back; what was removed on either side stays out."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from ..keeping.row_keys import are_in
from ..keeping.suppress_changes import inherit
from ..keeping.suppress_list import KEPT_OUT, joined, keys_in
from ..maintenance.merge_compact import placed
from ..storage.gallery import Gallery
from .milvus_collections import check_types
from .milvus_gallery import MilvusGallery
from .milvus_reader import BATCH
from .milvus_suppressed import SuppressedKeys

logger = logging.getLogger(__name__)


def from_folder(source: Gallery, path: str, overwrite: bool = False, index: str = "FLAT") -> MilvusGallery:
    """Copy the live rows of a gallery, with their ids, to a new Milvus gallery; float16 and int8 become float32.

    Rows that were removed from an earlier Milvus gallery of the same name stay out; what was removed from the source will stay
    out from now on, too.
    """
    check_types(source.schema)

    def fill(target: MilvusGallery) -> None:
        target.save(root=str(source.path), next_id=source.state.next_id)
        removed = SuppressedKeys(target.client, path)  # of the name, not of the rows that are replaced
        earlier = removed.read()
        chosen = source.is_live & ~are_in(source.keys(), keys_in(earlier))
        positions = np.flatnonzero(chosen)
        for start in range(0, len(positions), BATCH):
            some = positions[start : start + BATCH]
            target.insert(source.records.take(some), source.vectors(some))
        removed.write(joined(earlier, source.suppressed))
        if left := len(source) - len(positions):
            logger.warning(KEPT_OUT, path, left, len(source))

    return MilvusGallery.build(path, source.info, fill, overwrite, index)


def to_folder(source: MilvusGallery, path: str | Path, overwrite: bool = False) -> Gallery:
    """Copy a Milvus gallery to a new gallery folder; the rows get new ids, in the order of the old ones.

    Rows that were removed from an earlier gallery in the folder stay out; what was removed in Milvus will stay out from now
    on, too.
    """
    records, vectors = source.all_rows(["*"])
    folder = Path(path).expanduser().resolve()
    records = placed(records.drop_columns(["id"]), source.image_path("."), folder)

    def fill(target: Gallery) -> None:
        if len(vectors):
            target.add(vectors, records, source.info.model)
        inherit(target, source)

    return Gallery.build(folder, source.info, fill, overwrite)
