"""MARS's evaluation against naive twins of its authors' MATLAB code, evaluation_mars.m and compute_AP.m of MARS-evaluation."""

import numpy as np
import pytest
import torch

from vitreid.evaluation import evaluate_retrieval
from vitreid.labels.setting import Setting
from vitreid.processor.scoring.feature_file import FeatureSet, load_features, save_features
from vitreid.processor.scoring.reranking import Rerank, rank_setting

AUTHORS = Setting("as its authors", with_queries=True, interpolates=True)


def compute_ap(good, junk, index):
    """Return AP and CMC of one ranking, step by step as in compute_AP.m."""
    cmc = np.zeros(len(index))
    old_recall, old_precision, ap = 0.0, 1.0, 0.0
    num_found = num_judged = num_junk = 0
    for place, item in enumerate(index):
        if item in good:
            cmc[place - num_junk :] = 1
            num_found += 1
        if item in junk:
            num_junk += 1
            continue
        recall, precision = num_found / len(good), num_found / (num_judged + 1)
        ap += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
        num_judged += 1
        if num_found == len(good):
            break
    return ap, cmc


def evaluation_mars(distances, g_pids, q_pids, g_camids, q_camids):
    """Return CMC and mAP of distances (G, Q), as evaluation_mars.m: junk is person -1, and the query's person in its camera."""
    found = []
    for query in range(distances.shape[1]):
        of_person = [item for item in range(len(g_pids)) if g_pids[item] == q_pids[query]]
        good = {item for item in of_person if g_camids[item] != q_camids[query]}
        junk = {item for item in range(len(g_pids)) if g_pids[item] == -1} | (set(of_person) - good)
        found.append(compute_ap(good, junk, np.argsort(distances[:, query], kind="stable")))
    return np.mean([cmc for _, cmc in found], 0), np.mean([ap for ap, _ in found])


def draw_tracks(seed):
    """Return features (N, 8), people, cameras of test tracklets with junk (-1) and distractors (0), and the queries' rows.

    The queries are one tracklet of each person and camera, as in MARS; every person is seen by two cameras or more.
    """
    rng = np.random.default_rng(seed)
    people = np.r_[np.repeat(np.arange(1, 13), 6), np.full(25, -1), np.zeros(40, np.int64)]
    cameras = np.r_[np.stack([rng.permutation([1, 1, 2, 2, 3, 3]) for _ in range(12)]).ravel(), rng.integers(1, 4, 65)]
    order = rng.permutation(len(people))
    people, cameras = people[order], cameras[order]
    features = rng.standard_normal((len(people), 8)).astype(np.float32) + np.eye(32, 8, dtype=np.float32)[people % 8]
    cells = {}
    for row, cell in enumerate(zip(people.tolist(), cameras.tolist(), strict=True)):
        if cell[0] > 0:
            cells[cell] = row
    return features, people, cameras, np.array(sorted(cells.values()))


def feature_set(seed):
    """Return the features as vitreid has them: without junk, and the gallery without the queries."""
    features, people, cameras, asked = draw_tracks(seed)
    others = np.array([row for row in range(len(people)) if row not in set(asked.tolist()) and people[row] != -1])
    sides = {"q": asked, "g": others}
    arrays = {
        name: values[rows]
        for side, rows in sides.items()
        for name, values in ((f"{side}_pids", people), (f"{side}_camids", cameras - 1))
    }
    names = {f"{side}_names": [f"{row}.jpg" for row in rows] for side, rows in sides.items()}
    query, gallery = (torch.from_numpy(features[rows]) for rows in sides.values())
    files = {f"{side}_files": rows for side, rows in sides.items()}
    return FeatureSet(
        "mars",
        "same-camera",
        query,
        gallery,
        **arrays,
        **names,
        **files,
        camera_names=("1", "2", "3"),
        settings=(Setting(), AUTHORS),
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_setting_of_its_authors_equals_their_code(seed):
    """Their gallery is all test tracklets: the queries, and junk that never counts."""
    features, people, cameras, asked = draw_tracks(seed)
    distances = np.linalg.norm(features[:, None].astype(np.float64) - features[asked].astype(np.float64), axis=2)
    cmc, mean_ap = evaluation_mars(distances, people, people[asked], cameras, cameras[asked])
    result = rank_setting(feature_set(seed), AUTHORS, Rerank())
    assert result.mAP == pytest.approx(mean_ap, abs=1e-6) and result.num_valid == len(asked)
    np.testing.assert_allclose(result.cmc, cmc[:50], atol=1e-6)
    np.testing.assert_allclose([result.rank(k) for k in (1, 5, 10, 20)], cmc[[0, 4, 9, 19]], atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_first_setting_leaves_the_queries_out(seed):
    """The usual setting: mean of the precision at each hit, and queries without another tracklet left out."""
    features, people, cameras, asked = draw_tracks(seed)
    gallery = np.array([row for row in range(len(people)) if row not in set(asked.tolist()) and people[row] != -1])
    aps, hits = [], []
    for query in asked:
        order = gallery[np.argsort(((features[gallery] - features[query]) ** 2).sum(1), kind="stable")]
        order = [row for row in order if people[row] != people[query] or cameras[row] != cameras[query]]
        ranks = [rank for rank, row in enumerate(order, 1) if people[row] == people[query]]
        if ranks:
            aps.append(np.mean([number / rank for number, rank in enumerate(ranks, 1)]))
            hits.append(ranks[0])
    result = rank_setting(feature_set(seed), Setting(), Rerank())
    assert result.mAP == pytest.approx(np.mean(aps), abs=1e-6) and result.num_valid == len(aps)
    assert result.first_hit.tolist() == hits


def test_interpolated_precision_by_eye():
    """Right, wrong, right: precision 1, 1/2, 2/3, and 1 before the first. Half of (1 + 1)/2 and of (1/2 + 2/3)/2."""
    labels = {"q_pids": [1], "g_pids": [1, 2, 1], "q_camids": [0], "g_camids": [1, 1, 1]}
    result = evaluate_retrieval(torch.zeros(1, 1), torch.tensor([[1.0], [2.0], [3.0]]), **labels)
    assert result.interpolated_ap.tolist() == pytest.approx([(1 + (1 / 2 + 2 / 3) / 2) / 2])
    assert result.mAP == pytest.approx((1 + 2 / 3) / 2)


def test_a_file_of_features_keeps_the_settings(tmp_path):
    features = feature_set(0)
    save_features(tmp_path / "mars.safetensors", features)
    again = load_features(tmp_path / "mars.safetensors")
    assert again.settings == features.settings
    assert rank_setting(again, AUTHORS, Rerank()).mAP == rank_setting(features, AUTHORS, Rerank()).mAP


def test_queries_join_the_gallery_with_all_their_labels():
    features = feature_set(1)
    joined = features.under(AUTHORS)
    assert len(joined.gallery) == len(features.gallery) + len(features.query) == len(joined.g_names)
    assert joined.g_pids[-3:].tolist() == features.q_pids[-3:].tolist()
    assert joined.g_files[-3:].tolist() == features.q_files[-3:].tolist()
    assert AUTHORS.about == "gallery with the queries, interpolated average precision"
    with pytest.raises(ValueError, match="with_queries, interpolates: go with draw 'all' only"):
        Setting(draw="per-camera", repeats=1, with_queries=True)
