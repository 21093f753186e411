"""An evaluated test set for the tests of the report: people as points, in three cameras."""

from dataclasses import replace

import numpy as np
import torch

from vitreid.evaluation import evaluate_retrieval
from vitreid.processor import FeatureSet
from vitreid.report import EvaluatedSet
from vitreid.report.run_contents import ClusteredImages, TrainingRounds

IMAGE = np.full((64, 32, 3), 90, np.uint8)


def crowd(num_people=10, crops=6, seed=0, noise=0.3, **changes) -> EvaluatedSet:
    """People as points with noise around them, each seen twice by each of three cameras; the first crop is the query."""
    rng = np.random.default_rng(seed)
    pids, camids = np.repeat(np.arange(num_people), crops), np.tile(np.arange(crops) % 3, num_people)
    places = np.random.default_rng(9).normal(size=(num_people, 8))[pids]
    embeddings = torch.nn.functional.normalize(torch.tensor(places + noise * rng.normal(size=places.shape)).float())
    is_query = np.arange(len(pids)) % crops == 0
    query, gallery = embeddings[is_query], embeddings[~is_query]
    labels = [pids[is_query], pids[~is_query], camids[is_query], camids[~is_query]]
    names = [f"/somewhere/{i}.jpg" for i in range(len(pids))]
    files = names[: int(is_query.sum())], names[int(is_query.sum()) :]
    features = FeatureSet("crowd", "same-camera", query, gallery, *labels, *files, camera_names=("c1", "c2", "c3"))
    result = evaluate_retrieval(query, gallery, *labels)
    return EvaluatedSet(replace(features, **changes), result, read=lambda name: IMAGE)


def rounds_of(people=True, fits=(0.9, 0.5, 0.1, -0.2), **changes) -> TrainingRounds:
    """Three rounds; clusters of four images each with a given mean fit, every second one of two people, and two outliers."""
    rows = [
        {"round": 1, "epoch": 0, "clusters": 3, "mean_size": 4.0, "outliers": 6, "one_camera": 1, "score": 0.9},
        {
            "round": 2,
            "epoch": 1,
            "clusters": 4,
            "mean_size": 4.0,
            "outliers": 2,
            "one_camera": 0,
            "change": 0.25,
            "score": 0.5,
        },
        {
            "round": 3,
            "epoch": 2,
            "clusters": 4,
            "mean_size": 4.0,
            "outliers": 2,
            "one_camera": 0,
            "change": 0.1,
            "score": 0.4,
        },
    ]
    if people:
        rows = [{**row, "f1": 0.1 * row["round"], "nmi": 0.5} for row in rows]
    count = len(fits)
    clusters = [*np.repeat([f"cluster {number}" for number in range(count)], 4).tolist(), "", ""]
    fit = [*(np.repeat(fits, 4) + np.tile([0.03, 0.01, -0.01, -0.03], count)).tolist(), np.nan, np.nan]
    names = [f"pid {number + 9 * (place == 3 and number % 2)}" for number in range(count) for place in range(4)]
    images = ClusteredImages(
        "crowd",
        [f"/somewhere/{place}.jpg" for place in range(4 * count + 2)],
        np.array(clusters),
        np.array(fit),
        ["crowd/c1", "crowd/c2"] * (2 * count + 1),
        np.array([*names, "pid 0", "pid 1"] if people else [""] * (4 * count + 2)),
        read=lambda name: IMAGE,
    )
    return TrainingRounds(rows, images, **changes)
