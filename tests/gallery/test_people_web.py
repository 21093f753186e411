"""Who is who over HTTP: groups, questions, decisions of several windows, known or new."""

import io
import json
import shutil
import time

import numpy as np
import pytest

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')
pytest.importorskip("httpx", reason='needs the extra: pip install "vitreid[serve]"')

from fastapi.testclient import TestClient
from people_gallery import NumberedCrops, crop, make_people, people_of

from vitreid.gallery import Gallery
from vitreid.gallery.identities.decisions.question_queue import QuestionQueue
from vitreid.gallery.identities.decisions.what_to_ask import Beliefs, expected_change
from vitreid.gallery.identities.group_people import group_people
from vitreid.gallery.keeping.decision_file import DecisionFile
from vitreid.gallery.web import create_app
from vitreid.gallery.web.people import people_routes

ANN = {"who": "Ann"}
ONE_OF_EACH = {
    "decide": {"answer": "same", "rows": [0, 1]},
    "merge": {"rows": [0, 20]},
    "split": {"rows": [0]},
    "move": {"rows": [0], "to": 20},
    "name": {"row": 0, "name": "Eve"},
    "undo": {"of": "0" * 32},
    "regroup": {"threshold": 0.7},
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_people(tmp_path_factory.mktemp("people"))


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "G")


def serve(folder, decide=True, **options):
    app = create_app(Gallery.open(folder), NumberedCrops(), decide=decide, **options)
    return TestClient(app, raise_server_exceptions=False)


def wait(client):
    """Wait until the rows are compared."""
    until = time.monotonic() + 60
    while not (state := client.get("/people/state").json())["is_ready"]:
        assert time.monotonic() < until and not state["failure"], state
        time.sleep(0.02)
    return state


@pytest.fixture
def client(folder):
    with serve(folder) as client:
        wait(client)
        yield client


def decide(client, path, status=200, **fields):
    answer = client.post(f"/people/{path}", json={**ANN, **fields})
    assert answer.status_code == status, answer.text
    return answer.json()


def person(client, id):
    return client.get("/people/group", params={"row": id}).json()


def members(client, id):
    found = client.get("/people/group", params={"row": id, "limit": 200}).json()
    return {one["id"] for one in found["members"]}


def test_people_are_listed_as_stacks(client):
    state = client.get("/people/state").json()
    assert (state["rows"], state["people"], state["alone"], state["decisions"]) == (160, 7, 0, 0)
    found = client.get("/people/groups", params={"limit": 2}).json()
    assert found["total"] == 7 and [one["rows"] for one in found["people"]] == [40, 20]
    assert len(found["people"][0]["ids"]) == 6 and found["people"][0]["cameras"] == 3
    rest = client.get("/people/groups", params={"limit": 100, "offset": 2}).json()["people"]
    assert len(rest) == 5 and not {one["person"] for one in rest} & {one["person"] for one in found["people"]}
    assert client.get("/people/groups", params={"order": "doubt"}).json()["people"][0]["rows"] == 40
    assert members(client, 3) == set(range(20))


