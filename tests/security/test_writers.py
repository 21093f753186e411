"""What vitreid writes: never through a link, never two at once, all or nothing, and an error that says why not."""

import os
import resource
import shutil
import signal
import stat
import sys
import time
from contextlib import suppress

import numpy as np
import pytest

from vitreid.benchmarks.attacks import kills
from vitreid.benchmarks.attacks.gallery_writers import Broken, G, add, add_as_second, keys_in, make
from vitreid.benchmarks.attacks.writers import WRITERS
from vitreid.common import replace_folder, signature
from vitreid.common.inputs.regular_files import NotRegularFileError
from vitreid.common.locks import FILE, WriterLock
from vitreid.gallery import Gallery, compact, export_as, to_int8, verify
from vitreid.gallery.keeping.decision_file import Decision, DecisionFile
from vitreid.gallery.storage.file_names import replaced_files
from vitreid.gallery.storage.metadata import State
from vitreid.processor.runs.run_folder import RunFolder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs links, locks and limits of POSIX")
SECRET = b"not to be overwritten"


@pytest.fixture
def secret(tmp_path):
    """A file of the user, to which a stranger's link leads."""
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def gallery(tmp_path):
    make(tmp_path / G)
    return tmp_path / G


# ---- links in the place of own files


def write_gallery(folder):
    Gallery.open(folder).update([0], {"pid": "x"})
    add(folder, np.arange(100, 102))
    compact(Gallery.open(folder))


@pytest.mark.parametrize(
    "name",
    [".lock", ".gallery.json.tmp", ".records.parquet.tmp", ".cameras.npz.tmp", "embeddings.npy", "records.parquet"],
)
def test_a_gallery_is_not_written_through_a_link(name, gallery, secret):
    path = gallery / name
    content = path.read_bytes() if path.exists() else None
    if content is not None:
        secret.write_bytes(content)
        path.unlink()
    path.symlink_to(secret)
    with suppress(OSError, ValueError):
        write_gallery(gallery)
    assert secret.read_bytes() == (SECRET if content is None else content)


@pytest.mark.parametrize("name", [".G.new", ".G.old", ".G.ready"])
def test_what_a_link_next_to_a_gallery_leads_to_stays(name, gallery, tmp_path):
    """The folders of a replacement lie next to the gallery, where a stranger's archive may have put a link."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_bytes(SECRET)
    (tmp_path / name).symlink_to(other)
    assert len(Gallery.open(gallery)) == 60 and not verify(gallery, images=False)
    for write in (lambda: Gallery.open(gallery).remove([1]), lambda: compact(Gallery.open(gallery))):
        with pytest.raises(NotRegularFileError, match=rf"{name}.*link.*remove it"):
            write()
    assert [item.name for item in other.iterdir()] == ["mine.txt"] and len(Gallery.open(gallery)) == 60


@pytest.mark.parametrize(
    "name", [".lock", "log.txt", "metrics.jsonl", "config.yml", ".config.yml.tmp", ".metrics.jsonl.tmp", "metrics.json"]
)
def test_a_run_is_not_written_through_a_link(name, secret, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(secret)
    with suppress(OSError, ValueError):
        WRITERS["run folder"].write(tmp_path, 0)
    assert secret.read_bytes() == SECRET


@pytest.mark.parametrize("name", ["features.safetensors", ".features.safetensors.tmp"])
def test_a_file_replaces_a_link_of_its_name(name, secret, tmp_path):
    (tmp_path / name).symlink_to(secret)
    WRITERS["features"].write(tmp_path, 0)
    assert secret.read_bytes() == SECRET
    assert not (tmp_path / "features.safetensors").is_symlink()


def test_the_work_folder_of_an_export_is_no_link(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "part-0.safetensors").write_bytes(SECRET)
    (tmp_path / "G.partial").symlink_to(other)
    with pytest.raises(NotRegularFileError, match=r"G\.partial.*link"):
        WRITERS["export"].write(tmp_path, 0)
    assert (other / "part-0.safetensors").read_bytes() == SECRET


def test_a_pipe_in_the_place_of_a_lock_is_refused_at_once(gallery):
    os.mkfifo(gallery / FILE)
    with pytest.raises(NotRegularFileError, match=r"\.lock.*pipe"):
        Gallery.open(gallery).remove([1])


# ---- one writer at a time


@pytest.mark.parametrize("name", [name for name, writer in WRITERS.items() if name.startswith(("gallery", "export -"))])
def test_a_write_waits_for_nobody_and_says_who_is_writing(name, tmp_path):
    """`export --overwrite`, `pool` and `compress` replace the whole folder: they respect its lock as `add` does."""
    if name == "gallery convert":
        pytest.skip("a file, which is replaced by a rename")
    writer = WRITERS[name]
    writer.prepare(tmp_path)
    before = Gallery.open(tmp_path / G).records
    with WriterLock(tmp_path / G), pytest.raises(BlockingIOError, match=rf"being written by process {os.getpid()}"):
        writer.write(tmp_path, 2)
    assert Gallery.open(tmp_path / G).records.equals(before)
    assert not verify(tmp_path / G, images=False)


def test_a_second_run_in_a_folder_is_refused(tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(FileExistsError, match=f"in use by process {os.getpid()}"):
        RunFolder(tmp_path / "run")
    run.close()


# ---- SIGKILL


@pytest.mark.slow
def test_a_kill_at_any_moment_of_any_writer_loses_nothing(capsys):
    """The short form of `python benchmarks/attacks/kills.py --kills 500`."""
    names = ("add", "compact", "merge", "pool", "export --over", "features", "run folder", "synthetic")
    for name in names:
        assert kills.main(["--kills", "3", "--writer", name]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("is_finished", [False, True], ids=["between the two folders", "after it"])
def test_a_reader_that_meets_a_replacement_reads_the_new_gallery(is_finished, tmp_path, monkeypatch):
    make(tmp_path / G)
    make(tmp_path / "new", first=100)
    DecisionFile(tmp_path / G).append([Decision("name", "Ann", ("0" * 32,), name="Bob")])
    from_before, read = Gallery.open(tmp_path / G), State.read

    def meet(folder):
        """The folder is moved aside before this reader opens its first file."""
        monkeypatch.setattr(State, "read", read)
        (tmp_path / "new").rename(tmp_path / f".{G}.ready")
        (tmp_path / G).rename(tmp_path / f".{G}.old")
        with pytest.raises(FileNotFoundError) as met:
            read(folder)
        if is_finished:
            replace_folder.recover(folder, replaced_files)
        raise met.value

    monkeypatch.setattr(State, "read", meet)
    assert min(keys_in(tmp_path / G)) == 100
    from_before.refresh()
    assert verify(tmp_path / G, images=False) == [] and len(DecisionFile(tmp_path / G).read()) == 1


def test_a_missing_file_is_named_without_waiting_for_a_replacement(gallery):
    (gallery / "gallery.json").unlink()
    begin = time.monotonic()
    with pytest.raises(FileNotFoundError, match="is not a gallery"):
        Gallery.open(gallery)
    assert time.monotonic() - begin < replace_folder.READER_PATIENCE


def test_what_the_kills_look_for_is_found(tmp_path):
    """A check that finds nothing in a spoiled gallery would prove nothing."""
    make(tmp_path / G)
    added = add_as_second(tmp_path, 0)
    check = WRITERS["gallery add"].check
    check(tmp_path, added)
    with pytest.raises(Broken, match="1 rows are lost"):
        check(tmp_path, {*added, 77_777})
    add(tmp_path / G, np.arange(1000, 1003))
    with pytest.raises(Broken, match="3 rows of 30"):
        check(tmp_path, added)
    rows = np.load(tmp_path / G / "embeddings.npy", "r+")
    rows[5] = rows[6]
    rows.flush()
    with pytest.raises(Broken, match="not that of its record"):
        keys_in(tmp_path / G)


def test_nothing_but_an_expected_name_is_left_behind(tmp_path):
    writer = WRITERS["features"]
    (tmp_path / "files").mkdir()
    writer.write(tmp_path / "files", 0)
    assert kills.after(writer, tmp_path / "files", set(), tmp_path) == []
    (tmp_path / "files" / ".features.safetensors.part").touch()
    assert kills.after(writer, tmp_path / "files", set(), tmp_path) == ["left behind: .features.safetensors.part"]


# ---- no space, no right to write


@pytest.fixture
def small_disk():
    """No file can grow beyond 64 kB, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(size=2**16):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield fill
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_named_and_rows_can_be_removed_to_make_room(gallery, small_disk):
    small_disk()
    with pytest.raises(OSError, match=r"embeddings\.npy.*unchanged"):
        add(gallery, np.arange(1000, 4000))
    assert keys_in(gallery) == set(range(60)) and not verify(gallery, images=False)
    assert (gallery / "embeddings.npy").stat().st_size < 2**14, "the failed rows take no space"
    Gallery.open(gallery).remove([0])
    assert len(Gallery.open(gallery)) == 59


