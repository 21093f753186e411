"""Galleries over time and in other shapes: merge, compact, verify, pool, export, compress."""

import csv
import logging
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.io import loadmat

from vitreid.gallery import (
    FORMATS,
    Gallery,
    GalleryInfo,
    compact,
    cost,
    export_as,
    fit_pca,
    merge,
    pool_tracklets,
    to_int8,
    verify,
)

MODEL = "sha256:a"


def unit_rows(count: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, dim)) / np.arange(1, dim + 1)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make(path, count=12, dim=8, seed=0, **info):
    gallery = Gallery.create(path, GalleryInfo(MODEL, dim, **info))
    people = [{"path": f"{i}.jpg", "pid": str(i % 3), "camera": f"c{i // 3 % 2}"} for i in range(count)]
    gallery.add(unit_rows(count, dim, seed), people, MODEL)
    return gallery


def test_merge_adds_the_live_rows_with_new_ids_and_absolute_paths(tmp_path):
    target, source = make(tmp_path / "a", 2), make(tmp_path / "b", 3, seed=1, dtype="float16")
    source.remove([1])
    assert merge(target, [source.path]) == 2
    np.testing.assert_array_equal(target.embeddings[2:], unit_rows(3, seed=1)[[0, 2]].astype(np.float16))
    assert target.records["path"].to_pylist() == ["0.jpg", "1.jpg", f"{tmp_path}/b/0.jpg", f"{tmp_path}/b/2.jpg"]
    assert target.ids.tolist() == [0, 1, 2, 3]


def test_merge_refuses_another_model_or_metric_before_adding_anything(tmp_path):
    target, fine, cosine = make(tmp_path / "a", 2), make(tmp_path / "b", 2), make(tmp_path / "c", 2, metric="cosine")
    with pytest.raises(ValueError, match="metric.*cosine"):
        merge(target, [fine, cosine])
    stranger = Gallery.create(tmp_path / "d", GalleryInfo("sha256:other", 8))
    with pytest.raises(ValueError, match=r"sha256:a.*sha256:other"):
        merge(target, [fine, stranger])
    with pytest.raises(ValueError, match="target itself"):
        merge(target, [target])
    assert len(target) == 2


def test_compact_drops_removed_rows_and_keeps_ids(tmp_path):
    gallery = make(tmp_path / "G", 4)
    gallery.remove([0, 3])
    with gallery.lock:
        assert compact(gallery) == 2
        assert gallery.add(unit_rows(1), [{"path": "new"}], MODEL).tolist() == [4]  # 3 is not given again
        with pytest.raises(BlockingIOError):
            Gallery.open(gallery.path).remove([1])
    assert gallery.ids.tolist() == [1, 2, 4] and gallery.is_live.all()
    np.testing.assert_array_equal(np.load(gallery.path / "embeddings.npy")[:2], unit_rows(4)[1:3])
    assert [item.name for item in tmp_path.iterdir()] == ["G"] and not (gallery.path / ".lock").exists()


def test_compact_keeps_what_else_lies_in_the_folder(tmp_path):
    gallery = make(tmp_path / "G", 2)
    (gallery.path / "images" / "c1").mkdir(parents=True)
    for name in ("0.jpg", "images/c1/1.jpg", "export.json", "skipped.txt"):
        (gallery.path / name).write_text(name)
    before = sorted(item.relative_to(gallery.path) for item in gallery.path.rglob("*"))
    gallery.remove([1])
    compact(gallery)
    assert sorted(item.relative_to(gallery.path) for item in gallery.path.rglob("*")) == sorted(
        [*before, Path("suppressed.parquet")]
    )
    assert (gallery.path / "images/c1/1.jpg").read_text() == "images/c1/1.jpg" and len(gallery) == 1
    assert verify(gallery.path) == [] and [item.name for item in tmp_path.iterdir()] == ["G"]


@pytest.mark.parametrize("count", [0, 3])
def test_compact_can_leave_nothing(tmp_path, count):
    gallery = make(tmp_path / "G", count)
    gallery.remove(range(count))
    compact(gallery)
    assert len(gallery) == gallery.state.count == 0 and gallery.state.next_id == count


def problems(gallery, **kwargs):
    return [(problem.file, problem.message) for problem in verify(gallery.path, **kwargs)]


def test_verify_finds_nothing_wrong_with_a_sound_gallery(tmp_path):
    gallery = make(tmp_path / "G", 3)
    for i in range(3):
        (gallery.path / f"{i}.jpg").touch()
    assert verify(gallery.path) == []
    (gallery.path / "0.jpg").unlink()
    assert problems(gallery) == [("records.parquet", "1 images are missing: 0.jpg")]
    gallery.update([0], {"path": "1.jpg#t=3"})  # a place in a video
    assert verify(gallery.path) == []


