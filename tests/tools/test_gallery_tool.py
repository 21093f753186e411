"""The command `vitreid gallery`: each subcommand does what its function does, and reports a mistake in one line."""

import json

import numpy as np
import pytest

from vitreid.gallery import Gallery, GalleryInfo
from vitreid.tools.gallery import COMMANDS, get_parser, main

MODEL = "sha256:a"


def make(path, count=8, **info):
    """Rows of 6 values, two crops per tracklet, seen by two cameras; no image files."""
    rows = np.random.default_rng(0).normal(size=(count, 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    records = [
        {"path": f"{i}.png", "pid": str(i // 4), "camera": f"c{i // 2 % 2}", "tracklet": str(i // 2)}
        for i in range(count)
    ]
    gallery = Gallery.create(path, GalleryInfo(MODEL, 6, **info))
    gallery.add(rows, records, MODEL)
    return gallery


@pytest.fixture
def gallery(tmp_path):
    return make(tmp_path / "g")


def run(*words):
    return main([str(word) for word in words])


def test_verify_prints_the_problems_and_its_status_is_1(gallery, capsys):
    assert run("verify", gallery.path, "--no-images") == 0
    assert "complete" in capsys.readouterr().out
    assert run("verify", gallery.path) == 1
    assert "8 images are missing: 0.png" in capsys.readouterr().out
    assert run("verify", gallery.path / "nowhere") == 1 and "no such file" in capsys.readouterr().out


def test_info_shows_a_table_or_json(gallery, capsys):
    gallery.remove([3])
    assert run("info", gallery.path) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (lines["rows"], lines["removed"], lines["threshold"]) == ("7", "1", "not calibrated")
    assert run("info", gallery.path, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["dimension"] == 6 and facts["columns"][:2] == ["id", "path"] and facts["model"] == MODEL


def test_merge_adds_the_rows_of_other_galleries(gallery, tmp_path, capsys):
    make(tmp_path / "h", 4), make(tmp_path / "i", 4)
    assert run("merge", gallery.path, tmp_path / "h", tmp_path / "i") == 0
    assert "8 rows added, 16 in all" in capsys.readouterr().out and len(Gallery.open(gallery.path)) == 16
    assert run("merge", gallery.path, gallery.path) == 2 and "target" in capsys.readouterr().err


def test_compact_drops_removed_rows(gallery, capsys):
    gallery.remove([0, 1])
    assert run("compact", gallery.path) == 0
    assert "2 removed rows dropped, 6 left" in capsys.readouterr().out
    assert Gallery.open(gallery.path).ids.tolist() == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("kind", "shape"), [(["--int8"], (6, "int8")), (["--dim", "3"], (3, "float32"))])
def test_compress_measures_its_cost(gallery, tmp_path, capsys, kind, shape):
    assert run("compress", gallery.path, tmp_path / "small", *kind) == 0
    printed = capsys.readouterr().out
    assert f"8 rows x {shape[0]} {shape[1]}" in printed and "mAP" in printed and "Rank-1" in printed
    smaller = Gallery.open(tmp_path / "small").info
    assert (smaller.dimension, smaller.dtype) == shape
    assert run("compress", gallery.path, tmp_path / "small", *kind) == 2
    assert "overwrite" in capsys.readouterr().err
    assert run("compress", gallery.path, tmp_path / "small", *kind, "--overwrite", "--no-cost") == 0
    assert "mAP" not in capsys.readouterr().out


def test_compress_without_labels_makes_the_gallery_and_says_that_accuracy_is_unknown(gallery, tmp_path, capsys):
    gallery.update(gallery.ids, {"pid": None})
    assert run("compress", gallery.path, tmp_path / "small", "--int8") == 0
    assert "accuracy not measured" in capsys.readouterr().out and len(Gallery.open(tmp_path / "small")) == 8


@pytest.mark.parametrize("kind", [[], ["--int8", "--dim", "3"]])
def test_compress_takes_one_kind(gallery, tmp_path, capsys, kind):
    assert run("compress", gallery.path, tmp_path / "small", *kind) == 2
    assert "--int8, --dim" in capsys.readouterr().err and not (tmp_path / "small").exists()


def test_pool_makes_one_row_per_tracklet(gallery, tmp_path, capsys):
    assert run("pool", gallery.path, tmp_path / "pooled", "--how", "quality") == 0
    assert "4 rows from 8 crops" in capsys.readouterr().out and len(Gallery.open(tmp_path / "pooled")) == 4


def test_convert_takes_the_format_from_the_suffix_and_replaces_only_if_asked(gallery, tmp_path, capsys):
    assert run("convert", gallery.path, tmp_path / "g.npz") == 0
    with np.load(tmp_path / "g.npz") as arrays:
        np.testing.assert_array_equal(arrays["embeddings"], gallery.embeddings)
    assert run("convert", gallery.path, tmp_path / "g.npz") == 2 and "--overwrite" in capsys.readouterr().err
    assert run("convert", gallery.path, tmp_path / "g.npz", "--overwrite", "--format", "csv") == 0
    assert (tmp_path / "g.npz").read_text().startswith("id,path")
    assert run("convert", gallery.path, tmp_path / "out") == 2
    assert "csv, faiss, mat, npz, parquet" in capsys.readouterr().err
    assert (
        run("convert", gallery.path, tmp_path / "no" / "g.npz") == 2
        and f"{tmp_path / 'no'} does not exist" in capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_gallery_goes_to_milvus_and_back(gallery, tmp_path, capsys):
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    milvus = f"milvus:{tmp_path / 'm.db'}"
    assert run("to-milvus", gallery.path, milvus) == 0 and f"{milvus}: 8 rows" in capsys.readouterr().out
    assert run("to-milvus", gallery.path, milvus) == 2 and "overwrite" in capsys.readouterr().err
    assert run("info", milvus) == 0 and "rows" in capsys.readouterr().out
    assert run("compact", milvus) == 2 and "from-milvus" in capsys.readouterr().err
    assert run("from-milvus", milvus, tmp_path / "back") == 0
    np.testing.assert_array_equal(Gallery.open(tmp_path / "back").embeddings, gallery.embeddings)


@pytest.mark.slow
def test_rows_that_were_removed_in_milvus_stay_out_until_they_are_allowed(gallery, tmp_path, capsys):
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    milvus = f"milvus:{tmp_path / 'm.db'}"

    def answer(*arguments):
        assert run(*arguments) == 0
        return capsys.readouterr().out

    answer("to-milvus", gallery.path, milvus)
    assert "2 of 8 rows" in answer("list", milvus, "--where", "id=0,1")
    assert run("remove", milvus, "--where", "id=0,1") == 2 and "2 of 8 rows would be removed" in capsys.readouterr().err
    assert (
        run("remove", milvus, "--where", "id=0", "--compact", "--yes") == 2 and "--compact" in capsys.readouterr().err
    )
    shown = answer("remove", milvus, "--where", "id=0,1", "--yes")
    assert "2 of 8 rows removed, 2 keys listed" in shown and "compact" not in shown
    assert json.loads(answer("stats", milvus, "--json"))["suppressed"] == {"removed": 2}
    assert f"{milvus}: 6 rows" in answer("to-milvus", gallery.path, milvus, "--overwrite")
    answer("from-milvus", milvus, tmp_path / "back")
    back = Gallery.open(tmp_path / "back")
    assert len(back) == 6 and back.is_suppressed(gallery.keys()).tolist() == [True, True, *[False] * 6]
    assert "2 keys left the list, 0 stay" in answer("allow", milvus, "--yes")
    assert f"{milvus}: 8 rows" in answer("to-milvus", gallery.path, milvus, "--overwrite")
    assert "1 of 8 rows changed" in answer("update", milvus, "--where", "id=3", "--set", "pid=new", "--yes")
    assert run("list", milvus, "--columns", "pit") == 2 and "no column pit" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_has_an_example_that_parses(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    shown = capsys.readouterr().out
    example = next(line.strip() for line in shown.splitlines() if line.strip().startswith("vitreid gallery"))
    assert stopped.value.code == 0
    assert get_parser().parse_args(example.split()[2:]).command == name


@pytest.mark.parametrize("name", ["info", "compact", "merge", "compress", "pool", "convert", "to-milvus"])
def test_a_misspelt_gallery_is_one_line(name, tmp_path, capsys):
    more = {
        "merge": ["x"],
        "compress": ["o", "--int8"],
        "pool": ["o"],
        "convert": ["o.npz"],
        "to-milvus": ["milvus:o.db"],
    }
    assert run(name, tmp_path / "nowhere", *more.get(name, [])) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "nowhere" in error