@pytest.mark.parametrize("write", [lambda g, out: to_int8(g, out), lambda g, out: export_as(g, out, "npz")])
def test_a_full_disk_leaves_no_half_output(write, gallery, small_disk, tmp_path):
    add(gallery, np.arange(1000, 3000))
    opened = Gallery.open(gallery)
    small_disk(2**12)
    with pytest.raises(OSError, match="out"):
        write(opened, tmp_path / "out")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(gallery):
    gallery.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(PermissionError, match=r"G .*copy it to a folder"):
            Gallery.open(gallery).remove([1])
    finally:
        gallery.chmod(0o700)


def test_a_read_only_file_system_is_named(gallery, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    opened = Gallery.open(gallery)
    monkeypatch.setattr("vitreid.common.locks.open_own", refuse)
    with pytest.raises(PermissionError, match=r"Read-only file system.*copy it to a folder"):
        opened.remove([1])


# ---- copies, leftovers


def test_a_copy_that_mixes_two_states_does_not_open(gallery, tmp_path):
    """`cp -r` during a write takes gallery.json of one state and rows of another."""
    shutil.copytree(gallery, tmp_path / "copy")
    rows = np.load(tmp_path / "copy" / "embeddings.npy", "r+")
    rows[-1] = rows[0]
    rows.flush()
    with pytest.raises(ValueError, match=r"copy.*embeddings\.npy.*copy the folder again"):
        Gallery.open(tmp_path / "copy")


def test_the_folder_of_a_killed_export_of_a_model_is_used_again_and_removed(tmp_path):
    partial = tmp_path / ".model.ts.partial"
    partial.mkdir()
    (partial / "half.ts").write_bytes(b"x")
    with replace_folder.scratch_folder(tmp_path / "model.ts") as folder:
        assert folder == partial and {item.name for item in folder.iterdir()} == {FILE}
    assert not partial.exists()


def test_the_key_of_signatures_is_for_its_owner_only(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    mark = signature.sign("text")
    key = tmp_path / "vitreid" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and signature.is_own("text", mark)
    assert not signature.is_own("another text", mark) and not signature.is_own("text", "")
    key.unlink()
    os.mkfifo(key)
    assert not signature.is_own("text", mark) and signature.sign("text") == ""
