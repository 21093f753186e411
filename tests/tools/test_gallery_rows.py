"""`vitreid gallery list | remove | update | allow | stats`: what they print, change, and refuse to do without --yes."""

import json
import time

import numpy as np
import pytest

from vitreid.gallery import Gallery, GalleryInfo, verify
from vitreid.gallery.keeping.retention import expire
from vitreid.tools.gallery import main

MODEL, DAY = "sha256:a", 86400


def make(path, days=(0, 0, 1, 40, None)):
    """Five rows; those of visitor-002 are the second and the fourth, which is 40 days old."""
    gallery = Gallery.create(path, GalleryInfo(MODEL, 4))
    records = [
        {
            "path": f"/pictures/{number}.jpg",
            "pid": "visitor-002" if number in (1, 3) else f"visitor-{number}",
            "camera": "door" if number < 3 else None,
            "time": None if age is None else time.time() - age * DAY,
        }
        for number, age in enumerate(days)
    ]
    gallery.add(np.eye(5, 4, dtype=np.float32) + 0.1, records, MODEL)
    return gallery


@pytest.fixture
def gallery(tmp_path):
    return make(tmp_path / "g")


def run(*words):
    return main([str(word) for word in words])


def live(gallery):
    now = Gallery.open(gallery.path)
    return now.ids[now.is_live].tolist()


def test_list_shows_the_rows_that_fulfil_the_conditions(gallery, capsys):
    assert run("list", gallery.path, "--where", "pid=visitor-002") == 0
    head, names, *rows = capsys.readouterr().out.splitlines()
    assert head.endswith("2 of 5 rows") and names.split() == ["id", "pid", "camera", "time", "path"]
    assert [row.split()[0] for row in rows] == ["1", "3"] and rows[1].endswith("/pictures/3.jpg")
    assert run("list", gallery.path, "--limit", 1, "--columns", "path,view") == 0
    assert "5 of 5 rows; the first 1" in (out := capsys.readouterr().out) and out.split()[-3:] == [
        "0",
        "/pictures/0.jpg",
        "-",
    ]
    gallery.remove([1])
    assert run("list", gallery.path, "--where", "pid=visitor-002", "--json") == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)] == [3]
    assert run("list", gallery.path, "--where", "pid=visitor-02") == 0
    printed = capsys.readouterr()
    assert "0 of 4 rows" in printed.out and "visitor-002" in printed.err, "a similar name is shown"
    assert run("list", gallery.path, "--columns", "colour") == 2 and "colour" in capsys.readouterr().err


def test_remove_wants_yes_and_says_what_it_does(gallery, capsys):
    words = ["remove", gallery.path, "--where", "pid=visitor-002"]
    assert run(*words) == 2
    assert "2 of 5 rows would be removed: /pictures/1.jpg, /pictures/3.jpg; do it with --yes" in capsys.readouterr().err
    assert run(*words, "--dry-run") == 0 and "nothing is changed" in capsys.readouterr().out
    assert live(gallery) == [0, 1, 2, 3, 4]
    assert run(*words, "--yes") == 0
    assert "2 of 5 rows removed, 2 keys listed" in (out := capsys.readouterr().out) and "until compact" in out
    assert live(gallery) == [0, 2, 4]
    assert run(*words, "--yes") == 0 and "0 of 3 rows removed" in capsys.readouterr().out
    assert run("remove", gallery.path, "--where", "pid=visitor-0", "--compact", "--yes") == 0
    assert "until compact" not in capsys.readouterr().out and Gallery.open(gallery.path).state.count == 2
    assert run("remove", gallery.path, "--yes") == 2 and "--where, --expire-after" in capsys.readouterr().err
    assert run(*words, "--yes", "--dry-run") == 2 and "give one of them" in capsys.readouterr().err


def test_remove_everything_older_than_30_days(gallery, capsys):
    assert run("remove", gallery.path, "--expire-after", "30d", "--yes") == 0
    assert "1 of 5 rows removed" in capsys.readouterr().out and live(gallery) == [0, 1, 2, 4]
    assert Gallery.open(gallery.path).suppressed["reason"].to_pylist() == ["expired"]
    assert expire(Gallery.open(gallery.path), 0.5 * DAY) == 1 and live(gallery) == [0, 1, 4], "without a time: stays"
    assert run("remove", gallery.path, "--expire-after", "1 month", "--yes") == 2
    assert "30d" in capsys.readouterr().err


def test_update_sets_columns(gallery, capsys):
    words = ["update", gallery.path, "--where", "camera=door", "--set", "camera=door-2026", "--set", "view="]
    assert run(*words) == 2 and "3 of 5 rows would change" in capsys.readouterr().err
    assert run(*words, "--yes") == 0 and "3 of 5 rows changed" in capsys.readouterr().out
    assert Gallery.open(gallery.path).records["camera"].to_pylist() == ["door-2026"] * 3 + [None] * 2
    assert run("update", gallery.path, "--set", "pid=1", "--yes") == 2 and "--where" in capsys.readouterr().err
    assert run("update", gallery.path, "--where", "pid=1", "--yes") == 2 and "COLUMN=VALUE" in capsys.readouterr().err


def test_allow_is_the_only_way_back(gallery, capsys):
    gallery.remove([0, 1])
    gallery.remove([3], "expired")
    row = np.eye(1, 4, dtype=np.float32)
    assert run("allow", gallery.path, "--reason", "expired") == 2 and "1 of 3 keys" in capsys.readouterr().err
    assert run("allow", gallery.path, "--reason", "expired", "--yes") == 0
    assert "1 keys left the list, 2 stay" in capsys.readouterr().out
    now = Gallery.open(gallery.path)
    paths = [{"path": f"/pictures/{number}.jpg"} for number in (0, 3)]
    assert now.add(np.concatenate([row, row]), paths, MODEL).tolist() == [-1, 5]
    assert (
        run("allow", gallery.path, "--since", "2100-01-01", "--yes") == 0 and "0 keys left" in capsys.readouterr().out
    )
    assert run("allow", gallery.path, "--yes") == 0 and "2 keys left the list, 0 stay" in capsys.readouterr().out
    assert verify(gallery.path, images=False) == []


def test_stats_shows_people_cameras_times_and_what_was_removed(gallery, capsys):
    gallery.remove([0])
    gallery.remove([3], "expired")
    assert run("stats", gallery.path) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    shown = {name: text.strip() for name, text in lines.items()}
    assert shown["rows"] == "3" and shown["people"] == "3" and shown["cameras"] == "1 (door 2)"
    assert shown["suppressed"] == "2 keys of removed rows stay out (removed 1, expired 1)" and shown["size"].endswith(
        "MB"
    )
    assert run("stats", gallery.path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows_without_camera"] == 1 and found["suppressed"] == {"removed": 1, "expired": 1}
    assert len(found["times"]) == 2 and found["bytes"] > 1000 and found["removed"] == 2


def test_stats_of_an_empty_gallery(tmp_path, capsys):
    empty = Gallery.create(tmp_path / "e", GalleryInfo(MODEL, 4))
    assert run("stats", empty.path) == 0 and "no row has a time" in capsys.readouterr().out
    assert run("list", empty.path) == 0 and "0 of 0 rows" in capsys.readouterr().out


def test_merge_says_what_was_there_and_what_stays_out(gallery, tmp_path, capsys):
    make(tmp_path / "h")
    gallery.remove([0])
    assert run("merge", gallery.path, tmp_path / "h") == 0
    assert (
        "0 rows added, 4 were there already, 1 stay out because they were removed earlier, 4 in all"
        in capsys.readouterr().out
    )
