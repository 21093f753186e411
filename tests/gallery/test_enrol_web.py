"""Enrolment of people from uploaded images, its undo, and grouping with another threshold, over HTTP."""

import io
import json
import os
import shutil
import time

import numpy as np
import pytest

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')
pytest.importorskip("httpx", reason='needs the extra: pip install "vitreid[serve]"')

from fastapi.testclient import TestClient
from identity_crops import crops
from people_gallery import FIRST, NUM_PEOPLE, NumberedCrops, crop, make_people, people_of
from PIL import Image

from vitreid.common.locks import WriterLock
from vitreid.gallery import Gallery, GalleryInfo
from vitreid.gallery.identities import enrolled_images
from vitreid.gallery.identities.group_people import GroupingOptions, group_people
from vitreid.gallery.identities.person_columns import read_people
from vitreid.gallery.keeping.decision_file import DecisionFile
from vitreid.gallery.keeping.suppress_changes import allow
from vitreid.gallery.maintenance.merge_compact import compact
from vitreid.gallery.web import create_app
from vitreid.gallery.web.people import person_upload

STRANGER = 200  # number of the first crop of somebody who is not in the gallery


class MoreCrops(NumberedCrops):
    """Knows crops 200 to 219 too, of another person."""

    def __init__(self):
        super().__init__()
        others = crops(1, 20, first=FIRST + NUM_PEOPLE + 2)[0]
        self.rows = np.concatenate([self.rows, np.zeros((STRANGER - len(self.rows), others.shape[1])), others])
        self.calls = 0

    def __call__(self, images, cameras):
        self.calls += 1
        return super().__call__(images, cameras).astype(np.float32)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_people(tmp_path_factory.mktemp("people"))


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "G")


def serve(folder, embedder=None, **options):
    app = create_app(Gallery.open(folder), embedder or MoreCrops(), **{"enrol": True, **options})
    return TestClient(app, raise_server_exceptions=False)


def wait(client, count=None):
    """Wait until the rows, `count` of them, are compared."""
    until = time.monotonic() + 60
    while not (state := client.get("/people/state").json())["is_ready"] or (count or state["rows"]) != state["rows"]:
        assert time.monotonic() < until and not state["failure"], state
        time.sleep(0.02)


@pytest.fixture
def client(folder):
    with serve(folder) as client:
        wait(client)
        yield client


def as_png(number):
    buffer = io.BytesIO()
    crop(number).save(buffer, "PNG")
    return buffer.getvalue()


def send(client, *images, headers=None, **fields):
    files = [("image", ("who.png", as_png(image) if isinstance(image, int) else image)) for image in images]
    return client.post("/enrol", files=files, data={"who": "Ann", "name": "Eve", **fields}, headers=headers)


