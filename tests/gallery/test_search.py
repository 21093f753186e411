"""Searching galleries: the exact search meets its naive twin, filters hold, thresholds speak, the tool answers."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreid.common.pictures import GREEN, GREY, RED
from vitreid.evaluation import Threshold
from vitreid.gallery import Gallery, GalleryInfo, export_as
from vitreid.gallery.search import engine, exact_index
from vitreid.gallery.search.contact_sheets import contact_sheet
from vitreid.gallery.search.exact_index import ExactIndex, MappedPages, widen
from vitreid.gallery.search.filters import Where
from vitreid.gallery.search.search_result import SearchResult, compare, limit_of
from vitreid.gallery.storage import records_file
from vitreid.tools import search as tool

MODEL = "sha256:a"
RECORDS = pa.table(
    {
        "id": [0, 1, 2, 3, 4],
        "path": ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"],
        "pid": ["7", "7", None, "8", ""],
        "camera": ["c1", "c2", "c3", None, "c1"],
        "time": [0.0, 10.0, 20.0, None, 86400.0],
        "shoes": pa.array([1, 2, 3, 4, None], pa.int32()),
        "hat": [True, False, None, True, False],
    }
)


def threshold(distance, metric="euclidean"):
    return Threshold(distance, metric, 0.1, 0.1, 0.0, 0.2, 0.9, 10, 10).to_dict()


def unit(rng, count, width=16):
    vectors = rng.normal(size=(count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def naive(queries, gallery, topk, metric, mask):
    """Whole float64 matrix and a stable sort."""
    queries, gallery = queries.astype(np.float64), gallery.astype(np.float64)
    distances = np.sqrt(((queries[:, None] - gallery[None]) ** 2).sum(-1))
    if metric == "cosine":
        lengths = np.sqrt((queries**2).sum(1)[:, None] * (gallery**2).sum(1))
        distances = np.maximum(0, 1 - (queries[:, None] * gallery[None]).sum(-1) / lengths)
    distances = distances.astype(np.float32)
    distances[:, ~mask] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, : min(topk, mask.sum())]
    return order, np.take_along_axis(distances, order, 1)


@pytest.fixture
def make(tmp_path):
    """Function that makes a gallery of vectors (N, D) with two cameras, three people and a time per row."""

    def gallery(vectors, name="g", **info):
        made = Gallery.create(tmp_path / name, GalleryInfo(MODEL, vectors.shape[1], **info))
        records = [
            {"path": f"{i}.png", "pid": str(i % 3), "camera": f"c{i % 2 + 1}", "time": float(i)}
            for i in range(len(vectors))
        ]
        made.add(vectors, records, MODEL)
        return made

    return gallery


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("camera=c1,c2", [0, 1, 4]),
        ("camera == c1", [0, 4]),
        ("camera!=c3", [0, 1, 3, 4]),  # of the fourth the camera is not known, so it is not known to be c3
        ("pid=", [2, 4]),
        ("pid!=", [0, 1, 3]),
        ('path="a.jpg","b.jpg"', [0, 1]),
        ("time>=10", [1, 2, 4]),
        ("time<1970-01-01T00:00:20", [0, 1]),
        ("time>1970-01-01T01:00:00+01:00", [1, 2, 4]),
        ("time=", [3]),
        ("shoes<=2", [0, 1]),
        ("shoes=3,4", [2, 3]),
        ("hat=true", [0, 3]),
        ("id!=0,1", [2, 3, 4]),
    ],
)
def test_conditions_choose_records(text, expected):
    assert np.flatnonzero(Where.parse([text]).mask(RECORDS)).tolist() == expected


def test_conditions_from_a_dictionary():
    assert np.flatnonzero(Where.of({"camera": ["c1", "c2"], "time": (5, None)}).mask(RECORDS)).tolist() == [1, 4]
    assert np.flatnonzero(Where.of({"camera!=": "c1", "shoes": np.int64(2)}).mask(RECORDS)).tolist() == [1]
    assert np.flatnonzero(Where.of({"pid": 7, "time": (0, 0)}).mask(RECORDS)).tolist() == [
        0
    ]  # both ends belong to a range
    assert Where.of(None).mask(RECORDS).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kamera=c1", "'kamera'.*id, path"),
        ("camera", "read 'camera'"),
        ("camera>c1", "has no order"),
        ("shoes=big", "shoes.*int32.*'big'"),
        ("time>=yesterday", "ISO 8601"),
        ("time>=", "time>= .*one value"),
    ],
)
def test_wrong_conditions_say_what_is_right(text, words):
    with pytest.raises(ValueError, match=words):
        Where.parse([text]).mask(RECORDS)


def test_nan_stands_for_not_known():
    records = RECORDS.append_column("score", pa.array([1.0, np.nan, None, 2.0, 3.0]))
    assert np.flatnonzero(Where.parse(["score=nan"]).mask(records)).tolist() == [1, 2]
    assert np.flatnonzero(Where.parse(["score!=1,nan"]).mask(records)).tolist() == [3, 4]
    with pytest.raises(ValueError, match="score> .*one value"):
        Where.parse(["score>nan"]).mask(records)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"id": 2**70}, "id holds int64.*1180591620717411303424"),
        ({"time": 10**400}, "time holds double"),
        ({"tags": "a"}, "tags holds list<.*column of text"),
        ({"tags": None}, "tags holds list<.*compared"),
        ({"tags!=": ["a"]}, "tags holds list<.*compared"),
        ({"half>": 1}, "half holds halffloat.*compared"),
        ({"coded": "a"}, "coded holds dictionary.*compared"),
    ],
)
def test_what_arrow_cannot_compare_is_refused_with_a_way_out(what, words):
    coded = pa.array(["a", "b", None, None, None]).dictionary_encode()
    records = RECORDS.append_column("tags", pa.array([["a"], ["b"], None, [], None])).append_column("coded", coded)
    records = records.append_column("half", pa.array(np.zeros(5, np.float16)))
    with pytest.raises(ValueError, match=words):
        Where.of(what).mask(records)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(1, 70),
    st.sampled_from(["float32", "float16", "int8"]),
    st.sampled_from(["euclidean", "cosine"]),
    st.sampled_from([None, 0.05, 0.5]),
)
def test_the_exact_search_equals_its_naive_twin(seed, count, num_queries, topk, dtype, metric, share):
    """Whatever the sizes, in small blocks, with copies of rows among them: the same rows in the same order."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.01, 0.02, 16).astype(np.float32) if dtype == "int8" else None
    stored = rng.integers(-127, 127, (count, 16)).astype(np.int8) if dtype == "int8" else unit(rng, count).astype(dtype)
    stored[rng.integers(count, size=count // 3)] = stored[0]
    rows = stored.astype(np.float32) * (1 if scale is None else scale)
    queries = np.concatenate([unit(rng, num_queries), rows[:2]])
    mask = np.ones(count, bool) if share is None else rng.random(count) < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_index, "BLOCK_ELEMENTS", 1)  # 256 rows is the least
        found = ExactIndex(stored, metric, scale).search(queries, topk, None if share is None else mask)
    order, distances = naive(queries, rows, topk, metric, mask)
    assert [hits.positions.tolist() for hits in found] == order.tolist()
    np.testing.assert_array_equal(np.stack([hits.distances for hits in found]), distances)


@pytest.mark.parametrize("order", ["falling", "rising", "equal"])
def test_many_blocks_are_merged_however_the_distances_run(order):
    """A gallery sorted by distance, either way, and one of copies only."""
    angles = {"falling": np.linspace(3, 0, 3000), "rising": np.linspace(0, 3, 3000), "equal": np.ones(3000)}[order]
    rows = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    queries = np.array([[1, 0]], np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_index, "BLOCK_BYTES", 1)
        hits = ExactIndex(rows).search(queries, 5)[0]
    assert hits.positions.tolist() == naive(queries, rows, 5, "euclidean", np.ones(3000, bool))[0][0].tolist()


def test_a_crop_is_at_distance_zero_from_itself_and_before_its_copy():
    rows = np.repeat(unit(np.random.default_rng(0), 40, 96), 2, 0)
    hits = ExactIndex(rows).search(rows[[7]], 3)[0]
    assert hits.positions[:2].tolist() == [6, 7] and hits.distances[:2].tolist() == [0, 0]


def test_the_pages_of_a_large_gallery_are_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(exact_index, "KEEP_BYTES", 0)
    np.save(tmp_path / "rows.npy", unit(np.random.default_rng(0), 5000))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    index, dropped, drop = ExactIndex(rows), [], MappedPages.drop
    monkeypatch.setattr(MappedPages, "drop", lambda pages, *rows: dropped.append(rows) or drop(pages, *rows))
    monkeypatch.setattr(exact_index, "BLOCK_BYTES", 1)
    assert MappedPages(rows).file is not None
    assert [index.search(rows[[4321]], 1)[0].positions.tolist() for _ in range(2)] == [[4321], [4321]]
    assert dropped[0] == (0, 256) and dropped[-1] == (4864, 5000)


def test_rows_that_are_far_apart_are_read_one_window_of_the_map_at_a_time(monkeypatch):
    rows = unit(np.random.default_rng(0), 5000)
    index, dropped = ExactIndex(rows), []
    monkeypatch.setattr(MappedPages, "drop", lambda pages, *rows: dropped.append(rows))
    monkeypatch.setattr(exact_index, "BLOCK_BYTES", 1000 * rows.itemsize * rows.shape[1])
    hits = index.search(rows[[4300]], 2, np.arange(5000) % 100 == 0)[0]
    assert hits.positions[0] == 4300 and hits.distances[0] == 0
    assert dropped == [(0, 1000), (1000, 2000), (2000, 3000), (3000, 4000), (4000, 5000)]


def test_float16_becomes_the_same_float32_as_numpy_makes_of_it():
    """Every finite value, the smallest ones and both zeros too."""
    halves = np.arange(2**16).astype(np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(-1, 64)
    floats = np.empty(halves.shape, np.float32)
    widen(halves, floats)
    np.testing.assert_array_equal(floats.view(np.uint32), halves.astype(np.float32).view(np.uint32))


def test_filters_hold_in_every_part_of_the_records(make, monkeypatch):
    monkeypatch.setattr(records_file, "GROUP_ROWS", 7)
    gallery = make(unit(np.random.default_rng(2), 60))
    for num_groups in (1, 2, 100):
        monkeypatch.setattr(engine, "FILTERED_GROUPS", num_groups)
        found = gallery.search(gallery.vectors([0]), 60, ["camera=c1", "time>=20"], exclude_same_camera="c0")[0]
        expected = [row["id"] for row in gallery.records.to_pylist() if row["camera"] == "c1" and row["time"] >= 20]
        assert sorted(found.ids.tolist()) == expected and len(expected) > 5


SEARCHING = """
import sys
from vitreid.gallery import Gallery
gallery = Gallery.open(sys.argv[1])
found = gallery.search(gallery.vectors([0]), 3, ["camera=c1", "time>=0"], exclude_same_camera="c2")[0]
assert found.verdict == "match" and found.rows[0]["id"] == 0
if sys.argv[2] == "faiss-flat":
    gallery.search(gallery.vectors([0]), 3, index="faiss-flat")
print(sorted({"torch", "scipy", "sklearn", "cv2", "vitreid.processor"} & set(sys.modules)))
"""


@pytest.mark.parametrize("index", ["exact", "faiss-flat"])
@pytest.mark.slow
def test_searching_by_embedding_loads_no_torch(make, index):
    """It would take several times the memory of the search."""
    if index != "exact":
        pytest.importorskip("faiss")
    gallery = make(np.eye(4, dtype=np.float32), threshold=threshold(1.0))
    done = subprocess.run([sys.executable, "-c", SEARCHING, str(gallery.path), index], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_removed_and_filtered_rows_are_never_found(make):
    gallery = make(unit(np.random.default_rng(1), 60))
    gallery.remove([4, 5])
    everything = gallery.search(gallery.vectors([4]), topk=100)[0]
    assert len(everything) == 58 and not {4, 5} & {*everything.ids.tolist()}
    some = gallery.search(gallery.vectors([4]), 100, ["camera=c1", "time>=30"])[0]
    assert sorted(some.ids.tolist()) == list(range(30, 60, 2))
    assert {row["camera"] for row in some.rows} == {"c1"}
    assert len(gallery.search(gallery.vectors([4]), 5, {"camera": "nowhere"})[0]) == 0


def test_the_queries_own_camera_is_left_out_query_by_query(make):
    gallery = make(unit(np.random.default_rng(2), 20))
    first, second, third = gallery.search(gallery.vectors([0, 1, 2]), 20, exclude_same_camera=["c1", "c2", None])
    assert {row["camera"] for row in first.rows} == {"c2"} and {row["camera"] for row in second.rows} == {"c1"}
    assert len(third) == 20
    with pytest.raises(ValueError, match="exclude_same_camera: "):
        gallery.search(gallery.vectors([0]), exclude_same_camera=True)


def test_a_search_after_a_change_sees_it(make):
    gallery = make(unit(np.random.default_rng(3), 10))
    before = gallery.search(gallery.vectors([0]), 3)[0]
    new = gallery.add(gallery.vectors([0]), [{"path": "new.png"}], MODEL)
    assert gallery.search(gallery.vectors([0]), 2)[0].ids.tolist() == [0, *new.tolist()]
    assert before.rows[0]["path"] == "0.png"  # ids still mean the same rows


def test_the_threshold_says_match_or_unknown(make):
    vectors = np.eye(4, dtype=np.float32)
    gallery = make(vectors, threshold=threshold(1.0))
    near, far = gallery.search(np.array([[1, 0.1, 0, 0], [-1, 0, 0, 0]], np.float32), 2)
    assert (near.verdict, near.is_match.tolist()) == ("match", [True, False])
    assert (far.verdict, far.is_match.tolist()) == ("unknown", [False, False])
    assert make(vectors, "h").search(vectors[:1])[0].verdict is None
    assert gallery.same_person(vectors[0], vectors[0]).answer == "same"
    assert gallery.same_person(vectors[0], vectors[1]).answer == "different"
    assert make(vectors, "i").same_person(vectors[0], vectors[0]).to_dict() == {
        "answer": "unknown",
        "distance": 0.0,
        "threshold": None,
    }


def test_a_distance_equal_to_the_threshold_is_a_match():
    info = GalleryInfo(MODEL, 2, threshold=threshold(float(np.float32(2**0.5))))
    assert compare(np.array([1, 0]), np.array([0, 1]), info).answer == "same"
    shy = replace(info, threshold=threshold(2**0.5 - 1e-4))
    assert compare(np.array([1, 0]), np.array([0, 1]), shy).answer == "different"


@pytest.mark.parametrize("damaged", [0.5, [0.5], "0.5", {"distance": "0.5", "metric": "euclidean"}])
def test_a_damaged_threshold_is_refused(damaged):
    with pytest.raises(ValueError, match="threshold: .*calibrate"):
        limit_of(GalleryInfo(MODEL, 2, threshold=damaged))


def test_a_threshold_of_another_metric_is_refused(make):
    gallery = make(np.eye(3, dtype=np.float32), threshold=threshold(0.5, "cosine"))
    with pytest.raises(ValueError, match="threshold.*metric='euclidean'"):
        gallery.search(np.eye(3, dtype=np.float32))


def test_reranking_reorders_by_shared_neighbours_and_keeps_the_distances(make):
    """Chain of close crops: the query's nearest is an outsider, the chain stands together."""
    from vitreid.evaluation import k_reciprocal

    rows = unit(np.random.default_rng(5), 50, 4)
    gallery = make(rows)
    query = rows[[3]] + 0.05
    plain, again = (gallery.search(query, 50, rerank=how)[0] for how in (False, {"k1": 6, "k2": 3, "lam": 0.3}))
    expected = k_reciprocal(query, rows[plain.ids], k1=6, k2=3, lam=0.3)[0].numpy()
    assert again.ids.tolist() == plain.ids[np.argsort(expected, kind="stable")].tolist() != plain.ids.tolist()
    assert (np.diff(again.scores) >= 0).all()
    distance = dict(zip(plain.ids.tolist(), plain.distances.tolist()))
    assert [distance[i] for i in again.ids.tolist()] == again.distances.tolist()
    assert len(gallery.search(query, 5, rerank=True)[0]) == 5
    assert len(gallery.search(query, 5, ["id=3"], rerank=True)[0]) == 1  # nothing to re-rank


SHARED = {"k1": 6, "k2": 3, "lam": 0.0}  # re-ranking by the shared neighbours alone


def lonely_match(make):
    """Gallery and query: the nearest row alone is within the threshold, but shares few neighbours with the query."""
    rows, query = unit(np.random.default_rng(11), 50, 4), np.full((1, 4), 0.5, np.float32)
    first, second = np.sort(np.linalg.norm(rows - query, axis=1))[:2]
    return make(rows, threshold=threshold(float(first + second) / 2)), query


def test_a_match_that_reranking_cuts_off_is_still_a_match(make):
    gallery, query = lonely_match(make)
    for index in (None, "exact"):
        cut = gallery.search(query, 1, rerank=SHARED, index=index)[0]
        assert cut.is_match.tolist() == [False]  # the closest is not among those shown
        assert (cut.verdict, cut.is_cut, cut.to_dict()["verdict"]) == ("match", True, "match")
        assert cut.nearest == gallery.search(query, 1)[0].distances[0]
    whole = gallery.search(query, 50, rerank=SHARED)[0]
    assert (whole.verdict, whole.is_cut) == ("match", False)
    other = gallery.search(query, 1, [f"id!={whole.ids[whole.is_match][0]}"], rerank=True)[0]
    assert (other.verdict, other.is_cut) == ("unknown", False)


def test_the_tool_says_that_a_match_was_cut_off(make):
    from vitreid.tools.search import as_text

    gallery, query = lonely_match(make)
    text = as_text(["q"], gallery.search(query, 1, rerank=SHARED))
    assert text.startswith("q: found, but re-ranked below these") and "larger --topk" in text and "unknown" not in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"topk": 0}, "topk: .*0"),
        ({"index": "hnsw"}, "index 'hnsw'.*exact, faiss-flat"),
        ({"rerank": {"k3": 1}}, "rerank: .*k3"),
        ({"where": ["x=1"]}, "column 'x'"),
        ({"where": ["time=", "camera>1"]}, "has no order"),
    ],
)
def test_wrong_searches_say_what_is_right(options, words, make):
    gallery = make(np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match=words):
        gallery.search(np.eye(3, dtype=np.float32), **options)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_queries_too_large_for_float32_are_refused_rather_than_finding_nothing(metric, make):
    gallery = make(np.eye(3, dtype=np.float32), metric=metric)
    for value in (1e20, -1e16):
        with pytest.raises(ValueError, match=r"queries.*1e\+(20|16).*1e\+15"):
            gallery.search(np.array([[0, value, 0]], np.float32))
    assert gallery.search(np.array([[1e15, 1e15, 1e15]], np.float32), 3)[0].ids.tolist() == [0, 1, 2]


