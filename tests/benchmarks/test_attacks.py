"""The attacks: they find what is wrong, say so, and keep the evidence."""

import json
import os
import sys
import time
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')

from vitreid.benchmarks import fuzz
from vitreid.benchmarks.attacks import busy_neighbour, stranger_requests
from vitreid.benchmarks.attacks.mutations import FORMS, mutate
from vitreid.benchmarks.attacks.stranger_files import FILES, StrangersFile, read, sample_of
from vitreid.benchmarks.workers import fuzz_worker

SEEDS = range(40)


@pytest.mark.parametrize("kind", FILES)
def test_a_sound_file_of_each_kind_is_read(kind, tmp_path):
    assert read(kind, sample_of(kind, tmp_path)) is not None


@pytest.mark.parametrize("kind", FILES)
def test_the_same_seed_makes_the_same_change_and_few_make_none(kind, tmp_path):
    content = sample_of(kind, tmp_path).read_bytes()
    changed = [mutate(content, FILES[kind].form, Random(seed)) for seed in SEEDS]
    assert changed == [mutate(content, FILES[kind].form, Random(seed)) for seed in SEEDS]
    assert sum(one != content for one in changed) > len(SEEDS) / 2


def test_every_form_is_used():
    assert {one.form for one in FILES.values()} == set(FORMS)


@pytest.fixture
def reading(tmp_path, monkeypatch):
    """Returns what the worker says of a reader."""
    (tmp_path / "samples").mkdir()
    kind = "run: metrics.jsonl"
    monkeypatch.setattr(fuzz_worker, "FILES", {kind: FILES[kind]})
    samples, watch = fuzz_worker.Samples(tmp_path / "samples"), fuzz_worker.Watch(tmp_path / "read")

    def read_by(reader):
        monkeypatch.setattr(fuzz_worker, "FILES", {kind: StrangersFile(FILES[kind].make, reader, "text")})
        (tmp_path / "read").mkdir(exist_ok=True)
        try:
            return fuzz_worker.read_changed(kind, 0, 0, tmp_path / "read", samples, watch)
        finally:
            fuzz._clear(tmp_path / "read")

    return read_by


def fails_with(error):
    def reader(path):
        raise error

    return reader


@pytest.mark.skipif(sys.platform != "linux", reason="needs the memory counters of Linux")
def test_what_a_reader_does_wrong_is_named(reading, tmp_path):
    assert reading(Path.read_bytes)["wrong"] == ""
    assert reading(fails_with(OSError("metrics.jsonl is damaged"))) | {"seconds": 0, "bytes": 0} == {
        "seconds": 0,
        "bytes": 0,
        "refused": True,
        "wrong": "",
    }
    assert reading(fails_with(OSError("damaged")))["wrong"] == "OSError names no file: damaged"
    assert reading(fails_with(IndexError("3")))["wrong"].startswith("IndexError at ")
    assert "outside of its folder: open" in reading(lambda path: (tmp_path / "elsewhere").write_text("x"))["wrong"]
    assert "outside of its folder: subprocess" in reading(lambda path: os.system("true"))["wrong"].replace(
        "os.system", "subprocess"
    )
    assert reading(lambda path: (path.parent / "another").write_text("x"))["wrong"] == ""
    assert reading(lambda path: len(b"x" * 10**8))["bytes"] > 0.9e8
    assert reading(lambda path: [time.process_time() for _ in range(10**5)])["seconds"] > 0


def test_a_server_error_is_an_error(tmp_path, monkeypatch):
    class Failing:
        def request(self, *_, **__):
            return type("Response", (), {"status_code": 500, "text": "broken"})

    monkeypatch.setattr(stranger_requests, "_client", Failing)
    with pytest.raises(stranger_requests.ServerError, match="500 broken"):
        stranger_requests.send(stranger_requests.make("facets", tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs the memory counters of Linux")
def test_a_short_run_finds_nothing_and_writes_its_figures(tmp_path, capsys):
    words = ["--quick", "--kind", "boxes", "--json", str(tmp_path / "fuzz.json"), "--output", str(tmp_path / "found")]
    assert fuzz.main(words) == 0
    found = json.loads((tmp_path / "fuzz.json").read_text())
    assert found["readings"] == 8 and found["wrong"] == [] and not (tmp_path / "found").exists()
    assert "8 readings, 0 things wrong" in capsys.readouterr().out
    assert fuzz.main(["--kind", "no such kind"]) == 2


def test_embedding_is_measured_next_to_busy_programs(tmp_path, capsys):
    assert busy_neighbour.main(["--quick", "--busy", "0", "1", "--json", str(tmp_path / "busy.json")]) == 0
    found = json.loads((tmp_path / "busy.json").read_text())["busy"]
    assert set(found) == {"0", "1"} and all(len(times) == 2 for one in found.values() for times in one.values())
    assert "whole / in shares" in capsys.readouterr().out
