"""Camera normalisation and neighbour centralisation against their naive twins."""

import numpy as np
import pytest
import torch

from vitreid.evaluation import centralise, centralise_queries, evaluate_retrieval, normalise_cameras
from vitreid.labels.camera_norm import LEAST_IMAGES

CAMERAS = ("door", "hall")


def embeddings(count, width=6, seed=0, bias=()):
    """Random rows of unit length; `bias` is added before."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, width)) + np.asarray(bias or [0] * width)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# --- cameras -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_cameras():
    """Query and gallery embeddings with their cameras' names."""
    rng = np.random.default_rng(1)
    query, gallery = embeddings(20), embeddings(4 * LEAST_IMAGES, seed=2)
    return query, gallery, rng.choice(CAMERAS, 20), np.repeat(CAMERAS, 2 * LEAST_IMAGES)


@pytest.mark.parametrize("mode", ["mean", "full"])
def test_each_camera_loses_its_mean_and_spread(two_cameras, mode):
    """The statistics are the gallery's; queries are changed by those of their camera."""
    query, gallery, q_cameras, g_cameras = two_cameras
    found = normalise_cameras(*two_cameras, mode=mode)
    for rows, names, result in ((query, q_cameras, found[0]), (gallery, g_cameras, found[1])):
        for row, name, normalised in zip(rows, names, result, strict=True):
            own = gallery[g_cameras == name].astype(np.float64)
            spread = own.std(0) if mode == "full" else 1
            expected = (row - own.mean(0)) / spread
            assert np.allclose(normalised, expected / np.linalg.norm(expected), atol=1e-5)


def test_none_changes_nothing(two_cameras):
    query, gallery = normalise_cameras(*two_cameras, mode="none")
    assert np.array_equal(query, two_cameras[0]) and np.array_equal(gallery, two_cameras[1])
    with pytest.raises(ValueError, match="camera normalisation: unknown value 'all'; choose from full, mean, none"):
        normalise_cameras(*two_cameras, mode="all")


def test_a_constant_feature_becomes_zero(two_cameras):
    query, gallery, *cameras = two_cameras
    query[:, 2] = gallery[:, 2] = 0.5
    for found in normalise_cameras(query, gallery, *cameras):
        assert torch.isfinite(found).all() and (found[:, 2] == 0).all()


def test_a_camera_with_too_few_images_is_named(two_cameras):
    query, gallery, q_cameras, g_cameras = two_cameras
    fewer = gallery[LEAST_IMAGES + 1 :], q_cameras, g_cameras[LEAST_IMAGES + 1 :]
    with pytest.raises(ValueError, match=rf"need {LEAST_IMAGES} images .* are from door \({LEAST_IMAGES - 1}\); add"):
        normalise_cameras(query, *fewer)
    with pytest.raises(ValueError, match=r"from roof \(0\); add images, or set it to none"):
        normalise_cameras(query, gallery, np.where(q_cameras == "door", "roof", "hall"), g_cameras)


def test_bias_of_cameras_no_longer_hides_people():
    """People in two cameras that shift all embeddings: the nearest row is one of the own camera until it is removed."""
    rng, count = np.random.default_rng(3), LEAST_IMAGES
    people, shift = rng.normal(size=(count, 8)), np.eye(8)[0] * 9
    q, g, own = (people + moved + rng.normal(size=(count, 8)) * 0.1 for moved in (shift, -shift, shift))
    pids, g_cameras = np.arange(count), np.repeat(CAMERAS, count)
    gallery, g_pids = np.concatenate([own, g]), np.concatenate([pids, pids])
    labels = pids, g_pids, np.repeat("door", count), g_cameras
    before = evaluate_retrieval(q, gallery, *labels)
    after = evaluate_retrieval(*normalise_cameras(q, gallery, *labels[2:]), *labels)
    assert before.rank(1) < 0.1 and after.rank(1) > 0.9


# --- neighbours --------------------------------------------------------------------------------------------------------


def naive(gallery, k):
    """Each row plus its mutual k nearest others."""
    rows = unit(gallery.astype(np.float64))
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    near = [set(np.argsort(row)[:k]) for row in distances]
    return unit(np.array([rows[i] + sum(rows[j] for j in near[i] if i in near[j]) for i in range(len(rows))]))


def naive_query(query, gallery, k):
    """The query as one more row of the gallery: its mutual k nearest are added."""
    rows = unit(np.concatenate([gallery, query[None]]).astype(np.float64))
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    near = [set(np.argsort(row)[:k]) for row in distances]
    last = len(gallery)
    total = rows[last] + sum(rows[j] for j in near[last] if last in near[j])
    return total / np.linalg.norm(total)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_neighbours_are_those_of_the_naive_twin(k):
    gallery, query = embeddings(40, 3), embeddings(9, 3, seed=5)
    assert np.allclose(centralise(gallery, k), naive(gallery, k), atol=1e-5)
    expected = [naive_query(one, gallery, k) for one in query]
    assert np.allclose(centralise_queries(query, gallery, k), expected, atol=1e-5)


def test_only_mutual_neighbours_are_added():
    """On a line at 0, 1 and 3 degrees: 0 and 1 are each other's nearest; 3's nearest is 1, whose nearest is 0."""
    angles = np.deg2rad([0, 1, 3])
    gallery = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    found = np.rad2deg(np.arctan2(*centralise(gallery, 1).numpy().T[::-1]))
    assert np.allclose(found, [0.5, 0.5, 3], atol=1e-3)


def test_queries_do_not_see_each_other():
    gallery, query = embeddings(30, 4), embeddings(6, 4, seed=7)
    together = centralise_queries(query, gallery, 2)
    assert np.allclose(
        together, np.concatenate([centralise_queries(one[None], gallery, 2) for one in query]), atol=1e-6
    )


def test_blocks_do_not_change_the_result(monkeypatch):
    from vitreid.evaluation.distances import pairwise

    gallery, query = embeddings(200, 4), embeddings(150, 4, seed=8)
    whole = centralise(gallery, 3), centralise_queries(query, gallery, 3)
    monkeypatch.setattr(pairwise, "BLOCK_ELEMENTS", 1)  # 64 rows at a time
    assert np.allclose(centralise(gallery, 3), whole[0], atol=1e-6)
    assert np.allclose(centralise_queries(query, gallery, 3), whole[1], atol=1e-6)


def test_zero_neighbours_only_scale():
    gallery, query = embeddings(10) * 3, embeddings(4, seed=9) * 2
    assert np.allclose(centralise(gallery, 0), unit(gallery), atol=1e-6)
    assert np.allclose(centralise_queries(query, gallery, 0), unit(query), atol=1e-6)


def test_too_many_neighbours_and_nan_are_refused():
    gallery = embeddings(5)
    for call in (
        lambda: centralise(gallery, 5),
        lambda: centralise_queries(gallery, gallery, 5),
        lambda: centralise(gallery, -1),
    ):
        with pytest.raises(ValueError, match="k: takes 0 to 4 neighbours"):
            call()
    gallery[3, 0] = np.nan
    with pytest.raises(ValueError, match="gallery: row 3"):
        centralise(gallery, 1)