def test_an_empty_gallery_finds_nothing(tmp_path):
    gallery = Gallery.create(tmp_path / "g", GalleryInfo(MODEL, 3))
    assert [len(result) for result in gallery.search(np.eye(3, dtype=np.float32))] == [0, 0, 0]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", ["faiss-flat", "faiss-ivf", "faiss-hnsw"])
def test_faiss_indexes_find_the_same(name, metric, make):
    """On 300 rows even the approximate ones find all but a few; what the filter leaves out they never find."""
    pytest.importorskip("faiss", reason="faiss is not installed")
    rows = unit(np.random.default_rng(6), 300) * (2 if metric == "cosine" else 1)
    gallery = make(rows, metric=metric)
    gallery.remove([17])
    queries = rows[[17, 40, 250]]
    for where in (None, ["camera=c2"], ["time<5"]):
        want, got = gallery.search(queries, 10, where), gallery.search(queries, 10, where, index=name)
        shared = [len({*a.ids.tolist()} & {*b.ids.tolist()}) for a, b in zip(want, got)]
        assert [len(a) for a in got] == [len(a) for a in want]
        assert name != "faiss-flat" or all(
            (a.ids == b.ids).all() and (a.distances == b.distances).all() for a, b in zip(want, got)
        )
        assert sum(shared) >= 0.8 * sum(len(a) for a in want)
        assert all(17 not in a.ids for a in got)
        assert where != ["camera=c2"] or all(row["camera"] == "c2" for a in got for row in a.rows)


