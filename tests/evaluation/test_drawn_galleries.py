"""Evaluation on drawn galleries, VehicleID's protocol, against loops over the draws."""

import numpy as np
import pytest
import torch

from vitreid.evaluation import RetrievalData, evaluate_drawn_galleries


def make_data(protocol="own-file", seed=0, people=12, images=60):
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.normal(size=(images, 8)).astype(np.float32))
    pids, cameras, files = np.arange(images) % people, rng.integers(0, 3, images), np.arange(images)
    return RetrievalData(
        features, features, pids, pids, cameras, cameras, protocol=protocol, q_files=files, g_files=files
    )


def by_loops(data, repeats, seed):
    """Return (query, rank) for each draw: every other image looks for its one relative among the drawn images."""
    rng = np.random.default_rng(seed)
    people = np.unique(data.g_pids)
    rows = [np.flatnonzero(data.g_pids == pid) for pid in people]
    picks = rng.integers([len(row) for row in rows], size=(repeats, len(people)))
    found = []
    query, gallery = data.query.double().numpy(), data.gallery.double().numpy()
    for pick in picks:
        drawn = [row[place] for row, place in zip(rows, pick, strict=True)]
        for i in range(len(query)):
            place = int(np.searchsorted(people, data.q_pids[i]))
            own = drawn[place]
            if own == i or (data.protocol == "same-camera" and data.g_camids[own] == data.q_camids[i]):
                continue
            distances = np.linalg.norm(query[i] - gallery[drawn], axis=1)
            found.append((i, 1 + int((distances < distances[place]).sum())))
    return sorted(found)


@pytest.mark.parametrize("protocol", ["own-file", "same-camera"])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_a_loop_over_draws(protocol, seed):
    data = make_data(protocol, seed)
    result = evaluate_drawn_galleries(data, repeats=7, seed=seed)
    assert sorted(zip(result.query_index.tolist(), result.first_hit.tolist(), strict=True)) == by_loops(data, 7, seed)
    assert np.array_equal(result.ap, 1 / result.first_hit)


def test_each_draw_counts_all_images_but_the_gallery():
    data = make_data()
    result = evaluate_drawn_galleries(data, repeats=10)
    assert len(result.first_hit) == 10 * (60 - 12)
    assert result.num_queries == 60


def test_perfect_features_are_found_and_cosine_is_accepted():
    pids = np.arange(40) % 8
    features = torch.eye(8)[pids] * torch.arange(1, 41)[:, None]
    data = RetrievalData(
        features, features, pids, pids, pids * 0, pids * 0,
        protocol="own-file", q_files=np.arange(40), g_files=np.arange(40), metric="cosine",
    )  # fmt: skip
    assert evaluate_drawn_galleries(data).rank(1) == 1


@pytest.mark.parametrize(("argument", "value"), [("repeats", 0), ("max_rank", 0), ("seed", -1)])
def test_arguments_out_of_range_are_named(argument, value):
    with pytest.raises(ValueError, match=argument):
        evaluate_drawn_galleries(make_data(), **{argument: value})
