"""NaN, infinity and zero in a stranger's numbers: left out and named, or refused by name; they spoil nothing else."""

import logging

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from vitreid.benchmarks.attacks.stranger_files import read, sample_of
from vitreid.gallery import Gallery, GalleryInfo, fit_pca, merge, pool_tracklets, to_int8, verify
from vitreid.processor import load_features

MODEL, WIDTH, ROWS = "sha256:a", 8, 30
WRONG = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "zero": 0.0, "huge": 1e30, "longer": 3.0}


@pytest.fixture
def rows():
    found = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def make(folder, rows, dtype="float32"):
    gallery = Gallery.create(folder, GalleryInfo(MODEL, WIDTH, dtype, embed={"normalize": True}))
    gallery.add(
        rows, [{"path": f"{i}.jpg", "pid": str(i % 3), "tracklet": str(i // 3)} for i in range(len(rows))], MODEL
    )
    return gallery


def spoil(folder, row, value):
    """Change a row in the file, as a defect of the disk or a stranger does; zero and huge: the whole row."""
    found = np.load(folder / "embeddings.npy", "r+")
    if value in (0.0, 3.0):
        found[row] *= value
    else:
        found[row, 2] = value
    found.flush()
    return Gallery.open(folder)


def ids_of(gallery, query, **options):
    return gallery.search(query, 5, **options)[0].ids.tolist()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("index", ["exact", "faiss-flat"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", WRONG)
def test_one_wrong_row_is_left_out_and_named_once(name, dtype, metric, index, rows, tmp_path, caplog):
    """One NaN once emptied every exact search, without an error."""
    if index != "exact":
        pytest.importorskip("faiss", reason='needs the extra: pip install "vitreid[faiss]"')
    make(tmp_path / "G", rows, dtype)
    query = rows[4:5]
    expected = [one for one in ids_of(Gallery.open(tmp_path / "G"), query) if one != 7]
    with np.errstate(over="ignore"):
        gallery = spoil(tmp_path / "G", 7, WRONG[name])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            found = ids_of(gallery, query, index=index)
            assert 7 not in found and found[: len(expected)] == expected[: len(found)]
            assert 7 not in ids_of(gallery, query, index=index, rerank=True)
            assert 7 not in ids_of(gallery, query, index=index, where=["pid=1"])
    named = [record.getMessage() for record in caplog.records if "no embeddings" in record.getMessage()]
    assert len(named) == 1 and "id 7" in named[0]
    assert any(
        "embeddings.npy" in str(problem) and ": 7" in str(problem) for problem in verify(tmp_path / "G", images=False)
    )


@pytest.mark.parametrize(
    "make_of",
    [
        lambda source, target: merge(Gallery.create(target, source.info), [source]),
        lambda source, target: pool_tracklets(source, target),
        lambda source, target: to_int8(source, target),
        lambda source, target: fit_pca(source, target, 4),
    ],
    ids=["merge", "pool", "int8", "pca"],
)
def test_nothing_is_made_of_a_wrong_row(make_of, rows, tmp_path):
    make(tmp_path / "G", rows)
    gallery = spoil(tmp_path / "G", 7, np.nan)
    with pytest.raises(ValueError, match=r"G: 1 rows hold NaN or infinite values.*id 7"):
        make_of(gallery, tmp_path / "other")
    gallery.remove([7])
    make_of(Gallery.open(tmp_path / "G"), tmp_path / "again")
    assert not verify(tmp_path / "again", images=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["query", "gallery"])
def test_wrong_features_are_named_with_their_row(name, value, tmp_path):
    path = sample_of("features", tmp_path)
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    tensors[name][3, 2] = value
    save_file(tensors, path, about)
    with pytest.raises(ValueError, match=rf"{path.name}.*{name}.*row 3"):
        load_features(path)


BOXES = {
    "boxes: csv": ("80.5", "nan"),
    "boxes: mot": ("20,30", "nan,30"),
    "boxes: coco": ("10.5", "NaN"),
    "boxes: results": ("10", "Infinity"),
    "boxes: cvat tracks": ("10.0", "inf"),
    "boxes: cvat images": ("10.0", "nan"),
    "boxes: yolo": ("0.25", "nan"),
    "table: boxes in videos": ("2,30", "nan,30"),
    "table: film": ("10,20", "nan,20"),
    "table: paths": ("1.0", "nan"),
}


@pytest.mark.parametrize("kind", BOXES)
def test_a_place_that_is_no_number_is_refused_by_name(kind, tmp_path):
    path = sample_of(kind, tmp_path)
    text = path.read_text()
    assert BOXES[kind][0] in text
    path.write_text(text.replace(*BOXES[kind], 1))
    with pytest.raises(ValueError, match=rf"{path.name}|{path.parent.name}: "):
        read(kind, path)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
@pytest.mark.parametrize("key", ["dimension", "count", "next_id", "checksum"])
def test_a_state_that_is_no_number_is_refused_by_name(key, value, tmp_path):
    path = sample_of("gallery: gallery.json", tmp_path)
    lines = [
        f'  "{key}": {value},' if line.startswith(f'  "{key}":') else line for line in path.read_text().split("\n")
    ]
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"gallery\.json"):
        read("gallery: gallery.json", path)


@pytest.mark.parametrize("distance", [float("nan"), float("inf"), "near", None, [1]])
def test_a_threshold_that_is_no_number_is_refused(distance, rows, tmp_path):
    gallery = make(tmp_path / "G", rows)
    gallery.set_info(threshold={"distance": distance, "metric": "euclidean"})
    with pytest.raises(ValueError, match="threshold: the distance must be a finite number"):
        ids_of(Gallery.open(tmp_path / "G"), rows[:1])


def test_an_epoch_that_is_no_number_leaves_the_others(tmp_path):
    path = sample_of("run: metrics.jsonl", tmp_path)
    path.write_text(path.read_text() + '\n{"epoch": NaN, "loss": 1}\n{"epoch": "x"}\n{"epoch": 9, "loss": Infinity}\n')
    rows, sentences = read("run: metrics.jsonl", path)
    assert [row["epoch"] for row in rows][:8] == list(range(1, 9)) and all(row["epoch"] == row["epoch"] for row in rows)
    assert sentences
