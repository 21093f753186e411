"""What `python benchmarks/fuzz.py` has found: each wrong value is refused by name now, or does no harm."""

import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deadline import at_once

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')

from vitreid.benchmarks.attacks.stranger_files import read, sample_of
from vitreid.common.errors import UserError
from vitreid.common.inputs import mat_file, reading_process
from vitreid.common.inputs.parquet_file import ParquetInput
from vitreid.gallery import Gallery
from vitreid.model import load_deploy, save_deploy
from vitreid.processor.embedding.embedder import Embedder


def text(old, new):
    def change(content):
        assert old.encode() in content
        return content.replace(old.encode(), new.encode(), 1)

    return change


def values(**changed):
    return lambda content: json.dumps({**json.loads(content), **changed}).encode()


def image_id_of_a_list(content):
    data = json.loads(content)
    data["annotations"][0]["image_id"] = {"a": [1]}
    return json.dumps(data).encode()


def name_that_is_no_text(content):
    """A name in the archive that is said to be UTF-8 and is not."""
    return content.replace(b"weights/data.pkl", b"weights/dat\xff.pkl").replace(
        b"PK\x01\x02\x00\x00\x00\x00\x08\x00", b"PK\x01\x02\x00\x00\x00\x00\x08\x08"
    )


def open_bracket(content):
    """A header of an array whose bracket never closes."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(target, "w") as changed:
        for name in archive.namelist():
            changed.writestr(name, archive.read(name).replace(b"), }", b"(, }"))
    return target.getvalue()


def broken_page(content):
    """Bytes in the middle of a compressed page."""
    place = content.index(b"\x28\xb5\x2f\xfd") + 12  # behind the first mark of zstd
    return content[:place] + bytes(40) + content[place + 40 :]


def column(name, values):
    """Records with another column: `values` of their number."""

    def change(content):
        table = pq.read_table(io.BytesIO(content))
        target = io.BytesIO()
        place = table.schema.get_field_index(name)
        pq.write_table(table.set_column(place, name, values(len(table))), target)
        return target.getvalue()

    return change


def no_utf8(count):
    return pa.array([b"\xe3"] * count, pa.binary()).view(pa.string())


def long_chunk(content):
    """A PNG whose second chunk says that it has 1.4 GB."""
    return content[:33] + b"\x54" + content[34:]


REFUSED = [
    (
        "boxes: csv",
        text(
            "frame,x1,y1,x2,y2,confidence,class,track_id\n0,",
            "frame,x1,y1,x2,y2,confidence,class,track_id\n" + "9" * 40 + ",",
        ),
    ),
    ("boxes: cvat images", text('width="320"', 'width="-1e308"')),
    ("boxes: cvat images", text('height="240"', 'height="tall"')),
    ("boxes: cvat tracks", text('encoding="utf-8"', 'encoding="uttf-8"')),
    ("boxes: coco", image_id_of_a_list),
    ("table: boxes in videos", text("hall.mp4,0,", "/etc/passwd,0,")),
    ("description: detector", values(classes=3.5)),
    ("description: detector", values(form={})),
    ("description: detector", values(resize=[1])),
    ("description: detector", values(channels={})),
    ("description: detector", values(first_class="1e999")),
    ("description: detector", values(form="1e999")),
    ("table: paths", text("1,c1", "1e9,c1")),
    ("table: paths", text("person", "people")),
    ("table: film", text("1,2,10,20", "1,2,ten,20")),
    ("table: film", lambda content: content + b"7,2,10,20,30,60,1,1,0.8\n"),
    ("gallery: projection.npz", open_bracket),
    ("gallery: records.parquet", broken_page),
    ("gallery: records.parquet", column("path", lambda count: pa.nulls(count, pa.string()))),
    ("gallery: records.parquet", column("camera", no_utf8)),
    ("image: png", long_chunk),
    ("gallery: gallery.json", values(removed=list(range(300)))),
    ("gallery: gallery.json", values(removed=[1, 1])),
    ("weights: torch", name_that_is_no_text),
]


@pytest.mark.parametrize("kind, change", REFUSED, ids=[f"{kind}-{number}" for number, (kind, _) in enumerate(REFUSED)])
def test_it_is_refused_by_name(kind, change, tmp_path):
    path = sample_of(kind, tmp_path / "made")
    path.write_bytes(change(path.read_bytes()))
    with at_once(), pytest.raises((UserError, OSError), match=path.name):
        read(kind, path)


def test_a_file_that_holds_fewer_rows_than_it_says_is_refused(tmp_path):
    path, messages = tmp_path / "records.parquet", []
    table = pa.table({"path": [f"{number}.jpg" for number in range(5)]})
    pq.write_table(table, path, compression="none", use_dictionary=False)
    content = path.read_bytes()
    for place in (place for place, byte in enumerate(content) if byte == 10):  # 5 as Parquet writes it; 12 is 6
        path.write_bytes(content[:place] + b"\x0c" + content[place + 1 :])
        try:
            assert len(ParquetInput(path).read()) == 5
        except UserError as error:
            messages.append(str(error))
    assert any("holds 5 of 6 rows" in message for message in messages)


READ_PARQUET = """
import sys
from pathlib import Path
from vitreid.common.errors import UserError
from vitreid.common.inputs.parquet_file import ParquetInput
try:
    ParquetInput(Path(sys.argv[1])).read(columns=[sys.argv[2]])
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("column, place", [("path", 0), ("note", 1)])
def test_size_statistics_of_another_type_do_not_end_the_process(column, place, tmp_path):
    """pyarrow 26 does not catch its own exception where the metadata of a column is asked for."""
    path = tmp_path / "records.parquet"
    pq.write_table(pa.table({"path": ["a.jpg", None, "c.jpg"], "note": [[1], None, [2, 3]]}), path)
    content = path.read_bytes()
    optional = b"\x25\x02"  # in the footer: the repetition type of a column; 0 = required
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for _ in range(place):
        start = content.index(optional, start) + 1
    at = content.index(optional, start)
    path.write_bytes(content[: at + 1] + b"\x00" + content[at + 2 :])
    words = [sys.executable, "-c", READ_PARQUET, str(path), column]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"{path} is damaged" in done.stdout, done


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize(
    "script, words",
    [("import os; os.kill(os.getpid(), 11)", "ended by signal 11"), ("while True: pass", "not read within 0.5 s")],
)
def test_a_file_of_matlab_that_ends_or_holds_its_reader_is_named(script, words, tmp_path, monkeypatch):
    (tmp_path / "reader.py").write_text(script)
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    monkeypatch.setattr(reading_process, "SCRIPT", tmp_path / "reader.py")
    monkeypatch.setattr(reading_process, "PATIENCE", 0.5 if "while" in script else 60)
    with pytest.raises(UserError, match=f"a.mat.*{words}"):
        mat_file.read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize("key, value", [("embed", "a"), ("embed", {"neck": 1}), ("embed", {"flip": 1}), ("embed", {"shoe": True}), ("embed", None),
    ("preprocess", 5), ("preprocess", {"size": ["a", 1]}), ("preprocess", {"size": [8, 8], "std": [0, 1, 1]}), ("preprocess", {"size": [8, 8], "mean": [None, 1, 1]}), ("preprocess", {})])  # fmt: skip
