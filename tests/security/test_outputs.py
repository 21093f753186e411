"""What vitreid shows of a stranger's text: no formula in a spreadsheet, no command to a terminal."""

import csv
import io
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vitreid.benchmarks.attacks.gallery_writers import MODEL, WIDTH, make
from vitreid.common.text import csv_cell, printable
from vitreid.gallery import Gallery, GalleryInfo, export_as, verify
from vitreid.tools import gallery as gallery_tool

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://example.org")']
ESCAPES = ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "a\rb", "\u202egnp.exe", "\x00", "\x08"]


def gallery_of(folder, pid):
    gallery = Gallery.create(folder, GalleryInfo(MODEL, WIDTH))
    gallery.add(np.eye(WIDTH, dtype=np.float32)[:1], [{"path": "a.jpg", "pid": pid, "camera": pid}], MODEL)
    return gallery


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_an_export_is_a_formula(text, tmp_path):
    export_as(gallery_of(tmp_path / "G", text), tmp_path / "G.csv", "csv")
    with open(tmp_path / "G.csv", newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    assert row["pid"] == f"'{text}" and float(row["e0"]) == 1.0


@pytest.mark.parametrize("value", ["-3.5", "+1", "1e-5", "camera 1", "", None, -3.5])
def test_numbers_and_names_stay_as_they_are(value):
    assert csv_cell(value) == value


@pytest.mark.parametrize("text", ESCAPES)
def test_a_terminal_gets_no_control_characters(text, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    Gallery.create(tmp_path / "G", GalleryInfo(MODEL, WIDTH, model_name=f"x{text}y"))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert gallery_tool.main(["info", str(tmp_path / "G")]) == 0
    shown = terminal.getvalue()
    assert (
        "model name" in shown
        and "x" in shown
        and not any(letter in shown for letter in text if not letter.isprintable())
    )
    assert printable(text) != text


# ---- records of a stranger


def rewritten(folder, change):
    path = folder / "records.parquet"
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


WRONG_IDS = {
    "negative": (lambda ids: [-5, *ids[1:]], "negative"),
    "twice": (lambda ids: [*ids[:-1], ids[-2]], "ascend"),
    "missing": (lambda ids: [None, *ids[1:]], "no id"),
    "beyond the next": (lambda ids: [*ids[:-1], 10**9], "stay below"),
}


@pytest.mark.parametrize("name", WRONG_IDS)
def test_verify_finds_wrong_ids(name, tmp_path):
    make(tmp_path / "G")
    change, message = WRONG_IDS[name]
    rewritten(
        tmp_path / "G", lambda table: table.set_column(0, "id", pa.array(change(table["id"].to_pylist()), pa.int64()))
    )
    assert any("records.parquet" in str(one) and message in str(one) for one in verify(tmp_path / "G", images=False))


def test_ids_that_are_no_whole_numbers_are_refused(tmp_path):
    make(tmp_path / "G")
    rewritten(tmp_path / "G", lambda table: table.set_column(0, "id", table["id"].cast(pa.float64())))
    with pytest.raises(ValueError, match=r"records\.parquet.*'id' holds double, expected int64"):
        Gallery.open(tmp_path / "G")
    assert any("'id'" in str(one) for one in verify(tmp_path / "G", images=False))


def test_a_column_that_stands_twice_is_refused(tmp_path):
    make(tmp_path / "G")
    rewritten(tmp_path / "G", lambda table: table.append_column("pid", table["pid"]))
    with pytest.raises(ValueError, match=r"records\.parquet.*column pid stands twice"):
        Gallery.open(tmp_path / "G")


def test_embeddings_of_other_records_are_refused(tmp_path):
    """Both files are sound, but not of one gallery."""
    make(tmp_path / "G")
    make(tmp_path / "other", 100)
    (tmp_path / "G" / "records.parquet").write_bytes((tmp_path / "other" / "records.parquet").read_bytes())
    with pytest.raises(ValueError, match=r"records\.parquet was written for other embeddings"):
        Gallery.open(tmp_path / "G")
