"""A gallery whose embeddings are compared normalised by camera: the same order as the evaluation's, after every change."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitreid.evaluation import normalise_cameras
from vitreid.gallery import Gallery, GalleryInfo, compact, fit_pca, merge, pool_tracklets, to_int8
from vitreid.labels.camera_norm import LEAST_IMAGES
from vitreid.tools import gallery as tool

DIM, EACH = 8, LEAST_IMAGES + 20
CAMERAS = ("door", "hall", "roof")
MODEL = "sha256:fake"
rng = np.random.default_rng(0)
SHIFTS = rng.normal(size=(3, DIM)) * 2


def rows_of(count, seed):
    """`count` embeddings of each camera, and their records."""
    random = np.random.default_rng(seed)
    rows = np.concatenate([random.normal(size=(count, DIM)) * [1, 3, *[1] * (DIM - 2)] + shift for shift in SHIFTS])
    names = np.repeat(CAMERAS, count).tolist()
    return rows.astype(np.float32), [{"path": f"{seed}-{i}.jpg", "camera": name} for i, name in enumerate(names)]


ROWS, RECORDS = rows_of(EACH, 1)
QUERIES, Q_CAMERAS = rows_of(3, 2)[0], [record["camera"] for record in rows_of(3, 2)[1]]


@pytest.fixture(params=["mean", "full"])
def mode(request):
    return request.param


@pytest.fixture
def gallery(tmp_path, mode):
    made = Gallery.create(tmp_path / "gallery", GalleryInfo(MODEL, DIM))
    made.add(ROWS, RECORDS, MODEL)
    made.set_info(camera_norm=mode)
    return made


def expected(rows, records, mode, topk=5):
    """Rows nearest to each query, and their distances, by the evaluation's normalisation."""
    cameras = [record["camera"] for record in records]
    query, normalised = normalise_cameras(QUERIES, rows, Q_CAMERAS, cameras, mode)
    distances = torch.cdist(query.double(), normalised.double()).numpy()
    order = np.argsort(distances, axis=1)[:, :topk]
    return order, np.take_along_axis(distances, order, 1)


def check(gallery, rows, records, mode):
    """The gallery's live rows are `rows`; also for an object that opens it anew, with and without cameras.npz."""
    order, distances = expected(rows, records, mode)
    live = gallery.ids[gallery.is_live]
    for found in (gallery, Gallery.open(gallery.path)):
        results = found.search(QUERIES, 5, cameras=Q_CAMERAS)
        assert np.array_equal([result.ids for result in results], live[order])
        assert np.allclose([result.distances for result in results], distances, atol=1e-5)
    (gallery.path / "cameras.npz").unlink()
    assert np.array_equal(Gallery.open(gallery.path).search(QUERIES[0], 5, cameras=Q_CAMERAS[0])[0].ids, live[order[0]])


def test_a_search_ranks_as_the_evaluation_does(gallery, mode):
    check(gallery, ROWS, RECORDS, mode)


def test_rows_that_come_and_go_change_the_statistics(gallery, mode):
    more, records = rows_of(EACH, 3)
    gallery.add(more * 2, records, MODEL)
    gone = gallery.ids[::7]
    gallery.remove(gone)
    kept = np.setdiff1d(np.arange(2 * len(ROWS)), gone)
    both, all_records = np.concatenate([ROWS, more * 2])[kept], [[*RECORDS, *records][i] for i in kept]
    check(gallery, both, all_records, mode)
    compact(gallery)
    check(gallery, both, all_records, mode)


def test_a_corrected_camera_changes_them_too(gallery, mode):
    gallery.update(gallery.ids[:10], {"camera": "hall"})
    check(gallery, ROWS, [{**record, "camera": "hall"} if i < 10 else record for i, record in enumerate(RECORDS)], mode)


@pytest.mark.parametrize("damage", ["another state", "no zip"])
def test_statistics_of_another_state_are_computed_again(gallery, mode, damage):
    """As after a crash between cameras.npz and gallery.json."""
    file = gallery.path / "cameras.npz"
    before = file.read_bytes()
    gallery.remove(gallery.ids[:5])
    file.write_bytes(before if damage == "another state" else b"PK")
    found = Gallery.open(gallery.path)
    order, _ = expected(ROWS[5:], RECORDS[5:], mode)
    assert np.array_equal(found.search(QUERIES, 5, cameras=Q_CAMERAS)[4].ids, 5 + order[4])


def test_merged_and_smaller_galleries_stay_normalised(gallery, mode, tmp_path):
    other = Gallery.create(tmp_path / "other", GalleryInfo(MODEL, DIM))
    more, records = rows_of(LEAST_IMAGES, 4)
    other.add(more, records, MODEL)
    merge(gallery, [other])
    both = np.concatenate([ROWS, more])
    check(gallery, both, [*RECORDS, *records], mode)
    small = to_int8(gallery, tmp_path / "small")
    check(small, small.vectors(np.arange(len(both))), [*RECORDS, *records], mode)
    assert pool_tracklets(gallery, tmp_path / "pooled").search(QUERIES[0], 1, cameras="hall")[0].distances[0] < 1
    flat = fit_pca(gallery, tmp_path / "flat", DIM - 1)
    assert flat.info.camera_norm == mode and len(flat.search(QUERIES[0], 3, cameras="hall")[0]) == 3


