"""Protocols of clothes, views, tracklets and places, and galleries drawn per camera, against naive twins."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitreid.evaluation import (
    PROTOCOLS,
    RetrievalData,
    RetrievalMetric,
    evaluate_distances,
    evaluate_drawn_per_camera,
    evaluate_reranked,
    evaluate_retrieval,
    verify,
)
from vitreid.evaluation.drawn_galleries import draw_per_camera, person_ranks
from vitreid.labels.setting import Setting

JUNK = {  # protocol -> whether an image that shares or does not share these labels with the query is junk, for its own person
    "same-clothes": lambda same: same["camera"] or same["clothes"],
    "other-clothes": lambda same: same["camera"] or not same["clothes"],
    "same-view": lambda same: same["camera"] or same["view"],
    "same-tracklet": lambda same: same["tracklet"],
    "same-place": lambda same: same["camera"] or same["place"],
}
LABELS = ("clothes", "view", "tracklet", "place")


def problem(seed, protocol, queries=25, gallery=120, people=8):
    """Return random embeddings on a grid, so that distances tie, and random labels."""
    rng = np.random.default_rng(seed)
    rows = [torch.from_numpy(rng.integers(0, 3, (count, 4)).astype(np.float32)) for count in (queries, gallery)]
    pids = [rng.integers(0, people, count) for count in (queries, gallery)]
    cameras = [rng.integers(0, 4, count) for count in (queries, gallery)]
    extra = {name: tuple(rng.integers(0, 3, count) for count in (queries, gallery)) for name in LABELS}
    return RetrievalData(*rows, *pids, *cameras, protocol=protocol, extra=extra)


def naive_ranking(data, query, junk=None):
    """Return the gallery rows that count for a query, nearest first; junk of its person and hidden images are left out."""
    kept = []
    for item in range(len(data.gallery)):
        same = {name: q[query] == g[item] for name, (q, g) in data.extra.items()}
        same["camera"] = data.q_camids[query] == data.g_camids[item]
        is_own = data.q_pids[query] == data.g_pids[item]
        if not (is_own and JUNK[data.protocol](same)) and not (data.protocol == "same-place" and same["place"]):
            kept.append(item)
    distances = ((data.query[query] - data.gallery) ** 2).sum(1)
    return sorted(kept, key=lambda item: (float(distances[item]), item))


def naive_figures(data):
    """Return (query, AP, INP, first hit among images, first hit among people) of each query with a match."""
    found = []
    for query in range(len(data.query)):
        ranking = naive_ranking(data, query)
        hits = [rank for rank, item in enumerate(ranking, 1) if data.g_pids[item] == data.q_pids[query]]
        if hits:
            people = list(dict.fromkeys(data.g_pids[item] for item in ranking))
            ap = np.mean([number / rank for number, rank in enumerate(hits, 1)])
            found.append((query, ap, len(hits) / hits[-1], hits[0], people.index(data.q_pids[query]) + 1))
    return list(zip(*found, strict=True))


@pytest.mark.parametrize("protocol", JUNK)
@pytest.mark.parametrize("seed", range(4))
def test_a_protocol_equals_its_naive_twin(protocol, seed):
    data = problem(seed, protocol)
    queries, ap, inp, first_hit, people = naive_figures(data)
    result = evaluate_retrieval(data)
    assert result.query_index.tolist() == list(queries)
    np.testing.assert_allclose(result.ap, ap, rtol=1e-12)
    np.testing.assert_allclose(result.inp, inp, rtol=1e-12)
    assert result.first_hit.tolist() == list(first_hit)
    assert [rank for rank in person_ranks(data) if rank] == list(people)
    squares = ((data.query[:, None] - data.gallery) ** 2).sum(-1)
    same = evaluate_distances(squares, *data.labels, protocol=protocol, extra=data.extra)
    assert same.ap.tolist() == result.ap.tolist()


def test_every_protocol_has_a_twin():
    assert set(JUNK) == set(PROTOCOLS) - {"same-camera", "own-file", "none"}


def test_a_protocol_without_its_labels_says_which():
    data = problem(0, "same-clothes")
    with pytest.raises(ValueError, match=r"extra: the protocol same-place compares place; give their labels"):
        replace(data, protocol="same-place", extra={"clothes": data.extra["clothes"]})
    with pytest.raises(ValueError, match=r"g_clothes: expected 120 labels"):
        replace(data, extra={"clothes": (data.extra["clothes"][0], [1])})


def test_names_are_labels_too():
    data = problem(1, "same-clothes")
    named = {"clothes": tuple([f"coat {number}" for number in side] for side in data.extra["clothes"])}
    assert evaluate_retrieval(replace(data, extra=named)).ap.tolist() == evaluate_retrieval(data).ap.tolist()


def test_labels_follow_a_selection():
    data, rows, columns = problem(2, "same-place"), np.arange(3, 20), np.arange(0, 120, 2)
    part = data.select(rows, columns)
    assert naive_figures(part)[1] == pytest.approx(evaluate_retrieval(part).ap)
    assert all(part.extra[name][0].tolist() == data.extra[name][0][rows].tolist() for name in LABELS)


def test_other_figures_take_the_same_protocol():
    """Junk pairs are neither genuine nor impostors, and re-ranking judges by the same rule."""
    data = problem(3, "same-place")
    relevant = sum(len(data.matches.of(query)[0]) for query in range(len(data.query)))
    assert verify(data).num_genuine == relevant
    assert evaluate_reranked(data, k1=5, k2=2).query_index.tolist() == evaluate_retrieval(data).query_index.tolist()


@pytest.mark.parametrize("protocol", JUNK)
def test_batches_give_the_same_figures(protocol):
    data, metric = problem(4, protocol), RetrievalMetric(protocol=protocol)
    for side, is_query in ((0, True), (1, False)):
        rows, pids, cameras = ((data.query, data.gallery), data.labels[:2], data.labels[2:])
        for part in np.array_split(np.arange(len(rows[side])), 3):
            extra = {name: data.extra[name][side][part] for name in LABELS}
            metric.update(rows[side][part], pids[side][part], cameras[side][part], is_query, extra)
    assert metric.compute().ap.tolist() == evaluate_retrieval(data).ap.tolist()
    needed = set(PROTOCOLS[protocol].labels) & set(LABELS)
    with pytest.raises(ValueError, match=f"extra: the protocol compares {needed.pop()}"):
        metric.update(torch.zeros(1, 4), [0], [0], True)


@pytest.mark.parametrize("images", [1, 3, 50])
def test_each_identity_and_camera_gives_so_many_images(images):
    data = problem(5, "same-place")
    drawn = draw_per_camera(data.g_pids, data.g_camids, images, np.random.default_rng(0))
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    cells = list(zip(data.g_pids.tolist(), data.g_camids.tolist(), strict=True))
    for cell in set(cells):
        assert sum(cells[row] == cell for row in drawn) == min(images, cells.count(cell))


def test_every_image_is_drawn_equally_often():
    pids, cameras = np.repeat([0, 1], 4), np.zeros(8, int)
    counts = np.zeros(8)
    for seed in range(800):
        counts[draw_per_camera(pids, cameras, 1, np.random.default_rng(seed))] += 1
    assert counts.sum() == 1600 and abs(counts - 200).max() < 50


@pytest.mark.parametrize("images", [1, 2])
def test_figures_are_means_over_drawn_galleries(images):
    data = problem(6, "same-place")
    result = evaluate_drawn_per_camera(data, images=images, repeats=3, seed=7)
    rows = []
    for repeat in range(3):
        drawn = draw_per_camera(data.g_pids, data.g_camids, images, np.random.default_rng((7, repeat)))
        rows += zip(*naive_figures(data.select(gallery=drawn)), strict=True)
    rows.sort(key=lambda row: row[0])
    queries, ap, inp, _, people = zip(*rows, strict=True)
    assert result.query_index.tolist() == list(queries) and result.first_hit.tolist() == list(people)
    np.testing.assert_allclose(result.ap, ap, rtol=1e-12)
    np.testing.assert_allclose(result.inp, inp, rtol=1e-12)


def test_wrong_numbers_of_draws_are_refused():
    data = problem(0, "same-place")
    for name in ("images", "repeats"):
        with pytest.raises(ValueError, match=f"{name}: 1 or more, got 0"):
            evaluate_drawn_per_camera(data, **{name: 0})
    with pytest.raises(ValueError, match="repeats: 0 galleries do not fit draw 'per-camera'"):
        Setting(draw="per-camera")
    with pytest.raises(ValueError, match="draw: unknown value 'often'"):
        Setting(draw="often", repeats=1)


def test_a_setting_is_a_value():
    setting = Setting("indoor", "same-place", gallery_cameras=("c1",), draw="per-camera", repeats=10, images=10)
    assert Setting.from_dict(setting.to_dict()) == setting
    assert setting.about == "mean of 10 galleries of 10 drawn images of each identity and camera"