def test_results_are_plain_for_json(make):
    gallery = make(np.eye(3, dtype=np.float32), threshold=threshold(1.0))
    gallery.update([0], {"seen": float("nan")})
    found = json.loads(json.dumps(gallery.search(np.eye(3, dtype=np.float32)[:1], 2)[0].to_dict(), allow_nan=False))
    assert found["verdict"] == "match" and found["threshold"] == 1.0
    record = {"path": "0.png", "pid": "0", "camera": "c1", "view": None, "time": 0.0, "tracklet": None, "seen": None}
    assert found["results"][0] == {"id": 0, "distance": 0.0, "is_match": True, "record": record}


def test_records_of_a_rewritten_gallery_are_not_mistaken_for_the_results():
    result = SearchResult(np.array([3]), np.zeros(1, np.float32), look_up=lambda: [{"id": 4, "path": "x"}])
    with pytest.raises(RuntimeError, match="search again"):
        _ = result.rows


def test_a_contact_sheet_frames_matches_green_other_people_red_and_the_undecided_grey(make, tmp_path):
    """A row beyond the threshold may be the person, so only labels make it red, as in a report."""
    gallery = make(np.eye(3, dtype=np.float32), threshold=threshold(1.0))
    crop = np.full((64, 32, 3), 90, np.uint8)
    cv2.imwrite(str(gallery.path / "0.png"), crop)
    cv2.imwrite(str(gallery.path / "1.png"), crop)  # 2.png is missing: its place stays grey, and says so
    result = gallery.search(np.eye(3, dtype=np.float32)[:1], 3)[0]
    counts = []
    for pids in (None, ["0"]):
        contact_sheet(tmp_path / "sheet.png", [(str(gallery.path / "0.png"), result)], gallery.image_path, pids)
        sheet = cv2.imread(str(tmp_path / "sheet.png")).reshape(-1, 3)
        counts.append([(sheet == frame[::-1]).all(1).sum() for frame in (GREEN, RED, GREY)])
    (green, red, grey), (labelled_green, labelled_red, labelled_grey) = counts
    assert green > 100 and red == 0 and grey == 2 * green  # one match, two that may be
    assert (labelled_green, labelled_red, labelled_grey) == (green, 2 * green, 0)


