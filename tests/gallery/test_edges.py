"""Galleries at their edges: empty, rewritten since a search, images by relative paths."""

import pickle

import numpy as np
import pytest

from vitreid.common.errors import UserError
from vitreid.gallery import Gallery, GalleryInfo, compact
from vitreid.gallery.search.faiss_index import INDEXES
from vitreid.gallery.search.search_result import GalleryChangedError

MODEL = "sha256:a"
ROWS = np.eye(4, dtype=np.float32)


@pytest.fixture
def gallery(tmp_path):
    made = Gallery.create(tmp_path / "g", GalleryInfo(MODEL, 4))
    made.add(ROWS, [{"path": f"{place}.png"} for place in range(4)], MODEL)
    return made


@pytest.mark.parametrize("index", [None, *INDEXES])
@pytest.mark.parametrize("emptied", [False, True])
def test_an_empty_gallery_finds_nothing_by_any_index(index, emptied, gallery, tmp_path):
    if index:
        pytest.importorskip("faiss")
    if emptied:
        gallery.remove([0, 1, 2, 3])
        compact(gallery)
    else:
        gallery = Gallery.create(tmp_path / "empty", GalleryInfo(MODEL, 4))
    (result,) = gallery.search(ROWS[:1], 3, index=index)
    assert len(result) == 0 and result.rows == [] and result.verdict is None
    gallery.add(ROWS, [{"path": f"{place}.png"} for place in range(4)], MODEL)
    assert len(gallery.search(ROWS[:1], 3, index=index)[0]) == 3


@pytest.mark.parametrize("removed", [[0], [3], [0, 1, 2, 3]])
def test_rows_of_a_result_from_before_a_compaction_say_that_the_gallery_changed(removed, gallery):
    result = gallery.search(ROWS[3:], 4)[0]
    gallery.remove(removed)
    compact(gallery)
    for read in (lambda: result.rows, result.to_dict, lambda: pickle.dumps(result)):
        with pytest.raises(GalleryChangedError, match="search again"):
            read()