def enrol(client, *images, **fields):
    answer = send(client, *images, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def identify(client, number):
    return client.post("/identify", files=[("image", ("who.png", as_png(number)))]).json()


def undo(client, id, status=200, who="Bob"):
    answer = client.post("/people/undo", json={"who": who, "of": id})
    assert answer.status_code == status, answer.text
    return answer.json()


def content(folder):
    """All files of a folder but the lock, with what they hold."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", "decisions.jsonl")
    }


def test_who_is_enrolled_from_one_image_is_known_in_others(client, folder):
    client.post("/enrol", json={"templates": 2})  # leaves crops to learn the limits from
    before = identify(client, STRANGER + 1)
    assert before["verdict"] != "known"
    done = enrol(client, STRANGER)
    (id,) = done["decision"]["ids"]
    assert done["people"] == 8 and done["is_calibrated"] and done["decision"]["kind"] == "enrol"
    found = identify(client, STRANGER + 1)
    assert (found["verdict"], found["person"]) == ("known", "Eve") and found["probability"] > 0.9
    assert identify(client, 3)["person"] != "Eve"
    wait(client, 161)
    listed = client.get("/people/groups").json()["people"]
    assert [one["rows"] for one in listed if one["person"] == "Eve"] == [1], "whoever has a given name is listed"
    gallery = Gallery.open(folder)
    record = gallery.rows_of([id])[0]
    assert record["person"] == "Eve" and record["path"].startswith("enrolled/") and record["time"] is None
    np.testing.assert_allclose(gallery.vectors_of([id])[0], MoreCrops().rows[STRANGER], atol=1e-6)
    with Image.open(folder / record["path"]) as kept:
        np.testing.assert_array_equal(np.asarray(kept), np.asarray(crop(STRANGER)))
    assert client.get(f"/image/{id}").content == (folder / record["path"]).read_bytes()


def test_several_images_are_one_person_for_later_groupings_and_other_programs(client, folder):
    done = enrol(client, STRANGER, STRANGER + 1, STRANGER, camera="desk")
    assert len(done["decision"]["ids"]) == 2, "an image that is sent twice counts once"
    for regroup in (False, True):
        found = group_people(Gallery.open(folder), GroupingOptions(regroup=regroup)).after
        eve = [id for id, name in zip(found.ids.tolist(), found.names, strict=True) if name == "Eve"]
        assert set(eve) >= set(done["decision"]["ids"]) and (regroup or len(eve) == 2)
    wait(client, 162)
    stack = client.get("/people/groups", params={"find": "eve"}).json()["people"][0]
    assert stack["rows"] == 2 and stack["is_named"]
    (entry,) = client.get("/people/decisions").json()["decisions"]
    assert (entry["who"], entry["kind"], entry["name"], entry["rows"]) == ("Ann", "enrol", "Eve", 2)
    compact(Gallery.open(folder))
    assert list(people_of(Gallery.open(folder))).count("Eve") == 2
    assert len(list((folder / "enrolled").iterdir())) == 2


def test_an_undo_removes_the_rows_and_the_images_and_they_can_be_enrolled_again(client, folder):
    before = len(Gallery.open(folder))
    done = enrol(client, STRANGER, STRANGER + 1)["decision"]
    taken = undo(client, done["id"])["decision"]
    assert identify(client, STRANGER + 2)["person"] != "Eve"
    gallery = Gallery.open(folder)
    assert len(gallery) == before and list((folder / "enrolled").iterdir()) == []
    assert "Eve" not in set(read_people(gallery).names.tolist())
    assert b"Eve" not in (folder / "identities.parquet").read_bytes()
    assert "enrol them again" in undo(client, taken["id"], 409)["detail"]
    assert "taken back already" in undo(client, done["id"], 409)["detail"]
    assert len(enrol(client, STRANGER, STRANGER + 1)["decision"]["ids"]) == 2
    assert identify(client, STRANGER + 2)["person"] == "Eve"


def test_what_is_sent_twice_with_its_id_is_enrolled_once(client, folder):
    first, second = (enrol(client, STRANGER, id="a" * 32) for _ in range(2))
    assert first["decision"] == second["decision"] and len(DecisionFile(folder).read()) == 1
    assert "another decision" in send(client, STRANGER, id="a" * 32, name="Bea").json()["detail"]


def test_an_image_that_was_removed_stays_out_until_it_is_allowed(client, folder):
    (id,) = enrol(client, STRANGER)["decision"]["ids"]
    Gallery.open(folder).remove([id])
    refused = send(client, STRANGER)
    assert refused.status_code == 409 and "vitreid gallery allow" in refused.json()["detail"]
    assert len(Gallery.open(folder)) == 160
    allow(Gallery.open(folder))
    assert enrol(client, STRANGER)["decision"]["ids"] != [id]


def test_a_crash_between_rows_and_decision_is_completed(client, folder, monkeypatch):
    class Killed(BaseException):
        pass

    from vitreid.gallery.identities.enrolled_images import NewPerson, PersonImage, enrol_person

    image = PersonImage(np.asarray(crop(STRANGER)), MoreCrops().rows[STRANGER].astype(np.float32))
    gallery, model = Gallery.open(folder), MoreCrops.fingerprint
    append = DecisionFile.append
    monkeypatch.setattr(
        DecisionFile, "append", lambda *args: append(*args) if not args[1] else (_ for _ in ()).throw(Killed)
    )
    monkeypatch.setattr(enrolled_images, "_remove", lambda *_: 0)  # a killed process takes nothing back
    with pytest.raises(Killed):
        enrol_person(gallery, [image], NewPerson("Eve", "Ann", None, "a" * 32), model)
    monkeypatch.undo()
    assert DecisionFile(folder).read() == () and len(Gallery.open(folder)) == 161
    assert len(enrol(client, STRANGER)["decision"]["ids"]) == 1
    assert len(DecisionFile(folder).read()) == 1 and len(Gallery.open(folder)) == 161


@pytest.mark.parametrize("place", ["append", "write_atomically"])
def test_a_full_disk_leaves_everything_as_it_was(place, client, folder, monkeypatch):
    def full(*args):
        if place == "append" and not args[1]:
            return 0
        raise OSError("no space left")

    before = content(folder)
    monkeypatch.setattr(
        *((DecisionFile, "append") if place == "append" else (enrolled_images, "write_atomically")), full
    )
    answer = send(client, STRANGER)
    assert answer.status_code == 503 and "the server's log" in answer.json()["detail"]
    assert list((folder / "enrolled").iterdir()) == [] and len(Gallery.open(folder)) == 160
    if place != "append":  # rows that were taken back are gone with the next `compact`
        assert content(folder) == before


# ---- refusals


@pytest.mark.parametrize(
    "images, fields, status, named",
    [
        ([b"not an image"], {}, 415, "not an image"),
        ([b""], {}, 400, "empty"),
        ([as_png(STRANGER)[:90]], {}, 400, "damaged"),
        ([STRANGER, b"%PDF-1.4"], {}, 415, "not an image"),
        ([STRANGER], {"name": ""}, 422, "name"),
        ([STRANGER], {"name": "   "}, 422, "name"),
        ([STRANGER], {"name": "a\u202eb"}, 422, "name"),
        ([STRANGER], {"name": "x" * 201}, 422, "name"),
        ([STRANGER], {"who": " "}, 422, "who"),
        ([STRANGER], {"id": "7"}, 422, "id"),
        ([STRANGER], {"shoe": "1"}, 422, "shoe"),
        ([STRANGER] * 17, {}, 422, "image"),
    ],
)
def test_a_wrong_enrolment_is_refused_and_nothing_is_written(images, fields, status, named, client, folder):
    before = content(folder)
    answer = send(client, *images, **fields)
    assert answer.status_code == status and named in answer.json()["detail"], answer.text
    assert content(folder) == before and DecisionFile(folder).read() == ()


def test_an_enrolment_without_images_or_with_text_in_their_place_is_refused(client):
    who = {"name": (None, "Eve"), "who": (None, "Ann")}
    for fields in (who, {**who, "image": (None, "text")}, {**who, "image": (None, "")}):
        answer = client.post("/enrol", files=fields)
        assert answer.status_code == 422 and "image" in answer.json()["detail"]
    assert client.post("/enrol", json={"name": "Eve"}).status_code == 422


def test_a_name_or_an_image_that_is_there_is_refused(client, folder):
    enrol(client, STRANGER)
    there = client.get("/people/groups").json()["people"][0]["person"]
    client.post("/people/name", json={"who": "Ann", "row": 0, "name": "Zoe"})  # not yet in the records
    before = content(folder)
    for name in ("Eve", " Eve ", there, "Zoe"):
        refused = send(client, STRANGER + 1, name=name)
        assert refused.status_code == 409 and f"another {name.strip()!r}" in refused.json()["detail"]
    refused = send(client, STRANGER, name="Bea")
    assert refused.status_code == 409 and "as row 160 of 'Eve'" in refused.json()["detail"]
    assert content(folder) == before and len(DecisionFile(folder).read()) == 2


@pytest.mark.parametrize("options", [{"enrol": False}, {"enrol": False, "decide": True}])
def test_a_server_that_was_not_allowed_to_adds_nobody_and_removes_nobody(options, folder):
    with serve(folder) as client:
        done = enrol(client, STRANGER)["decision"]
    before, embedder = content(folder), MoreCrops()
    with serve(folder, embedder, **options) as client:
        wait(client)
        assert not client.get("/people/state").json()["can_enrol"]
        refused = send(client, STRANGER + 1, name="Bea")
        assert refused.status_code == 403 and "--enrol" in refused.json()["detail"] and not embedder.calls
        undo(client, done["id"], 403)
        assert identify(client, STRANGER + 1)["person"] == "Eve", "to identify needs no permission"
    assert content(folder) == before


def test_the_token_and_the_limits_hold_for_enrolment(folder):
    with serve(folder, token="s3cret", max_bytes=2000, max_pixels=5000) as client:
        assert send(client, STRANGER).status_code == 401
        bearer = {"Authorization": "Bearer s3cret"}
        assert send(client, b"x" * 3000, headers=bearer).status_code == 413
        large = io.BytesIO()
        Image.new("L", (100, 100)).save(large, "PNG")
        refused = send(client, large.getvalue(), headers=bearer)
        assert refused.status_code == 413 and "million pixels" in refused.json()["detail"]
        assert send(client, STRANGER, headers=bearer).status_code == 200
    with serve(folder, rate=0.001) as client:
        assert [send(client, b"").status_code for _ in range(2)] == [400, 429]


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://testserver:81"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://testserver"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://name.of.a.proxy"}, 200),
        ({}, 200),
    ],
)
def test_a_page_of_another_site_enrols_nobody(headers, status, client):
    """It can send a form with a file without asking the browser, unlike JSON."""
    assert send(client, STRANGER, headers=headers).status_code == status


def test_an_embedding_of_another_model_and_one_that_is_no_number_are_refused(folder, tmp_path):
    class Broken(MoreCrops):
        def __call__(self, images, cameras):
            return super().__call__(images, cameras) * np.nan

    with serve(folder, Broken()) as client:
        refused = send(client, STRANGER)
        assert refused.status_code == 422 and "NaN" in refused.json()["detail"]
    with serve(folder) as client:
        gallery = Gallery.create(folder, GalleryInfo("sha256:other", 8), overwrite=True)  # while the server runs
        gallery.add(np.eye(8, dtype=np.float32), [{"path": f"{i}.png"} for i in range(8)], "sha256:other")
        refused = send(client, STRANGER)
        assert refused.status_code == 422 and "another model" in refused.json()["detail"]
    assert not (folder / "enrolled").exists() and len(Gallery.open(folder)) == 8


def test_no_embedder_no_server(folder):
    with pytest.raises((ValueError, AttributeError)):
        create_app(Gallery.open(folder), None, enrol=True)


def test_an_embedder_that_fails_is_an_error_of_the_server_and_nothing_is_written(folder):
    class Failing(MoreCrops):
        def __call__(self, images, cameras):
            raise RuntimeError("out of memory")

    before = content(folder)
    with serve(folder, Failing()) as client:
        assert send(client, STRANGER).status_code == 500
    assert content(folder) == before


def test_another_writer_is_waited_for_and_then_named(client, folder, monkeypatch):
    monkeypatch.setattr(person_upload, "PATIENCE", 0.1)
    client.post("/people/name", json={"who": "Ann", "row": 0, "name": "Zoe"})  # makes the file of decisions
    with WriterLock(folder):
        refused = send(client, STRANGER)
        assert refused.status_code == 503 and refused.headers["retry-after"] == "5"
    assert send(client, STRANGER).status_code == 200


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_nothing_is_written_outside_the_folder_of_the_gallery(client, folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "enrolled").symlink_to(outside)
    refused = send(client, STRANGER)
    assert refused.status_code == 422 and "no folder of its own" in refused.json()["detail"]
    assert not list(outside.iterdir()) and len(Gallery.open(folder)) == 160


def test_the_number_of_kept_images_is_bounded(client, folder, monkeypatch):
    monkeypatch.setattr(enrolled_images, "MOST_FILES", 2)
    enrol(client, STRANGER, STRANGER + 1)
    refused = send(client, STRANGER + 2, name="Bea")
    assert refused.status_code == 422 and "2 at most" in refused.json()["detail"]


def test_large_images_are_kept_small_and_without_what_the_camera_wrote(client, folder):
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x010E] = "taken at home"
    Image.new("RGB", (900, 1280), (STRANGER, 9, 9)).save(buffer, "PNG", exif=exif)
    (id,) = enrol(client, buffer.getvalue())["decision"]["ids"]
    kept = (folder / Gallery.open(folder).rows_of([id])[0]["path"]).read_bytes()
    assert b"taken at home" in buffer.getvalue() and b"taken at home" not in kept
    with Image.open(io.BytesIO(kept)) as image:
        assert image.size == (450, 640)


def test_an_enrolment_is_in_the_audit(folder, tmp_path):
    with serve(folder, audit=tmp_path / "searches.jsonl") as client:
        enrol(client, STRANGER)
    (line,) = map(json.loads, (tmp_path / "searches.jsonl").read_text().splitlines())
    assert (line["enrol"], line["who"]) == ("Eve", "Ann") and line["query"].startswith("sha256:")


# ---- another threshold


def regroup(client, status=200, **fields):
    answer = client.post("/people/regroup", json=fields)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize("threshold", [None, 0.2, 0.7, 0.99])
def test_a_trial_gives_what_identities_would_and_changes_nothing(threshold, client, folder):
    before = content(folder)
    found = regroup(client, trial=True, **({} if threshold is None else {"threshold": threshold}))
    text = "auto" if threshold is None else str(threshold)
    expected = group_people(Gallery.open(folder), GroupingOptions(text, regroup=True)).after.names
    sizes = np.unique(expected.astype(str), return_counts=True)[1]
    assert (found["people"], found["alone"]) == ((sizes > 1).sum(), (sizes == 1).sum())
    assert found["threshold"] == pytest.approx(threshold or 0.78)
    assert content(folder) == before


def test_all_rows_are_grouped_up_to_another_threshold_and_decisions_stay(client, folder):
    client.post("/people/merge", json={"who": "Ann", "rows": [0, 20]})
    client.post("/people/name", json={"who": "Ann", "row": 0, "name": "Zoe"})
    assert client.get("/people/state").json()["threshold"] == pytest.approx(0.78)
    tried = regroup(client, threshold=0.05, trial=True)
    done = regroup(client, threshold=0.05, who="Ann")
    state = client.get("/people/state").json()
    assert tried == done and (state["people"], state["alone"]) == (done["people"], done["alone"])
    assert state["threshold"] == pytest.approx(0.05) and state["alone"] > 20
    gallery = Gallery.open(folder)
    assert list(people_of(gallery)[[0, 20]]) == ["Zoe", "Zoe"], "what was decided"
    names = people_of(gallery)
    assert len(set(names)) == done["people"] + done["alone"]
    before = names
    assert regroup(client, who="Ann")["people"] < 20 and (people_of(Gallery.open(folder)) != before).any()
    undo(client, DecisionFile(folder).read()[0].id)
    assert client.get("/people/group", params={"row": 0}).json()["rows"] == 20


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"threshold": 0, "who": "Ann"}, "threshold"),
        ({"threshold": 1, "who": "Ann"}, "threshold"),
        ({"threshold": "fmr=0.001", "who": "Ann"}, "threshold"),
        ({"threshold": 0.7}, "who"),
        ({"threshold": 0.7, "who": " "}, "who"),
    ],
)
def test_a_wrong_threshold_is_refused(fields, named, client, folder):
    before = content(folder)
    assert named in regroup(client, 422, **fields)["detail"]
    assert content(folder) == before


def test_a_server_without_decide_groups_nothing(folder):
    with serve(folder, enrol=False) as client:
        wait(client)
        assert "--decide" in regroup(client, 403, threshold=0.7, trial=True)["detail"]
        assert client.get("/people/state").json()["threshold"] is None


def test_rows_that_have_just_changed_are_compared_first(client, folder):
    Gallery.open(folder).remove([1])
    assert "being compared" in regroup(client, 503, threshold=0.7, trial=True)["detail"]


def test_another_writer_keeps_the_groups_as_they_are(client, folder):
    before = people_of(Gallery.open(folder))
    with WriterLock(folder):
        assert "try again" in regroup(client, 503, threshold=0.05, who="Ann")["detail"]
    assert (people_of(Gallery.open(folder)) == before).all()
    assert client.get("/people/state").json()["threshold"] == pytest.approx(0.78)