def test_verify_names_the_file_that_is_wrong(tmp_path):
    def damage(name, change):
        gallery = make(tmp_path / f"{len(list(tmp_path.iterdir()))}", 4)
        path = gallery.path / name
        path.write_bytes(change(path.read_bytes()))
        return problems(gallery, images=False)

    assert "cut short" in damage("embeddings.npy", lambda b: b[:-1])[0][1]
    flipped = damage("embeddings.npy", lambda b: b[:-1] + bytes([b[-1] ^ 1]))
    assert [file for file, _ in flipped] == ["embeddings.npy"] and "checksum" in flipped[0][1]
    nan = damage("embeddings.npy", lambda b: b[:-4] + np.float32("nan").tobytes())
    assert "1 rows are no embeddings (NaN, infinite or too large values): 3" in nan[1][1]
    assert "header says (4, 7)" in damage("embeddings.npy", lambda b: b.replace(b"(4, 8)", b"(4, 7)"))[0][1]
    assert damage("records.parquet", lambda b: b[:100])[0][0] == "records.parquet"
    assert damage("gallery.json", lambda b: b[:100])[0][0] == "gallery.json"
    assert damage("gallery.json", lambda b: b.replace(b'"removed": []', b'"removed": [77]'))[0][0] == "gallery.json"


def test_verify_finds_missing_files(tmp_path):
    gallery = make(tmp_path / "G", 2)
    (gallery.path / "embeddings.npy").unlink()
    (gallery.path / "records.parquet").unlink()
    assert [file for file, _ in problems(gallery)] == ["embeddings.npy", "records.parquet"]
    assert [problem.file for problem in verify(tmp_path / "nowhere")] == ["gallery.json"]


def tracklets(path, rows, **columns):
    gallery = Gallery.create(path, GalleryInfo(MODEL, 2))
    names = ["t1", None, "t1", "t2", "t1"]
    records = [
        {"path": str(i), "tracklet": name, **{key: values[i] for key, values in columns.items()}}
        for i, name in enumerate(names)
    ]
    gallery.add(np.array(rows, np.float32), records, MODEL)
    return gallery


def test_pooling_averages_the_live_crops_of_a_tracklet(tmp_path):
    gallery = tracklets(tmp_path / "G", [[1, 0], [0, 1], [0, 1], [0, -1], [-1, 0]])
    gallery.remove([4])
    pooled = pool_tracklets(gallery, tmp_path / "P")
    np.testing.assert_allclose(pooled.embeddings, [[0.5**0.5, 0.5**0.5], [0, 1], [0, -1]], rtol=1e-6)
    assert pooled.records["num_images"].to_pylist() == [2, 1, 1]
    assert pooled.records["path"].to_pylist() == ["../G/0", "../G/1", "../G/3"]  # as seen from P


def test_quality_weighs_the_crops(tmp_path):
    rows = [[1, 0], [0, 1], [0, 1], [0, -1], [0, 1]]
    given = pool_tracklets(
        tracklets(tmp_path / "G", rows, quality=[3.0, 1.0, 0.0, 1.0, 0.0]), tmp_path / "P", "quality"
    )
    np.testing.assert_allclose(given.embeddings[0], [1, 0], atol=1e-6)
    plain, agreeing = (
        pool_tracklets(tracklets(tmp_path / f"G{how}", rows), tmp_path / f"P{how}", how) for how in ("mean", "quality")
    )
    assert agreeing.embeddings[0, 1] > plain.embeddings[0, 1]  # the stray [1, 0] counts less
    with pytest.raises(ValueError, match="quality.*-1"):
        pool_tracklets(tracklets(tmp_path / "H", rows, quality=[-1.0, 1.0, 1.0, 1.0, 1.0]), tmp_path / "Q", "quality")


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_holds_the_live_rows_and_their_ids(tmp_path, format):
    gallery = make(tmp_path / "G", 5, dtype="float16")
    gallery.remove([1])
    expected, ids = unit_rows(5)[[0, 2, 3, 4]].astype(np.float16).astype(np.float32), [0, 2, 3, 4]
    rows, found = READERS[format](export_as(gallery, tmp_path / f"out.{format}", format))
    np.testing.assert_array_equal(rows, expected)
    assert list(found) == ids


PATHS = ["G/0.jpg", "G/2.jpg", "G/3.jpg", "G/4.jpg"]  # from the file's folder


def read_npz(path):
    with np.load(path) as arrays:
        assert arrays["path"].tolist() == PATHS and arrays["view"].tolist() == [""] * 4
        return arrays["embeddings"], arrays["id"]


def read_parquet(path):
    table = pq.read_table(path)
    assert table["path"].to_pylist() == PATHS
    return np.array(table["embedding"].to_pylist(), np.float32), table["id"].to_pylist()


