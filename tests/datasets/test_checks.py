"""tools/check_data.py: what is wrong with a data set, before training finds out."""

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from vitreid.common.pictures import text_picture
from vitreid.datasets import Record, ReidData
from vitreid.datasets.checks import BatchPlan, check, draw_montage, write_montage
from vitreid.datasets.checks.duplicates import count_bits, near_copies, near_pairs
from vitreid.datasets.checks.entries import Listing
from vitreid.datasets.checks.read_files import difference_hash, scan_file
from vitreid.datasets.published.published_dataset import PublishedDataset
from vitreid.datasets.readers.manifest import load_manifest
from vitreid.tools import check_data
from vitreid.tools.check_data import main

PLAN = BatchPlan(num_ids=2, num_instances=2)
CAMERAS = ("c1", "c2")


@pytest.fixture
def picture(tmp_path):
    """Return a function that draws a picture of noise and returns its path; the same seed, the same picture."""

    def draw(seed, name=None, size=(64, 32), noise=0):
        cells = np.random.default_rng(seed).integers(0, 256, (8, 6, 3), np.uint8)
        image = cv2.resize(cells, size[::-1], interpolation=cv2.INTER_CUBIC).astype(int)
        image = (image + np.random.default_rng(99).integers(-noise, noise + 1, image.shape)).clip(0, 255)
        path = tmp_path / (name or f"{seed}.png")
        cv2.imwrite(str(path), image.astype(np.uint8))
        return str(path)

    return draw


@pytest.fixture
def good(picture):
    """People 0 and 1 in training, 2 and 3 in the test set, each once in both cameras, all pictures different."""

    def records(pids):
        return [Record(picture(2 * pid + camid), pid, camid) for pid in pids for camid in (0, 1)]

    test = records([2, 3])
    return ReidData("mine", records([0, 1]), test[::2], test[1::2], CAMERAS)


def findings(data, **options):
    """Return the findings worse than a note: {name: finding}."""
    return {f.name: f for f in check(data, options.pop("plan", PLAN), **options).findings if f.level != "note"}


def changed(data, **lists):
    """Return `data` with more records in some lists."""
    whole = {split: [*getattr(data, split), *lists.get(split, [])] for split in ("train", "query", "gallery")}
    return ReidData(data.name, **whole, camera_names=lists.get("camera_names", CAMERAS))


def test_good_data_has_no_finding(good):
    checked = check(good, PLAN)
    assert not [f for f in checked.findings if f.level != "note"]
    assert checked.is_usable
    assert "ready for training" in checked.text


def test_a_person_on_both_sides_is_a_problem(good, picture):
    found = findings(changed(good, gallery=[Record(picture(50), 0, 1)]))
    assert found["overlap"].level == "problem"
    assert found["overlap"].examples == ("person 0",)


def test_a_query_without_a_match_in_another_camera_is_named(good, picture):
    """Person 9 is in the gallery, but only in the query's own camera."""
    path = picture(50)
    found = findings(changed(good, query=[Record(path, 9, 0)], gallery=[Record(picture(51), 9, 0)]))
    assert found["unmatched-queries"].examples == (path,)
    assert found["unmatched-queries"].level == "warning"


def test_when_no_query_has_a_match_nothing_can_be_evaluated(good):
    data = ReidData("mine", good.train, good.query, good.query, CAMERAS)
    assert findings(data)["unmatched-queries"].level == "problem"


def test_without_cameras_every_gallery_image_of_the_person_is_a_match(good):
    alike = [Record(r.path, r.pid, 0) for r in good.gallery]  # the queries' camera
    data = ReidData("mine", good.train, good.query, alike, CAMERAS)
    assert findings(data)["unmatched-queries"].count == 2
    assert "unmatched-queries" not in findings(dataclasses.replace(data, protocol="none"))


