"""Who is who in a gallery: people found, kept, confirmed; what the records say; what survives a new export and a kill."""

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from identity_crops import MODEL, crops, make

from vitreid.evaluation.clustering.cluster_figures import compare_with_labels
from vitreid.gallery import Gallery, GalleryInfo, compact, merge, verify
from vitreid.gallery.identities.group_people import GroupingOptions, group_people
from vitreid.gallery.identities.grouping_report import report_of
from vitreid.gallery.identities.near_rows import near_rows
from vitreid.gallery.identities.person_columns import CONFIRMED, PERSON, confirm, read_people, write_people
from vitreid.gallery.identities.record_constraints import constraints_of, sightings_of
from vitreid.gallery.storage.file_names import IDENTITIES
from vitreid.tools.people import identities as tool

FEW = GroupingOptions(k1=6, k2=3, camera_norm="none")


def find(gallery, options=FEW):
    """Group and write; return the number of rows that changed."""
    found = group_people(gallery, options)
    return write_people(gallery, found.before, found.after)


def column(gallery, name=PERSON):
    return gallery.select([name])[name].to_pylist()


def partition(names):
    """Sets of places with one name."""
    return {frozenset(i for i, other in enumerate(names) if other == name) for name in names}


def test_people_are_found_and_pids_stay(tmp_path):
    gallery = make(tmp_path / "G")
    pids = column(gallery, "pid")
    assert find(gallery) == 64
    assert partition(column(gallery)) == partition(pids) and column(gallery, "pid") == pids
    assert find(gallery) == 0  # settled
    assert verify(gallery.path, images=False) == []
    assert len(gallery.search(gallery.vectors([0]), where=f"person={column(gallery)[0]}")[0]) == 8


def test_names_are_the_same_in_each_run_and_differ_between_galleries(tmp_path):
    one, two, other = make(tmp_path / "1"), make(tmp_path / "2"), make(tmp_path / "3", seed=1)
    for gallery in (one, two, other):
        find(gallery)
    assert column(one) == column(two) and not set(column(one)) & set(column(other))


def test_new_rows_join_people_or_found_new_ones(tmp_path):
    gallery = make(tmp_path / "G")
    find(gallery)
    before = column(gallery)
    gallery.add(*crops(num_people=3, images=5, seed=5, first=6), MODEL)  # two known people and one more
    assert find(gallery) == 15
    after = column(gallery)
    assert after[:64] == before and partition(after) == partition(column(gallery, "pid"))


def test_new_rows_of_a_large_gallery_are_compared_with_their_neighbours_only(tmp_path, monkeypatch):
    monkeypatch.setattr("vitreid.gallery.identities.group_people.WHOLE_ROWS", 50)
    gallery = make(tmp_path / "G")
    find(gallery)
    gallery.add(*crops(num_people=1, images=3, seed=5, first=6), MODEL)
    found = group_people(gallery, FEW)
    assert len(found.graph.rows) < 60
    write_people(gallery, found.before, found.after)
    assert partition(column(gallery)) == partition(column(gallery, "pid"))
    report = report_of(gallery, found)
    assert (report.num_rows, report.num_people) == (67, 8)


def test_confirmed_people_never_move(tmp_path):
    gallery = make(tmp_path / "G")
    confirm(gallery, [0, 8], "Ann")  # two people, by their pid
    confirm(gallery, [1], "Bob")  # and one of Ann's
    find(gallery, replace(FEW, regroup=True))
    names = column(gallery)
    assert (names[0], names[8], names[1]) == ("Ann", "Ann", "Bob")
    assert find(gallery, replace(FEW, regroup=True, threshold="0.99")) > 0
    names = column(gallery)
    assert (names[0], names[8], names[1]) == ("Ann", "Ann", "Bob")
    assert [i for i, yes in enumerate(column(gallery, CONFIRMED)) if yes] == [0, 1, 8]
    confirm(gallery, [1], None)
    assert [i for i, yes in enumerate(column(gallery, CONFIRMED)) if yes] == [0, 8]


def test_a_group_keeps_its_name_when_all_are_grouped_again(tmp_path):
    gallery = make(tmp_path / "G")
    find(gallery)
    before = column(gallery)
    gallery.remove([0])  # the row that named the first person
    find(gallery, replace(FEW, regroup=True))
    assert column(gallery) == before