def read_csv(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == PATHS
    return np.array([[row[f"e{i}"] for i in range(8)] for row in rows], np.float32), [int(row["id"]) for row in rows]


def read_faiss(path):
    faiss = pytest.importorskip("faiss")
    index = faiss.read_index(str(path))
    ids = faiss.vector_to_array(index.id_map)
    return np.stack([index.reconstruct(int(i)) for i in ids]), ids


def read_mat(path):
    arrays = loadmat(path)
    assert [item[0] for item in arrays["path"][:, 0]] == PATHS
    return arrays["embeddings"], arrays["id"][:, 0]


READERS = {"npz": read_npz, "parquet": read_parquet, "csv": read_csv, "faiss": read_faiss, "mat": read_mat}


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="csv, faiss, mat, npz, parquet"):
        export_as(make(tmp_path / "G", 1), tmp_path / "out", "xlsx")


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_pca_projects_rows_and_queries_alike(tmp_path, metric, caplog):
    gallery = make(tmp_path / "G", 40, metric=metric, threshold={"distance": 1.0})
    gallery.remove([5])
    with caplog.at_level(logging.WARNING):
        smaller = fit_pca(gallery, tmp_path / "P", 4)
    assert "calibrate again" in caplog.text and smaller.info.threshold is None
    assert smaller.embeddings.shape == (39, 4) and smaller.ids.tolist() == gallery.ids[gallery.is_live].tolist()
    projected = Gallery.open(tmp_path / "P").as_vectors(gallery.vectors([0, 7]))
    np.testing.assert_allclose(projected, smaller.vectors([0, 6]), atol=1e-6)
    smaller.add(unit_rows(2, seed=9), [{"path": "x"}, {"path": "y"}], MODEL)  # as the model gives them
    assert smaller.embeddings.shape == (41, 4) and verify(smaller.path, images=False) == []
    with pytest.raises(ValueError, match="projected"):
        fit_pca(smaller, tmp_path / "Q", 2)
    with pytest.raises(ValueError, match="dim: 1 to 7"):
        fit_pca(gallery, tmp_path / "Q", 8)


def test_pca_keeps_the_distances_of_flat_data(tmp_path):
    """Rows that lie in a plane lose nothing by being described in two dimensions."""
    gallery = Gallery.create(tmp_path / "G", GalleryInfo(MODEL, 5))
    rows = np.random.default_rng(0).normal(size=(20, 2)) @ np.random.default_rng(1).normal(size=(2, 5)) + 3
    gallery.add(rows, [{"path": str(i)} for i in range(20)], MODEL)
    flat = fit_pca(gallery, tmp_path / "P", 2).embeddings
    distances = (np.linalg.norm(values[:, None] - values[None], axis=2) for values in (rows, flat))
    np.testing.assert_allclose(*distances, atol=1e-4)


def test_int8_is_within_half_a_step(tmp_path):
    gallery = make(tmp_path / "G", 30)
    small = to_int8(gallery, tmp_path / "S")
    assert small.embeddings.dtype == np.int8 and np.abs(small.embeddings).max() == 127
    steps = np.abs(gallery.embeddings).max(0) / 127
    assert (np.abs(small.vectors(range(30)) - gallery.embeddings) <= steps * 0.501).all()
    assert Gallery.open(small.path).info == small.info


def test_a_row_that_int8_would_cut_is_refused_by_add_and_merge(tmp_path):
    """Searches would leave it out: it would be lost without a word."""
    unit = {"embed": {"normalize": True}}
    gallery = Gallery.create(tmp_path / "G", GalleryInfo(MODEL, 8, **unit))
    flat = np.full((3, 8), 8**-0.5, np.float32)
    gallery.add(flat, [{"path": f"{i}.jpg"} for i in range(3)], MODEL)
    small = to_int8(gallery, tmp_path / "S")
    with pytest.raises(
        ValueError, match=r"row 1 holds values beyond the range of this int8 gallery.*1 such rows.*compress"
    ):
        small.add(np.stack([flat[0], np.eye(8, dtype=np.float32)[0]]), [{"path": "a"}, {"path": "b"}], MODEL)
    other = Gallery.create(tmp_path / "O", GalleryInfo(MODEL, 8, **unit))
    other.add(np.eye(8, dtype=np.float32)[:1], [{"path": "c.jpg"}], MODEL)
    with pytest.raises(ValueError, match="beyond the range of this int8 gallery"):
        merge(small, [other])
    assert len(Gallery.open(small.path)) == 3 and verify(small.path, images=False) == []
    small.add(flat, [{"path": f"new{i}.jpg"} for i in range(3)], MODEL)
    assert len(small) == 6


MADE_OF_ANOTHER = {
    "int8": to_int8,
    "pca": lambda gallery, output, overwrite=False: fit_pca(gallery, output, 2, overwrite=overwrite),
    "pool": lambda gallery, output, overwrite=False: pool_tracklets(gallery, output, overwrite=overwrite),
}