def without_cameras(data, gallery):
    """Return `data` with another gallery, and no camera known."""
    records = {split: [dataclasses.replace(r, camid=0) for r in getattr(data, split)] for split in ("train", "query")}
    gallery = [dataclasses.replace(r, camid=0) for r in gallery]
    return ReidData("mine", **records, gallery=gallery, camera_names=("door",), protocol="own-file")


def test_a_query_that_is_in_the_gallery_too_is_named_and_is_no_match(good):
    """One camera, the query's own file in the gallery: other projects find it at rank 1."""
    own = [*good.gallery, *good.query]
    found = findings(without_cameras(good, own))
    assert (found["own-file"].level, found["own-file"].count) == ("warning", 2)
    assert "ignored there as junk" in found["own-file"].what and good.query[0].path in found["own-file"].examples[0]
    assert "unmatched-queries" not in found
    assert findings(without_cameras(good, good.query))["unmatched-queries"].level == "problem"


def test_a_copy_under_another_name_is_the_querys_own_file(good, tmp_path):
    copies = [dataclasses.replace(r, path=shutil.copy(r.path, tmp_path / f"copy{r.pid}.png")) for r in good.query]
    found = findings(without_cameras(good, copies))
    assert found["own-file"].count == 2 and found["unmatched-queries"].level == "problem"


def test_a_query_saved_again_in_the_gallery_is_a_problem(good, tmp_path):
    """Equal pixels, other bytes: the evaluation, which compares files, takes it for a match."""
    cv2.imwrite(str(tmp_path / "again.bmp"), cv2.imread(good.query[0].path))
    again = dataclasses.replace(good.query[0], path=str(tmp_path / "again.bmp"))
    assert findings(without_cameras(good, [*good.gallery, again]))["own-picture"].level == "problem"


def test_a_query_in_the_gallery_under_its_own_camera_is_no_news(good):
    assert "own-file" not in findings(changed(good, gallery=good.query))


def test_pictures_that_the_reader_leaves_out_are_named(good):
    found = findings(dataclasses.replace(good, left_out=("ann/1.heic", "loose.png")))
    assert (found["left-out"].count, found["left-out"].examples) == (2, ("ann/1.heic", "loose.png"))


def test_too_few_people_for_a_batch_is_a_problem_with_the_size_that_works(good):
    found = findings(good, plan=BatchPlan(num_ids=3, num_instances=2))
    assert found["batch"].level == "problem"
    assert "SOLVER.IMS_PER_BATCH to 4" in found["batch"].advice


def test_any_images_in_a_batch_ask_for_no_number_of_people(good):
    assert "batch" not in findings(good, plan=BatchPlan(num_ids=64, num_instances=0))


def test_people_with_too_few_images_are_counted(good):
    found = findings(good, plan=BatchPlan(num_ids=2, num_instances=4))
    assert found["few-images"].count == 2


def test_people_seen_by_one_camera_teach_nothing_about_the_others(good, picture):
    more = [Record(picture(seed), seed, 0) for seed in (50, 51, 52)]
    assert findings(changed(good, train=more))["single-camera"].count == 3


def test_names_that_may_be_one_person_are_listed(good):
    names = {0: "7", 1: "007", 2: "Ann", 3: "Bob"}
    data = ReidData("mine", good.train, good.query, good.gallery, CAMERAS, person_names=names)
    assert findings(data)["similar-names"].examples == ("'007', '7'",)


def test_counts_are_compared_with_the_published_ones(good, monkeypatch):
    published = PublishedDataset("mine", (), "", "", counts=(4, 2, 3), people=(2, 2), cameras=2)
    monkeypatch.setitem(check.__globals__["check_labels"].__globals__["PUBLISHED"], "mine", published)
    assert findings(good)["counts"].examples == ("gallery images: 2, published 3",)


