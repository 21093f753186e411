"""Galleries at their edges: empty, rewritten since a search, images by relative paths."""

import pickle

import numpy as np
import pytest

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
    gallery.add(ROWS, [{"path": f"new{place}.png"} for place in range(4)], MODEL)
    assert len(gallery.search(ROWS[:1], 3, index=index)[0]) == 3


@pytest.mark.parametrize("removed", [[0], [3], [0, 1, 2, 3]])
def test_rows_of_a_result_from_before_a_compaction_say_that_the_gallery_changed(removed, gallery):
    result = gallery.search(ROWS[3:], 4)[0]
    gallery.remove(removed)
    compact(gallery)
    for read in (lambda: result.rows, result.to_dict, lambda: pickle.dumps(result)):
        with pytest.raises(GalleryChangedError, match="search again"):
            read()


@pytest.mark.parametrize("spelt", ["crops/a.png", "./crops/a.png", "crops/../crops/a.png"])
def test_an_image_named_from_the_working_folder_is_found_from_another(spelt, gallery, tmp_path, monkeypatch):
    (tmp_path / "crops").mkdir()
    (tmp_path / "crops" / "a.png").write_bytes(b"a")
    (gallery.path / "own.png").write_bytes(b"own")
    (tmp_path / "own.png").write_bytes(b"another of that name")
    monkeypatch.chdir(tmp_path)
    records = [{"path": spelt, "camera": "c1"}, {"path": "own.png"}, {"path": "nowhere.png"}]
    ids = gallery.add(ROWS[:3], records, MODEL)
    monkeypatch.chdir("/")
    rows = Gallery.open(tmp_path / "g").rows_of(ids)
    assert gallery.image_path(rows[0]["path"]).read_bytes() == b"a" and rows[0]["camera"] == "c1"
    assert gallery.image_path(rows[1]["path"]).read_bytes() == b"own" and rows[1]["path"] == "own.png"
    assert rows[2]["path"] == "nowhere.png"


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["camera=c1"], [0]),
        (["camera=synthetic/c1"], [0]),
        (["camera!=c1"], [1, 2, 3]),
        (["camera=c1,c3"], [0, 3]),
        (["camera=c2"], []),  # two cameras have this name
        ({"camera": ["c1", None]}, [0]),
        (["view=front"], [1]),
        (["pid=c1"], []),  # cameras and views only
    ],
)
def test_a_bare_camera_in_a_filter_finds_the_camera_of_its_data_set(where, expected, tmp_path):
    gallery = Gallery.create(tmp_path / "g", GalleryInfo(MODEL, 4))
    cameras = ["synthetic/c1", "synthetic/c2", "market1501/c2", "market1501/c3"]
    records = [{"path": f"{place}.png", "camera": camera, "pid": f"a/{place}"} for place, camera in enumerate(cameras)]
    records[1]["view"] = "veri/front"
    gallery.add(ROWS, records, MODEL)
    (result,) = gallery.search(ROWS[:1], 4, where)
    assert sorted(result.ids.tolist()) == expected
