"""An export onto a gallery that is there adds what is new; who was removed stays out; --overwrite says what it drops."""

import csv
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vitreid.gallery import Gallery, compact, fit_pca, to_int8, verify
from vitreid.gallery.export import export_plan
from vitreid.processor.embedding.embedder import Embedder
from vitreid.tools import export as export_tool
from vitreid.tools import gallery as gallery_tool

OPTIONS = ["--device", "cpu", "--precision", "fp32"]


@pytest.fixture
def images(people, tmp_path):
    """28 of the synthetic people's images."""
    found = sorted((people / "synthetic" / "bounding_box_train").glob("*.jpg"))[:28]
    (tmp_path / "images").mkdir()
    return [Path(shutil.copy(path, tmp_path / "images" / f"{number:02}.jpg")) for number, path in enumerate(found)]


def write_csv(path, images, pids):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("path", "pid", "camera"), *((image, pid, "c1") for image, pid in zip(images, pids))]
        )
    return path


def export(weights, source, output, *words):
    return export_tool.main(
        [*("--weights", str(weights), "--input", str(source), "--output", str(output)), *OPTIONS, *map(str, words)]
    )


def add(weights, gallery, *words):
    return gallery_tool.main(["add", str(gallery), *map(str, words), "--weights", str(weights), *OPTIONS])


def names_in(path):
    gallery = Gallery.open(path)
    live = gallery.select(["path"]).filter(pa.array(gallery.is_live))
    return [int(Path(name).stem) for name in live["path"].to_pylist()]


def test_a_removed_person_stays_removed_and_rows_added_by_hand_stay(untrained, images, tmp_path, capsys, caplog):
    """The story of issue 17: a person is deleted; the next day's longer list must not bring her back, nor drop anything."""
    output, her = tmp_path / "G", range(14)
    pids = ["visitor-002" if number in her else f"visitor-{number}" for number in range(28)]
    day = write_csv(tmp_path / "crops.csv", images[:20], pids)
    assert export(untrained, day, output) == 0
    assert add(untrained, output, *images[22:28], "--set", "pid=by-hand") == 0
    assert gallery_tool.main(["remove", str(output), "--where", "pid=visitor-002", "--compact", "--yes"]) == 0
    rest = [*range(14, 20), *range(22, 28)]
    assert names_in(output) == rest

    write_csv(day, images[:22], pids)  # the next day: two more
    assert export(untrained, day, output, "--overwrite") == 2
    said = capsys.readouterr().err
    assert "would drop its 12 rows" in said and "6 of them added by hand or merged" in said
    assert "0 of its 14 suppressed keys" in said and "--yes" in said and "22.jpg" in said
    assert names_in(output) == rest

    caplog.clear()
    assert export(untrained, day, output) == 0
    assert names_in(output) == [*rest, 20, 21]
    assert "2 new rows" in caplog.text and "14 of 22 rows were removed earlier and stay out" in caplog.text
    assert verify(output) == []

    assert export(untrained, day, output, "--overwrite", "--yes") == 0
    assert names_in(output) == [*range(14, 22)], "even then she stays out"
    assert "drop its 14 rows; 6 of them" in caplog.text and verify(output) == []
    assert gallery_tool.main(["stats", str(output)]) == 0
    assert "14 keys of removed rows stay out" in capsys.readouterr().out


def test_an_update_equals_a_whole_export(untrained, images, tmp_path):
    """But for the order of the rows."""
    day = write_csv(tmp_path / "crops.csv", images[:9], range(9))
    assert export(untrained, day, tmp_path / "G") == 0
    write_csv(day, [images[12], *images[:9], images[10]], ["12", *map(str, range(9)), "10"])
    assert export(untrained, day, tmp_path / "G") == export(untrained, day, tmp_path / "H") == 0
    updated, whole = Gallery.open(tmp_path / "G"), Gallery.open(tmp_path / "H")
    order = [*range(1, 10), 0, 10]
    assert updated.records.drop_columns("id") == whole.records.drop_columns("id").take(order)
    np.testing.assert_allclose(updated.embeddings, whole.embeddings[order], atol=1e-6)
    assert (updated.path / "export.json").read_text().splitlines()[2:5] == (
        whole.path / "export.json"
    ).read_text().splitlines()[2:5]