def test_a_question_is_about_the_group_that_is_two_people(client):
    (asked,) = client.get("/people/questions", params={"count": 1}).json()["questions"]
    assert asked["are_together"] and {side["rows"] for side in asked["sides"]} == {20}
    assert {asked["rows"][0] // 20, asked["rows"][1] // 20} == {6, 7}
    decide(client, "decide", answer="different", rows=asked["rows"])
    assert members(client, 120) == set(range(120, 140)) and members(client, 140) == set(range(140, 160))


def test_two_windows_are_asked_different_questions(client):
    asked = [
        client.get("/people/questions", params={"count": count, "window": name}).json()["questions"]
        for name, count in (("a", 2), ("b", 1), ("a", 2), ("c", 1))
    ]
    first, second, again, third = ({frozenset(one["rows"]) for one in some} for some in asked)
    assert not first & second and first == again and third, "with nothing else to ask, the same once more"


def test_every_decision_changes_the_groups_and_can_be_taken_back(client):
    before = members(client, 0)
    for path, fields, expected in (
        ("merge", {"rows": [0, 20]}, set(range(40))),
        ("split", {"rows": [0, 1]}, {0, 1}),
        ("move", {"rows": [20], "to": 0}, {*range(20), 20}),
        ("decide", {"answer": "same", "rows": [0, 20]}, set(range(40))),
    ):
        done = decide(client, path, **fields)
        assert members(client, 0) == expected and done["decision"]["who"] == "Ann"
        decide(client, "undo", of=done["decision"]["id"])
        assert members(client, 0) == before and members(client, 20) == set(range(20, 40))
    named = decide(client, "name", row=0, name="Eve S.")  # generated names have no space
    assert person(client, 5)["person"] == "Eve S." and named["people"][0]["is_named"]
    assert client.get("/people/groups", params={"find": "eve s"}).json()["total"] == 1
    decide(client, "undo", of=named["decision"]["id"])
    assert person(client, 5)["person"] != "Eve S."


def test_the_log_says_who_decided_what_and_when(client):
    done = decide(client, "merge", rows=[0, 20])["decision"]
    decide(client, "undo", of=done["id"], who="Bob")
    decide(client, "name", row=0, name="Eve")
    log = client.get("/people/decisions", params={"limit": 2}).json()
    assert log["total"] == 3 and [one["kind"] for one in log["decisions"]] == ["name", "undo"]
    (first,) = client.get("/people/decisions", params={"before": log["decisions"][-1]["number"]}).json()["decisions"]
    assert (first["who"], first["kind"], first["ids"], first["undone"]) == ("Ann", "merge", [0, 20], True)
    assert first["time"].endswith("+00:00")


def test_a_contradiction_is_refused_in_words_and_nothing_is_written(client, folder):
    decide(client, "decide", answer="same", rows=[0, 1])
    decide(client, "decide", answer="same", rows=[1, 2])
    refused = decide(client, "decide", 409, answer="different", rows=[0, 2])
    assert "said to show one person" in refused["detail"] and refused["detail"].count("'same' by Ann") == 2
    decide(client, "name", row=0, name="Eve")
    assert "another 'Eve'" in decide(client, "name", 409, row=20, name="Eve")["detail"]
    done = decide(client, "merge", rows=[40, 60])["decision"]
    decide(client, "undo", of=done["id"])
    assert "taken back already" in decide(client, "undo", 409, of=done["id"])["detail"]
    decide(client, "undo", 404, of="f" * 32)
    decide(client, "move", 409, rows=[0], to=3)
    assert len(DecisionFile(folder).read()) == 5


def test_a_decision_that_is_sent_twice_counts_once(client):
    for _ in range(2):
        decide(client, "merge", rows=[0, 20], id="a" * 32)
    assert client.get("/people/state").json()["decisions"] == 1


@pytest.mark.parametrize(
    "path, fields, status, named",
    [
        ("decide", {"answer": "perhaps", "rows": [0, 1]}, 422, "answer"),
        ("decide", {"answer": "different", "rows": [0, 1, 2]}, 422, "rows"),
        ("decide", {"answer": "same", "rows": [0]}, 422, "rows"),
        ("decide", {"answer": "same", "rows": [0, 999]}, 404, "id 999"),
        ("decide", {"answer": "same", "rows": [0, 0]}, 422, "rows"),
        ("merge", {"rows": [0, 20], "who": "  "}, 422, "who"),
        ("merge", {"rows": [0, 20], "who": "a\u202eb"}, 422, "who"),
        ("merge", {"rows": [0, 20], "id": "7"}, 422, "id"),
        ("merge", {"rows": [0, 20], "shoe": 1}, 422, "shoe"),
        ("merge", {"rows": list(range(1001))}, 422, "rows"),
        ("split", {"rows": [-1]}, 422, "rows"),
        ("split", {"rows": list(range(20))}, 422, "others"),
        ("name", {"row": 0, "name": "\x1b[2J"}, 422, "name"),
        ("name", {"row": 0, "name": "x" * 201}, 422, "name"),
        ("undo", {"of": "zz"}, 422, "of"),
    ],
)
def test_wrong_fields_are_named(path, fields, status, named, client, folder):
    answer = client.post(f"/people/{path}", json={**ANN, **fields})
    assert answer.status_code == status and named in answer.json()["detail"], answer.text
    assert DecisionFile(folder).read() == ()


def test_a_form_and_a_simple_request_of_another_site_decide_nothing(client):
    """A page of another site can send these without asking the browser; JSON it cannot."""
    body = '{"who": "Ann", "answer": "same", "rows": [0, 1]}'
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert client.post("/people/decide", content=body, headers={"Content-Type": kind}).status_code == 415
    sent = client.post("/people/decide", data={"who": "Ann", "answer": "same"}, files={"rows": (None, "0")})
    assert sent.status_code == 415
    assert client.get("/people/state").json()["decisions"] == 0


def test_a_server_without_decide_shows_people_and_refuses_decisions(folder):
    with serve(folder, decide=False) as client:
        assert wait(client)["people"] == 7 and not client.get("/people/state").json()["can_decide"]
        assert members(client, 0) == set(range(20))
        for path, fields in ONE_OF_EACH.items():
            assert "--decide" in decide(client, path, 403, **fields)["detail"]
        assert client.get("/people/questions").status_code == 403
        assert client.post("/enrol", json={}).status_code == 403
    assert DecisionFile(folder).read() == ()


def test_every_route_needs_the_token_but_the_page_itself(folder):
    with serve(folder, token="s3cret") as client:
        for path in ("state", "groups", "group?row=0", "questions", "decisions"):
            assert client.get(f"/people/{path}").status_code == 401
        for path, fields in ONE_OF_EACH.items():
            assert client.post(f"/people/{path}", json={**ANN, **fields}).status_code == 401
        assert client.get("/people").status_code == 200
        described = client.get("/openapi.json").json()["paths"]
    posts = {path for path, ways in described.items() if path.startswith("/people/") and "post" in ways}
    assert {f"/people/{path}" for path in ONE_OF_EACH} == posts


@pytest.mark.parametrize("path", [*(f"people/{name}" for name in ONE_OF_EACH), "identify", "enrol"])
def test_every_request_with_a_body_counts_for_the_rate(path, folder):
    with serve(folder, rate=0.001) as client:
        assert [client.post(f"/{path}", json={}).status_code == 429 for _ in range(2)] == [False, True]


def test_other_programs_and_servers_are_followed_and_nothing_is_lost(folder, client):
    with serve(folder) as other:
        wait(other)
        decide(client, "merge", rows=[0, 20])
        assert members(other, 0) == set(range(40))
        decide(other, "split", rows=[1, 2], who="Bob")
        assert members(client, 1) == {1, 2}
        assert "said to differ" in decide(client, "decide", 409, answer="same", rows=[1, 20])["detail"]
    assert [one.who for one in DecisionFile(folder).read()] == ["Ann", "Bob"]


def test_the_records_get_the_people_and_identities_keeps_them(folder, client, monkeypatch):
    monkeypatch.setattr(people_routes, "SAVE_SECONDS", 0.05)
    decide(client, "merge", rows=[0, 20])
    decide(client, "name", row=0, name="Eve")
    until = time.monotonic() + 30
    while list(people_of(Gallery.open(folder))[:40]) != ["Eve"] * 40:
        assert time.monotonic() < until
        time.sleep(0.05)
    found = group_people(Gallery.open(folder))
    assert list(found.after.names) == list(people_of(Gallery.open(folder)))


def test_what_is_decided_last_is_written_when_the_server_stops(folder):
    with serve(folder) as client:
        wait(client)
        decide(client, "name", row=0, name="Eve")
    assert list(people_of(Gallery.open(folder))[:20]) == ["Eve"] * 20


def test_a_merge_can_be_taken_back_after_a_restart(folder):
    with serve(folder) as client:
        wait(client)
        done = decide(client, "merge", rows=[0, 20])["decision"]
    with serve(folder) as client:
        wait(client)
        assert members(client, 0) == set(range(40))
        decide(client, "undo", of=done["id"])
        assert members(client, 0) == set(range(20))


def test_new_rows_are_seen_and_removed_ones_are_gone(folder, monkeypatch):
    monkeypatch.setattr(people_routes, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr("vitreid.gallery.web.service.REFRESH_SECONDS", 0.0)
    with serve(folder) as client:
        wait(client)
        decide(client, "merge", rows=[0, 20])
        Gallery.open(folder).remove([1])
        until = time.monotonic() + 60
        while members(client, 0) != {0, *range(2, 40)}:
            assert time.monotonic() < until
            time.sleep(0.05)
        decide(client, "split", 404, rows=[1])


# ---- known, new or ask


def as_png(number):
    buffer = io.BytesIO()
    crop(number).save(buffer, "PNG")
    return buffer.getvalue()


def identify(client, *numbers, **fields):
    files = [("image", (f"{number}.png", as_png(number))) for number in numbers]
    answer = client.post("/identify", files=files, data=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_identify_says_known_new_or_ask_with_a_probability(client, folder):
    """As `vitreid identify` does."""
    from vitreid.gallery.identities.known_people import EnrolmentOptions, enrol

    enrolled = client.post("/enrol", json={"templates": 2}).json()
    assert enrolled["people"] == 7 and enrolled["is_calibrated"] and len(enrolled["names"]) == 7
    known = enrol(Gallery.open(folder), EnrolmentOptions(templates=2), "none")
    for numbers in ((3,), (3, 4, 5), (50,)):
        expected = known.identify(NumberedCrops().rows[list(numbers)])
        found = identify(client, *numbers)
        assert (found["verdict"], found["person"]) == (expected.verdict, expected.person)
        assert found["probability"] == pytest.approx(expected.probability)
        assert client.post("/identify", json={"rows": list(numbers)}).json() == found
    assert found["people"] == 7 and found["verdict"] in ("known", "ask")


def test_too_few_enrolled_crops_are_a_question(client):
    client.post("/enrol", json={"templates": 100})  # none is left to learn the limits from
    found = identify(client, 3, far="0.01")
    assert found["verdict"] == "ask" and "too few" in found["reason"] and found["probability"] is None


@pytest.mark.parametrize(
    "body, named",
    [({}, "give images"), ({"rows": [999]}, "999"), ({"rows": [1], "far": 2}, "far"), ({"rows": [1] * 17}, "rows")],
)
def test_a_wrong_identification_is_refused(body, named, client):
    answer = client.post("/identify", json=body)
    assert answer.status_code in (404, 422) and named in answer.json()["detail"]


def test_an_identification_is_in_the_audit_of_searches(folder, tmp_path):
    with serve(folder, audit=tmp_path / "searches.jsonl") as client:
        found = identify(client, 3)
    (line,) = (tmp_path / "searches.jsonl").read_text().splitlines()
    assert json.loads(line)["person"] == found["person"] and json.loads(line)["query"].startswith("sha256:")


# ---- what to ask


def test_the_question_with_the_largest_expected_change_comes_first(folder):
    """Against all pairs of groups and their mean similarities, computed one by one."""
    board = group_people(Gallery.open(folder), to_decide=True).board
    queue = QuestionQueue(board)
    similarity = board.similarity(np.arange(160))
    best = 0.0
    groups = list(board.members.values())
    for i, one in enumerate(groups):
        for other in groups[:i]:
            mean = similarity[np.ix_(one, other)].mean()
            if mean > 0:
                likely = 1 / (1 + np.exp(-queue.beliefs._weights[0] * (mean - board.rows.least)))
                best = max(best, likely * len(one) * len(other))
    assert max(change for change, *_ in queue._best_joins()) == pytest.approx(best, rel=1e-4)
    asked = queue.next(100)
    assert [one.change for one in asked] == sorted((one.change for one in asked), reverse=True)
    assert expected_change(np.array([0.5]), np.array([4]), np.array([3])) == 6


def test_answers_move_what_similarities_mean():
    beliefs = Beliefs(0.29)
    assert beliefs.probability(np.array([0.29]), False) == pytest.approx(0.5)
    for _ in range(20):
        beliefs.learn(0.29, False, False)
    groups, halves = (float(beliefs.probability(np.array([0.29]), are)[0]) for are in (False, True))
    assert groups < 0.2 and halves == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("mean, is_same", [(0.0, True), (0.9, False), (0.003, False)])
def test_one_surprising_answer_moves_the_odds_a_little(mean, is_same):
    beliefs = Beliefs(0.29)
    before = beliefs.probability(np.array([mean, 0.1, 0.5]), False)
    beliefs.learn(mean, False, is_same)
    after = beliefs.probability(np.array([mean, 0.1, 0.5]), False)
    assert (after[0] > before[0]) == is_same and after[1] < after[2]