def test_unreadable_tiny_and_wide_images_are_named(good, picture, tmp_path):
    cut = tmp_path / "cut.jpg"
    cv2.imwrite(str(cut), np.zeros((64, 32, 3), np.uint8))
    cut.write_bytes(cut.read_bytes()[:-20])
    tiny, wide = picture(50, size=(20, 10)), picture(51, size=(40, 90))
    found = findings(changed(good, train=[Record(str(cut), 0, 0), Record(tiny, 0, 0), Record(wide, 0, 0)]))
    assert found["unreadable"].level == "problem"
    assert found["unreadable"].examples == (f"{cut}: the image is cut short",)
    assert found["tiny"].examples == (f"{tiny}: 10 x 20",)
    assert found["wide"].examples == (f"{wide}: 90 x 40",)


def test_a_missing_file_is_unreadable_not_an_error(tmp_path):
    assert scan_file(str(tmp_path / "none.jpg")).problem


@pytest.mark.parametrize(
    ("split", "pid", "camid", "name"),
    [
        ("train", 1, 0, "copies-people"),
        ("gallery", 0, 0, "copies-sides"),
        ("train", 0, 1, "copies-cameras"),
        ("train", 0, 0, "copies"),
    ],
)
def test_exact_copies_are_judged_by_their_labels(good, picture, split, pid, camid, name):
    """The copy of train's first picture (person 0, camera 0) under other labels."""
    copy = Record(picture(0, "copy.png"), pid, camid)
    assert name in findings(changed(good, **{split: [copy]}))


def test_a_copy_saved_in_another_format_is_exact(good, picture):
    copy = Record(picture(0, "copy.bmp"), 0, 0)
    assert "1 groups saved again" in findings(changed(good, train=[copy]))["copies"].what


def test_nearly_the_same_picture_under_two_names_is_a_probable_label_error(good, picture):
    near = Record(picture(0, "near.jpg", noise=3), 1, 0)
    found = findings(changed(good, train=[near]))
    assert found["near-people"].level == "warning"
    assert found["near-people"].count == 1
    assert "near-people" not in findings(changed(good, train=[near]), near_bits=None)


def test_alike_hashes_of_unlike_pictures_are_no_near_copies(good, picture):
    """A darker copy has the same gradients, and so the same hash; its colours differ."""
    dark = picture(0, "dark.png")
    cv2.imwrite(dark, cv2.imread(dark) // 2)
    checked = check(changed(good, train=[Record(dark, 1, 0)]), PLAN)
    first, last = scan_file(good.train[0].path), scan_file(dark)
    assert (first.appearance ^ last.appearance).bit_count() <= 3
    assert checked.near == []
    assert len(near_copies(checked.listing, checked.scan, most_pixels=255)) == 1


def test_near_pairs_are_those_of_comparing_all_with_all():
    """Hashes in crowded bands, at every distance up to the largest."""
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 2**63, 12, dtype=np.uint64)
    turns = np.array([sum(1 << int(b) for b in rng.permutation(64)[: n % 13]) for n in range(240)], np.uint64)
    hashes = np.repeat(centres, 20) ^ turns
    for most_bits in (0, 3, 4, 7, 8, 11):
        naive = [
            (i, j)
            for i in range(len(hashes))
            for j in range(i + 1, len(hashes))
            if int(hashes[i] ^ hashes[j]).bit_count() <= most_bits
        ]
        assert list(map(tuple, near_pairs(hashes, most_bits).tolist())) == naive


def test_more_bits_than_the_search_can_find_are_refused():
    with pytest.raises(ValueError, match="0 to 11"):
        near_pairs(np.zeros(2, np.uint64), 12)


def test_no_hash_makes_no_pair():
    assert near_pairs(np.empty(0, np.uint64), 11).shape == (0, 2)
    assert count_bits(np.array([0, 7, 2**64 - 1], np.uint64)).tolist() == [0, 3, 64]


def test_the_hash_says_where_it_gets_brighter_to_the_right():
    ramp = np.tile(np.arange(0, 180, 2, dtype=np.uint8), (80, 1))[..., None].repeat(3, axis=2)
    assert difference_hash(ramp) == 2**64 - 1
    assert difference_hash(ramp[:, ::-1]) == 0