def test_run_again_nothing_is_embedded(untrained, images, tmp_path, monkeypatch, caplog):
    day = write_csv(tmp_path / "crops.csv", images[:3], "abc")
    assert export(untrained, day, tmp_path / "G") == 0
    write_csv(day, images[:4], "abcd")
    assert export(untrained, day, tmp_path / "G") == 0
    monkeypatch.setattr(Embedder, "embed", None)
    assert export(untrained, day, tmp_path / "G") == 0 and "nothing is left to do" in caplog.text
    assert export(untrained, day, tmp_path / "G", "--batch-size", 2) == 0, (
        "another batch size changes nothing that is there"
    )
    assert len(Gallery.open(tmp_path / "G")) == 4 and not (tmp_path / "G.partial").exists()


def test_missing_rows_are_reported_and_stay(untrained, images, tmp_path, caplog):
    """Only those of this source: neither rows by hand nor those of another one."""
    one = write_csv(tmp_path / "one.csv", images[:4], "abcd")
    two = write_csv(tmp_path / "two.csv", images[4:6], "ef")
    for source in (one, two):
        assert export(untrained, source, tmp_path / "G") == 0
    assert add(untrained, tmp_path / "G", images[6]) == 0
    assert "do not" not in caplog.text and "does not name" not in caplog.text
    write_csv(one, images[:2], "ab")
    assert export(untrained, one, tmp_path / "G") == 0
    assert "2 rows came from" in caplog.text and f"they stay: {images[2]}, {images[3]}" in caplog.text
    assert names_in(tmp_path / "G") == list(range(7))


def test_an_image_that_changed_is_embedded_again(untrained, images, tmp_path, caplog):
    day = write_csv(tmp_path / "crops.csv", images[:4], "abcd")
    assert export(untrained, day, tmp_path / "G") == 0
    shutil.copy(images[9], images[1])
    os.utime(images[1], (1, 1))
    assert export(untrained, day, tmp_path / "G") == 0
    assert "0 new rows" in caplog.text and "1 embedded again" in caplog.text
    gallery = Gallery.open(tmp_path / "G")
    assert gallery.ids[gallery.is_live].tolist() == [0, 2, 3, 4] and gallery.state.suppressed == 0
    expected = Embedder(untrained, "cpu", "fp32")([str(images[9])], ["c1"])
    np.testing.assert_allclose(gallery.embeddings[4:], expected, atol=1e-6)
    shutil.copy(images[8], images[2])
    gallery.remove([4])
    assert export(untrained, day, tmp_path / "G") == 0
    assert names_in(tmp_path / "G") == [0, 3, 2], "removed rows are not embedded again"


def test_an_image_that_became_unreadable_keeps_its_row(untrained, images, tmp_path):
    day = write_csv(tmp_path / "crops.csv", images[:3], "abc")
    assert export(untrained, day, tmp_path / "G") == 0
    images[1].write_bytes(b"")
    assert export(untrained, day, tmp_path / "G", "--corrupt", "skip") == 0
    assert names_in(tmp_path / "G") == [0, 1, 2] and "01.jpg" in (tmp_path / "G" / "skipped.txt").read_text()


def test_a_gallery_of_another_model_is_refused_with_words(untrained, images, tmp_path, capsys):
    day = write_csv(tmp_path / "crops.csv", images[:3], "abc")
    assert export(untrained, day, tmp_path / "G") == 0
    file = tmp_path / "G" / "gallery.json"
    file.write_text(file.read_text().replace('"model": "sha256:', '"model": "sha256:0'))
    for command in (lambda: export(untrained, day, tmp_path / "G"), lambda: add(untrained, tmp_path / "G", images[5])):
        assert command() == 2
        said = capsys.readouterr().err
        assert "--output" in said and "another model" in said and "--overwrite" in said
    assert len(Gallery.open(tmp_path / "G")) == 3
    assert export(untrained, day, tmp_path / "G", "--overwrite", "--yes") == 0


