"""The three ways to read a gallery's rows: the same rows, the same searches."""

import os

import numpy as np
import pytest

from vitreid.common.errors import UserError
from vitreid.gallery import Gallery, GalleryInfo
from vitreid.gallery.maintenance.merge_compact import compact
from vitreid.gallery.search import exact_index
from vitreid.gallery.search.exact_index import ExactIndex
from vitreid.gallery.storage import embeddings_file
from vitreid.gallery.storage.embeddings_file import CutShortError, FileRows, Written, append_rows, open_rows

pytestmark = pytest.mark.skipif(not hasattr(os, "preadv"), reason="this system has no os.preadv")
COUNT, DIM = 3000, 24


def write(path, rows):
    return append_rows(path, Written(0, 0, None), [rows], rows.shape[1], rows.dtype.str)


@pytest.fixture(params=["float32", "float16", "int8"])
def stored(request):
    return (30 * np.random.default_rng(1).standard_normal((COUNT, DIM))).astype(request.param)


def opened(path, rows, way):
    return open_rows(path, write(path, rows), DIM, rows.dtype.str, way)


def test_slices_and_positions_are_those_of_an_array(stored, tmp_path):
    rows = opened(tmp_path / "rows", stored, "read")
    assert (
        isinstance(rows, FileRows) and len(rows) == COUNT and rows.shape == stored.shape and rows.dtype == stored.dtype
    )
    draw = np.random.default_rng(2)
    for part in (slice(None), slice(5, 9), slice(-1, None), slice(9, 5), slice(3, None, 7), slice(2990, 4000)):
        np.testing.assert_array_equal(rows[part], stored[part])
    for places in ([], [0], [COUNT - 1, 0, 0, 7], draw.integers(0, COUNT, 500), np.arange(COUNT)[::-1]):
        np.testing.assert_array_equal(rows[np.asarray(places, int)], stored[np.asarray(places, int)])
    np.testing.assert_array_equal(np.asarray(rows), stored)
    with pytest.raises(IndexError):
        rows[np.array([COUNT])]


def test_reads_that_return_less_than_asked_for_are_continued(stored, tmp_path, monkeypatch):
    rows, whole = opened(tmp_path / "rows", stored, "read"), os.preadv
    monkeypatch.setattr(os, "preadv", lambda handle, views, place: whole(handle, [views[0][:100]], place))
    np.testing.assert_array_equal(rows[10:200], stored[10:200])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("num_queries", [1, 16])
@pytest.mark.parametrize("share", [None, 0.5, 0.01])
def test_searches_find_the_same_rows_in_each_way(stored, metric, num_queries, share, tmp_path, monkeypatch):
    monkeypatch.setattr(exact_index, "FILE_BLOCK_BYTES", 256 * DIM * stored.itemsize)  # several blocks
    draw = np.random.default_rng(3)
    queries = draw.standard_normal((num_queries, DIM)).astype(np.float32)
    mask = None if share is None else draw.random(COUNT) < share
    scale = np.full(DIM, 0.01, np.float32) if stored.dtype == np.int8 else None
    found = [
        ExactIndex(opened(tmp_path / way, stored, way), metric, scale).search(queries, 10, mask)
        for way in ("mapped", "kept", "read")
    ]
    for hits in found[1:]:
        for one, other in zip(found[0], hits, strict=True):
            np.testing.assert_array_equal(one.positions, other.positions)
            np.testing.assert_array_equal(one.distances, other.distances)


def test_rows_in_memory_start_on_a_cache_line(stored, tmp_path):
    rows = opened(tmp_path / "rows", stored, "kept")
    assert type(rows) is np.ndarray and rows.ctypes.data % 64 == 0 and not rows.flags.writeable


def test_rows_are_kept_only_if_they_fit_into_a_quarter_of_the_memory(stored, tmp_path, monkeypatch):
    for room, kind in ((4 * stored.nbytes - 1, FileRows), (4 * stored.nbytes, np.ndarray)):
        monkeypatch.setattr(embeddings_file, "available_memory", lambda room=room: room)
        assert type(opened(tmp_path / "rows", stored, "kept")) is kind


def test_a_file_that_was_cut_short_is_named_with_both_sizes(stored, tmp_path):
    path = tmp_path / "embeddings.npy"
    rows = opened(path, stored, "read")
    size = path.stat().st_size
    os.truncate(path, size - 1)
    np.testing.assert_array_equal(rows[:-1], stored[:-1])
    for places in (slice(None), np.array([3, COUNT - 1])):
        with pytest.raises(CutShortError, match=rf"embeddings.npy .* {size - 1} of {size} bytes"):
            rows[places]


# ---- galleries


def gallery_of(folder, rows):
    gallery = Gallery.create(folder, GalleryInfo("model", DIM))
    gallery.add(rows, [{"path": f"{number}.jpg"} for number in range(len(rows))], "model")
    return gallery


def test_only_rows_that_were_added_are_read_into_memory(tmp_path, monkeypatch):
    rows = np.random.default_rng(4).standard_normal((50, DIM)).astype(np.float32)
    writer = gallery_of(tmp_path / "gallery", rows[:40])
    reader = Gallery.open(writer.path, rows="kept")
    read, places = FileRows.read, []
    monkeypatch.setattr(FileRows, "read", lambda self, start, *rest: places.append(start) or read(self, start, *rest))
    writer.add(rows[40:], [{"path": f"{number}.jpg"} for number in range(40, 50)], "model")
    reader.refresh()
    np.testing.assert_array_equal(reader.embeddings, rows)
    assert places and min(places) >= 40


def test_other_rows_of_the_same_number_are_read_again(tmp_path):
    rows = np.random.default_rng(5).standard_normal((50, DIM)).astype(np.float32)
    writer = gallery_of(tmp_path / "gallery", rows)
    reader = Gallery.open(writer.path, rows="kept")
    writer.remove([0, 1], None)
    compact(writer)
    writer.add(rows[:2], [{"path": "0.jpg"}, {"path": "1.jpg"}], "model")
    reader.refresh()
    np.testing.assert_array_equal(reader.embeddings, np.concatenate([rows[2:], rows[:2]]))


@pytest.mark.parametrize("way", ["mapped", "kept", "read"])
def test_refresh_notices_a_file_that_was_cut_short(way, tmp_path):
    gallery_of(tmp_path / "gallery", np.ones((50, DIM), np.float32))
    reader = Gallery.open(tmp_path / "gallery", rows=way)
    os.truncate(tmp_path / "gallery" / "embeddings.npy", 500)
    with pytest.raises(UserError, match="cut short: 500 bytes hold 3 of 50 rows"):
        reader.refresh()


def test_an_unknown_way_is_refused(tmp_path):
    with pytest.raises(UserError, match="rows: unknown way 'ram'; choose from mapped, kept, read"):
        Gallery.open(gallery_of(tmp_path / "gallery", np.ones((2, DIM), np.float32)).path, rows="ram")
