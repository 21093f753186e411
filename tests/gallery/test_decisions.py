"""What people decide about who is who: the file, the links that follow, the groups that keep to them, and what to ask."""

import json
import logging
import random
import signal
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from multiprocessing import get_context

import numpy as np
import pytest
from identity_crops import MODEL, crops, make
from killed_process import FILE_STEPS, die_at, in_child

from vitreid.gallery import Gallery, compact, fit_pca, merge, pool_tracklets, to_int8, verify
from vitreid.gallery.identities.decisions.decided_links import ContradictionError, DecidedLinks, in_force
from vitreid.gallery.identities.group_people import GroupingOptions, group_people
from vitreid.gallery.identities.person_columns import PERSON, confirm, write_people
from vitreid.gallery.keeping.decision_file import KINDS, Decision, DecisionFile
from vitreid.gallery.storage.file_names import DECISIONS

FEW = GroupingOptions(k1=6, k2=3, camera_norm="none")


def key(number):
    return f"{number:032x}"


def decide(kind, *rows, **fields):
    return Decision(kind, "Ann", tuple(key(row) if isinstance(row, int) else row for row in rows), **fields)


# ---- the file


def test_a_decision_is_read_as_it_was_written(tmp_path):
    some = [
        decide("same", 1, 2),
        decide("different", 1, 3),
        decide("unsure", 2, 4),
        decide("merge", 1, 5),
        decide("split", 1, 2, others=(key(5),)),
        decide("move", 5, to=key(7), others=(key(1),)),
        decide("name", 1, name="Zoë Ω"),
        decide("enrol", 8, 9, name="Åsa"),
        decide("undo", of=key(1)),
    ]
    assert DecisionFile(tmp_path).append(some) == len(KINDS) == 9
    assert list(DecisionFile(tmp_path).read()) == some
    lines = (tmp_path / DECISIONS).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == list(KINDS)


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"kind": "maybe"}, "kind: unknown decision 'maybe'; choose from same"),
        ({"kind": "same", "rows": (key(1),)}, "rows: same takes 2 to 1000 different rows, got 1"),
        ({"kind": "same", "rows": (key(1), key(1))}, "rows"),
        ({"kind": "same", "rows": ("7", key(1))}, "rows"),
        ({"kind": "same", "rows": (key(1), key(2)), "name": "Bob"}, "name: same does not have it"),
        ({"kind": "split", "rows": (key(1),)}, "others: split needs it"),
        ({"kind": "split", "rows": (key(1),), "others": (key(1),)}, "others"),
        ({"kind": "move", "rows": (key(1),), "to": key(1)}, "to: a row cannot be moved to itself"),
        ({"kind": "name", "rows": (key(1),), "name": " "}, "name: 1 to 200 printable"),
        ({"kind": "name", "rows": (key(1),), "name": "a\x1b[2J"}, "name: 1 to 200 printable"),
        ({"kind": "undo"}, "of: undo needs it"),
        ({"kind": "undo", "of": key(1), "who": ""}, "who: 1 to 200 printable"),
    ],
)
def test_a_wrong_decision_is_refused_by_the_name_of_its_field(fields, named):
    with pytest.raises(ValueError, match=named.replace("(", r"\(")):
        Decision(**{"who": "Ann", **fields})


def test_a_decision_that_is_sent_twice_is_written_once(tmp_path):
    one, file = decide("same", 1, 2), DecisionFile(tmp_path)
    assert (file.append([one]), file.append([one]), DecisionFile(tmp_path).append([one])) == (1, 0, 0)
    assert len(file.read()) == 1


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_line_that_was_cut_off_is_mended_and_said(cut, tmp_path, caplog):
    file = DecisionFile(tmp_path)
    file.append([decide("same", 1, 2), decide("same", 3, 4)])
    path = tmp_path / DECISIONS
    path.write_bytes(path.read_bytes()[:-cut])
    assert len(DecisionFile(tmp_path).read()) == 1  # perhaps somebody is still writing
    with caplog.at_level(logging.WARNING):
        DecisionFile(tmp_path).append([decide("same", 5, 6)])
    assert len(DecisionFile(tmp_path).read()) == (3 if cut == 1 else 2)
    assert "the last line was cut off" in caplog.text and DECISIONS in caplog.text
    assert len(file.read()) == len(DecisionFile(tmp_path).read()), "a reader that was open sees the same"


