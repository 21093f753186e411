"""Galleries to and from plain files, Qdrant and FiftyOne: the same rows there and back, and files and collections of others."""

import csv
import json
import signal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from killed_process import die_at, in_child
from milvus_galleries import filled_folder

from vitreid.common.errors import UserError
from vitreid.gallery import Gallery, GalleryInfo, export_as, fit_pca, to_int8
from vitreid.gallery.exchange.fiftyone import from_fiftyone, to_fiftyone
from vitreid.gallery.exchange.plain_files import from_file
from vitreid.gallery.exchange.qdrant import connected, from_qdrant, to_qdrant
from vitreid.tools.gallery import main

OTHER = GalleryInfo("osnet of somebody", 1, metric="cosine")
ROWS = np.eye(3, 4, dtype=np.float32)
PATHS = ["a.jpg", "/b.jpg", "c.jpg"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A gallery folder of 40 rows, two of them removed."""
    return filled_folder(tmp_path_factory.mktemp("exchange") / "g")


def content(gallery, columns=("pid", "camera", "view", "time", "tracklet", "shoes")):
    """Return the live rows, the places of their images and their other columns."""
    places = np.flatnonzero(gallery.is_live)
    records = gallery.records.take(places)
    images = [gallery.image_path(path).resolve() for path in records["path"].to_pylist()]
    kept = [[None if value != value else value for value in records[name].to_pylist()] for name in columns]
    return gallery.vectors(places), images, kept


def assert_same_rows(one, other, columns=("pid", "camera", "view", "time", "tracklet", "shoes")):
    for found, expected in zip(content(one, columns), content(other, columns), strict=True):
        np.testing.assert_array_equal(found, expected)


# ---- plain files


@pytest.mark.parametrize("format", ["parquet", "npz", "csv"])
def test_a_file_becomes_the_gallery_that_it_was_written_from(source, tmp_path, format):
    file = export_as(source, tmp_path / f"rows.{format}", format)
    made = from_file(file, tmp_path / "deeper" / "back", None if format == "parquet" else source.info)
    columns = (
        "pid",
        "camera",
        "view",
        "time",
        "tracklet",
        *(("shoes",) if format != "csv" else ()),
    )  # a CSV holds text
    assert_same_rows(made, source, columns)
    assert made.info == source.info


def test_int8_becomes_float_and_projected_rows_get_a_model_of_their_own(source, tmp_path):
    small = to_int8(fit_pca(source, tmp_path / "pca", 4), tmp_path / "int8")
    made = from_file(export_as(small, tmp_path / "rows.parquet", "parquet"), tmp_path / "back")
    assert (made.info.dtype, made.info.dimension, made.info.projection) == ("float32", 4, None)
    assert made.info.model == f"{source.info.model} projected by {small.info.projection}"
    np.testing.assert_array_equal(made.vectors(np.arange(len(made))), small.vectors(np.flatnonzero(small.is_live)))


def test_a_table_of_pandas_with_other_names_is_read(tmp_path):
    table = pd.DataFrame(
        {"Image Path": PATHS, "person": [1.0, None, 2.0], "camid": ["c1", "c2", None], "hat": [1, 0, 1]}
    )
    table["vector"] = list(ROWS.astype(np.float64))
    table.to_parquet(tmp_path / "t.parquet")
    made = from_file(tmp_path / "t.parquet", tmp_path / "g", OTHER)
    assert made.select(["pid", "camera", "hat"]).to_pylist() == [
        {"pid": "1", "camera": "c1", "hat": 1},
        {"pid": None, "camera": "c2", "hat": 0},
        {"pid": "2", "camera": None, "hat": 1},
    ]
    assert [made.image_path(path).resolve() for path in made.select(["path"])["path"].to_pylist()] == [
        (tmp_path / path).resolve() for path in PATHS
    ]
    assert made.search(ROWS[2:], topk=1)[0].ids.tolist() == [2]


def write_parquet(file, columns, metadata=None):
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), file)


def write_csv(file, rows):
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


VECTORS = pa.array(ROWS.tolist(), pa.list_(pa.float32()))
WRONG = {
    "no model.parquet": (lambda file: write_parquet(file, {"path": PATHS, "embedding": VECTORS}), "--like GALLERY"),
    "no path.parquet": (lambda file: write_parquet(file, {"name": PATHS, "embedding": VECTORS}), "no column path"),
    "no vector.parquet": (lambda file: write_parquet(file, {"path": PATHS, "pid": PATHS}), "none is embedding or"),
    "two.parquet": (
        lambda file: write_parquet(file, {"path": PATHS, "embedding": VECTORS, "vector": VECTORS}),
        "embedding and vector both",
    ),
    "ragged.parquet": (
        lambda file: write_parquet(file, {"path": PATHS, "embedding": pa.array([[1.0], [1.0, 2.0], [3.0]])}),
        "several lengths",
    ),
    "words.parquet": (
        lambda file: write_parquet(file, {"path": PATHS, "embedding": pa.array([["x"]] * 3)}),
        "lists of numbers",
    ),
    "about.parquet": (
        lambda file: write_parquet(file, {"path": PATHS, "embedding": VECTORS}, {"vitreid.gallery": "[1]"}),
        "description of the gallery is damaged",
    ),
    "short.npz": (lambda file: np.savez(file, embeddings=ROWS, path=np.array(PATHS[:2])), "array path has the shape"),
    "flat.npz": (lambda file: np.savez(file, embeddings=ROWS[0], path=np.array(PATHS)), "none is embedding or"),
    "none.csv": (lambda file: write_csv(file, [["path", "pid"], ["a.jpg", "1"]]), "no columns e0, e1"),
    "letters.csv": (lambda file: write_csv(file, [["path", "e0"], ["a.jpg", "one"]]), "no CSV file"),
    "rows.txt": (lambda file: file.write_text("x"), "unknown value '.txt'; choose from"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_does_not_fit_is_refused_and_leaves_nothing(name, tmp_path):
    write, message = WRONG[name]
    write(tmp_path / name)
    with pytest.raises(UserError, match=message):
        from_file(tmp_path / name, tmp_path / "g")
    assert not (tmp_path / "g").exists()


def test_numbers_that_are_none_are_named(tmp_path):
    np.savez(tmp_path / "t.npz", embeddings=ROWS * np.nan, path=np.array(PATHS))
    with pytest.raises(UserError, match="embeddings: row 0 holds NaN"):
        from_file(tmp_path / "t.npz", tmp_path / "g", OTHER)
    assert not (tmp_path / "g").exists()


def test_rows_that_were_removed_stay_out_of_a_gallery_that_is_replaced(source, tmp_path):
    file = export_as(source, tmp_path / "rows.parquet", "parquet")
    made = from_file(file, tmp_path / "g")
    made.remove(made.ids[:3])
    again = from_file(file, tmp_path / "g", overwrite=True)
    assert len(again) == len(source) - 3


def test_the_command_makes_a_gallery_of_foreign_embeddings(source, tmp_path, capsys):
    np.savez(tmp_path / "t.npz", embeddings=ROWS, path=np.array(PATHS))
    assert (
        main(["from-file", str(tmp_path / "t.npz"), str(tmp_path / "g"), "--model", "osnet", "--metric", "cosine"]) == 0
    )
    assert "3 rows x 4, compared by cosine" in capsys.readouterr().out
    assert main(["from-file", str(tmp_path / "t.npz"), str(tmp_path / "h"), "--metric", "cosine"]) == 2
    assert (
        main(["from-file", str(tmp_path / "t.npz"), str(tmp_path / "h"), "--model", "a", "--like", str(source.path)])
        == 2
    )
    assert not (tmp_path / "h").exists()


# ---- Qdrant


@pytest.fixture
def qdrant(tmp_path):
    """An address of Qdrant in this process."""
    pytest.importorskip("qdrant_client", reason="qdrant-client is not installed")
    return f"qdrant:{tmp_path}/qdrant"


def test_qdrant_there_and_back(source, qdrant, tmp_path):
    assert to_qdrant(source, qdrant) == len(source)
    made = from_qdrant(qdrant, tmp_path / "back")
    assert_same_rows(made, source)
    assert made.info == source.info
    with pytest.raises(FileExistsError, match="--overwrite"):
        to_qdrant(source, qdrant)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_qdrant_finds_what_the_folder_finds(qdrant, tmp_path, metric):
    rows = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    folder = Gallery.create(tmp_path / "g", GalleryInfo("m", 8, metric=metric))
    folder.add(rows, [{"path": f"{i}.jpg", "camera": f"c{i % 3}"} for i in range(50)], "m")
    folder.remove([4, 7])
    to_qdrant(folder, f"{qdrant}#rows")
    with connected(f"{qdrant}#rows") as (client, name):
        found = client.query_points(name, query=rows[5].tolist(), limit=10).points
    ours = folder.search(rows[5:6], topk=10)[0]
    assert [point.id for point in found] == ours.ids.tolist()
    scores = np.array([point.score for point in found])
    np.testing.assert_allclose(1 - scores if metric == "cosine" else scores, ours.distances, atol=1e-5)


def test_a_collection_of_others_needs_a_model_and_paths(qdrant, tmp_path):
    from qdrant_client import models

    with connected(f"{qdrant}#theirs", create=True) as (client, name):
        client.create_collection(name, models.VectorParams(size=4, distance=models.Distance.COSINE))
        client.upsert(
            name, models.Batch(ids=[7], vectors=[ROWS[0].tolist()], payloads=[{"path": "/b.jpg", "pid": "x"}])
        )
    with pytest.raises(UserError, match="--like GALLERY"):
        from_qdrant(f"{qdrant}#theirs", tmp_path / "g")
    made = from_qdrant(f"{qdrant}#theirs", tmp_path / "g", info=OTHER)
    assert made.select(["path", "pid"]).to_pylist() == [{"path": "/b.jpg", "pid": "x"}]
    with pytest.raises(FileExistsError, match="vitreid did not make"):
        to_qdrant(made, f"{qdrant}#theirs", overwrite=True)
    with pytest.raises(FileNotFoundError, match="there are theirs"):
        from_qdrant(f"{qdrant}#absent", tmp_path / "h")
    with connected(f"{qdrant}#theirs") as (client, _):  # looks like what a killed copy leaves
        client.create_collection("mine.0123456789ab", models.VectorParams(size=4, distance=models.Distance.COSINE))
    to_qdrant(made, f"{qdrant}#mine")
    with connected(f"{qdrant}#theirs") as (client, name):
        assert client.collection_exists("mine.0123456789ab")
        client.upsert(name, models.Batch(ids=[8], vectors=[ROWS[0].tolist()], payloads=[{}]))
    with pytest.raises(UserError, match="point 8 has no unnamed embedding, or no path"):
        from_qdrant(f"{qdrant}#theirs", tmp_path / "h", info=OTHER)
    assert not (tmp_path / "h").exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [("qdrant:", "neither qdrant:FOLDER"), ("qdrant:x#a b", "got 'a b'"), ("qdrant:http://a:b@c", "QDRANT_API_KEY")],
)
def test_addresses_that_are_none_are_refused(address, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        from_qdrant(address, tmp_path / "g")
    assert "a:b" not in str(caught.value)


def test_a_folder_of_others_and_an_absent_one_are_refused(source, qdrant, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of Qdrant"):
        from_qdrant(qdrant, tmp_path / "g")
    with pytest.raises(FileExistsError, match="not empty"):
        to_qdrant(source, f"qdrant:{source.path}")


@pytest.mark.slow
@pytest.mark.parametrize("step", ["create_collection", "upsert", "update_collection_aliases", "delete_collection"])
def test_a_killed_copy_leaves_the_earlier_one_or_the_new_one(source, qdrant, tmp_path, step):
    """The copy dies as it begins a step; the next copy clears up what is left."""
    earlier = Gallery.create(tmp_path / "earlier", source.info)
    earlier.add(
        np.ones((2, source.info.dimension), np.float32), [{"path": "/1.jpg"}, {"path": "/2.jpg"}], source.info.model
    )
    to_qdrant(earlier, qdrant)

    def copy():
        from qdrant_client import QdrantClient

        die_at(1, [(QdrantClient, step)])
        to_qdrant(source, qdrant, overwrite=True)

    assert in_child(copy) == -signal.SIGKILL
    assert len(from_qdrant(qdrant, tmp_path / "found")) == (len(source) if step == "delete_collection" else 2)
    to_qdrant(source, qdrant, overwrite=True)
    with connected(qdrant) as (client, name):
        assert len(client.get_collections().collections) == 1
        assert client.count(name).count == len(source)


# ---- FiftyOne


def test_fiftyone_there_and_back(source, tmp_path):
    fo = pytest.importorskip("fiftyone", reason="FiftyOne, with its database, is not installed")
    address = "fiftyone:vitreid-test"
    try:
        assert to_fiftyone(source, address, overwrite=True) == (len(source), 0)
        sample = fo.load_dataset("vitreid-test").first()
        assert len(sample.embedding) == source.info.dimension
        assert_same_rows(from_fiftyone(address, tmp_path / "back"), source)
        with pytest.raises(FileExistsError, match="--overwrite"):
            to_fiftyone(source, address)
        fo.load_dataset("vitreid-test").name = "vitreid-test (earlier)"  # as a copy leaves it that was killed
        to_fiftyone(source, address, overwrite=True)
        assert [name for name in fo.list_datasets() if "vitreid-test" in name] == ["vitreid-test"]
        fo.Dataset("vitreid-test-theirs", persistent=True)
        with pytest.raises(FileExistsError, match="vitreid did not make"):
            to_fiftyone(source, "fiftyone:vitreid-test-theirs", overwrite=True)
        assert fo.dataset_exists("vitreid-test-theirs")
    finally:
        fo.delete_datasets("vitreid-test*")
    with pytest.raises(FileNotFoundError, match="no dataset"):
        from_fiftyone(address, tmp_path / "h")


def test_the_metadata_of_a_parquet_file_is_the_gallerys_description(source, tmp_path):
    file = export_as(source, tmp_path / "rows.parquet", "parquet")
    assert json.loads(pq.read_schema(file).metadata[b"vitreid.gallery"])["model"] == source.info.model