def test_a_contact_sheet_is_of_the_kind_that_its_name_says(make, tmp_path):
    gallery = make(np.eye(3, dtype=np.float32))
    found = [(np.full((64, 32, 3), 90, np.uint8), gallery.search(np.eye(1, 3))[0])]
    contact_sheet(tmp_path / "sheet.JPG", found, gallery.image_path)
    assert (tmp_path / "sheet.JPG").read_bytes().startswith(b"\xff\xd8")
    with pytest.raises(ValueError, match=r"'.*sheet\.pdf'.* \.png, \.jpg"):
        contact_sheet(tmp_path / "sheet.pdf", found, gallery.image_path)
    assert not (tmp_path / "sheet.pdf").exists()


def test_a_contact_sheet_shows_the_boxes_of_videos_without_reading_the_files_whole(tmp_path, monkeypatch):
    film = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    film.write(np.full((48, 64, 3), (20, 20, 220), np.uint8))
    film.release()
    gallery = Gallery.create(tmp_path / "g", GalleryInfo(MODEL, 3))
    box = {"path": str(tmp_path / "film.avi"), "frame": 0, "x": 8.0, "y": 4.0, "width": 10.0, "height": 20.0}
    gallery.add(np.eye(1, 3, dtype=np.float32), [box], MODEL)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    query = np.full((64, 32, 3), 90, np.uint8)
    contact_sheet(tmp_path / "sheet.png", [(query, gallery.search(np.eye(1, 3))[0])], gallery.image_path)
    sheet = cv2.imread(str(tmp_path / "sheet.png")).reshape(-1, 3).astype(int)
    assert (np.abs(sheet - (20, 20, 220)).max(1) < 12).sum() > 96 * 180  # the tile is red


