"""A new neck starts from the training images, so that the first centroids fit the batches that are compared with them."""

import torch
from unlabelled_runs import ONLY, WORDS

from vitreid.configs import load_config
from vitreid.datasets import build_data, build_eval_loader
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
    with_labels.neck.num_batches_tracked += 1
    start_neck(with_labels, [], 0, torch.device("cpu"), torch.float32)
    assert not with_labels.neck.running_mean.any()


def test_large_sets_are_sampled_evenly():
    assert [stride_of_sample(count) for count in (1, 2048, 4096, 12_936)] == [1, 1, 2, 6]