@pytest.mark.parametrize("smaller", [to_int8, lambda *args: fit_pca(*args, 4)], ids=["int8", "pca"])
def test_a_compressed_gallery_is_updated_too(untrained, images, tmp_path, smaller):
    day = write_csv(tmp_path / "crops.csv", images[:20], range(20))
    assert export(untrained, day, tmp_path / "G") == 0
    made = smaller(Gallery.open(tmp_path / "G"), tmp_path / "H")
    made.remove([3])
    write_csv(day, [*images[:20], images[2].with_name("new.jpg")], range(21))
    shutil.copy(images[2], images[2].with_name("new.jpg"))
    assert export(untrained, day, made.path) == 0
    now = Gallery.open(made.path)
    assert len(now) == 20 and verify(made.path) == []
    np.testing.assert_allclose(now.embeddings[-1], now.embeddings[2], atol=1e-6)


def test_add_takes_files_with_labels_a_folder_or_a_list(untrained, images, tmp_path, capsys):
    output = tmp_path / "G"
    assert export(untrained, write_csv(tmp_path / "a.csv", images[:2], "ab"), output) == 0
    os.chdir(tmp_path)
    assert add(untrained, output, "images/05.jpg", "images/06.jpg", "--set", "pid=Ann", "--set", "shift=night") == 0
    gallery = Gallery.open(output)
    assert gallery.records["pid"].to_pylist() == ["a", "b", "Ann", "Ann"]
    assert gallery.records["shift"].to_pylist() == [None, None, "night", "night"]
    assert gallery.records["path"][2].as_py() == str(images[5]), "resolved"
    assert add(untrained, output, images[5]) == 0 and len(Gallery.open(output)) == 4
    assert add(untrained, output, write_csv(tmp_path / "more.csv", images[6:8], "xy")) == 0
    assert add(untrained, output, tmp_path / "images") == 0 and sorted(names_in(output)) == list(range(28))
    assert Gallery.open(output).select(["pid"])["pid"].to_pylist()[:5] == ["a", "b", "Ann", "Ann", "y"]
    for words, said in (
        ([images[0], tmp_path / "more.csv"], "more.csv is no image"),
        (["nowhere.jpg"], "no file 'nowhere.jpg'"),
        ([images[0], "--set", "path=x"], "path cannot be set"),
    ):
        assert add(untrained, output, *words) == 2 and said in capsys.readouterr().err
    assert sorted(item.name for item in tmp_path.iterdir()) == ["G", "a.csv", "images", "more.csv"]


def test_an_update_killed_half_way_continues(untrained, images, tmp_path, monkeypatch):
    monkeypatch.setattr(export_plan, "PART_ROWS", 4)
    day = write_csv(tmp_path / "crops.csv", images[:3], "abc")
    assert export(untrained, day, tmp_path / "G") == 0
    write_csv(day, images[:15], range(15))
    embed, batches = Embedder.embed, []

    def failing(self, planes, *names):
        batches.append(len(planes))
        if len(batches) == 3:
            raise OSError("the plug was pulled")
        return embed(self, planes, *names)

    monkeypatch.setattr(Embedder, "embed", failing)
    assert export(untrained, day, tmp_path / "G", "--batch-size", 4) == 2
    assert names_in(tmp_path / "G") == [0, 1, 2]
    assert export(untrained, day, tmp_path / "G", "--batch-size", 4) == 0
    assert batches == [4, 4, 4, 4], "finished parts are kept"
    assert names_in(tmp_path / "G") == list(range(15))


def test_unfinished_work_of_other_rows_starts_anew(untrained, images, tmp_path, monkeypatch, caplog):
    """Somebody removes a row between the two attempts, so other rows are to be embedded."""
    day = write_csv(tmp_path / "crops.csv", images[:3], "abc")
    assert export(untrained, day, tmp_path / "G") == 0
    write_csv(day, images[:8], range(8))
    with monkeypatch.context() as patch:
        patch.setattr("vitreid.gallery.export.export_job.ImageUpdateJob.join", lambda self: None)
        assert export(untrained, day, tmp_path / "G") == 0
    write_csv(day, images[:9], range(9))
    assert export(untrained, day, tmp_path / "G") == 0
    assert "unfinished update of other rows" in caplog.text and names_in(tmp_path / "G") == list(range(9))


