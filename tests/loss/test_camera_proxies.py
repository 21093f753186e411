"""The loss against camera-aware proxies: value, gradient and updates against a twin written from the paper's equations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vitreid.loss import CameraProxies, ProxySplit, ReidLoss
from vitreid.loss.camera_proxies import split_by_camera


def unit(vector):
    return vector / vector.norm()


def problem(seed, num_images=24, num_clusters=5, num_cameras=3, dim=6):
    """Classes and cameras of some images (classes of any number of cameras), means of their proxies."""
    rng = np.random.default_rng(seed)
    labels, cameras = rng.integers(0, num_clusters, num_images), rng.integers(0, num_cameras, num_images)
    of_image, classes, of_camera = split_by_camera(labels, cameras)
    return labels, ProxySplit(rng.normal(size=(len(classes), dim)), classes, of_camera, of_image)


def twin(features, index, split, labels, options):
    """Loss and proxies after a batch, one image and one proxy at a time (Wang et al., arXiv:2012.10674, section 3)."""
    memory = [unit(torch.from_numpy(mean)) for mean in split.means]
    queries = [unit(feature) for feature in features]
    proxies = range(len(memory))

    def exp(query, proxy):
        return math.exp(float(query @ memory[proxy]) / options["temperature"])

    total = 0.0
    own = [int(split.of_image[image]) for image in index]
    for camera in sorted({int(split.cameras[proxy]) for proxy in own}):
        losses = []
        for query, proxy in zip(queries, own):
            if split.cameras[proxy] != camera:
                continue
            in_camera = [p for p in proxies if split.cameras[p] == camera]
            loss = -math.log(exp(query, proxy) / sum(exp(query, p) for p in in_camera))
            positive = [p for p in proxies if split.classes[p] == split.classes[proxy] and split.cameras[p] != camera]
            others = [p for p in proxies if split.classes[p] != split.classes[proxy]]
            hard = sorted(others, key=lambda p: -exp(query, p))[: options["negatives"]]
            below = sum(exp(query, p) for p in (*positive, *hard))
            if positive:
                inter = -sum(math.log(exp(query, p) / below) for p in positive) / len(positive)
                loss += options["inter_weight"] * inter
            losses.append(loss)
        total += sum(losses) / len(losses)
    moved = [proxy.clone() for proxy in memory]
    if options["update"] == "hardest":
        for proxy in set(own):
            mine = [query for query, other in zip(queries, own) if other == proxy]
            query = min(mine, key=lambda query: float(query @ memory[proxy]))
            moved[proxy] = unit(options["momentum"] * memory[proxy] + (1 - options["momentum"]) * query)
    else:
        for query, proxy in zip(queries, own):
            moved[proxy] = unit(options["momentum"] * moved[proxy] + (1 - options["momentum"]) * query)
    return total, torch.stack(moved)


@given(
    st.integers(0, 10_000),
    st.sampled_from(["all", "hardest"]),
    st.integers(1, 30),
    st.floats(0.05, 1),
    st.integers(1, 3),
)
@settings(deadline=None, max_examples=60)
def test_loss_and_updates_equal_the_twin(seed, update, negatives, temperature, num_cameras):
    labels, split = problem(seed, num_cameras=num_cameras)
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    index = torch.randint(0, len(labels), (9,), generator=generator)
    options = {
        "temperature": temperature,
        "momentum": 0.2,
        "update": update,
        "inter_weight": 0.7,
        "negatives": negatives,
    }
    proxies = CameraProxies(6, len(labels), **options).double()
    proxies.start(None, split)
    loss, accuracy = proxies(features, torch.from_numpy(labels)[index], index)
    expected, moved = twin(features, index.tolist(), split, labels, options)
    assert loss.item() == pytest.approx(expected)
    torch.testing.assert_close(proxies.centroids, moved)
    cosines = F.normalize(features, dim=1) @ F.normalize(torch.from_numpy(split.means), dim=1).T
    nearest = split.classes[cosines.argmax(1).numpy()]
    assert accuracy.item() == pytest.approx((nearest == labels[index.numpy()]).mean())


@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_is_that_of_the_proxies_before_the_update(seed):
    labels, split = problem(seed)
    features = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    index = torch.arange(6)

    def loss(features):
        proxies = CameraProxies(6, len(labels), temperature=0.5, negatives=3).double()
        proxies.start(None, split)
        return proxies(features, torch.from_numpy(labels)[index], index)[0]

    assert torch.autograd.gradcheck(loss, features)


def test_a_cluster_of_one_camera_has_no_loss_across_cameras():
    split = ProxySplit(np.eye(4)[:2], np.array([0, 1]), np.array([0, 1]), np.array([0, 1]))
    features = torch.eye(4)[:2].requires_grad_()
    proxies = CameraProxies(4, 2)
    proxies.start(None, split)
    loss = proxies(features, torch.tensor([0, 1]), torch.tensor([0, 1]))[0]
    assert loss.item() == 0  # each is alone in its camera
    loss.backward()
    assert not features.grad.any()


def test_evaluation_leaves_the_proxies_and_a_state_of_another_number_loads():
    labels, split = problem(0)
    proxies = CameraProxies(6, len(labels)).eval()
    proxies.start(None, split)
    before = {name: value.clone() for name, value in proxies.state_dict().items()}
    proxies(torch.randn(4, 6), torch.from_numpy(labels)[:4], torch.arange(4))
    other = CameraProxies(6, len(labels))
    other.load_state_dict(proxies.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    with pytest.raises(RuntimeError, match="size mismatch"):
        CameraProxies(6, 3).load_state_dict(before)


def test_half_precision_is_computed_in_float32():
    labels, split = problem(1)
    features, index = torch.randn(4, 6), torch.arange(4)
    found = []
    for values in (features.bfloat16(), features.bfloat16().float()):
        proxies = CameraProxies(6, len(labels))
        proxies.start(None, split)
        with torch.autocast("cpu", torch.bfloat16, enabled=values.dtype == torch.bfloat16):
            found.append(proxies(values, torch.from_numpy(labels)[index], index)[0])
    torch.testing.assert_close(*found)


def test_proxies_without_a_split_are_a_mistake():
    with pytest.raises(ValueError, match="split of the classes by camera"):
        ReidLoss([], clusters=CameraProxies(4, 2)).start_classes(torch.eye(4))