@pytest.fixture
def manifest(good, picture, tmp_path):
    """A manifest with a corrupt file, a copy too many and a contradiction."""
    (tmp_path / "broken.jpg").write_bytes(b"")
    rows = [
        *[
            (r.path, f"p{r.pid}", CAMERAS[r.camid], split)
            for split in ("train", "query", "gallery")
            for r in getattr(good, split)
        ],
        ("broken.jpg", "p0", "c1", "train"),
        (picture(0, "copy.png"), "p0", "c1", "train"),
        (picture(2, "other.png"), "p0", "c1", "train"),
    ]
    file = tmp_path / "people.csv"
    with file.open("w", newline="") as lines:
        csv.writer(lines).writerows([("path", "pid", "camid", "split"), *rows])
    return file


def words(manifest, *more):
    return ["DATASETS.NAMES", "manifest", "DATASETS.MANIFEST", str(manifest), "SOLVER.IMS_PER_BATCH", "8", *more]


def test_the_cleaned_manifest_drops_what_is_broken_or_superfluous_and_decides_nothing(manifest, tmp_path, capsys):
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    cleaned = tmp_path / "cleaned.csv"
    assert main(words(manifest, "--fix", str(cleaned))) == 1
    old, new = load_manifest(manifest), load_manifest(cleaned)
    gone = {r.path for r in old.train} - {r.path for r in new.train}
    assert gone == {str(tmp_path / "broken.jpg"), str(tmp_path / "copy.png")}
    assert (new.query, new.gallery, new.camera_names) == (old.query, old.gallery, old.camera_names)
    with (tmp_path / "cleaned_conflicts.csv").open(newline="") as lines:
        listed = list(csv.DictReader(lines))
    assert [(row["group"], row["path"], row["pid"]) for row in listed] == [
        ("1", "2.png", "p1"),
        ("1", "other.png", "p0"),
    ]
    assert all(path.read_bytes() == content for path, content in before.items())
    assert "copies under different people" in capsys.readouterr().out.replace("exact ", "")


def test_a_cleaned_manifest_has_only_what_needs_a_decision(manifest, tmp_path, capsys):
    cleaned = tmp_path / "cleaned.csv"
    main(words(manifest, "--fix", str(cleaned)))
    capsys.readouterr()
    assert main(words(cleaned)) == 1
    text = capsys.readouterr().out
    assert "1 exact copies under different people" in text
    assert "cannot be read" not in text