def test_rows_removed_or_added_meanwhile_are_respected(untrained, images, tmp_path, monkeypatch):
    day = write_csv(tmp_path / "crops.csv", images[:3], "abc")
    output = tmp_path / "G"
    assert export(untrained, day, output) == 0
    write_csv(day, images[:6], range(6))
    embed = Embedder.embed

    def meanwhile(self, planes, *names):
        rows = embed(self, planes, *names)
        gallery = Gallery.open(output)
        monkeypatch.setattr(Embedder, "embed", embed)
        gallery.add(rows[:2], [{"path": str(images[3])}, {"path": str(images[4])}], self.fingerprint)
        gallery.remove([4, 0])
        compact(gallery)
        return rows

    monkeypatch.setattr(Embedder, "embed", meanwhile)
    assert export(untrained, day, output) == 0
    assert names_in(output) == [1, 2, 3, 5] and verify(output) == []


def test_rows_expire_with_the_daily_export(untrained, images, tmp_path, caplog, capsys):
    """Old rows are removed after each export, and a list that still names them does not bring them back."""
    now = time.time()
    lines = [(image, str(now - number * 20 * 86400)) for number, image in enumerate(images[:3])]
    with (tmp_path / "crops.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "time"), *lines, (images[3], "")])
    for _ in range(2):
        assert export(untrained, tmp_path / "crops.csv", tmp_path / "G", "--expire-after", "30d") == 0
        assert names_in(tmp_path / "G") == [0, 1, 3]
    assert "1 rows were older than 30 days" in caplog.text
    assert export(untrained, tmp_path / "crops.csv", tmp_path / "G") == 0 and names_in(tmp_path / "G") == [0, 1, 3]
    for words in (["--expire-after", "soon"], ["--expire-after", "30d", "--format", "npz"]):
        assert export(untrained, tmp_path / "crops.csv", tmp_path / "H", *words) == 2
        assert "--expire-after" in capsys.readouterr().err


# --- kill -9 ----------------------------------------------------------------------------------------------------------

KILLER = """
import os, random, shutil, signal, sys
from importlib import import_module

from killed_process import FILE_STEPS, die_at, in_child

module = import_module("vitreid.gallery.export.export_job")
import_module("vitreid.gallery.export.export_plan").PART_ROWS = 4
weights, source, output = sys.argv[1:]

def attempt(deadly):
    die_at(deadly, [*FILE_STEPS, (shutil, "rmtree"), (module.Embedder, "embed")])
    module.export(weights, source, output, batch_size=4, device="cpu", precision="fp32")

rng = random.Random(int(os.environ.get("SEED", 0)))
deadly, ends = 1, []
while not ends or ends[-1] == -signal.SIGKILL:  # later and later, up to an attempt that lives to its end
    ends.append(in_child(attempt, deadly))
    deadly += rng.randint(2, 6)
print(ends.count(-signal.SIGKILL), ends[-1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork, which Windows lacks")
@pytest.mark.slow
def test_kill_9_during_an_update_loses_nothing_and_brings_nobody_back(untrained, images, tmp_path):
    output = tmp_path / "G"
    day = write_csv(tmp_path / "crops.csv", images[:8], range(8))
    assert export(untrained, day, output) == 0
    gallery = Gallery.open(output)
    gallery.remove([0, 1])
    gallery.add(gallery.vectors([5]), [{"path": "/by/hand/77.jpg"}], gallery.info.model)
    write_csv(day, images[:20], range(20))
    shutil.copy(images[25], images[5])  # one changed
    command = [sys.executable, "-c", KILLER, str(untrained), str(day), str(output)]
    run = subprocess.run(
        command, env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}, capture_output=True, check=False
    )
    kills, last = map(int, run.stdout.split()[-2:])
    assert kills >= 5 and last == 0, run.stderr.decode()[-2000:]
    assert sorted(names_in(output)) == [*range(2, 20), 77] and Gallery.open(output).state.suppressed == 2
    assert verify(output, images=False) == [] and not (tmp_path / "G.partial").exists()
    assert export(untrained, day, output) == 0 and len(Gallery.open(output)) == 19
