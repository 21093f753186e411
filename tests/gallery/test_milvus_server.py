"""A real Milvus server: the folder's answers, passwords, two writers, 16 clients, and its death in the middle of an import."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from milvus_galleries import CONDITIONS, MODEL, filled_folder

from vitreid.benchmarks.common.milvus_server import PASSWORD, LocalMilvus
from vitreid.common.errors import UserError
from vitreid.gallery import Gallery, GalleryInfo
from vitreid.gallery.milvus import milvus_client
from vitreid.gallery.milvus.milvus_collections import RESERVED
from vitreid.gallery.milvus.milvus_gallery import MilvusGallery
from vitreid.gallery.milvus.transfer import from_folder, to_folder

pytestmark = pytest.mark.slow
CALLS = {  # each call of a gallery in Milvus that reaches the server
    "len": len,
    "ids": lambda gallery: gallery.ids,
    "embeddings": lambda gallery: gallery.embeddings,
    "records": lambda gallery: gallery.records,
    "select": lambda gallery: gallery.select(["pid"]),
    "positions": lambda gallery: gallery.positions([0]),
    "rows_of": lambda gallery: gallery.rows_of([0]),
    "rows_at": lambda gallery: gallery.rows_at([0]),
    "vectors": lambda gallery: gallery.vectors([0]),
    "vectors_of": lambda gallery: gallery.vectors_of([0]),
    "search": lambda gallery: gallery.search(np.ones((1, 8), np.float32), 3),
    "add": lambda gallery: gallery.add(np.ones((1, 8), np.float32), [{"path": "a.png"}], MODEL),
    "remove": lambda gallery: gallery.remove([0]),
    "update": lambda gallery: gallery.update([0], {"pid": "9"}),
    "set_info": lambda gallery: gallery.set_info(threshold=None),
    "refresh": lambda gallery: gallery.refresh(),
    "drop_earlier": lambda gallery: gallery.drop_earlier(),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that asks for a password; started once for all tests here."""
    for package in ("pymilvus", "milvus"):
        pytest.importorskip(package, reason=f"{package} is not installed; pip install 'vitreid[milvus-server]'")
    with LocalMilvus(tmp_path_factory.mktemp("server"), asks=True) as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILVUS_TOKEN", PASSWORD)
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return filled_folder(tmp_path_factory.mktemp("folder") / "g")


def test_a_server_gives_the_folders_answers(server, folder, tmp_path):
    """2.3 has no null: unknown values are kept in another form, and found all the same."""
    copy = from_folder(folder, f"milvus:{server.address}#same")
    queries = folder.vectors([4, 7])
    for where in CONDITIONS:
        for mine, other in zip(folder.search(queries, 12, where), copy.search(queries, 12, where)):
            assert mine.ids.tolist() == other.ids.tolist(), where
            assert mine.distances.tolist() == other.distances.tolist()
    back = to_folder(copy, tmp_path / "back")
    for name in ("pid", "camera", "time", "shoes"):
        assert back.records[name].equals(folder.records.filter(folder.is_live)[name]), name
    new = copy.add(np.eye(8, dtype=np.float32)[:2], [{"path": "x.png", "camera": "c9"}, {"path": "y.png"}], MODEL)
    assert new.tolist() == [40, 41] and copy.update(new[:1], {"pid": "9", "hat": "red"}) == 1
    row = copy.search(np.eye(8, dtype=np.float32)[:1], 1, ["camera=c9"])[0].rows[0]
    assert (row["id"], row["pid"], row["hat"], row["view"], row["time"]) == (40, "9", "red", None, None)
    assert copy.remove(new) == 2 and len(copy) == 38
    copy.close()


@pytest.mark.parametrize("token", ["", "root:wrong"])
def test_a_wrong_password_is_named_with_the_variable_that_holds_it(server, token, monkeypatch):
    monkeypatch.setenv("MILVUS_TOKEN", token)
    with pytest.raises(PermissionError, match="MILVUS_TOKEN") as caught:
        Gallery.open(f"milvus:{server.address}#same")
    assert "wrong" not in str(caught.value)


