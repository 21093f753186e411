"""A new neck starts from the training images, so that the first centroids fit the batches that are compared with them."""

from collections.abc import Iterator

import torch
from unlabelled_runs import ONLY, WORDS

from vitreid.configs import load_config
from vitreid.datasets import build_data, build_eval_loader, build_plain_loader, build_train_loader
from vitreid.processor.embedding.extract import extract
from vitreid.processor.pseudo_labels.neck_statistics import BEFORE, start_neck, stride_of_sample
from vitreid.processor.training.run import build_session


def test_mean_and_variance_are_those_of_the_training_images(tiny):
    cfg = load_config(None, [*tiny, *WORDS, *ONLY, "SOLVER.EMA", "0.9"])
    session = build_session(cfg)
    model, data = session.module.model, build_data(cfg)
    loader = build_eval_loader(cfg, data, data.train)
    before = extract(model, loader, BEFORE, torch.device("cpu"), session.precision).double()
    torch.testing.assert_close(model.neck.running_mean.double(), before.mean(0), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model.neck.running_var.double(), before.var(0, correction=0), rtol=1e-3, atol=1e-4)
    assert torch.equal(session.trainer.average.model.neck.running_mean, model.neck.running_mean)


def test_a_trained_neck_a_resumed_run_and_training_with_labels_keep_theirs(tiny):
    with_labels = build_session(load_config(None, tiny)).module.model
    resumed = build_session(load_config(None, [*tiny, *WORDS, *ONLY]), resumed=True).module.model
    for model in (with_labels, resumed):
        assert not model.neck.running_mean.any() and (model.neck.running_var == 1).all()


def unread() -> Iterator[None]:
    """Images that must not be read."""
    raise AssertionError("the neck has statistics")
    yield


def test_statistics_of_a_file_stay_even_if_it_lacks_the_counter(tiny):
    model = build_session(load_config(None, tiny)).module.model
    model.neck.running_mean.fill_(3)
    assert not model.neck.num_batches_tracked
    start_neck(model, unread(), 1, torch.device("cpu"), torch.float32)
    assert (model.neck.running_mean == 3).all()


def test_a_model_without_neck_needs_none(tiny):
    model = build_session(load_config(None, [*tiny, *WORDS, *ONLY, "MODEL.NECK", "no"])).module.model
    start_neck(model, unread(), 1, torch.device("cpu"), torch.float32)


def test_local_branches_keep_theirs(tiny):
    model = build_session(load_config(None, [*tiny, *WORDS, *ONLY, "MODEL.JPM", "True"])).module.model
    width = model.embed_dim
    assert model.neck.running_mean[:width].any() and not model.neck.running_mean[width:].any()


def test_large_sets_are_sampled_evenly_and_shared_by_the_ranks(tiny):
    assert [stride_of_sample(count) for count in (1, 2048, 4096, 12_936)] == [1, 1, 2, 6]
    cfg = load_config(None, [*tiny, *WORDS, *ONLY])
    data = build_data(cfg)
    loader = build_train_loader(cfg, data)
    shares = [build_plain_loader(cfg, data, loader, rank=rank, num_ranks=2, stride=5).records for rank in (0, 1)]
    assert [record.path for record in shares[0]] == [record.path for record in data.train[::5][::2]]
    assert [record.path for record in shares[1]] == [record.path for record in data.train[::5][1::2]]