@pytest.mark.parametrize("index", ["faiss-flat"])
def test_faiss_finds_the_same(gallery, mode, index):
    pytest.importorskip("faiss", reason="not installed: faiss")
    order, _ = expected(ROWS, RECORDS, mode)
    found = gallery.search(QUERIES, 5, cameras=Q_CAMERAS, index=index)
    assert np.array_equal([result.ids for result in found], order)


def test_filters_and_reranking_apply(gallery, mode):
    order, _ = expected(ROWS, RECORDS, mode, topk=len(ROWS))
    halls = [row for row in order[0] if RECORDS[row]["camera"] == "hall"][:4]
    assert gallery.search(QUERIES[0], 4, where="camera=hall", cameras="door")[0].ids.tolist() == halls
    assert gallery.search(QUERIES[0], 4, exclude_same_camera="door", rerank=True)[0].scores is not None


def test_the_queries_camera_must_be_known(gallery):
    for cameras in (None, "attic", [None]):
        with pytest.raises(ValueError, match=r"has no rows of camera .*; give the camera .*: door, hall, roof"):
            gallery.search(QUERIES[0], cameras=cameras)
    assert len(gallery.search(QUERIES[0], 3, exclude_same_camera="door")[0]) == 3  # which names it already
    with pytest.raises(ValueError, match="cameras: give the camera of the queries, or 1 of them"):
        gallery.search(QUERIES[0], cameras=["door", "hall"])


def test_too_few_images_are_refused(gallery, mode, tmp_path):
    """When it is switched on, and when rows of a new camera come; nothing is written."""
    few = Gallery.create(tmp_path / "few", GalleryInfo(MODEL, DIM))
    few.add(ROWS[:3], RECORDS[:3], MODEL)
    message = rf"vitreid gallery camera-norm: the mean and spread of a camera need {LEAST_IMAGES} images .* door \(3\)"
    with pytest.raises(ValueError, match=message):
        few.set_info(camera_norm=mode)
    assert few.info.camera_norm == "none" and Gallery.open(few.path).info.camera_norm == "none"
    with pytest.raises(ValueError, match=r"from attic \(2\)"):
        gallery.add(ROWS[:2], [{"path": "a", "camera": "attic"}, {"path": "b", "camera": "attic"}], MODEL)
    assert len(Gallery.open(gallery.path)) == len(ROWS)
    check(gallery, ROWS, RECORDS, mode)


def test_removal_is_never_refused_but_the_search_is(gallery):
    gallery.remove(gallery.ids[: EACH - LEAST_IMAGES + 1])
    with pytest.raises(ValueError, match=rf"from door \({LEAST_IMAGES - 1}\); add images, or set it to none"):
        gallery.search(QUERIES[0], cameras="hall")
    gallery.set_info(camera_norm="none")
    assert len(gallery.search(QUERIES[0], 3)[0]) == 3


def test_its_threshold_is_the_one_for_such_embeddings(gallery, mode):
    """Not that of embeddings as they are."""
    threshold = {
        "distance": 9.0,
        "metric": "euclidean",
        "fmr": 1e-3,
        "measured_fmr": 1e-3,
        "fmr_low": 0.0,
        "fmr_high": 0.01,
        "tar": 0.9,
        "num_genuine": 10,
        "num_impostor": 5000,
        "level": 0.95,
    }
    gallery.set_info(threshold=threshold)
    own = Q_CAMERAS[0], Q_CAMERAS[3]
    assert gallery.search(QUERIES[0], 1, cameras="door")[0].threshold is None
    assert gallery.same_person(QUERIES[0], QUERIES[3], own).answer == "unknown"
    gallery.set_info(thresholds={f"camera_norm {mode}": {**threshold, "distance": 1.0}})
    verdict = gallery.same_person(QUERIES[0], QUERIES[3], own)
    query, _ = normalise_cameras(QUERIES, ROWS, Q_CAMERAS, [record["camera"] for record in RECORDS], mode)
    assert verdict.threshold == 1 and verdict.distance == pytest.approx(float((query[0] - query[3]).norm()), abs=1e-5)
    gallery.set_info(camera_norm="none")
    assert gallery.same_person(QUERIES[0], QUERIES[3]).threshold == 9


def test_the_command_switches_it_on_and_off(gallery, mode, capsys):
    folder = str(gallery.path)
    gallery.set_info(camera_norm="none")
    assert tool.main(["camera-norm", folder, mode]) == 0
    assert f"{len(ROWS)} rows, compared normalised by camera ({mode}); no threshold" in capsys.readouterr().out
    assert tool.main(["info", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["camera_norm"] == mode
    assert tool.main(["verify", folder, "--no-images"]) == 0
    assert tool.main(["camera-norm", folder, "none"]) == 0
    assert "compared as they are" in capsys.readouterr().out


def test_galleries_of_earlier_versions_are_compared_as_they_are():
    info = GalleryInfo.from_dict({"model": MODEL, "dimension": DIM})
    assert info.camera_norm == "none" and replace(info, threshold={"distance": 1}).limit == {"distance": 1}
    with pytest.raises(ValueError, match="gallery: camera_norm: unknown value 'all'"):
        GalleryInfo(MODEL, DIM, camera_norm="all")
