"""What a gallery says when a filter names what no row has, or when it meets another model: files, names, what there is."""

import json

import numpy as np
import pytest

from vitreid.gallery import Gallery, GalleryInfo, merge
from vitreid.gallery.search import filter_hints
from vitreid.gallery.search.filters import Where
from vitreid.gallery.search.search_result import pair_distances

MODEL = "sha256:a"
ROWS = np.eye(12, dtype=np.float32)
CAMERAS = ["gate", "lobby", "yard", *(f"door{number}" for number in range(8)), None]


@pytest.fixture
def gallery(tmp_path):
    """A gallery of twelve rows, eleven cameras and one that is not known."""
    made = Gallery.create(tmp_path / "g", GalleryInfo(MODEL, 12))
    records = [
        {"path": f"{i}.png", "camera": camera, "pid": str(i), "time": float(i)} for i, camera in enumerate(CAMERAS)
    ]
    made.add(ROWS, records, MODEL)
    return made


def test_a_value_that_no_row_has_is_named_with_the_closest_that_there_are(gallery, caplog):
    found = gallery.search(ROWS[:1], 3, ["camera=Loby"])[0]
    assert len(found) == 0
    (message,) = caplog.messages
    assert (
        "no row has camera 'Loby'; there are lobby, yard, door0, door1, door2, door3, door4, door5 and 3 more"
        in message
    )


@pytest.mark.parametrize(
    ("where", "missing"),
    [
        (["camera!=gat"], "camera 'gat'"),
        (["camera=gate,yrd,gte,"], "camera 'gte', 'yrd'"),
        ({"camera": ["gate", "nowhere"]}, "camera 'nowhere'"),
        (Where.of("pid=99"), "pid '99'"),
    ],
)
def test_lists_exclusions_and_other_columns_are_looked_at_too(gallery, caplog, where, missing):
    gallery.search(ROWS[:1], 3, where)
    assert [message.split("; ")[0] for message in caplog.messages] == [f"where: no row has {missing}"]


@pytest.mark.parametrize("where", [None, ["camera=gate,yard"], ["camera="], ["camera!="], ["time=77"], ["id=77"]])
def test_what_is_there_or_no_text_is_not_worth_a_word(gallery, caplog, where):
    gallery.search(ROWS[:1], 3, where)
    assert not caplog.records


def test_a_value_that_only_removed_rows_had_is_not_there(gallery, caplog):
    gallery.remove([0])
    gallery.search(ROWS[:1], 3, ["camera=gate"])
    assert "no row has camera 'gate'; there are yard, door0" in caplog.text and "door6 and 2 more" in caplog.text


def test_a_value_is_looked_for_once(gallery, caplog, monkeypatch):
    for _ in range(3):
        gallery.search(ROWS[:1], 3, ["camera=typo,gate"])
    assert len(caplog.records) == 1
    monkeypatch.setattr(filter_hints, "_live", lambda *_: (pytest.fail("the column was read again") for _ in "x"))
    gallery.search(ROWS[:1], 3, ["camera=gate,typo"])


def test_a_column_of_which_nothing_is_known_says_so(gallery, caplog):
    gallery.search(ROWS[:1], 3, ["view=front"])
    assert "where: no row has view 'front'" in caplog.text


def test_the_tool_says_it_on_stderr_and_its_json_stays_whole(gallery, tmp_path, monkeypatch, capsys):
    from vitreid.tools import search as tool

    class FakeEmbedder:
        fingerprint = MODEL

        def __init__(self, weights, **_):
            pass

        def __call__(self, images, cameras=None):
            return ROWS[:1]

    monkeypatch.setattr(tool, "Embedder", FakeEmbedder)
    (tmp_path / "q.png").touch()
    words = [
        "--gallery",
        str(gallery.path),
        "--weights",
        "w",
        "--query",
        str(tmp_path / "q.png"),
        "--where",
        "camera=typo",
    ]
    assert tool.main([*words, "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)[0]["results"] == []
    assert "no row has camera 'typo'" in printed.err


# --- another model's embeddings -----------------------------------------------------------------------------------------


class Other:
    """An embedder of another model."""

    fingerprint, name, weights = "sha256:b", "vit_base", "runs/b/best.safetensors"


def test_an_embedder_of_another_model_is_refused_with_files_and_names(tmp_path):
    Gallery.create(tmp_path / "g", GalleryInfo(MODEL, 3, model_name="vit_small (depth 2)"))
    expected = rf"{tmp_path}/g .*vit_small \(depth 2\), {MODEL}.*runs/b/best\.safetensors.*vit_base, sha256:b"
    with pytest.raises(ValueError, match=expected):
        Gallery.open(tmp_path / "g", embedder=Other())


def test_what_is_not_known_of_a_model_is_left_out(tmp_path):
    made = Gallery.create(tmp_path / "g", GalleryInfo(MODEL, 3))
    with pytest.raises(ValueError, match=rf"{MODEL}.*sha256:b"):
        made.add(np.eye(3, dtype=np.float32), [{"path": f"{i}.png"} for i in range(3)], "sha256:b")


def test_galleries_of_two_models_are_not_merged_and_both_are_named(tmp_path):
    ours = Gallery.create(tmp_path / "g", GalleryInfo(MODEL, 3, model_name="vit_small"))
    Gallery.create(tmp_path / "h", GalleryInfo("sha256:b", 3, model_name="vit_base"))
    with pytest.raises(ValueError, match=rf"{tmp_path}/g .*vit_small, .*{tmp_path}/h .*vit_base, sha256:b"):
        merge(ours, [tmp_path / "h"])


def test_a_gallery_made_by_an_embedder_knows_the_models_name(untrained):
    from vitreid.processor.embedding.embedder import Embedder

    embedder = Embedder(untrained, device="cpu")
    assert embedder.info.model_name == "vit_tiny_patch16_224 (depth 2, width 32, heads 2)"
    assert GalleryInfo.from_dict(embedder.info.to_dict()) == embedder.info


# --- distances of near copies ---------------------------------------------------------------------------------------------


def test_cosine_distances_of_near_copies_keep_their_digits():
    """One value of a unit vector turned by a small angle: 1 - cos = angle^2 / 2, of which 1 - dot has no digit left."""
    angle = np.float32(1e-7)
    right = np.array([[1, angle], [3, 3 * angle], [1, 0], [0, 0], [-2, 0]], np.float32)
    distances = pair_distances(np.broadcast_to(np.float32([1, 0]), right.shape), right, "cosine")
    np.testing.assert_allclose(distances, [5e-15, 5e-15, 0, 1, 2], rtol=1e-6)
