"""A gallery on disk: what goes in comes out, a crash at any step loses nothing that was committed, strangers are refused."""

import builtins
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitreid.common.locks import WriterLock
from vitreid.common.text import to_seconds
from vitreid.gallery import Gallery, GalleryInfo
from vitreid.gallery.storage import embeddings_file, gallery_reader, records_file
from vitreid.gallery.storage.metadata import State

INFO = GalleryInfo(model="sha256:a", dimension=3)


def rows_of(count: int, first: float = 0.0) -> np.ndarray:
    return first + np.arange(count * 3, dtype=np.float32).reshape(count, 3)


def records_of(count: int, first: int = 0) -> list[dict]:
    return [
        {"path": f"{first + i}.jpg", "pid": str(i % 2), "camera": f"c{i % 3}", "time": 10.0 * i} for i in range(count)
    ]


def make(folder: Path, count: int = 4, info: GalleryInfo = INFO) -> Gallery:
    gallery = Gallery.create(folder / "G", info)
    gallery.add(rows_of(count), records_of(count), info.model)
    return gallery


def test_what_goes_in_comes_out(tmp_path):
    make(tmp_path)
    gallery = Gallery.open(tmp_path / "G")
    assert len(gallery) == 4 and gallery.is_live.all()
    np.testing.assert_array_equal(gallery.embeddings, rows_of(4))
    assert not gallery.embeddings.flags.writeable
    assert gallery.records.column_names == records_file.CORE.names
    assert gallery.rows_at([2]) == [
        {"id": 2, "path": "2.jpg", "pid": "0", "camera": "c2", "view": None, "time": 20.0, "tracklet": None}
    ]


def test_other_programs_can_read_the_files(tmp_path):
    make(tmp_path).add(rows_of(2, 50), records_of(2, 4), "sha256:a")
    np.testing.assert_array_equal(np.load(tmp_path / "G" / "embeddings.npy")[4:], rows_of(2, 50))
    assert pq.read_table(tmp_path / "G" / "records.parquet")["path"].to_pylist()[3:] == ["3.jpg", "4.jpg", "5.jpg"]
    assert json.loads((tmp_path / "G" / "gallery.json").read_text())["count"] == 6


def test_many_small_adds_give_the_same_bytes_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(records_file, "GROUP_ROWS", 3)
    whole, parts = Gallery.create(tmp_path / "whole", INFO), Gallery.create(tmp_path / "parts", INFO)
    whole.add(rows_of(7), records_of(7), "sha256:a")
    for start, stop in ((0, 2), (2, 2), (2, 6), (6, 7)):
        parts.add(rows_of(7)[start:stop], records_of(7)[start:stop], "sha256:a")
    for name in ("embeddings.npy", "records.parquet"):
        assert (whole.path / name).read_bytes() == (parts.path / name).read_bytes()
    assert [row["path"] for row in parts.rows_at([6, 0, 3])] == ["6.jpg", "0.jpg", "3.jpg"]


def test_embeddings_of_another_model_are_refused_with_both_fingerprints(tmp_path):
    gallery = make(tmp_path)
    with pytest.raises(ValueError, match=r"sha256:a.*sha256:b"):
        gallery.add(rows_of(1), records_of(1), "sha256:b")
    embedder = lambda images: rows_of(len(images))  # noqa: E731
    embedder.fingerprint = "sha256:b"
    with pytest.raises(ValueError, match=r"sha256:a.*sha256:b"):
        Gallery.open(gallery.path, embedder)