def test_two_writers_leave_the_rows_of_both(server):
    """Each of 2 programs adds one row 8 times; one that meets the other is turned away in words, and comes again."""
    path = f"milvus:{server.address}#writers"
    MilvusGallery.create(path, GalleryInfo(MODEL, 8)).close()

    def write(name):
        turned_away, gallery = 0, MilvusGallery.open(path)
        for number in range(8):
            while True:
                try:
                    gallery.add(np.eye(8, dtype=np.float32)[:1], [{"path": f"{name}{number}.png"}], MODEL)
                    break
                except BlockingIOError as error:
                    turned_away += 1
                    assert "is being written by process" in str(error)
        gallery.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, "ab"))
    gallery = MilvusGallery.open(path)
    assert sorted(gallery.records["path"].to_pylist()) == sorted(f"{name}{i}.png" for name in "ab" for i in range(8))
    assert gallery.ids.tolist() == list(range(16))
    gallery.close()


def test_16_clients_at_once_get_the_same_answers(server, folder):
    path = f"milvus:{server.address}#clients"
    from_folder(folder, path).close()
    queries = folder.vectors(np.flatnonzero(folder.is_live)[:16])
    expected = [result.ids.tolist() for result in folder.search(queries, 5)]
    barrier = threading.Barrier(16)

    def ask(number):
        gallery = MilvusGallery.open(path)
        barrier.wait(60)
        found = [gallery.search(queries[[number]], 5)[0] for _ in range(5)]
        rows = [row["id"] for row in found[0].rows]
        gallery.close()
        return [result.ids.tolist() for result in found] + [rows]

    with ThreadPoolExecutor(16) as pool:
        for answers, ids in zip(pool.map(ask, range(16)), expected, strict=True):
            assert answers == [ids] * 6


def test_columns_with_names_of_other_things_are_kept_and_filtered(server, tmp_path):
    """Words of Milvus' filters are refused in words; what looks like one is an ordinary column."""
    names = ("distance", "score", "entity", "count", "ids", "pk", "text", "writer", "meta", "select", "order", "group")
    folder = Gallery.create(tmp_path / "g", GalleryInfo(MODEL, 8))
    records = [{"path": f"{i}.png", **dict.fromkeys(names, i)} for i in range(3)]
    folder.add(np.eye(8, dtype=np.float32)[:3], records, MODEL)
    copy = from_folder(folder, f"milvus:{server.address}#names")
    for name in names:
        found = copy.search(np.eye(8, dtype=np.float32)[:1], 3, [f"{name}=2"])[0]
        assert [row[name] for row in found.rows] == [2], name
    copy.close()
    for name in (*RESERVED, "In", "größe", "a b"):
        other = Gallery.create(tmp_path / f"g {name}", GalleryInfo(MODEL, 8))
        other.add(np.eye(8, dtype=np.float32)[:1], [{"path": "a.png", name: 1}], MODEL)
        with pytest.raises(UserError, match=f"'{name}'.*rename"):
            from_folder(other, f"milvus:{server.address}#refused")


def message_of(call, gallery):
    """True if a call of a gallery whose server is gone says so; else what it does."""
    try:
        return f"returned {call(gallery)!r}"
    except OSError as error:
        said = str(error)
        return said if "Traceback" in said or not re.search(r"#killed.*no answer of Milvus", said) else True


def test_a_server_that_dies_in_the_middle_of_an_import_keeps_the_earlier_gallery(server, folder, monkeypatch):
    """Every call says that the server is gone, in time; started again it has what was committed, and the import works."""
    path = f"milvus:{server.address}#killed"
    gallery = from_folder(folder, path)
    insert = MilvusGallery.insert

    def insert_and_kill(target, records, vectors):
        insert(target, records.slice(0, 10), vectors[:10])
        server.kill()
        monkeypatch.setattr(milvus_client, "PATIENCE", 1.0)
        insert(target, records.slice(10), vectors[10:])

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no answer of Milvus"):
        patch.setattr(MilvusGallery, "insert", insert_and_kill)
        from_folder(folder, path, overwrite=True)
    assert {name: message_of(call, gallery) for name, call in CALLS.items()} == dict.fromkeys(CALLS, True)
    with pytest.raises(OSError, match=r"#killed.*(is the server running|no answer of Milvus)"):
        MilvusGallery.open(path)
    gallery.close()
    server.start()
    monkeypatch.undo()
    monkeypatch.setenv("MILVUS_TOKEN", PASSWORD)
    again = MilvusGallery.open(path)
    assert again.ids.tolist() == folder.ids[folder.is_live].tolist()
    assert again.rows_of([7])[0]["path"] == folder.rows_of([7])[0]["path"]
    again.close()
    replaced = from_folder(folder, path, overwrite=True)
    assert len(replaced) == len(folder)
    replaced.close()
