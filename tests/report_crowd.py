"""An evaluated test set for the tests of the report: people as points, in three cameras."""

from dataclasses import replace

import numpy as np
import torch

from vitreid.evaluation import evaluate_retrieval
from vitreid.processor import FeatureSet
from vitreid.report import EvaluatedSet

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
