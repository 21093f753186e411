"""Copy a gallery from a folder to Milvus, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..maintenance.merge_compact import placed
from ..storage.gallery import Gallery
from .milvus_collections import check_types
from .milvus_gallery import BATCH, MilvusGallery


def from_folder(source: Gallery, path: str, overwrite: bool = False, index: str = "FLAT") -> MilvusGallery:
    """Copy the live rows of a gallery, with their ids, to a new Milvus gallery; float16 and int8 become float32."""
    check_types(source.schema)

    def fill(target: MilvusGallery) -> None:
        target.save(root=str(source.path), next_id=source.state.next_id)
        positions = np.flatnonzero(source.is_live)
        for start in range(0, len(positions), BATCH):
            some = positions[start : start + BATCH]
            target.insert(source.records.take(some), source.vectors(some))

    return MilvusGallery.build(path, source.info, fill, overwrite, index)


def to_folder(source: MilvusGallery, path: str | Path, overwrite: bool = False) -> Gallery:
    """Copy a Milvus gallery to a new gallery folder; the rows get new ids, in the order of the old ones."""
    records, vectors = source.all_rows(["*"])
    folder = Path(path).expanduser().resolve()
    records = placed(records.drop_columns(["id"]), source.image_path("."), folder)

    def fill(target: Gallery) -> None:
        if len(vectors):
            target.add(vectors, records, source.info.model)

    return Gallery.build(folder, source.info, fill, overwrite)
