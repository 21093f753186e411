"""The audit of searches: off unless asked for; one line per search, readable by its owner; no answer without a line."""

import json
import stat

import pytest

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')
from fastapi.testclient import TestClient
from web_gallery import COLOURS, FakeEmbedder, encode, ids, person, upload

from vitreid.common.errors import UserError
from vitreid.common.files import digest
from vitreid.gallery import Gallery
from vitreid.gallery.web import create_app


@pytest.fixture
def audit(tmp_path):
    return tmp_path / "searches.jsonl"


@pytest.fixture
def asked(served, audit):
    app = create_app(Gallery.open(served), FakeEmbedder(), audit=audit)
    with TestClient(app, client=("10.0.0.7", 1234), raise_server_exceptions=False) as client:
        yield client


def lines(audit):
    return [json.loads(line) for line in audit.read_text().splitlines()]


def test_each_search_is_a_line(asked, audit):
    picture = encode(person(COLOURS[0]))
    found = ids(upload(asked, picture, where="camera=c1,c2", topk="3"))
    other = ids(asked.post("/search", json={"id": 0, "topk": 2}))
    first, second = lines(audit)
    assert first["visitor"] == "10.0.0.7" and first["time"].startswith("20") and first["time"].endswith("+00:00")
    assert (first["query"], first["where"], first["topk"]) == (digest([picture]), ["camera=c1,c2"], 3)
    assert first["found"] == found and first["verdict"] == "match"
    assert second["query"] == "row 0" and second["found"] == other
    assert stat.S_IMODE(audit.stat().st_mode) == 0o600
    assert picture not in audit.read_bytes()


def test_what_is_no_search_is_no_line_and_a_moved_file_is_made_anew(asked, audit):
    assert asked.get("/facets").status_code == asked.get("/image/0").status_code == 200
    assert asked.post("/search", json={"id": 99}).status_code == 404
    assert lines(audit) == []
    audit.rename(audit.with_suffix(".1"))
    ids(asked.post("/search", json={"id": 0}))
    assert len(lines(audit)) == 1


def test_a_search_that_cannot_be_written_down_is_not_answered(asked, audit):
    audit.unlink()
    audit.mkdir()
    answer = asked.post("/search", json={"id": 0})
    assert answer.status_code == 503 and "audit" in answer.json()["detail"] and "results" not in answer.json()


def test_a_file_that_cannot_be_written_is_refused_at_the_start(served, tmp_path):
    with pytest.raises(FileNotFoundError, match="--audit"):
        create_app(Gallery.open(served), FakeEmbedder(), audit=tmp_path / "nowhere" / "audit.jsonl")
    with pytest.raises(UserError, match="--audit"):
        create_app(Gallery.open(served), FakeEmbedder(), audit=tmp_path)


def test_without_an_audit_nothing_is_written(client, tmp_path):
    ids(client.post("/search", json={"id": 0}))
    assert list(tmp_path.iterdir()) == []
