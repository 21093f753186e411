"""Embeddings of frames -> embeddings of tracklets, against sums by hand."""

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY
from published_trees import draw_tree

from vitreid.configs import load_config
from vitreid.datasets import build_data
from vitreid.datasets.loading.clips import evenly
from vitreid.model import build_model
from vitreid.processor.embedding.frame_pooling import FramePooling
from vitreid.processor.scoring.evaluator import build_evaluator

COUNTS = (3, 1, 4, 2)


@pytest.mark.parametrize("size", [1, 2, 3, 10])
@pytest.mark.parametrize("views", [1, 2])
def test_a_tracklet_is_the_weighted_mean_of_its_frames_however_they_are_batched(size, views):
    generator = torch.Generator().manual_seed(views)
    frames, scores = torch.randn(10, views, 5, generator=generator), torch.randn(10, views, generator=generator)
    for normalize in (True, False):
        pool = FramePooling(COUNTS, normalize)
        found = torch.cat([pool(*part) for part in zip(frames.split(size), scores.split(size), strict=True)])
        for row, part, score in zip(found, frames.split(COUNTS), scores.split(COUNTS), strict=True):
            weights = [score[:, view].exp() / score[:, view].exp().sum() for view in range(views)]
            means = [sum(weights[view][:, None] * part[:, view]) for view in range(views)]
            if normalize:
                means = [mean / mean.norm() for mean in means]
            expected = sum(means) / views
            torch.testing.assert_close(row, F.normalize(expected, dim=0) if normalize else expected)


def evaluate(tmp_path, *words):
    cfg = load_config(None, [*TINY, "DATASETS.NAMES", "mars", "DATASETS.ROOT_DIR", str(tmp_path), *words])
    data = build_data(cfg)
    torch.manual_seed(0)
    model = build_model(cfg, data.train_cameras)
    evaluator = build_evaluator(cfg, data, model, torch.device("cpu"), torch.float32)
    return data, model.eval(), evaluator, evaluator.extract(model)


@pytest.mark.parametrize("most", [0, 2])
def test_the_evaluation_has_a_row_per_tracklet(tmp_path, most):
    """Equal to pooling the rows of an evaluation of each frame."""
    draw_tree(tmp_path, "mars")
    options = ["TEST.CLIP_FRAMES", str(most), "TEST.FEAT_NORM", "False", "TEST.IMS_PER_BATCH", "5"]
    data, model, evaluator, features = evaluate(tmp_path, *options)
    assert len(features.query) == len(data.query) and len(features.gallery) == len(data.gallery)
    images = torch.cat([batch.images for batch in evaluator.gallery])
    with torch.no_grad():
        frames = model.embed(images)
    counts = [most or len(record.frames) for record in data.gallery]
    assert len(images) == sum(counts)
    expected = torch.stack([part.mean(0) for part in frames.split(counts)])
    torch.testing.assert_close(features.gallery, expected)
    if most:
        paths = [record.frames[place] for record in data.gallery for place in evenly(len(record.frames), most)]
        assert [record.path for record in evaluator.gallery.records] == paths


def test_frames_of_mirror_images_are_pooled_on_their_own(tmp_path):
    draw_tree(tmp_path, "mars")
    _, model, evaluator, features = evaluate(tmp_path, "TEST.FLIP", "True")
    images = torch.cat([batch.images for batch in evaluator.query])
    counts = evaluator.counts[0]
    with torch.no_grad():
        sides = [
            F.normalize(torch.stack([p.mean(0) for p in model.embed(i).split(counts)]), dim=1)
            for i in (images, images.flip(-1))
        ]
    torch.testing.assert_close(features.query, F.normalize(sides[0] + sides[1], dim=1))