def test_a_damaged_line_is_named_and_nothing_is_written(tmp_path):
    DecisionFile(tmp_path).append([decide("same", 1, 2), decide("same", 3, 4)])
    path = tmp_path / DECISIONS
    content = path.read_bytes().replace(b'"who"', b'"???"', 1)
    path.write_bytes(content)
    for act in (lambda file: file.read(), lambda file: file.append([decide("same", 5, 6)])):
        with pytest.raises(ValueError, match=rf"{DECISIONS}: line 1 is damaged .*restore"):
            act(DecisionFile(tmp_path))
    assert path.read_bytes() == content


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    file = DecisionFile(tmp_path)
    file.append([decide("same", 1, 2)])
    before, write = file.path.read_bytes(), __import__("os").write
    monkeypatch.setattr("os.write", lambda handle, content: write(handle, content[:30]))
    with pytest.raises(OSError, match="no space left"):
        file.append([decide("same", 3, 4)])
    monkeypatch.undo()
    assert file.path.read_bytes() == before and file.append([decide("same", 3, 4)]) == 1


def test_what_a_check_refuses_is_not_written(tmp_path):
    file = DecisionFile(tmp_path)

    def refuse(_):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        file.append([decide("same", 1, 2)], refuse)
    assert file.read() == ()


def _write_some(folder, writer, count):
    file = DecisionFile(folder)
    for number in range(count):
        file.append([replace(decide("same", writer, 100 + number), who=f"w{writer}")])


@pytest.mark.slow
def test_two_processes_lose_nothing(tmp_path):
    make(tmp_path / "G")
    context = get_context("fork")
    writers = [context.Process(target=_write_some, args=(tmp_path / "G", number, 60)) for number in (1, 2)]
    for one in writers:
        one.start()
    done = 0
    while done < 5:
        with suppress(BlockingIOError):  # while a writer makes the file, compact is refused
            compact(Gallery.open(tmp_path / "G"))  # the folder is replaced while they write
            done += 1
    for one in writers:
        one.join()
    found = DecisionFile(tmp_path / "G").read()
    assert [sum(one.who == f"w{number}" for one in found) for number in (1, 2)] == [60, 60]
    for number in (1, 2):
        assert [one.rows[1] for one in found if one.who == f"w{number}"] == [key(100 + i) for i in range(60)]


def _decide_until_killed(folder, deadly, answered):
    import os

    die_at(deadly, (*FILE_STEPS, (os, "write"), (os, "ftruncate")))
    file = DecisionFile(folder)
    for number in range(10):
        one = decide("same", 1, 100 + number)
        file.append([one])
        with open(answered, "a") as done:
            done.write(one.id + "\n")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_kill_loses_no_decision_that_was_answered(seed, tmp_path):
    """Also if a compaction is killed in between: index, records and decisions agree afterwards."""
    gallery = make(tmp_path / "G")
    answered = tmp_path / "answered"
    answered.touch()
    rng = random.Random(seed)
    for _ in range(4):
        assert in_child(_decide_until_killed, gallery.path, rng.randrange(1, 30), answered) in (0, -signal.SIGKILL)
        in_child(_compact_until_killed, gallery.path, rng.randrange(1, 40))
        assert len(Gallery.open(gallery.path)) == 64
    DecisionFile(gallery.path).append([decide("same", 1, 2)])
    ids = [one.id for one in DecisionFile(gallery.path).read()]
    assert set(answered.read_text().split()) <= set(ids) and len(set(ids)) == len(ids)


def _compact_until_killed(folder, deadly):
    die_at(deadly, FILE_STEPS)
    compact(Gallery.open(folder))


# ---- links


def test_an_undo_can_be_undone():
    one = decide("same", 1, 2)
    undo = decide("undo", of=one.id)
    again = decide("undo", of=undo.id)
    assert in_force([one]) == [one] and in_force([one, undo]) == [] and in_force([one, undo, again]) == [one]