@pytest.mark.parametrize(
    ("rows", "records", "message"),
    [
        (rows_of(1)[:, :2], records_of(1), r"\(n, 3\)"),
        (np.array([[0, np.nan, 0]], np.float32), records_of(1), "row 0 "),
        (rows_of(2), records_of(1), "2 embeddings.*2 records.*1"),
        (rows_of(1), [{"pid": "7"}], "record.*a path"),
        (rows_of(1), [{"path": "a", "id": 3}], "'id'"),
        (rows_of(2), [{"path": "a", "x": 1}, {"path": "b", "x": "one"}], "'x'.*mixed types"),
        (rows_of(1), [{"path": "a", "time": "noon"}], "ISO 8601"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, rows, records, message):
    gallery = make(tmp_path)
    with pytest.raises(ValueError, match=message):
        gallery.add(rows, records, "sha256:a")
    assert len(Gallery.open(gallery.path)) == 4


def test_values_too_large_for_float16_are_refused(tmp_path):
    gallery = Gallery.create(tmp_path / "G", GalleryInfo("m", 1, "float16"))
    with pytest.raises(ValueError, match="float16 cannot hold"):
        gallery.add(np.array([[1e6]]), [{"path": "a"}], "m")


def test_extra_columns_keep_their_types_and_are_null_where_unknown(tmp_path):
    gallery = make(tmp_path, 1)
    gallery.add(rows_of(1), [{"path": "b", "score": 2, "note": None}], "sha256:a")
    gallery.add(rows_of(1), [{"path": "c", "score": 0.5, "note": "x"}], "sha256:a")
    assert gallery.records["score"].to_pylist() == [None, 2.0, 0.5]
    assert gallery.records["note"].to_pylist() == [None, None, "x"]
    with pytest.raises(ValueError, match="'score'.*double.*string"):
        gallery.add(rows_of(1), [{"path": "d", "score": "high"}], "sha256:a")


def test_numbers_become_names_and_times_become_seconds(tmp_path):
    gallery = make(tmp_path, 0)
    gallery.add(rows_of(1), pa.table({"path": ["a"], "pid": [7], "time": ["1970-01-01T00:00:10Z"]}), "sha256:a")
    gallery.add(rows_of(1), [{"path": "b", "pid": np.int64(8), "time": None}], "sha256:a")
    assert gallery.select(["pid", "time"]).to_pylist() == [{"pid": "7", "time": 10.0}, {"pid": "8", "time": None}]
    assert to_seconds("") is None and to_seconds(float("nan")) is None


def test_removed_rows_are_gone_and_ids_are_never_given_twice(tmp_path):
    gallery = make(tmp_path)
    assert gallery.remove([3, 1, 3]) == 2
    assert len(gallery) == 2 and gallery.is_live.tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match="id 1 is not in"):
        gallery.remove([0, 1])
    assert len(Gallery.open(gallery.path)) == 2
    assert gallery.add(rows_of(1), records_of(1), "sha256:a").tolist() == [4]


def test_update_sets_columns_of_some_rows(tmp_path):
    gallery = make(tmp_path, 3)
    assert gallery.update([0, 2], {"pid": 9, "seen": True}) == 2
    assert gallery.records["pid"].to_pylist() == ["9", "1", "9"]
    assert gallery.records["seen"].to_pylist() == [True, None, True]
    with pytest.raises(ValueError, match="ids stay"):
        gallery.update([0], {"id": 5})


def test_an_opened_gallery_stays_as_it_was_until_refreshed(tmp_path):
    writer = make(tmp_path, 2)
    reader = Gallery.open(writer.path)
    writer.add(rows_of(1), records_of(1), "sha256:a")
    writer.update([0], {"pid": "new"})
    assert len(reader) == 2 and reader.records["pid"][0].as_py() == "0"
    reader.refresh()
    assert len(reader) == 3 and reader.records["pid"][0].as_py() == "new"


def test_two_writers_are_refused_and_the_first_is_named(tmp_path):
    gallery, other = make(tmp_path), Gallery.open(tmp_path / "G")
    with gallery.lock:
        gallery.remove([0])  # the holder itself may write
        with pytest.raises(BlockingIOError, match=f"written by process {os.getpid()}"):
            other.remove([1])
    assert other.remove([1]) == 1
    assert not (gallery.path / ".lock").exists()


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = "import fcntl, os, sys; h = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); fcntl.flock(h, 2); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-S", "-c", code, str(tmp_path / ".lock")], check=False)
    assert (tmp_path / ".lock").exists()
    with WriterLock(tmp_path):
        pass