def test_people_outlive_compaction_and_a_new_export(tmp_path):
    gallery = make(tmp_path / "G")
    find(gallery)
    confirm(gallery, [3], "Ann")
    names = column(gallery)
    gallery.remove([0])
    compact(gallery)
    assert column(gallery) == names[1:]
    rows, records = crops()
    again = Gallery.build(
        gallery.path, gallery.info, lambda made: made.add(rows[::-1], records[::-1], MODEL), overwrite=True
    )
    assert PERSON not in again.columns and (again.path / IDENTITIES).exists()
    find(again)
    assert column(again)[::-1] == names[1:] and column(again, CONFIRMED)[::-1][2], "what was removed stays out"


def test_merged_galleries_keep_their_people_apart(tmp_path):
    one, two = make(tmp_path / "1", num_people=3), make(tmp_path / "2", num_people=3, seed=1, first=10)
    for gallery in (one, two):
        find(gallery)
    merge(one, [two])
    assert partition(column(one)) == partition(column(one, "pid"))
    merge(one, [two])  # the same rows once more: other paths, the same people
    assert len(set(column(one))) == 6


def test_a_column_of_the_users_own_is_not_replaced(tmp_path):
    gallery = Gallery.create(tmp_path / "G", GalleryInfo(MODEL, 16))
    rows, records = crops()
    gallery.add(rows, [{**record, "person": "theirs"} for record in records], MODEL)
    with pytest.raises(ValueError, match="person"):
        group_people(gallery)
    assert set(column(gallery)) == {"theirs"}


def test_what_another_process_has_changed_meanwhile_stays(tmp_path):
    gallery = make(tmp_path / "G")
    found = group_people(gallery, FEW)
    other = Gallery.open(gallery.path)
    confirm(other, [5], "Ann")
    other.remove([6])
    other.add(*crops(num_people=1, images=1, seed=9), MODEL)
    write_people(gallery, found.before, found.after)
    assert column(gallery)[5] == "Ann" and column(gallery)[6] is None and column(gallery)[64] is None
    assert len(set(column(gallery)[:5])) == 1


@pytest.mark.parametrize(
    "value, key",
    [
        ({"threshold": "much"}, "threshold.*'much'"),
        ({"threshold": "1.5"}, "threshold"),
        ({"k1": 0}, "k1"),
        ({"window": 0}, "window"),
    ],
)
def test_options_out_of_range_are_refused(value, key):
    with pytest.raises(ValueError, match=key):
        GroupingOptions(**value)


def test_a_false_match_rate_needs_its_threshold(tmp_path):
    gallery = make(tmp_path / "G")
    with pytest.raises(ValueError, match=r"0\.01.*none"):
        group_people(gallery, replace(FEW, threshold="fmr=0.01"))
    gallery.set_info(threshold={"distance": 0.05, "metric": "cosine", "fmr": 0.01})
    strict = group_people(gallery, replace(FEW, threshold="fmr=0.01"))
    rows = gallery.vectors(np.arange(64))
    pairs = strict.graph.pairs
    assert (np.einsum("nd,nd->n", rows[pairs.first], rows[pairs.second]) > 0.95 - 1e-5).all()


def test_too_few_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2 rows"):
        group_people(make(tmp_path / "G", num_people=1, images=2))


def test_rows_far_apart_in_time_are_not_compared(tmp_path):
    gallery = make(tmp_path / "G")
    for row in range(64):
        gallery.update([row], {"time": float(row % 2 * 1000)})
    found = group_people(gallery, replace(FEW, window=500.0))
    assert (found.graph.pairs.first % 2 == found.graph.pairs.second % 2).all() and len(found.graph.pairs.value)


# --- what the records say -----------------------------------------------------------------------------------------


def recorded(tmp_path, records):
    """Constraints on rows, of which no two look similar."""
    gallery = Gallery.create(tmp_path / "G", GalleryInfo(MODEL, 2))
    table = [{"path": f"{i}.jpg", **record} for i, record in enumerate(records)]
    gallery.add(np.ones((len(table), 2), np.float32), table, MODEL)
    people = read_people(gallery)
    near = np.arange(len(table))[:, None]
    return constraints_of(gallery, np.arange(len(table)), people.keys, np.full(len(table), -1), near)


