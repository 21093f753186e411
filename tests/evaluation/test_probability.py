"""Distances as probabilities: calibrated, monotone, never certain; several models fused."""

import json

import numpy as np
import pytest
import torch

from vitreid.evaluation import RetrievalData, evaluate_fused, evaluate_retrieval, match_probability, verify
from vitreid.evaluation.verification.roc import VerificationResult
from vitreid.labels.match_probability import MatchProbability


def drawn(num_genuine=20_000, num_impostor=200_000, seed=0):
    """Genuine distances around 0.6, impostor distances around 1.2, both with spread 0.15: the true evidence is known."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(0.6, 0.15, num_genuine), rng.normal(1.2, 0.15, num_impostor)
    return VerificationResult(*(np.sort(np.maximum(part, 0).astype(np.float32)) for part in parts))


def true_evidence(distance):
    return ((distance - 1.2) ** 2 - (distance - 0.6) ** 2) / (2 * 0.15**2)


@pytest.fixture(scope="module")
def curve():
    return match_probability(drawn(), "euclidean", num_queries=5000)


def test_the_evidence_is_that_of_the_distributions(curve):
    found = np.linspace(0.7, 1.1, 9)
    assert np.allclose(curve.log_odds(found, 0.5), true_evidence(found), atol=0.5)
    assert curve.matches == 4 and curve.metric == "euclidean"


def test_other_pairs_are_one_person_as_often_as_it_says(curve):
    """Of the pairs with a probability near p, a share of p is genuine."""
    other = drawn(seed=1)
    distances = np.concatenate([other.genuine, other.impostor])
    genuine = np.arange(len(distances)) < other.num_genuine
    said = curve(distances, prior=genuine.mean())
    for low in np.arange(0.1, 0.9, 0.2):
        near = (said >= low) & (said < low + 0.2)
        assert genuine[near].mean() == pytest.approx(said[near].mean(), abs=0.05)


def test_nearer_is_never_less_probable_and_nothing_is_certain(curve):
    said = curve(np.linspace(-1, 5, 1000))
    assert (np.diff(said) <= 0).all() and 0 < said[-1] < 1e-3 and 1 - 1e-3 < said[0] < 1


def test_few_pairs_say_little():
    """One genuine and one impostor pair, well apart: odds of three to one each way, by half a pair more on both sides."""
    pairs = VerificationResult(np.array([0.5], np.float32), np.array([1.0], np.float32))
    curve = match_probability(pairs, "cosine", 1)
    assert np.allclose(curve([0.5, 1.0]), [0.75, 0.25])


def test_impostor_pairs_that_were_left_out_count():
    whole = drawn()
    half = VerificationResult(whole.genuine, whole.impostor[::2], 0.5)
    a, b = (match_probability(pairs, "euclidean", 100).log_odds([0.7, 0.9, 1.1], 0.5) for pairs in (whole, half))
    assert np.allclose(a, b, atol=0.3)


def test_equal_distances_are_refused():
    same = np.full(4, 0.5, np.float32)
    with pytest.raises(ValueError, match="probability: all pairs have the same distance"):
        match_probability(VerificationResult(same, same), "euclidean", 4)


def test_the_prior_moves_the_log_odds(curve):
    even, rare = curve.log_odds(0.9, 0.5), curve.log_odds(0.9, 0.001)
    assert even - rare == pytest.approx(np.log(999))
    assert curve.prior_in(400) == 0.01 and curve.prior_in(2) == 0.5 and curve.prior_in(0) == 0.5


def test_plain_numbers_bring_it_back(curve):
    text = json.dumps(curve.to_dict())
    assert MatchProbability.from_dict(json.loads(text)) == curve


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evidence": [1]}, "ascending|as much evidence"),
        ({"distances": [1, 1]}, "expected ascending distances"),
        ({"evidence": [0, 1]}, "evidence that does not grow"),
        ({"evidence": [1, float("nan")]}, "finite"),
        ({"matches": 0}, "ascending"),
        ({"matches": "many"}, "probability: "),
        ({"scale": 1}, "unexpected keyword"),
    ],
)
def test_wrong_numbers_are_refused(change, message):
    values = {"distances": [0.5, 1.0], "evidence": [1.0, 0.0], "metric": "euclidean", "matches": 2.0}
    with pytest.raises(ValueError, match=message):
        MatchProbability.from_dict({**values, **change})


# --- several models ----------------------------------------------------------------------------------------------------


def people(seed, count=60, width=6, noise=1.3):
    """Query and gallery of `count` people, seen by a model with independent noise."""
    truth = np.random.default_rng(7).normal(size=(count, width))
    rng = np.random.default_rng(seed)
    sides = [truth + rng.normal(size=truth.shape) * noise for _ in range(2)]
    query, gallery = (torch.nn.functional.normalize(torch.from_numpy(side.astype(np.float32))) for side in sides)
    pids = np.arange(count)
    return RetrievalData(query, gallery, pids, pids, np.zeros(count, int), np.ones(count, int))


def fitted(data):
    return match_probability(verify(data), data.metric, len(data.query))


def naive_map(scores):
    """Mean average precision of square scores (N, N), whose matches are on the diagonal."""
    return np.mean([1 / (1 + (row > row[i]).sum()) for i, row in enumerate(scores)])


@pytest.mark.parametrize("how", ["sum", "mean"])
def test_two_models_are_better_than_each_and_equal_the_naive_twin(how):
    models = [people(1), people(2)]
    curves = [fitted(people(3)), fitted(people(4))]
    found = evaluate_fused(models, curves, how=how)
    assert found.mAP > max(evaluate_retrieval(one).mAP for one in models)
    distances = [torch.cdist(one.query.double(), one.gallery.double()).numpy() for one in models]
    prior = curves[0].prior_in(60)
    parts = [(c.log_odds if how == "sum" else c)(d, prior) - 1e-4 * d for c, d in zip(curves, distances, strict=True)]
    assert found.mAP == pytest.approx(naive_map(sum(parts)), abs=1e-6)


def test_one_model_keeps_its_order():
    """Also where the evidence is level: among equals the nearer leads."""
    data = people(1)
    flat = MatchProbability((0.9,), (0.0,), "euclidean", 1.0)
    assert evaluate_fused([data], [flat]).mAP == pytest.approx(evaluate_retrieval(data).mAP, abs=1e-6)


def test_models_of_other_images_are_refused():
    data, curve = people(1), fitted(people(3))
    other = RetrievalData(data.query, data.gallery, data.q_pids[::-1], data.g_pids, data.q_camids, data.g_camids)
    for arguments, message in (
        (([data, other], [curve, curve]), "model 1 has other images than model 0"),
        (([data], [curve, curve]), "1 models with 2 probabilities"),
        (([], []), "0 models"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_fused(*arguments)
    cosine = MatchProbability((0.9,), (0.0,), "cosine", 1.0)
    with pytest.raises(ValueError, match="model 0 compares by euclidean, its probability is for cosine"):
        evaluate_fused([data], [cosine])
    with pytest.raises(ValueError, match="how: unknown value 'max'; choose from mean, sum"):
        evaluate_fused([data], [curve], how="max")