def test_create_does_not_replace_what_it_should_not(tmp_path):
    gallery = make(tmp_path)
    with pytest.raises(FileExistsError, match="G.* a gallery"):
        Gallery.create(gallery.path, INFO)
    assert len(Gallery.create(gallery.path, INFO, overwrite=True)) == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"thesis\.tex"):
        Gallery.create(tmp_path / "mine", INFO, overwrite=True)


def test_overwriting_keeps_the_images_but_not_what_was_said_of_the_old_rows(tmp_path):
    path = make(tmp_path).path
    for name in ("0.jpg", "export.json", "skipped.txt"):
        (path / name).touch()
    assert len(Gallery.create(path, INFO, overwrite=True)) == 0
    expected = ["0.jpg", "embeddings.npy", "gallery.json", "records.parquet"]
    assert sorted(item.name for item in path.iterdir()) == expected
    assert [item.name for item in tmp_path.iterdir()] == ["G"]


def test_records_come_in_the_order_of_the_positions(tmp_path):
    """Also those of several row groups, and those that are asked for twice."""
    path = tmp_path / "records.parquet"
    table = pa.table({"id": range(10), "path": [f"{number}.jpg" for number in range(10)]}).cast(
        pa.schema([("id", pa.int64()), ("path", pa.string())])
    )
    for name in records_file.CORE.names[2:]:
        table = table.append_column(records_file.CORE.field(name), pa.nulls(10, records_file.CORE.field(name).type))
    pq.write_table(table, path, row_group_size=4)
    records = records_file.RecordsFile(path, 9)
    places = [8, 0, 3, 4, 0, 7]
    assert [record["id"] for record in records.take(places)] == places and records.take([]) == []
    for place in (-1, 9):
        with pytest.raises(IndexError, match=f"position {place} is outside the 9 records"):
            records.take([0, place])


@pytest.mark.parametrize("name", ["embeddings.npy", "records.parquet", "gallery.json"])
def test_a_truncated_file_is_named_when_opening(tmp_path, name):
    path = make(tmp_path).path / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=name):
        Gallery.open(tmp_path / "G")


def test_records_of_another_gallery_are_refused(tmp_path):
    gallery, other = make(tmp_path), Gallery.create(tmp_path / "H", INFO)
    other.add(rows_of(4, 1), records_of(4), "sha256:a")
    (gallery.path / "records.parquet").write_bytes((other.path / "records.parquet").read_bytes())
    with pytest.raises(ValueError, match="written for other embeddings"):
        Gallery.open(gallery.path)


def test_a_gallery_that_changes_all_the_time_ends_in_an_error_instead_of_an_endless_loop(tmp_path, monkeypatch):
    gallery, reads = make(tmp_path), []

    def changed_since(folder):
        reads.append(folder)
        assert len(reads) < 1000, "read again and again, without an end"
        return replace(State(INFO, 4, checksum=gallery.state.checksum), next_id=len(reads))

    monkeypatch.setattr(gallery_reader, "LOAD_PAUSE", 0.0, raising=False)
    monkeypatch.setattr(State, "read", changed_since)
    with pytest.raises(OSError, match=rf"{gallery.path} changed"):
        gallery.reload()


def test_a_gallery_that_changes_once_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    gallery = make(tmp_path)
    states = iter([replace(gallery.state, next_id=9), *[gallery.state] * 3])
    monkeypatch.setattr(State, "read", lambda folder: next(states))
    gallery.reload()
    assert gallery.state.next_id == 4


class Crashed(BaseException):
    """Stands for kill -9: nothing catches it."""