def test_a_contradiction_is_named_with_the_decisions_it_follows_from():
    first, second = decide("same", 1, 2), decide("same", 2, 3)
    links = DecidedLinks([first, second])
    with pytest.raises(ContradictionError, match="said to show one person.*undo one of these") as found:
        links.check(decide("different", 1, 3))
    assert set(found.value.earlier) == {first, second}
    apart = decide("different", 3, 4)
    links = DecidedLinks([first, second, apart])
    with pytest.raises(ContradictionError, match="said to differ") as found:
        links.check(decide("same", 1, 4))
    assert set(found.value.earlier) == {first, second, apart}
    with pytest.raises(ContradictionError, match="said to differ"):
        links.check(decide("same", 5, 3, 4))  # by way of a third row
    with pytest.raises(ContradictionError, match="one person"):
        links.check(decide("split", 5, 1, others=(key(2),)))


def test_a_contradiction_that_came_with_a_merge_is_set_aside_and_asked_again():
    some = [decide("same", 1, 2), decide("same", 2, 3), decide("different", 1, 3)]
    links = DecidedLinks(some)
    assert [one.decision for one in links.contradictions] == [some[2]] and links.are_together(key(1), key(3))
    assert links.asked_again() == [(key(1), key(3))]
    assert DecidedLinks([*some, decide("same", 3, 1)]).asked_again() == []
    assert DecidedLinks([*some, decide("undo", of=some[0].id)]).contradictions == []


def test_confirmed_rows_count_as_decided():
    links = DecidedLinks((), {key(1): "Ann", key(2): "Ann", key(3): "Bob"})
    assert links.are_together(key(1), key(2))
    with pytest.raises(ContradictionError, match="confirmed as Ann and Bob"):
        links.check(decide("same", 2, 3))


def test_links_agree_with_a_naive_twin():
    """Random answers: a pair is together if `same` leads there, apart if one `different` lies on the way."""
    rng = random.Random(0)
    for _ in range(30):
        links, same, different = DecidedLinks(), [], []
        for _ in range(25):
            one, other = rng.sample(range(8), 2)
            kind = rng.choice(["same", "different"])
            people = components(8, same)
            together = people[one] == people[other]
            apart = any({people[a], people[b]} == {people[one], people[other]} for a, b in different)
            assert links.are_together(key(one), key(other)) == together
            assert links.are_apart(key(one), key(other)) == (apart and not together)
            before = len(links.contradictions)
            links.add([decide(kind, one, other)])
            refused = apart if kind == "same" else together
            assert (len(links.contradictions) > before) == refused
            if not refused:
                (same if kind == "same" else different).append((one, other))


def components(count, pairs):
    label = list(range(count))
    for one, other in pairs:
        label = [label[one] if value == label[other] else value for value in label]
    return label


# ---- groups


def keys_of(gallery):
    return [one.hex() for one in gallery.live_keys().to_pylist()]


def find(gallery, options=FEW):
    found = group_people(gallery, options)
    write_people(gallery, found.before, found.after)
    return gallery.select([PERSON])[PERSON].to_pylist()


def write(gallery, *decisions):
    DecisionFile(gallery.path).append(decisions)


@pytest.fixture
def gallery(tmp_path):
    """8 people of 8 rows: rows 0-7 show the first, and so on."""
    return make(tmp_path / "G")


@pytest.mark.parametrize("regroup", [False, True])
def test_same_joins_people_and_different_parts_them(regroup, gallery):
    keys, options = keys_of(gallery), replace(FEW, regroup=regroup)
    find(gallery)
    same = decide("same", keys[0], keys[8])
    write(gallery, same, decide("different", keys[16], keys[17]))
    names = find(gallery, options)
    assert len(set(names[:16])) == 1 and names[16] != names[17] and len(set(names[24:])) == 5
    assert find(gallery, options) == names, "settled"
    write(gallery, decide("undo", of=same.id))
    names = find(gallery, options)
    assert len(set(names[:8])) == len(set(names[8:16])) == 1 and names[0] != names[8]


@pytest.mark.parametrize("regroup", [False, True])
def test_split_move_and_name(regroup, gallery):
    keys, options = keys_of(gallery), replace(FEW, regroup=regroup)
    before = find(gallery)
    write(
        gallery,
        decide("split", *keys[0:3], others=tuple(keys[3:8])),
        decide("move", keys[8], to=keys[16], others=tuple(keys[9:16])),
        decide("name", keys[24], name="Eve"),
        decide("name", keys[32], name="Bob"),
        decide("merge", keys[24], keys[32]),
    )
    names = find(gallery, options)
    assert len(set(names[0:3])) == len(set(names[3:8])) == 1 and names[0] != names[3]
    assert names[8] == names[16] == before[16] and set(names[9:16]) == {before[9]}
    assert set(names[24:40]) == {"Bob"} and names[40:] == before[40:]