@pytest.mark.parametrize("make_of", MADE_OF_ANOTHER.values(), ids=MADE_OF_ANOTHER)
def test_a_gallery_is_not_written_over_the_one_that_it_is_made_of(tmp_path, make_of):
    gallery = make(tmp_path / "G")
    with pytest.raises(ValueError, match="output.*/G .*another folder"):
        make_of(gallery, tmp_path / "H" / ".." / "G", overwrite=True)
    assert len(Gallery.open(gallery.path)) == 12 and verify(gallery.path, images=False) == []


@pytest.mark.parametrize("make_of", MADE_OF_ANOTHER.values(), ids=MADE_OF_ANOTHER)
def test_an_earlier_gallery_goes_once_its_replacement_is_complete(tmp_path, monkeypatch, make_of):
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    gallery, output = make(tmp_path / "G"), make(tmp_path / "H", 3).path
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(Gallery, "append", full)
        make_of(gallery, output, overwrite=True)
    assert len(Gallery.open(output)) == 3 and verify(output, images=False) == []
    assert sorted(item.name for item in tmp_path.iterdir()) == ["G", "H"]
    assert len(make_of(gallery, output, overwrite=True)) == len(Gallery.open(output)) == 12
    assert sorted(item.name for item in tmp_path.iterdir()) == ["G", "H"]


@pytest.mark.parametrize("make_of", MADE_OF_ANOTHER.values(), ids=MADE_OF_ANOTHER)
@pytest.mark.parametrize("place", ["H", "deep/er/H"])
def test_images_are_found_from_a_gallery_made_of_another(tmp_path, make_of, place):
    """A relative path starts at the gallery's own folder, so it changes with the folder."""
    gallery, output = make(tmp_path / "G"), tmp_path / place
    output.parent.mkdir(parents=True, exist_ok=True)
    paths = make_of(gallery, output).records["path"].to_pylist()
    assert [(output / path).resolve() for path in paths] == [gallery.path / f"{i}.jpg" for i in range(12)]


def test_the_cost_of_compression_is_measured_across_cameras(tmp_path):
    gallery = make(tmp_path / "G", 60)
    gallery.remove([2])
    same = cost(gallery, to_int8(gallery, tmp_path / "S"))
    assert same.mAP[0] == pytest.approx(same.mAP[1], abs=0.05) and same.num_queries == 59
    assert same.num_bytes == (59 * 8 * 4, 59 * 8)
    coarse = cost(gallery, to_int8(fit_pca(gallery, tmp_path / "P", 2), tmp_path / "PS"), max_queries=10)
    assert coarse.num_queries == 10 and "mAP" in str(coarse)
    with pytest.raises(ValueError, match="does not hold the rows"):
        cost(gallery, make(tmp_path / "H", 3))


def test_the_cost_without_cameras_leaves_out_the_query_itself(tmp_path):
    """Each of the rows is the nearest to itself; the only other one of its person is the farthest."""
    gallery = Gallery.create(tmp_path / "G", GalleryInfo("sha256:a", 1))
    rows = np.float32([[0], [10], [4], [6]])
    gallery.add(rows, [{"path": f"{i}.jpg", "pid": pid} for i, pid in enumerate("aabc")], "sha256:a")
    found = cost(gallery, to_int8(gallery, tmp_path / "S"))
    assert (found.rank1[0], found.mAP[0], found.num_queries) == (0, pytest.approx(1 / 3), 2)
    assert found.protocol == "own-file" and "no cameras known, so rows of the own one count" in str(found)


def projected(folder):
    """A projected gallery of 20 rows; returns the path of its projection.npz."""
    smaller = fit_pca(make(folder / "G", 20), folder / "P", 2)
    return smaller.path / "projection.npz"


def test_a_lack_of_memory_is_not_called_damage(tmp_path, monkeypatch):
    path = projected(tmp_path)

    def exhausted(*_, **__):
        raise MemoryError("no memory left")

    monkeypatch.setattr(np, "frombuffer", exhausted)
    with pytest.raises(MemoryError, match="no memory left"):
        Gallery.open(path.parent)


@pytest.mark.parametrize("damage", ["cut short", "bytes changed", "another array", "empty"])
def test_a_damaged_projection_is_named(tmp_path, damage):
    path = projected(tmp_path)
    content = path.read_bytes()
    contents = {"cut short": content[:-30], "bytes changed": content[:60] + b"xxxx" + content[64:], "empty": b""}
    if damage == "another array":
        np.save(tmp_path / "other.npy", np.zeros(3))
        contents[damage] = (tmp_path / "other.npy").read_bytes()
    path.write_bytes(contents[damage])
    with pytest.raises(ValueError, match="projection.npz is damaged"):
        Gallery.open(path.parent)