class Saboteur:
    """Lets some steps that change the disk pass, then crashes at each further one, before or in the middle of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
        self.left = allowed
        self.armed = True
        for module, name in ((os, "replace"), (os, "fsync"), (Path, "rename"), (Path, "mkdir"), (Path, "write_text")):
            monkeypatch.setattr(module, name, self.wrap(getattr(module, name)))
        monkeypatch.setattr(embeddings_file, "_bytes", self.half(embeddings_file._bytes))
        monkeypatch.setattr(builtins, "open", self.wrap(builtins.open))
        monkeypatch.setattr(Path, "unlink", self.wrap(Path.unlink))

    def step(self) -> None:
        if self.armed:
            self.left -= 1
            if self.left < 0:
                raise Crashed

    def wrap(self, function: Callable) -> Callable:
        def wrapped(*args, **kwargs):
            self.step()
            return function(*args, **kwargs)

        return wrapped

    def half(self, function: Callable) -> Callable:
        """A write is called twice per part: for the file and for the checksum; crash at either."""
        return self.wrap(function)


def crash_everywhere(
    tmp_path: Path,
    action: Callable[[Gallery], object],
    check: Callable[[Gallery, bool], None],
    prepare: Callable[[Gallery], None] = lambda gallery: None,
) -> int:
    """Run `action` on fresh galleries, crashing at its first, second, ... step, and check each after reopening."""
    for allowed in range(200):
        gallery = make(tmp_path / str(allowed), 4)
        prepare(gallery)
        with pytest.MonkeyPatch.context() as patch:
            saboteur = Saboteur(patch, allowed)
            crashed = False
            try:
                action(gallery)
            except Crashed:
                crashed = True
            saboteur.armed = False
        for handle in gallery.lock._handles if crashed else ():
            os.close(handle)  # as the system does for a dead process
        check(Gallery.open(tmp_path / str(allowed) / "G"), crashed)
        if not crashed:
            return allowed
    raise AssertionError("the action never finished")


@pytest.mark.slow
def test_a_crash_at_any_step_of_an_add_leaves_the_first_rows_and_the_next_add_repairs(tmp_path):
    def check(gallery: Gallery, crashed: bool) -> None:
        count = gallery.state.count
        assert count in ((4, 6) if crashed else (6,))
        np.testing.assert_array_equal(gallery.embeddings[:4], rows_of(4))
        assert gallery.records["path"].to_pylist()[:4] == [f"{i}.jpg" for i in range(4)]
        if count == 4:
            assert gallery.add(rows_of(2, 50), records_of(2, 4), "sha256:a").tolist() == [4, 5]
        np.testing.assert_array_equal(np.load(gallery.path / "embeddings.npy"), np.r_[rows_of(4), rows_of(2, 50)])
        assert gallery.records["path"].to_pylist() == [f"{i}.jpg" for i in range(6)]

    steps = crash_everywhere(tmp_path, lambda g: g.add(rows_of(2, 50), records_of(2, 4), "sha256:a"), check)
    assert steps >= 8


@pytest.mark.slow
def test_a_crash_at_any_step_of_a_removal_or_update_is_all_or_nothing(tmp_path):
    def check(gallery: Gallery, crashed: bool) -> None:
        assert gallery.is_live.tolist() in ([True] * 4, [True, False, True, True])
        assert gallery.records["pid"].to_pylist() in (["0", "1", "0", "1"], ["9", "1", "0", "1"])
        np.testing.assert_array_equal(gallery.embeddings, rows_of(4))
        assert crashed or (len(gallery) == 3 and gallery.records["pid"][0].as_py() == "9")

    crash_everywhere(tmp_path, lambda g: (g.remove([1]), g.update([0], {"pid": "9"})), check)


@pytest.mark.slow
def test_a_crash_at_any_step_of_compact_leaves_one_of_the_two(tmp_path):
    from vitreid.gallery import compact

    def act(gallery: Gallery) -> None:
        gallery.remove([1])
        compact(gallery)

    def check(gallery: Gallery, crashed: bool) -> None:
        live = gallery.is_live
        assert os.path.exists(gallery.path / "0.jpg") and os.path.exists(gallery.path / "more" / "1.jpg")
        assert len(gallery) in ((3, 4) if crashed else (3,))
        np.testing.assert_array_equal(gallery.embeddings[live], rows_of(4)[gallery.ids[live]])
        gallery.add(rows_of(1, 9), records_of(1), "sha256:a")
        assert gallery.ids[-1] == 4
        assert os.listdir(gallery.path.parent) == ["G"]  # the next writer tidied up

    assert crash_everywhere(tmp_path, act, check, with_images) >= 16


def with_images(gallery: Gallery) -> None:
    (gallery.path / "more").mkdir()
    for name in ("0.jpg", "more/1.jpg"):
        (gallery.path / name).touch()


@pytest.mark.parametrize("allowed", [0, 1], ids=["before it was complete", "before it took the place"])
def test_a_killed_compact_is_no_gallery_once_the_real_one_is_moved(tmp_path, monkeypatch, allowed):
    from vitreid.gallery import compact

    def die(path: Path, target: Path, left: list[int] = [allowed], rename: Callable = Path.rename) -> Path:  # noqa: B006
        if not left[0]:
            raise Crashed
        left[0] -= 1
        return rename(path, target)

    gallery = make(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(Crashed):
        patch.setattr(Path, "rename", die)
        compact(gallery)
    assert len(os.listdir(tmp_path)) == 2
    os.rename(tmp_path / "G", tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="not a gallery"):
        Gallery.open(tmp_path / "G")
    os.rename(tmp_path / "moved", tmp_path / "G")
    Gallery.open(tmp_path / "G").remove([0])
    assert os.listdir(tmp_path) == ["G"]


def test_a_file_that_is_there_twice_after_an_interruption_is_named_not_deleted(tmp_path):
    gallery = make(tmp_path)
    (tmp_path / ".G.old").mkdir()
    for folder, text in ((gallery.path, "new"), (tmp_path / ".G.old", "old")):
        (folder / "0.jpg").write_text(text)
    with pytest.raises(FileExistsError, match=r"0\.jpg.*G and.*\.G\.old"):
        gallery.remove([0])
    assert len(Gallery.open(gallery.path)) == 4 and (tmp_path / ".G.old" / "0.jpg").read_text() == "old"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["add", "remove", "update", "compact", "reopen", "crash"]), max_size=8), st.randoms())
@pytest.mark.slow
def test_any_history_keeps_every_live_row_with_its_record(tmp_path_factory, actions, random):
    from vitreid.gallery import compact, verify

    path = tmp_path_factory.mktemp("history") / "G"
    gallery, expected = Gallery.create(path, INFO), {}
    for action in actions:
        if action == "add":
            rows = np.array(
                [[random.random() + 0.1 for _ in range(3)] for _ in range(random.randint(0, 3))], np.float32
            )
            ids = gallery.add(rows.reshape(-1, 3), [{"path": str(row)} for row in rows], "sha256:a")
            expected |= {int(i): (row.tolist(), str(row)) for i, row in zip(ids, rows, strict=True)}
        elif action == "remove" and expected:
            gone = random.choice(sorted(expected))
            gallery.remove([gone])
            del expected[gone]
        elif action == "update" and expected:
            chosen = random.choice(sorted(expected))
            gallery.update([chosen], {"path": "moved"})
            expected[chosen] = (expected[chosen][0], "moved")
        elif action == "compact":
            compact(gallery)
        elif action == "crash":  # the files of an add that was not committed
            before = (path / "gallery.json").read_bytes()
            gallery.add(rows_of(2, 77), records_of(2), "sha256:a")
            (path / "gallery.json").write_bytes(before)
            gallery = Gallery.open(path)
        else:
            gallery = Gallery.open(path)
    assert verify(path, images=False) == []
    found = zip(gallery.ids.tolist(), gallery.embeddings.tolist(), gallery.records["path"].to_pylist(), strict=True)
    live = {key: (row, name) for (key, row, name), is_live in zip(found, gallery.is_live, strict=True) if is_live}
    assert live == expected
