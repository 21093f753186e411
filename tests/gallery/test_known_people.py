"""New or known: enrolment, the quality gate, expiry, decisions at a false alarm rate; people as training data."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from identity_crops import crops, make
from PIL import Image

from vitreid.datasets.readers.manifest import load_manifest
from vitreid.gallery.identities.known_people import (
    ASK,
    KNOWN,
    NEW,
    EnrolmentOptions,
    EnrolmentScores,
    best_margin,
    enrol,
    enrolled,
)
from vitreid.gallery.identities.person_columns import confirm
from vitreid.gallery.identities.training_manifest import ManifestOptions, write_manifest
from vitreid.tools.people import identities as tool


def known(num_people=10, images=12, **options):
    """People 0 to 9, enrolled by their pid."""
    rows, records = crops(num_people=num_people, images=images, dim=64, spread=0.5)
    return enrolled(rows, np.array([record["pid"] for record in records]), options=EnrolmentOptions(**options))


def of(person, images=1, seed=3):
    return crops(num_people=1, images=images, seed=seed, first=person, dim=64, spread=0.5)[0]


def test_a_known_person_is_found_and_a_new_one_is_new():
    people = known()
    found = [people.identify(of(person), miss=0.01) for person in range(20)]
    assert [one.person for one in found[:10]] == list(people.names)
    assert {one.verdict for one in found[:10]} == {KNOWN} and min(one.probability for one in found[:10]) > 0.9
    assert [one.verdict for one in found[10:]].count(NEW) >= 8


def test_a_score_between_the_two_is_a_question():
    people = known()
    between = 0.5 * of(0) + 0.5 * of(15)
    strict = {
        people.identify(w * of(0) + (1 - w) * of(15), far=0.01, miss=0.001).verdict for w in np.linspace(0, 1, 30)
    }
    assert strict >= {KNOWN, NEW} and people.identify(between, usable=False).verdict == ASK
    score = people.identify(between).score
    overlapping = EnrolmentScores(np.linspace(score - 0.1, 1, 50), np.linspace(0, score + 0.1, 50))
    found = replace(people, calibration=overlapping).identify(between)
    assert found.verdict == ASK and found.reason


def test_a_track_counts_with_all_its_crops():
    people = known()
    rows = of(4, images=6)
    np.testing.assert_allclose(
        people.scores(rows), np.mean([people.scores(row[None]) for row in rows], axis=0), rtol=1e-5
    )


def test_the_calibration_leaves_the_templates_and_the_own_person_out():
    people = known(templates=4)
    assert len(people.calibration.own) == len(people.calibration.others) == 10 * 12 - len(people.templates)
    assert np.bincount(people.owners).tolist() == [4] * 10


def test_people_with_too_few_crops_are_not_enrolled_and_few_people_are_a_question():
    assert known(least=13).names == () and known(least=13).identify(of(0)).verdict == NEW
    few = known(num_people=2, images=3)
    assert few.names == ("0", "1") and few.identify(of(0)).verdict == ASK


def test_a_score_is_measured_against_the_next_best_people():
    scores = np.array([0.9, 0.5, 0.3, 0.5, 0.3, 0.4, 0.1])
    assert best_margin(scores, 0) == 0.9
    assert best_margin(scores) == pytest.approx(0.9 - 0.4) == best_margin(scores + 0.1)


def test_a_score_is_the_mean_of_the_best_template_and_the_mean():
    people, row = known(templates=3), of(2)[0]
    for person in (0, 2):
        templates, mean = people.templates[people.owners == person], people.means[person]
        assert people.scores(row[None])[person] == pytest.approx((max(templates @ row) + mean @ row) / 2, abs=1e-5)


@pytest.mark.parametrize(
    "value, key",
    [({"least": 0}, "least"), ({"expire_after": 0}, "expire"), ({"quality": (("beauty", 0.1),)}, "beauty")],
)
def test_enrolment_options_out_of_range_are_refused(value, key):
    with pytest.raises(ValueError, match=key):
        EnrolmentOptions(**value)


def test_bad_old_and_open_rows_are_left_out(tmp_path):
    gallery = make(tmp_path / "G", num_people=3)
    for person in range(3):
        confirm(gallery, range(8 * person, 8 * person + 8), f"p{person}")
    gallery.update(range(8), {"quality": 0.01})
    gallery.update(range(8, 16), {"quality": 0.9, "time": 100.0})
    gallery.update(range(16, 24), {"time": 1000.0})
    assert enrol(gallery).names == ("p1", "p2")
    assert enrol(gallery, EnrolmentOptions(expire_after=500.0)).names == ("p2",)
    assert enrol(gallery, EnrolmentOptions(expire_after=500.0, now=1600.0)).names == ()
    confirm(gallery, range(16, 24), None)
    assert enrol(gallery, EnrolmentOptions(confirmed=True)).names == ("p1",)
    assert set(enrol(gallery).ids) <= set(range(8, 24))


def test_queries_of_another_model_are_refused():
    with pytest.raises(ValueError, match="8 values"):
        known().identify(np.ones((1, 8)))


# --- training data ------------------------------------------------------------------------------------------------


def confirmed_people(tmp_path, num_people=10, cameras=3):
    """A gallery with images, each person confirmed."""
    gallery = make(tmp_path / "G", num_people=num_people)
    for record in gallery.records.to_pylist():
        file = gallery.image_path(record["path"])
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 16), (record["id"], 0, 0)).save(file)
    for person in range(num_people):
        confirm(gallery, range(8 * person, 8 * person + 8), f"p{person}")
    if cameras == 1:
        gallery.update(range(8 * num_people), {"camera": "c0"})
    return gallery


def test_people_become_a_manifest_that_the_reader_takes(tmp_path):
    gallery = confirmed_people(tmp_path)
    (tmp_path / "out").mkdir()
    made = write_manifest(gallery, tmp_path / "out" / "people.csv")
    assert made == (7, 3, {"train": 56, "query": 9, "gallery": 15}, 0)
    data = load_manifest(tmp_path / "out" / "people.csv")
    assert (len(data.train), len(data.query), len(data.gallery)) == (56, 9, 15)
    assert len(data.camera_names) == 3 and set(data.person_names.values()) == {f"p{i}" for i in range(10)}
    trained, queried, wanted = ({record.pid for record in part} for part in (data.train, data.query, data.gallery))
    assert queried == wanted and not trained & queried


def test_the_seed_decides_who_is_held_out(tmp_path):
    gallery = confirmed_people(tmp_path)

    def held_out(seed):
        write_manifest(gallery, tmp_path / "people.csv", ManifestOptions(seed=seed))
        with (tmp_path / "people.csv").open() as file:
            return {line["pid"] for line in csv.DictReader(file) if line["split"] != "train"}

    assert held_out(0) == held_out(0) and len({frozenset(held_out(seed)) for seed in range(5)}) > 1


def test_one_camera_and_missing_images(tmp_path):
    gallery = confirmed_people(tmp_path, cameras=1)
    gallery.image_path(gallery.records["path"][0].as_py()).unlink()
    made = write_manifest(gallery, tmp_path / "people.csv")
    assert made.num_missing == 1 and made.num_lines["query"] == 3
    assert load_manifest(tmp_path / "people.csv").protocol == "own-file"


def test_too_few_people_are_refused(tmp_path):
    with pytest.raises(ValueError, match="vitreid identities"):
        write_manifest(make(tmp_path / "G"), tmp_path / "people.csv")
    with pytest.raises(ValueError, match="test-share"):
        ManifestOptions(test_share=1)


def test_the_command_writes_the_manifest(tmp_path, capsys):
    gallery = confirmed_people(tmp_path)
    assert tool.main([str(gallery.path), "--to-manifest", str(tmp_path / "people.csv"), "--test-share", "0.5"]) == 0
    assert "5 people to train on, 5 held out" in capsys.readouterr().out
