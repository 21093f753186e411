"""Galleries in Milvus Lite: the same answers as the folder's, there and back again."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from milvus_galleries import CONDITIONS, MODEL, filled_folder

from vitreid.gallery import Gallery, GalleryInfo, compact
from vitreid.gallery.milvus import milvus_collections
from vitreid.gallery.milvus.filter_expression import as_expression
from vitreid.gallery.milvus.milvus_collections import connect
from vitreid.gallery.milvus.milvus_gallery import MilvusGallery
from vitreid.gallery.milvus.transfer import from_folder, to_folder
from vitreid.gallery.search.filters import Where

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], ""),
        (["camera=c1,c2"], '(camera in ["c1", "c2"])'),
        (["camera=c1,"], '(camera in ["c1"] or camera is null)'),
        (["pid!="], "(not pid is null)"),
        (["time<5"], "time < 5.0"),
        (['pid="a""b"'], '(pid in ["a\\"b"])'),
        (["camera={},{0:>99}"], '(camera in ["{}", "{0:>99}"])'),  # text of a request is never a template
        (["camera!={x}"], '(camera not in ["{x}"] or camera is null)'),
        ({"camera": []}, "id < 0"),
        ({"camera!=": []}, "id >= 0"),
        (["time=inf"], "id < 0"),
        (["time=5,inf"], "(time in [5.0])"),
        (["time<inf"], "time <= 1.7976931348623157e+308"),
        (["time>inf"], "time > 1.7976931348623157e+308"),
        (["time>-inf"], "time >= -1.7976931348623157e+308"),
        (["time<=-inf"], "time < -1.7976931348623157e+308"),
        (["score=nan"], "(score is null)"),
    ],
)
def test_conditions_in_milvus_own_language(conditions, expected):
    schema = pa.schema({"camera": pa.string(), "pid": pa.string(), "time": pa.float64(), "score": pa.float64()})
    assert as_expression(Where.of(conditions).typed(schema)) == expected


def test_a_missing_file_and_a_strange_address_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        connect(f"milvus:{tmp_path}/absent.db")
    with pytest.raises(ValueError, match="milvus:FILE"):
        connect("milvus:here")
    with pytest.raises(ValueError, match="MILVUS_TOKEN") as caught:
        connect("milvus:http://root:secret@127.0.0.1:19530")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("column", [pa.field("seen", pa.timestamp("s")), pa.field("shoe size", pa.int64())])
def test_columns_that_milvus_cannot_keep_are_named(column):
    with pytest.raises(ValueError, match=column.name):
        milvus_collections.check_types(pa.schema([column]))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A gallery folder of 40 rows, two of them removed, and its copy in Milvus Lite."""
    for package in ("pymilvus", "milvus_lite"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    folder = filled_folder(tmp_path_factory.mktemp("milvus") / "g")
    copy = from_folder(folder, f"milvus:{folder.path.parent}/g.db")
    yield folder, copy
    copy.close()


@pytest.mark.slow
def test_a_gallery_of_another_process_is_read_and_replaced(tmp_path):
    """Milvus Lite 3 opens a file with its collections released; one process alone never sees that."""
    for package in ("pymilvus", "milvus_lite"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    folder = Gallery.create(tmp_path / "g", GalleryInfo(MODEL, 4))
    folder.add(np.eye(4, dtype=np.float32), [{"path": f"{i}.png"} for i in range(4)], MODEL)

    def tool(*words):
        command = [sys.executable, "-m", "vitreid", "gallery", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)

    assert tool("to-milvus", "g", "milvus:g.db").returncode == 0
    again = tool("to-milvus", "g", "milvus:g.db")
    assert again.returncode == 2 and "Traceback" not in again.stderr
    for _ in range(2):  # the second replacement uses the other name for the rows
        assert tool("to-milvus", "g", "milvus:g.db", "--overwrite").returncode == 0
    back = tool("from-milvus", "milvus:g.db", "back")
    assert back.returncode == 0, back.stderr
    assert len(Gallery.open(tmp_path / "back")) == 4


def test_a_milvus_gallery_gives_the_folders_answers(both):
    """With the flat index: the same ids and the same distances under every filter."""
    folder, copy = both
    queries = folder.vectors([4, 7])
    assert len(copy) == len(folder) == 38 and copy.info == folder.info
    for where in CONDITIONS:
        for mine, other in zip(folder.search(queries, 12, where), copy.search(queries, 12, where)):
            assert mine.ids.tolist() == other.ids.tolist(), where
            assert mine.distances.tolist() == other.distances.tolist()
    options = {"rerank": {"k1": 6}, "exclude_same_camera": ["c2", None]}
    mine, other = (gallery.search(queries, 5, **options)[0] for gallery in both)
    assert mine.to_dict() == other.to_dict()
    with pytest.raises(ValueError, match="'kamera'"):
        copy.search(queries, 5, ["kamera=c1"])
    with pytest.raises(ValueError, match="made with FLAT"):
        copy.search(queries, 5, index="HNSW")


def test_there_and_back_again(both, tmp_path):
    """Ids start anew, all else stays; image paths still lead to the images."""
    folder, copy = both
    back = to_folder(copy, tmp_path / "back")
    live = folder.is_live
    assert (back.embeddings == folder.embeddings[live]).all()
    for name in ("pid", "camera", "time", "shoes"):
        assert back.records[name].equals(folder.records.filter(live)[name]), name
    paths = [back.image_path(path).resolve() for path in back.records["path"].to_pylist()]
    assert paths == [folder.image_path(path).resolve() for path in folder.records.filter(live)["path"].to_pylist()]


def test_rows_are_added_changed_and_removed(both):
    _, copy = both
    new = copy.add(np.eye(8, dtype=np.float32)[:2], [{"path": "x.png", "camera": "c9"}, {"path": "y.png"}], MODEL)
    assert new.tolist() == [40, 41]  # 39 was there once
    assert copy.update(new[:1], {"pid": "9", "hat": "red"}) == 1
    row = copy.search(np.eye(8, dtype=np.float32)[:1], 1, ["camera=c9"])[0].rows[0]
    assert (row["id"], row["pid"], row["hat"], row["path"]) == (40, "9", "red", "x.png")
    again = MilvusGallery.open(copy.path)
    assert "hat" in again.columns and again.about["next_id"] == 42
    assert copy.remove(new) == 2 and len(copy) == 38
    with pytest.raises(KeyError, match="id 40"):
        copy.remove([0, 40])
    with pytest.raises(ValueError, match="another model"):
        copy.add(np.eye(8, dtype=np.float32)[:1], [{"path": "z.png"}], "sha256:b")
    with pytest.raises(FileExistsError, match="overwrite"):
        MilvusGallery.create(copy.path, copy.info)


@pytest.fixture
def small(tmp_path):
    """A gallery in Milvus Lite, copied from a folder whose last row, id 2, was removed and compacted away."""
    for package in ("pymilvus", "milvus_lite"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    folder = Gallery.create(tmp_path / "g", GalleryInfo(MODEL, 3))
    folder.add(np.eye(3, dtype=np.float32), [{"path": f"{i}.png"} for i in range(3)], MODEL)
    folder.remove([2])
    compact(folder)
    copy = from_folder(folder, f"milvus:{tmp_path}/g.db")
    yield copy
    copy.close()


def test_an_id_that_was_compacted_away_is_not_given_again(small):
    assert small.ids.tolist() == [0, 1]
    assert small.add(np.eye(3, dtype=np.float32)[:1], [{"path": "new.png"}], MODEL).tolist() == [3]


def test_one_writer_after_another_leaves_the_rows_of_both(small):
    other = MilvusGallery.open(small.path)
    assert small.add(np.eye(3, dtype=np.float32)[:2], [{"path": "a.png"}, {"path": "b.png"}], MODEL).tolist() == [3, 4]
    small.set_info(threshold={"distance": 0.5})
    assert other.add(np.eye(3, dtype=np.float32)[:1], [{"path": "c.png"}], MODEL).tolist() == [5]
    assert [row["path"] for row in other.rows_of([3, 4, 5])] == ["a.png", "b.png", "c.png"]
    assert MilvusGallery.open(small.path).info.threshold == {"distance": 0.5}


def test_rows_are_never_written_over_others(small):
    small.save(next_id=1)  # as another program may leave it that writes at the same time
    with pytest.raises(ValueError, match=r"\brow 1\b"):
        small.add(np.eye(3, dtype=np.float32)[:2], [{"path": "a.png"}, {"path": "b.png"}], MODEL)
    assert [row["path"] for row in small.rows_of([0, 1])] == ["0.png", "1.png"] and len(small) == 2


def test_a_folder_goes_once_its_replacement_is_complete(small, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(Gallery, "append", full)
        to_folder(small, tmp_path / "g", overwrite=True)
    assert len(Gallery.open(tmp_path / "g")) == 2
    back = to_folder(small, tmp_path / "g", overwrite=True)
    assert back.records["path"].to_pylist() == ["0.png", "1.png"] and back.path == tmp_path / "g"


def test_rows_are_looked_up_by_their_key_not_by_listing_all(small, monkeypatch):
    monkeypatch.setattr(MilvusGallery, "_rows", None)
    assert [row["path"] for row in small.rows_of([1, 0])] == ["1.png", "0.png"]
    assert small.vectors_of([1]).tolist() == [[0, 1, 0]]
    found = small.search(small.vectors_of([0]), 1, ["id!=0"])[0]
    assert found.ids.tolist() == [1] and found.rows[0]["path"] == "1.png"
    with pytest.raises(KeyError, match="id 2"):
        small.vectors_of([2])


def test_a_milvus_gallery_goes_once_its_replacement_is_complete(small, tmp_path, monkeypatch):
    """Whatever happens while the new rows are written, the old ones are there; then, in one step, the new ones."""
    folder = Gallery.open(tmp_path / "g")
    folder.add(np.eye(3, dtype=np.float32)[2:], [{"path": "late.png"}], MODEL)
    seen = []

    def insert(target, records, vectors):
        seen.append(MilvusGallery.open(small.path).ids.tolist())
        raise OSError("no space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(MilvusGallery, "insert", insert)
        from_folder(folder, small.path, overwrite=True)
    assert seen == [[0, 1]] and small.ids.tolist() == [0, 1]
    for _ in range(2):  # there and back between the two names of the rows
        again = from_folder(folder, small.path, overwrite=True)
        assert again.ids.tolist() == [0, 1, 3] and len(again.client.list_collections()) == 4
        small.refresh()
        assert small.ids.tolist() == [0, 1, 3] and [row["path"] for row in small.rows_of([3])] == ["late.png"]


@pytest.mark.parametrize("step", ["filling", "committed"])
def test_a_killed_replacement_is_cleared_away_by_the_next(small, tmp_path, monkeypatch, step):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(milvus_collections, "drop", lambda *_: None)  # a killed process clears nothing away
        if step == "filling":
            patch.setattr(MilvusGallery, "insert", killed)
            with pytest.raises(KeyboardInterrupt):
                from_folder(Gallery.open(tmp_path / "g"), small.path, overwrite=True)
        else:
            from_folder(Gallery.open(tmp_path / "g"), small.path, overwrite=True)
    assert MilvusGallery.open(small.path).ids.tolist() == [0, 1]
    assert len(small.client.list_collections()) == 5
    again = from_folder(Gallery.open(tmp_path / "g"), small.path, overwrite=True)
    assert again.ids.tolist() == [0, 1] and len(small.client.list_collections()) == 4


def test_galleries_beside_it_are_not_in_the_way_of_a_replacement(small, tmp_path):
    beside = [MilvusGallery.create(f"{small.path}#gallery{end}", small.info) for end in ("_rows", "_draft", "2")]
    with pytest.raises(FileExistsError, match="'gallery_rows'.*needed"):
        from_folder(Gallery.open(tmp_path / "g"), small.path, overwrite=True)
    assert small.ids.tolist() == [0, 1] and [len(other) for other in beside] == [0, 0, 0]


def test_no_other_name_reaches_the_collections_of_a_gallery(small, tmp_path, monkeypatch):
    """Rows that moved to gallery_rows, and a draft that a killed process left, are nobody else's to overwrite."""
    with monkeypatch.context() as patch:
        patch.setattr(milvus_collections, "drop", lambda *_: None)  # killed when the new rows had become the gallery
        from_folder(Gallery.open(tmp_path / "g"), small.path, overwrite=True)
    ends = [
        ("_rows", "no gallery"),
        ("_about", "no gallery"),
        ("_suppressed", "no gallery"),
        ("_draft", "killed import"),
    ]
    for end, reason in ends:
        with pytest.raises(FileExistsError, match=reason):
            MilvusGallery.create(f"{small.path}#gallery{end}", small.info, overwrite=True)
    assert MilvusGallery.open(small.path).ids.tolist() == [0, 1]


def test_a_collection_that_is_no_gallery_is_never_dropped(small, tmp_path):
    milvus_collections.make_rows(small.client, "gallery_rows", small.info, "FLAT")
    milvus_collections.make_rows(small.client, "theirs", small.info, "FLAT")
    row = {"id": 0, "path": "theirs.png", "vector": [1.0, 0.0, 0.0]}
    for end in ("1_about", "2_draft_about"):
        milvus_collections.make_rows(small.client, f"gallery{end}", small.info, "FLAT")
        small.client.insert(f"gallery{end}", [row])
    for path in (small.path, f"{small.path}#theirs", f"{small.path}#gallery1", f"{small.path}#gallery2"):
        with pytest.raises(FileExistsError, match="no gallery"):
            from_folder(Gallery.open(tmp_path / "g"), path, overwrite=True)
    assert len(small.client.list_collections()) == 7 and small.ids.tolist() == [0, 1]


def test_a_name_that_ends_like_another_gallerys_about_is_kept_apart(small):
    beside = MilvusGallery.create(f"{small.path}#other_about", small.info)
    with pytest.raises(FileExistsError, match="'other_about'.*needed"):
        MilvusGallery.create(f"{small.path}#other", small.info)
    with pytest.raises(FileNotFoundError, match="no gallery.*'other'"):
        MilvusGallery.open(f"{small.path}#other")
    assert len(beside) == 0


@pytest.mark.parametrize("step", ["make_rows", "insert", "about_row"])
def test_a_killed_first_import_is_begun_again_without_overwrite(small, tmp_path, monkeypatch, step):
    def killed(*_):
        raise KeyboardInterrupt

    path, folder = f"{small.path}#fresh", Gallery.open(tmp_path / "g")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(milvus_collections, "drop", lambda *_: None)  # a killed process clears nothing away
        patch.setattr(MilvusGallery if step == "insert" else milvus_collections, step, killed)
        from_folder(folder, path)
    with pytest.raises(FileNotFoundError, match="no gallery.*'fresh'"):
        MilvusGallery.open(path)
    assert from_folder(folder, path).ids.tolist() == [0, 1]


def test_who_has_the_earlier_gallery_open_searches_it_until_refresh(small, tmp_path):
    folder = Gallery.open(tmp_path / "g")
    folder.remove([0])
    query = np.eye(3, dtype=np.float32)[:1]
    from_folder(folder, small.path, overwrite=True).close()
    found = small.search(query, 1)[0]
    assert found.ids.tolist() == [0] and found.rows[0]["path"] == "0.png" and len(small) == 2
    with pytest.raises(KeyError, match="id 0"):
        small.remove([0])  # a write refreshes first, so it meets the gallery that is there now
    assert small.ids.tolist() == [1]
    small.drop_earlier()
    assert sorted(small.client.list_collections()) == ["gallery_about", "gallery_rows", "gallery_suppressed"]
    small.drop_earlier()  # nothing is left to drop
    assert from_folder(folder, small.path, overwrite=True).ids.tolist() == [1]


def test_a_refresh_that_fails_is_an_os_error_which_the_server_outlives(small, monkeypatch):
    from pymilvus import MilvusException

    def unanswered(*_, **__):
        raise MilvusException(message="the server does not answer")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="does not answer"):
        patch.setattr(small.client._client, "has_collection", unanswered)
        small.refresh()
    milvus_collections.drop(small.client, "gallery_about")
    with pytest.raises(FileNotFoundError, match="no gallery"):
        small.refresh()
    assert small.ids.tolist() == [0, 1]


def test_each_client_is_closed_but_that_of_the_gallery_returned(small, tmp_path, monkeypatch):
    made = []

    def connect_and_note(path, create=False):
        made.append(connect(path, create)[0])
        return made[-1], path.partition("#")[2] or "gallery"

    def num_open():
        return sum(client._client._handler is not None for client in made)

    monkeypatch.setattr(milvus_collections, "connect", connect_and_note)
    folder = Gallery.open(tmp_path / "g")
    with pytest.raises(FileExistsError, match="overwrite"):
        from_folder(folder, small.path)
    with pytest.raises(FileNotFoundError, match="no gallery"):
        MilvusGallery.open(f"{small.path}#absent")
    assert len(made) == 2 and num_open() == 0
    again = from_folder(folder, small.path, overwrite=True)
    assert num_open() == 1 and len(again) == 2
    again.close()
    assert num_open() == 0 and len(small) == 2


def removed_keys(gallery):
    return sorted(key.hex() for key in gallery.suppressed["key"].to_pylist())


def test_removed_rows_are_listed_as_in_a_folder_and_no_addition_brings_them_back(small, tmp_path, caplog):
    folder, rows = Gallery.open(tmp_path / "g"), np.eye(3, dtype=np.float32)
    assert removed_keys(small) == removed_keys(folder) and len(folder.suppressed) == 1
    for gallery in (folder, small):
        assert gallery.remove([0]) == 1
        assert gallery.add(rows[:2], [{"path": "0.png"}, {"path": "new.png"}], MODEL).tolist() == [-1, 3]
        assert "1 of 2 rows were removed earlier and stay out" in caplog.text
        caplog.clear()
    assert removed_keys(small) == removed_keys(folder) and small.ids.tolist() == [1, 3]
    small.set_suppressed(small.suppressed.slice(0, 0))
    assert small.add(rows[:1], [{"path": "0.png"}], MODEL).tolist() == [4]


def test_the_list_is_of_the_gallerys_name_and_outlives_its_replacement(small, tmp_path):
    small.remove([0])
    again = from_folder(Gallery.open(tmp_path / "g"), small.path, overwrite=True)
    assert again.ids.tolist() == [1] and len(again.suppressed) == 2
    assert from_folder(Gallery.open(tmp_path / "g"), f"{small.path}#other").ids.tolist() == [0, 1]


def test_an_image_that_another_row_shows_too_is_not_listed(small):
    (twin,) = small.add(np.eye(3, dtype=np.float32)[:1], [{"path": "0.png", "pid": "7"}], MODEL)
    small.remove([twin])
    assert len(small.suppressed) == 1 and small.ids.tolist() == [0, 1]
    small.remove([0, 1])
    assert len(small.suppressed) == 3
    assert small.remove([small.add(np.eye(3, dtype=np.float32)[:1], [{"path": "a"}], MODEL)[0]], reason=None) == 1
    assert len(small.suppressed) == 3


def test_boxes_in_one_image_are_different_rows(small):
    boxes = [{"path": "all.png", "x": x, "y": 0, "width": 9, "height": 9} for x in (0.0, 20.0)]
    left, right = small.add(np.eye(3, dtype=np.float32)[:2], boxes, MODEL)
    small.remove([left])
    assert small.add(np.eye(3, dtype=np.float32)[:2], boxes, MODEL).tolist() == [-1, right + 1]


def test_what_was_removed_from_an_earlier_folder_or_in_milvus_stays_out_of_the_way_back(small, tmp_path):
    small.remove([0])
    assert to_folder(small, tmp_path / "g", overwrite=True).ids.tolist() == [0]
    folder = Gallery.open(tmp_path / "g")
    assert folder.records["path"].to_pylist() == ["1.png"] and len(folder.suppressed) == 2


def test_a_killed_removal_is_completed_by_the_next(small, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            type(small.client), "delete", property(lambda _: (_ for _ in ()).throw(KeyboardInterrupt)), raising=False
        )
        small.remove([0])
    again = MilvusGallery.open(small.path)
    assert again.ids.tolist() == [0, 1] and len(again.suppressed) == 2
    assert again.remove([0]) == 1 and again.ids.tolist() == [1] and len(again.suppressed) == 2


def test_a_list_that_is_another_programs_is_named(small, tmp_path):
    milvus_collections.make_rows(small.client, "other_suppressed", small.info, "FLAT")
    with pytest.raises(ValueError, match="'other_suppressed'.*choose another #NAME"):
        from_folder(Gallery.open(tmp_path / "g"), f"{small.path}#other")