def test_what_is_wrong_about_the_preparation_of_images_is_named(key, value, checkpoint, capsys):
    model, about = load_deploy(checkpoint)
    save_deploy(checkpoint, model, {**about, key: value})
    with pytest.raises(UserError, match=rf"best.safetensors: its metadata are damaged \({key}: "):
        Embedder(str(checkpoint))


def test_a_track_with_a_number_of_40_digits_is_a_name(tmp_path):
    path = sample_of("boxes: csv", tmp_path / "made")
    path.write_bytes(path.read_bytes().replace(b"person,0\n", b"person," + b"9" * 40 + b"\n", 1))
    assert len(np.unique(read("boxes: csv", path).detections.tracks)) >= 2


@pytest.mark.parametrize("part", ["text", 5, [1], None])
def test_a_config_of_other_types_next_to_weights_is_left_aside(part, tmp_path):
    path = sample_of("weights: config.json", tmp_path / "made")
    path.write_bytes(values(pretrained_cfg=part, architecture=part)(path.read_bytes()))
    assert read("weights: config.json", path)["pixels"] is None


def test_a_gallery_whose_cameras_have_no_type_is_one_of_unknown_cameras(tmp_path):
    path = sample_of("gallery: records.parquet", tmp_path / "made")
    path.write_bytes(column("camera", pa.nulls)(path.read_bytes()))
    read("gallery: records.parquet", path)
    assert Gallery.open(path.parent).select(["camera"])["camera"].null_count == len(pq.read_table(path))
