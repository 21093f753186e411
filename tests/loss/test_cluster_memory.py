"""The loss against clusters' centroids: value, gradient and updates against a twin written from the paper's equations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vitreid.loss import ClusterMemory, ReidLoss, SoftmaxHead, TripletLoss


def unit(vector):
    return vector / vector.norm()


def twin(features, labels, centroids, temperature, momentum, hardest):
    """Loss and centroids after a batch, one image and one cluster at a time (Dai et al., arXiv:2103.11568, section 3)."""
    queries = [unit(feature) for feature in features]
    losses = []
    for query, label in zip(queries, labels):
        exps = [math.exp(float(query @ centroid) / temperature) for centroid in centroids]
        losses.append(-math.log(exps[label] / sum(exps)))
    moved = [centroid.clone() for centroid in centroids]
    if hardest:
        for label in set(labels):
            own = [query for query, other in zip(queries, labels) if other == label]
            query = min(own, key=lambda query: float(query @ centroids[label]))
            moved[label] = unit(momentum * centroids[label] + (1 - momentum) * query)
    else:
        for query, label in zip(queries, labels):
            moved[label] = unit(momentum * moved[label] + (1 - momentum) * query)
    return sum(losses) / len(losses), torch.stack(moved)


@given(st.integers(0, 10_000), st.sampled_from(["all", "hardest"]), st.floats(0, 1), st.floats(0.03, 1))
@settings(deadline=None, max_examples=60)
def test_loss_and_updates_equal_the_twin(seed, update, momentum, temperature):
    generator = torch.Generator().manual_seed(seed)
    centroids = F.normalize(torch.randn(5, 6, generator=generator, dtype=torch.float64), dim=1)
    features = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 5, (9,), generator=generator)
    memory = ClusterMemory(6, temperature, momentum, update).double()
    memory.start(centroids)
    loss, accuracy = memory(features, labels)
    expected, moved = twin(features, labels.tolist(), centroids, temperature, momentum, update == "hardest")
    assert loss.item() == pytest.approx(expected)
    torch.testing.assert_close(memory.centroids, moved)
    nearest = (F.normalize(features, dim=1) @ centroids.T).argmax(1)
    assert accuracy.item() == pytest.approx((nearest == labels).double().mean().item())


def memory_of(**options):
    memory = ClusterMemory(4, **options)
    memory.start(torch.eye(4)[:3])
    return memory


def test_the_gradient_is_that_of_the_centroids_before_the_update():
    features = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])

    def loss(features):
        memory = ClusterMemory(4, 0.5).double()
        memory.start(torch.eye(4)[:3])
        return memory(features, labels)[0]

    assert torch.autograd.gradcheck(loss, features)


def test_evaluation_leaves_the_centroids():
    memory = memory_of().eval()
    memory(torch.randn(4, 4), torch.tensor([0, 1, 2, 2]))
    torch.testing.assert_close(memory.centroids, torch.eye(4)[:3])


def test_a_state_of_another_number_of_clusters_loads():
    saved = memory_of().state_dict()
    memory = ClusterMemory(4)
    memory.load_state_dict(saved)
    assert memory.centroids.shape == (3, 4)
    with pytest.raises(RuntimeError, match="size mismatch"):
        ClusterMemory(5).load_state_dict(saved)


def test_half_precision_is_computed_in_float32():
    features, labels = torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 2, 2])
    with torch.autocast("cpu", torch.bfloat16):
        half = memory_of()(features.bfloat16(), labels)[0]
    torch.testing.assert_close(half, memory_of()(features.bfloat16().float(), labels)[0])


def test_the_classifier_has_rows_for_more_classes_than_there_are_clusters():
    """The rows of no cluster have no logit, and the others start from the centroids."""
    loss = ReidLoss([SoftmaxHead(4, 10)], TripletLoss(), clusters=ClusterMemory(4, weight=2.0))
    loss.start_classes(2 * torch.eye(4)[:3])
    torch.testing.assert_close(loss.heads[0].weight[:3], torch.eye(4)[:3])
    features, labels = torch.randn(6, 1, 4, requires_grad=True), torch.tensor([0, 0, 1, 1, 2, 2])
    terms, stats = loss(features, features, labels)
    assert list(terms) == ["cluster", "id", "triplet"] and list(stats) == ["accuracy"]
    torch.testing.assert_close(terms["id"], F.cross_entropy(features[:, 0, :3], labels))
    sum(terms.values()).backward()
    assert not loss.heads[0].weight.grad[3:].any()