def test_files_are_not_replaced_unless_asked(manifest, tmp_path, capsys):
    cleaned = tmp_path / "cleaned.csv"
    cleaned.write_text("mine")
    assert main(words(manifest, "--fix", str(cleaned))) == 2
    assert cleaned.read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err
    assert main(words(manifest, "--fix", str(cleaned), "--overwrite")) == 1
    assert main(words(manifest, "--fix", str(manifest), "--overwrite")) == 2
    assert f"{manifest} is the manifest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--near-bits", "12"], "--near-bits: 0 to 11"),
        (["--near-bits", "-2"], "--near-bits: 0 to 11"),
        (["--montage", "{}/sheet.txt"], r"--montage: .*sheet\.txt"),
        (["--json", "{}/a.png", "--montage", "{}/a.png"], r"--montage: .*a\.png .*--json"),
        (["--json", "{}/c_conflicts.csv", "--fix", "{}/c.csv"], r"--fix: .*c_conflicts\.csv .*--json"),
        (["--json", "{}"], "--json: .*a folder"),
        (["--fix", "{}/c.csv", "DATASETS.TEST", "folder"], "--fix and --montage .*one data set"),
        (["--json", "{}/people.csv", "--overwrite"], r"--json: .*people\.csv .*manifest"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_images_are_read(
    manifest, tmp_path, capsys, monkeypatch, options, message
):
    monkeypatch.setattr(check_data, "build_checks", None)  # nobody reads
    assert main(words(manifest, *(word.format(tmp_path) for word in options))) == 2
    assert re.search(message, capsys.readouterr().err)


def test_an_interrupted_montage_leaves_the_earlier_one(tmp_path, monkeypatch):
    (tmp_path / "sheet.png").write_bytes(b"earlier")

    def stop(self, content):
        with self.open("wb") as file:
            file.write(content[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", stop)
    with pytest.raises(KeyboardInterrupt):
        write_montage(tmp_path / "sheet.png", np.zeros((4, 4, 3), np.uint8))
    assert (tmp_path / "sheet.png").read_bytes() == b"earlier"


def test_a_montage_and_numbers_for_programs(people, tmp_path, capsys):
    sheet, numbers = tmp_path / "sheet.png", tmp_path / "found.json"
    options = ["DATASETS.ROOT_DIR", str(people / "synthetic"), "SOLVER.IMS_PER_BATCH", "16"]
    assert main([*options, "--montage", str(sheet), "--json", str(numbers)]) == 0
    assert cv2.imread(str(sheet)).shape == (15 + 12 * 128, 64 * (1 + 3), 3)  # 12 people, 3 cameras and their names
    found = json.loads(numbers.read_text())[0]
    assert found["images"] == {"train": 48, "query": 18, "gallery": 24}
    assert found["usable"] is True
    assert "market1501/c1" in capsys.readouterr().out


def test_a_montage_shows_the_names_of_people_and_cameras_whole(good, tmp_path):
    """`visitor-028` and `isitor-028` would be two people, and a camera's name takes as many lines as it needs."""
    names = {pid: f"visitor-{pid:03d} of the day" for pid in range(10)}
    cameras = tuple(f"corridor {i}rd floor" for i in range(len(CAMERAS)))
    data = ReidData("mine", good.train, good.query, good.gallery, cameras, person_names=names)
    sheet = draw_montage(Listing(data), set())[..., ::-1]
    pid = next(record.pid for record in data.train)
    shown = [text_picture([side, names[pid]]) for side in ("train", "test")]
    width = shown[0].shape[1]
    rows = [sheet[top : top + 30, :width] for top in range(30, len(sheet), 128)]
    assert any((row == name).all() for row in rows for name in shown)
    assert (sheet[:30, width : width + 64] == text_picture(["corridor", "0rd floor"], 64)).all()


def test_several_sets_are_checked_one_by_one(people, tmp_path, capsys):
    folder = tmp_path / "folder"
    for person in "ab":
        (folder / person).mkdir(parents=True)
        cv2.imwrite(str(folder / person / "1.png"), np.full((64, 32, 3), ord(person), np.uint8))
    (tmp_path / "market1501").symlink_to(people / "synthetic")
    options = ["DATASETS.NAMES", "market1501", "DATASETS.TEST", "folder", "DATASETS.ROOT_DIR", str(tmp_path)]
    assert main([*options, "SOLVER.IMS_PER_BATCH", "16"]) == 1
    text = capsys.readouterr().out
    assert "market1501: 90 images" in text and "folder: 2 images" in text
    assert main([*options, "--fix", str(tmp_path / "c.csv")]) == 2


def test_a_folder_that_is_not_there_is_an_error(tmp_path, capsys):
    assert main(["DATASETS.ROOT_DIR", str(tmp_path)]) == 2
    assert re.search(rf"DATASETS\.ROOT_DIR: market1501.*{tmp_path}", capsys.readouterr().err)


def test_people_that_are_unknown_are_no_problem(good):
    """Training without labels: nothing about people of the training images is judged."""
    train = [dataclasses.replace(record, pid=-1) for record in good.train]
    assert findings(dataclasses.replace(good, train=train)) == {}
    alone = check(dataclasses.replace(good, train=train, query=[], gallery=[]), PLAN)
    levels = {finding.name: finding.level for finding in alone.findings}
    assert (levels["no-test"], levels["unlabelled"]) == ("warning", "note") and alone.is_usable
    assert "(train, person unknown, camera c1)" in alone.listing.describe(alone.listing.entries[0])