def pairs(array):
    return {tuple(sorted(pair)) for pair in array.tolist()}


def test_rows_of_one_track_are_together_and_overlapping_tracks_of_a_camera_are_apart(tmp_path):
    track = {"camera": "c1", "time": 0.0, "end_time": 5.0, "tracklet": "1"}
    found = recorded(
        tmp_path,
        [
            track,
            track,
            {**track, "tracklet": "2", "time": 4.0, "end_time": 9.0},  # overlaps
            {**track, "tracklet": "3", "time": 9.0, "end_time": 12.0},  # touches the one before
            {**track, "camera": "c2"},  # elsewhere: another track of that name
        ],
    )
    assert pairs(found.together) == {(0, 1)} and pairs(found.apart) == {(0, 2)}


def test_images_of_one_camera_at_one_moment_are_apart(tmp_path):
    moment = {"camera": "c1", "time": 3.0}
    found = recorded(
        tmp_path, [moment, moment, {"camera": "c1", "time": 4.0}, {"camera": "c2", "time": 3.0}, {"time": 3.0}]
    )
    assert pairs(found.apart) == {(0, 1)}


def walking_people(folder, name, with_times=True):
    """A gallery of people who pass three cameras, a minute from one to the next, and look much the same."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(40), 9)
    times = rng.uniform(0, 7200, 40)[person] + 60 * (np.arange(360) % 9 // 3) + np.arange(360) % 3
    rows = rng.standard_normal((40, 8))[person] + 0.9 * rng.standard_normal((360, 8))
    gallery = Gallery.create(folder / name, GalleryInfo(MODEL, 8))
    table = [
        {"path": f"{i}.jpg", "camera": f"c{i % 9 // 3}", **({"time": when} if with_times else {})}
        for i, when in enumerate(times.tolist())
    ]
    gallery.add((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), table, MODEL)
    return gallery, person


def test_the_time_that_people_take_between_cameras_counts(tmp_path):
    figures = {}
    for name, has_times, weight in (("timed", True, 0.1), ("off", True, 0.0), ("unknown", False, 0.1)):
        gallery, person = walking_people(tmp_path, name, has_times)
        found = group_people(gallery, GroupingOptions(time_weight=weight, k1=10))
        figures[name] = compare_with_labels(person, found.groups).f1
    assert figures["timed"] > figures["off"] + 0.1 and figures["off"] == figures["unknown"]


def test_times_count_where_the_camera_is_known_and_are_those_in_the_middle(tmp_path):
    gallery = Gallery.create(tmp_path / "G", GalleryInfo(MODEL, 2))
    records = [
        {"path": "0.jpg", "time": 5.0},
        {"path": "1.jpg", "time": 5.0, "camera": "c1", "end_time": 9.0},
        {"path": "2.jpg", "camera": "c2"},
        {"path": "3.jpg", "time": 1.0, "camera": "c2"},
    ]
    gallery.add(np.ones((4, 2), np.float32), records, MODEL)
    found = sightings_of(gallery, np.arange(4))
    np.testing.assert_array_equal(found.times, [np.nan, 7, np.nan, 1])
    assert found.cameras[1] != found.cameras[3] == found.cameras[2]
    assert sightings_of(gallery, np.array([0, 2])) is None


@pytest.mark.parametrize("weight", [-0.1, 10.5, float("nan"), float("inf")])
def test_a_weight_of_time_out_of_range_is_an_error(weight):
    with pytest.raises(ValueError, match="--time-weight: a number from 0 to 10"):
        GroupingOptions(time_weight=weight)


def test_two_images_of_one_moment_that_look_alike_may_be_one_person(tmp_path):
    """A detector that finds somebody twice in a picture."""
    gallery, person = walking_people(tmp_path, "G")
    gallery.update([1], {"time": gallery.select(["time"])["time"][0].as_py()})  # images 0 and 1 show one person
    gallery.update([9], {"time": gallery.select(["time"])["time"][0].as_py()})  # image 9 another one
    found = group_people(gallery, GroupingOptions(k1=10))
    assert pairs(found.graph.constraints.apart) == {(0, 9), (1, 9)} and person[0] == person[1] != person[9]


def test_boxes_of_one_frame_are_apart_and_copies_of_one_box_are_together(tmp_path):
    box = {"path": "film.mp4", "frame": 7, "x": 0.0, "y": 0.0, "width": 5.0, "height": 9.0}
    found = recorded(tmp_path, [box, box, {**box, "x": 50.0}, {**box, "frame": 8}])
    assert pairs(found.together) == {(0, 1)} and pairs(found.apart) == {(0, 2)}


def test_boxes_of_one_picture_are_apart(tmp_path):
    box = {"path": "square.jpg", "x": 0.0, "y": 0.0, "width": 5.0, "height": 9.0}
    assert pairs(recorded(tmp_path, [box, {**box, "x": 50.0}, {**box, "path": "other.jpg"}]).apart) == {(0, 1)}


def test_a_track_that_shows_two_confirmed_people_is_not_kept_together(tmp_path):
    gallery = make(tmp_path / "G")
    gallery.update(range(64), {"tracklet": "1", "camera": "c1"})
    confirm(gallery, [0], "Ann")
    confirm(gallery, [8], "Bob")
    found = group_people(gallery, replace(FEW, regroup=True))
    assert partition(found.after.names.tolist()) == partition(column(gallery, "pid"))


# --- neighbours and figures ---------------------------------------------------------------------------------------


def test_the_neighbours_by_lists_are_the_exact_ones():
    rows, _ = crops(num_people=20)
    exact, found = near_rows(rows, 9, "exact"), near_rows(rows, 9, "lists")
    np.testing.assert_array_equal(np.sort(found.index), np.sort(exact.index))
    np.testing.assert_allclose(found.farthest, exact.farthest, rtol=1e-4)
    with pytest.raises(ValueError, match="--index: .*'faiss-ivf'.* auto, exact, lists"):
        near_rows(rows, 9, "faiss-ivf")


def test_the_report_counts_people_and_names_those_to_look_at(tmp_path):
    gallery = make(tmp_path / "G")
    gallery.update(range(8), {"camera": "c0"})
    report = report_of(gallery, group_people(gallery, FEW))
    assert (report.num_people, report.num_alone, report.num_rows) == (8, 0, 64) and report.low <= 8 <= report.high
    assert [group.size for group in report.one_camera] == [8]
    assert report.figures.f1 == report.figures.b3_f1 == 1 and report.stability.of_group.min() > 0.8
    assert "8 people" in str(report) and json.loads(json.dumps(report.to_dict()))["labels"]["f1"] == 1


def test_the_command_writes_and_dry_run_does_not(tmp_path, capsys):
    gallery = make(tmp_path / "G")
    few = ["--k1", "6", "--k2", "3"]
    assert tool.main([str(gallery.path), "--dry-run", "--json", *few]) == 0
    assert json.loads(capsys.readouterr().out)["num_people"] == 8
    assert PERSON not in pq.read_schema(gallery.path / "records.parquet").names
    assert tool.main([str(gallery.path), *few]) == 0
    assert "64 rows have another person" in capsys.readouterr().out
    assert tool.main([str(gallery.path), "--threshold", "high"]) == 2
    assert tool.main(["milvus:gallery.db"]) == 2


# --- kills --------------------------------------------------------------------------------------------------------

WRITER = """
import sys, itertools
from dataclasses import replace
from vitreid.gallery import Gallery
from vitreid.gallery.identities.person_columns import read_people, write_people
gallery = Gallery.open(sys.argv[1])
for number in itertools.count():
    people = read_people(gallery)
    names = people.names.copy()
    names[:] = f"p{number}"
    write_people(gallery, people, replace(people, names=names))
    print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_kill_leaves_one_state_or_the_other(tmp_path, seed):
    gallery = make(tmp_path / "G")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(gallery.path)], stdout=subprocess.PIPE, text=True)
    first = int(writer.stdout.readline())
    time.sleep(random.Random(seed).random() / 2)
    writer.send_signal(signal.SIGKILL)
    last = max([first, *map(int, writer.communicate()[0].split())])
    assert verify(gallery.path, images=False) == []
    found = set(column(Gallery.open(gallery.path)))
    assert found <= {f"p{last}", f"p{last + 1}"} and len(found) == 1
    assert find(Gallery.open(gallery.path), replace(FEW, regroup=True)) == 56  # one person keeps the name