def test_two_given_names_never_merge(gallery):
    keys = keys_of(gallery)
    write(gallery, decide("name", keys[0], name="Eve"), decide("name", keys[1], name="Bob"))
    names = find(gallery)
    assert (names[0], names[1]) == ("Eve", "Bob")


def test_a_name_that_was_taken_back_gives_way_to_the_earlier_one(gallery):
    before, keys = find(gallery), keys_of(gallery)
    name = decide("name", keys[0], name="Eve")
    write(gallery, name)
    assert find(gallery)[:8] == ["Eve"] * 8
    write(gallery, decide("undo", of=name.id))
    assert find(gallery) == before


def test_a_split_of_a_track_outweighs_the_record(tmp_path):
    rows, records = crops(num_people=4, images=6)
    gallery = make(tmp_path / "G", num_people=1, images=3)
    gallery.add(rows, [{**record, "tracklet": record["pid"]} for record in records], MODEL)
    find(gallery)
    keys = keys_of(gallery)
    write(gallery, decide("split", *keys[3:5], others=tuple(keys[6:9])))
    names = find(gallery)
    assert names[3] == names[4] and names[3] not in names[6:9]


def test_confirmed_people_stay_and_a_contradiction_to_them_is_reported(gallery):
    confirm(gallery, [0], "Ann")
    confirm(gallery, [8], "Bob")
    write(gallery, decide("same", *(keys_of(gallery)[i] for i in (0, 8))))
    found = group_people(gallery, FEW)
    assert (found.after.names[0], found.after.names[8]) == ("Ann", "Bob")
    assert len(found.board.links.contradictions) == 1


def test_decisions_outlive_compaction_merging_and_a_new_export(tmp_path, gallery):
    keys = keys_of(gallery)
    write(gallery, decide("same", keys[1], keys[9]), decide("name", keys[1], name="Eve"))
    gallery.remove([0])
    compact(gallery)
    assert find(gallery)[:15] == ["Eve"] * 15
    other = make(tmp_path / "other", seed=1, first=20)
    merge(other, [gallery])
    merge(other, [gallery])
    assert len(DecisionFile(other.path).read()) == 2, "each decision once"
    names = find(other)
    assert names.count("Eve") == 15 and len(set(names[:64])) == 8
    rows, records = crops()
    again = Gallery.build(
        gallery.path, gallery.info, lambda made: made.add(rows[::-1], records[::-1], MODEL), overwrite=True
    )
    assert find(again).count("Eve") == 15, "the removed row stays out"


@pytest.mark.parametrize("make_of", [to_int8, lambda source, output: fit_pca(source, output, 4), pool_tracklets])
def test_a_gallery_that_is_made_of_another_has_its_decisions(make_of, gallery, tmp_path):
    some = decide("same", *keys_of(gallery)[:2])
    write(gallery, some)
    made = make_of(gallery, tmp_path / "other")
    assert DecisionFile(made.path).read() == (some,) and some.rows[0] in keys_of(made)


def test_verify_names_a_damaged_file_of_decisions(gallery):
    write(gallery, decide("same", *keys_of(gallery)[:2]))
    assert not verify(gallery.path, images=False)
    (gallery.path / DECISIONS).write_text("{}\n")
    (problem,) = verify(gallery.path, images=False)
    assert problem.file == DECISIONS and "line 1 is damaged" in problem.message


def test_the_report_says_what_was_decided(gallery):
    from vitreid.gallery.identities.grouping_report import report_of

    keys = keys_of(gallery)
    some = [decide("same", keys[0], keys[1]), decide("different", keys[0], keys[1])]
    write(gallery, *some)
    report = report_of(gallery, group_people(gallery, FEW))
    assert "2 decisions" in str(report) and some[1].id[:8] in str(report)
    assert report.to_dict()["contradictions"][0]["decision"] == some[1].id
    assert all(one != other for one, other in combinations(report.to_dict()["people"], 2))
    assert np.isfinite(report.silhouette)