class FakeEmbedder:
    """Embeds image number i as the i-th unit vector."""

    fingerprint = MODEL

    def __init__(self, weights, **_):
        pass

    def __call__(self, images, cameras=None):
        return np.stack([np.eye(3, dtype=np.float32)[int(image)] for image in images])


def test_a_bare_name_leaves_out_the_only_camera_that_ends_so(tmp_path):
    gallery = Gallery.create(tmp_path / "G", GalleryInfo("sha256:a", 1))
    cameras = ["market1501/c1", "market1501/c2", "duke/c2", None]
    records = [{"path": f"{i}.jpg", "camera": camera} for i, camera in enumerate(cameras)]
    gallery.add(np.arange(1, 5, dtype=np.float32).reshape(-1, 1), records, "sha256:a")
    found = {
        camera: gallery.search(np.zeros((1, 1), np.float32), exclude_same_camera=camera)[0] for camera in ("c1", "c2")
    }
    assert found["c1"].ids.tolist() == [1, 2, 3]
    assert found["c2"].ids.tolist() == [0, 1, 2, 3]  # two cameras end so: neither is meant for sure


def test_the_tool_prints_a_table_or_json_and_makes_a_sheet(make, tmp_path, monkeypatch, capsys):

    monkeypatch.setattr(tool, "Embedder", FakeEmbedder)
    monkeypatch.chdir(tmp_path)
    for name in ("0", "2"):
        (tmp_path / name).touch()
    gallery = make(np.eye(3, dtype=np.float32), threshold=threshold(1.0))
    words = ["--gallery", str(gallery.path), "--weights", "w", "--query", "0", "2"]
    assert tool.main([*words, "--sheet", str(tmp_path / "s.png"), "--topk", "2"]) == 0
    text = capsys.readouterr().out
    assert "0: found (threshold 1.0000)" in text and (tmp_path / "s.png").stat().st_size > 1000
    assert [line.split()[:4] for line in text.splitlines()[2:4]] == [
        ["1", "0", "0.0000", "yes"],
        ["2", "1", "1.4142", "no"],
    ]
    assert tool.main([*words, "--json", "--where", "camera!=c1", "--camera", "c1", "--other-cameras", "--rerank"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["query"], second["query"], first["verdict"]) == ("0", "2", "unknown")
    assert [row["record"]["camera"] for row in first["results"]] == ["c2"]
    assert tool.main([*words, "--other-cameras"]) == 2 and "--camera" in capsys.readouterr().err
    assert tool.main([*words[:-1], "who.jpg"]) == 2
    assert re.search(r"--query: .*'who\.jpg'", capsys.readouterr().err)
    assert tool.main([*words, "--where", "camera=c7"]) == 0 and "no record passes" in capsys.readouterr().out


def test_the_tool_reports_a_misspelt_gallery_before_it_loads_the_model(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "Embedder", lambda *_, **__: pytest.fail("the model was loaded"))
    (tmp_path / "q.png").touch()
    words = ["--gallery", str(tmp_path / "nowhere"), "--weights", "w", "--query", str(tmp_path / "q.png")]
    assert tool.main(words) == 2
    assert f"{tmp_path / 'nowhere' / 'gallery.json'}: no such file" in capsys.readouterr().err


def test_the_tool_refuses_the_weights_of_another_model_before_it_embeds(make, tmp_path, monkeypatch, capsys):
    class Stranger(FakeEmbedder):
        fingerprint = "sha256:b"

        def __call__(self, images, cameras=None):
            pytest.fail("an image was embedded")

    monkeypatch.setattr(tool, "Embedder", Stranger)
    (tmp_path / "q.png").touch()
    gallery = make(np.eye(3, dtype=np.float32))
    assert tool.main(["--gallery", str(gallery.path), "--weights", "w", "--query", str(tmp_path / "q.png")]) == 2
    assert "sha256:b" in capsys.readouterr().err


def test_a_missing_faiss_is_one_message_that_names_the_extra(make, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "Embedder", FakeEmbedder)
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0").touch()
    gallery = make(np.eye(3, dtype=np.float32))
    words = ["--gallery", str(gallery.path), "--weights", "w", "--query", "0", "--index", "faiss-flat"]
    assert tool.main(words) == 2
    message = capsys.readouterr().err
    assert message.count("faiss]") == 1 and "index=" in message
    with pytest.raises(ModuleNotFoundError, match=r"vitreid\[faiss\]"):
        export_as(gallery, tmp_path / "out", "faiss")


@pytest.mark.clone
def test_the_benchmark_measures_and_judges(tmp_path, capsys):
    from vitreid.benchmarks import gallery as benchmark

    args = benchmark.get_parser().parse_args(
        ["--skip-large", "--json", str(tmp_path / "g.json"), "--folder", str(tmp_path)]
    )
    report = benchmark.run(args, benchmark.SearchPlan(50, 8, (50, 8), 2, 1, 1))
    assert report["speed"]["filtered out but found"] == 0 and report["speed"]["one query"]["vitreid"]["median"] > 0
    assert any("seconds to open" in line for line in report["bars"]) and "--skip-large" in capsys.readouterr().out
    assert json.loads((tmp_path / "g.json").read_text())["speed"]["rows"] == 50
    benchmark.make_gallery(tmp_path / "large", 60, 8, "float16", 0)
    assert benchmark.measure_resident(str(tmp_path / "large"), 0)["first"] > 0


@pytest.mark.parametrize(
    ("where", "passes"),
    [
        ("camera=c0", False),
        ("camera!=c0", True),
        ("camera=", True),
        ("camera!=", False),
        ("time>=5", False),
        ("time=", True),
    ],
)
def test_a_column_without_any_value_holds_unknown_ones(where, passes):
    """Other programs write such a column without a type."""
    table = pa.table({"camera": pa.nulls(3), "time": pa.nulls(3)})
    assert Where.of([where]).mask(table).tolist() == [passes] * 3
