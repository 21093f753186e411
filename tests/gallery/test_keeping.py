"""Keeping a gallery: keys of rows, and removed rows that stay removed whatever is added, merged, copied or killed."""

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vitreid.gallery import Gallery, GalleryInfo, compact, fit_pca, merge, pool_tracklets, to_int8, verify
from vitreid.gallery.keeping.row_keys import keys_of
from vitreid.gallery.keeping.suppress_changes import allow
from vitreid.gallery.maintenance.merge_compact import MergeCount, merge_rows

MODEL = "sha256:a"


def rows_of(count, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def records_of(names):
    return [{"path": f"/pictures/{name}.jpg", "pid": name[0], "camera": "c1"} for name in names]


def make(path, names=("a0", "a1", "b0", "b1", "c0")):
    gallery = Gallery.create(path, GalleryInfo(MODEL, 8))
    gallery.add(rows_of(len(names)), records_of(names), MODEL)
    return gallery


def names_in(gallery):
    """Names of the live images."""
    live = gallery.select(["path"]).filter(pa.array(gallery.is_live))
    return [path.rpartition("/")[2].removesuffix(".jpg") for path in live["path"].to_pylist()]


def keys(*records, folder="/gallery"):
    columns = dict.fromkeys(name for record in records for name in record)
    table = pa.table({name: [record.get(name) for record in records] for name in columns})
    return keys_of(table, folder).to_pylist()


# --- keys ---------------------------------------------------------------------------------------------------------


def test_a_row_has_one_key_wherever_its_path_starts(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    absolute, relative, up, link = keys(
        {"path": f"{tmp_path}/1.jpg"},
        {"path": "1.jpg"},
        {"path": "../other/../1.jpg"},
        {"path": "link/1.jpg"},
        folder=tmp_path,
    )
    assert absolute == relative == link and up != absolute
    assert keys({"path": "../1.jpg"}, folder=tmp_path / "G") == [absolute]


def test_frame_and_box_are_part_of_the_key_and_missing_columns_are_not():
    bare, none, box, same, moved = keys(
        {"path": "v.mp4"},
        {"path": "v.mp4", "frame": None, "x": float("nan")},
        {"path": "v.mp4", "frame": 3, "x": 1.5, "y": 2.0, "width": 3.0, "height": 4.0},
        {"path": "v.mp4", "frame": 3.0, "x": float(np.float32(1.5000001)), "y": 2, "width": 3, "height": 4},
        {"path": "v.mp4", "frame": 3, "x": 1.6, "y": 2.0, "width": 3.0, "height": 4.0},
    )
    assert bare == none and box == same and len({bare, box, moved}) == 3
    assert keys({"path": "v.mp4"}) == [bare], "a table without the columns gives the same key"


def test_a_track_is_known_by_its_recording_and_one_of_a_stream_by_its_time_too():
    box = {"frame": 3, "x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0}
    one, again, whole = keys(
        {"path": "track_crops/0-a-1-3.jpg", "video": "/v.mp4", **box},
        {"path": "/elsewhere/track_crops/7-a-1-3.jpg", "video": "/v.mp4", **box},
        {"path": "/v.mp4", "video": None, **box},
    )
    assert one == again == whole
    monday, tuesday = keys(
        {"path": "1.jpg", "video": "rtsp://door", "time": 10.0, **box},
        {"path": "1.jpg", "video": "rtsp://door", "time": 99.0, **box},
    )
    assert monday != tuesday


# --- removed rows stay removed --------------------------------------------------------------------------------------


def test_removed_rows_do_not_come_back_by_addition(tmp_path, caplog):
    gallery = make(tmp_path / "G")
    gallery.remove([0, 1])
    again = gallery.add(rows_of(3), records_of(["a0", "d0", "a1"]), MODEL)
    assert again.tolist() == [-1, 5, -1] and names_in(gallery) == ["b0", "b1", "c0", "d0"]
    assert "2 of 3 rows were removed" in caplog.text and verify(gallery.path, images=False) == []
    assert gallery.add(rows_of(1), records_of(["a0"]), MODEL).tolist() == [-1]
    assert gallery.suppressed["reason"].to_pylist() == ["removed"] * 2


def test_removed_rows_may_be_left_off_the_list(tmp_path):
    gallery = make(tmp_path / "G")
    gallery.remove([0], reason=None)
    assert gallery.add(rows_of(1), records_of(["a0"]), MODEL).tolist() == [5]


def test_a_row_that_is_there_twice_is_suppressed_once_both_are_gone(tmp_path):
    gallery = make(tmp_path / "G", ["a0", "a0"])
    gallery.remove([0])
    assert gallery.state.suppressed == 0 and verify(gallery.path, images=False) == []
    gallery.remove([1])
    assert gallery.state.suppressed == 1


COPIES = {
    "compact": lambda gallery, output: compact(gallery) and gallery,
    "int8": to_int8,
    "pca": lambda gallery, output: fit_pca(gallery, output, 2),
    "pool": pool_tracklets,
    "merge": lambda gallery, output: (target := make(output, ["d0"])) and merge(target, [gallery]) and target,
    "created anew": lambda gallery, output: Gallery.create(gallery.path, gallery.info, overwrite=True),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_the_list_goes_with_the_gallery(tmp_path, copy):
    gallery = make(tmp_path / "G")
    gallery.remove([0, 1])
    made = copy(gallery, tmp_path / "H")
    assert made.state.suppressed == 2 and verify(made.path, images=False) == []
    assert (made.path / "suppressed.parquet").is_file()
    rows = rows_of(1)[:, : made.info.dimension]
    assert made.add(rows, records_of(["a1"]), MODEL).tolist() == [-1]
    assert not {"a0", "a1"} & set(names_in(Gallery.open(made.path)))


@pytest.mark.parametrize("make_of", [to_int8, pool_tracklets, lambda *args, **kw: fit_pca(*args, 2, **kw)])
def test_a_copy_made_again_leaves_out_what_was_removed_from_it(tmp_path, make_of):
    gallery = make(tmp_path / "G")
    make_of(gallery, tmp_path / "H").remove([0, 1])
    again = make_of(gallery, tmp_path / "H", overwrite=True)
    assert names_in(again) == ["b0", "b1", "c0"] and verify(again.path, images=False) == []


def test_paths_in_the_gallerys_own_folder_keep_their_keys_while_it_is_made_anew(tmp_path):
    """It is filled as a folder of another name next to it."""
    gallery = make(tmp_path / "G")
    gallery.add(rows_of(1), [{"path": "own/1.jpg"}], MODEL)
    gallery.remove([5])

    def fill(made):
        assert made.add(rows_of(2), [{"path": "own/1.jpg"}, {"path": "own/2.jpg"}], MODEL).tolist() == [-1, 0]

    assert len(Gallery.build(gallery.path, gallery.info, fill, overwrite=True)) == 1


def test_merging_honours_the_targets_list_and_takes_over_the_sources(tmp_path, caplog):
    target, source = make(tmp_path / "G"), make(tmp_path / "H", ["a0", "c0", "e0", "f0"])
    target.remove([0])
    source.remove([1, 3])
    assert merge_rows(target, [source]) == MergeCount(1, 0, 1)
    assert names_in(target) == ["a1", "b0", "b1", "c0", "e0"]
    assert "1 rows that were removed from" in caplog.text, "c0 lives here"
    assert target.add(rows_of(2), records_of(["f0", "c0"]), MODEL).tolist() == [-1, 6]
    assert verify(target.path, images=False) == []


def test_merging_twice_adds_nothing_twice(tmp_path):
    target, one, two = make(tmp_path / "G"), make(tmp_path / "H", ["a0", "x0"]), make(tmp_path / "I", ["x0", "y0"])
    assert merge_rows(target, [one, two]) == MergeCount(2, 2, 0)
    assert merge(target, [one, two]) == 0 and names_in(target)[5:] == ["x0", "y0"]


def test_only_allow_empties_the_list(tmp_path):
    gallery = make(tmp_path / "G")
    gallery.remove([0])
    limit = gallery.suppressed["time"][0].as_py() + 1e-3
    gallery.set_suppressed(pa.concat_tables([gallery.suppressed, later(gallery, [1], limit + 1)]))
    gallery.remove([1], reason=None)
    assert allow(gallery, since=limit) == 1
    assert gallery.add(rows_of(2), records_of(["a0", "a1"]), MODEL).tolist() == [-1, 5]
    assert allow(gallery) == 1 and allow(gallery) == 0
    assert gallery.add(rows_of(1), records_of(["a0"]), MODEL).tolist() == [6]
    assert Gallery.open(gallery.path).state.suppressed == 0 and verify(gallery.path, images=False) == []


def later(gallery, places, time):
    entry = [gallery.keys().take(pa.array(places)), pa.array([time]), pa.array(["removed"])]
    return pa.Table.from_arrays(entry, schema=gallery.suppressed.schema)


def test_verify_names_a_missing_or_damaged_list_and_rows_that_are_back(tmp_path):
    gallery = make(tmp_path / "G")
    gallery.remove([0])
    file = gallery.path / "suppressed.parquet"
    content = file.read_bytes()
    file.write_bytes(content[:40])
    (problem,) = verify(gallery.path, images=False)
    assert problem.file == "suppressed.parquet" and "would come back" in problem.message
    file.unlink()
    assert "is missing" in str(*verify(gallery.path, images=False))
    with pytest.raises(ValueError, match=r"suppressed\.parquet is missing.*restore"):
        Gallery.open(gallery.path).add(rows_of(1), records_of(["a0"]), MODEL)
    assert len(Gallery.open(gallery.path).search(rows_of(1), 1)) == 1, "a search needs no list"
    file.write_bytes(content)
    gallery.update([1], {"path": "/pictures/a0.jpg"})
    assert "1 rows that were removed are back, ids 1" in str(*verify(gallery.path, images=False))


def test_a_gallery_without_the_file_opens_and_gets_one(tmp_path):
    gallery = make(tmp_path / "G")
    text = (gallery.path / "gallery.json").read_text()
    (gallery.path / "gallery.json").write_text(text.replace('  "suppressed": 0,\n', ""))
    assert not (gallery.path / "suppressed.parquet").exists()
    old = Gallery.open(gallery.path)
    old.remove([2])
    assert (
        pq.read_table(gallery.path / "suppressed.parquet").num_rows == 1 == Gallery.open(gallery.path).state.suppressed
    )


# --- kill -9 ----------------------------------------------------------------------------------------------------------

KILLER = """
import os, random, shutil, signal, sys
sys.path.insert(0, sys.argv[1])
from killed_process import FILE_STEPS, die_at, in_child
from gallery_acts import ACTS

act, folder = ACTS[sys.argv[2]], sys.argv[3]

def attempt(deadly):
    die_at(deadly, [*FILE_STEPS, (shutil, "rmtree"), (os, "rename")])
    act(folder)

rng = random.Random(int(os.environ.get("SEED", 0)))
deadly, ends = 1, []
while not ends or ends[-1] == -signal.SIGKILL:  # later and later, up to an attempt that lives to its end
    ends.append(in_child(attempt, deadly))
    print(ends[-1], flush=True)
    if sys.stdin.readline().strip() == "stop":
        break
    deadly += rng.randint(1, 3)
"""


def killed(act, folder, look):
    """Kill an act at step after step, calling `look` after each; return how many were killed."""
    command = [sys.executable, "-c", KILLER, os.path.dirname(os.path.dirname(__file__)), act, str(folder)]
    env = {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    kills = 0
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        while line := process.stdout.readline():
            look()
            kills += int(line) == -9
            assert int(line) in (0, -9)
            print("go", file=process.stdin, flush=True)
    return kills


EXPECTED = {  # act: all states that may be seen, the last one when it has ended
    "add": [["a1", "b0", "b1", "c0"], ["a1", "b0", "b1", "c0", "n0", "n1"]],
    "remove": [["a1", "b0", "b1", "c0"], ["a1", "b1", "c0"]],
    "merge": [
        ["a1", "b0", "b1", "c0"],
        ["a1", "b0", "b1", "c0", "s0", "s1"],
        ["a1", "b0", "b1", "c0", "s0", "s1", "t0"],
    ],
    "compact": [["a1", "b0", "b1", "c0"]],
    "allow": [["a1", "b0", "b1", "c0"]],
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork, which Windows lacks")
@pytest.mark.slow
@pytest.mark.parametrize("act", EXPECTED)
def test_kill_9_loses_nothing_and_brings_nothing_back(tmp_path, act):
    gallery = make(tmp_path / "G")
    gallery.remove([0])
    for name, rows in (("S", ["s0", "a0", "s1", "b0"]), ("T", ["t0", "s1"])):
        make(tmp_path / name, rows)

    def look():
        now = Gallery.open(tmp_path / "G")
        assert names_in(now) in EXPECTED[act] and verify(now.path, images=False) == []
        assert act == "allow" or ("a0" not in names_in(now) and now.state.suppressed >= 1)
        assert act != "allow" or now.state.suppressed in (0, 1)

    assert killed(act, tmp_path, look) >= 3
    now = Gallery.open(tmp_path / "G")
    assert names_in(now) == EXPECTED[act][-1]
    assert now.add(rows_of(1), records_of(["a0"]), MODEL).tolist() == [-1 if act != "allow" else 5]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["G", "S", "T"]
