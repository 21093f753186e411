"""Images without labels and labelled people of a source in one run: classes, batches, resume, what is refused."""

import csv
import signal

import numpy as np
import pytest
import torch
from helpers import at, run
from torch.nn.functional import normalize
from tqdm import tqdm
from unlabelled_runs import ONLY, SOURCE, WORDS, assert_same_run, losses, weights, write_manifest

from vitreid.configs import load_config
from vitreid.datasets import build_data, label_map
from vitreid.datasets.synthetic.dataset import SyntheticPlan, generate
from vitreid.model import load_deploy
from vitreid.processor import Stopped
from vitreid.processor.training.epoch_loop import Run
from vitreid.processor.training.run import build_session


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Other people, in another folder and under another name."""
    root = tmp_path_factory.mktemp("source")
    generate(root / "DukeMTMC-reID", SyntheticPlan(10, 2, 0, num_cameras=2, images_per_camera=2, size=(64, 32), seed=5))
    return root


@pytest.fixture
def words(tiny, source):
    return [*tiny, *WORDS, "UNSUPERVISED.SOURCE", "dukemtmc", "UNSUPERVISED.SOURCE_DIR", str(source)]


def test_the_people_of_the_source_are_the_first_classes(words):
    data = build_data(load_config(None, words))
    assert (len(data.target), len(data.source), data.num_source) == (48, 40, 40)
    assert {data.camera_names[record.camid] for record in data.source} == {"dukemtmc/c1", "dukemtmc/c2"}
    assert not {record.pid for record in data.target} & {record.pid for record in data.source}
    session = build_session(load_config(None, words))
    labels, loss = session.pseudo_labels, session.module.loss
    features = labels.embed(session.module.model)
    found = labels.find(session.module.model, 0)
    labels.adopt(found, session.trainer.optimizers)
    people = label_map(data.source)
    assert len(people) == 10 and len(found.groups) == 48 and len(found.labels) == 88
    assert found.labels[48:].tolist() == [people[record.pid] for record in data.source]
    np.testing.assert_array_equal(found.labels[:48], np.where(found.groups >= 0, found.groups + 10, -1))
    assert loss.num_classes == 10 + found.figures.clusters == len(loss.clusters.centroids)
    of_seven = torch.from_numpy(found.labels == 7)
    torch.testing.assert_close(loss.clusters.centroids[7], normalize(features[of_seven].mean(0), dim=0))


@pytest.mark.parametrize(
    "more", [[], ["UNSUPERVISED.PROXIES", "camera", *ONLY], ["UNSUPERVISED.OUTLIERS", "instances"]]
)
def test_batches_have_both_halves_and_their_classes(words, more):
    session = build_session(load_config(None, [*words, *more]))
    labels = session.pseudo_labels
    labels.adopt(labels.find(session.module.model, 0), session.trainer.optimizers)
    assert len(session.trainer.loader) == 48 // 8
    session.trainer.loader.set_epoch(1)
    for batch in session.trainer.loader:
        is_source = batch.index >= 48
        assert is_source.tolist() == [False] * 4 + [True] * 4 + [False] * 4 + [True] * 4
        assert (batch.labels[is_source] < 10).all() and (batch.labels[~is_source] >= 10).all()
    means = session.trainer.train_epoch(1, tqdm(disable=True))
    assert np.isfinite(means["cluster"])


def test_clusters_and_figures_are_of_the_target_alone(words, tmp_path, caplog):
    run(words)
    folder = tmp_path / "run"
    with (folder / "clusters.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 48
    assert "48 training images without labels" not in caplog.text
    assert "88 training images without labels or of 10 known people (40 images)" in caplog.text
    names = [one["name"] for one in load_deploy(folder / "best.safetensors")[1]["provenance"]["data"]]
    assert names == ["market1501", "dukemtmc"]


def test_labels_of_the_target_change_nothing(words, tmp_path):
    for name, with_pids in (("known", True), ("hidden", False)):
        run([*words, *write_manifest(words, tmp_path / f"{name}.csv", with_pids), *at(tmp_path / name)])
    known, hidden = (tmp_path / name for name in ("known", "hidden"))
    assert losses(known) == losses(hidden)
    assert all(torch.equal(value, weights(hidden)[name]) for name, value in weights(known).items())


@pytest.mark.parametrize("more", [["UNSUPERVISED.OUTLIERS", "instances"], ["UNSUPERVISED.PROXIES", "camera", *ONLY]])
def test_a_resumed_run_is_the_whole_one(words, tmp_path, more, monkeypatch):
    words = [*words, *more, "SOLVER.MAX_EPOCHS", "3", "UNSUPERVISED.ITERATIONS", "3", "UNSUPERVISED.PERIOD", "2"]
    run([*words, *at(tmp_path / "whole")])
    stopped = [*words, *at(tmp_path / "stopped")]
    with monkeypatch.context() as patch:

        def asked(self):
            return (self.trainer.progress.epoch, self.trainer.progress.batches) == (2, 1)

        patch.setattr(Run, "should_stop", lambda self: asked(self) and not self.signals._handle(signal.SIGTERM, None))
        with pytest.raises(Stopped):
            run(stopped, "auto")
    run(stopped, "auto")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_other_people_of_the_source_are_not_resumed(words, tmp_path, source):
    """A file of a person of the source that now is another one's."""
    manifest = tmp_path / "source.csv"
    train = build_data(load_config(None, words)).source

    def write(move):
        pids = [record.pid for record in train]
        pids[0] = pids[-1] if move else pids[0]
        manifest.write_text(
            "\n".join(["path,pid,camid,split", *(f"{r.path},{p},c{r.camid},train" for r, p in zip(train, pids))])
        )

    words = [*words, "UNSUPERVISED.SOURCE", "manifest", "DATASETS.MANIFEST", str(manifest), "SOLVER.MAX_EPOCHS", "1"]
    write(move=False)
    run(words)
    write(move=True)
    with pytest.raises(ValueError, match=r"--resume: .*other training images"):
        run(words, "auto")


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["UNSUPERVISED.CLUSTERING", "none"], r"UNSUPERVISED\.SOURCE: dukemtmc .*UNSUPERVISED\.CLUSTERING"),
        (["SOLVER.IMS_PER_BATCH", "12"], r"SOLVER\.IMS_PER_BATCH: 12 images are 3 groups.*take 16"),
        (["UNSUPERVISED.SOURCE", "market1501"], r"UNSUPERVISED\.SOURCE: market1501 is in DATASETS\.NAMES too"),
        (["UNSUPERVISED.SOURCE", "market1500"], r"UNSUPERVISED\.SOURCE: unknown data set 'market1500'"),
        (["UNSUPERVISED.SOURCE", "msmt17"], r"UNSUPERVISED\.SOURCE_DIR: .*msmt17"),
        (["UNSUPERVISED.SOURCE", "crops"], r"UNSUPERVISED\.SOURCE: crops has .* unknown people"),
    ],
)
def test_a_source_that_does_not_fit_is_refused(words, more, named):
    with pytest.raises((ValueError, FileNotFoundError), match=named):
        build_data(load_config(None, [*words, *more]))


@pytest.mark.slow
def test_people_that_nobody_named_are_learnt_next_to_known_ones(tiny, tmp_path):
    """From a model of the source's people, with these in every batch: far better on the target's people than it was."""
    plans = {"source": (60, 4, 3, 11), "target": (30, 20, 4, 12)}
    for name, (train, test, images, seed) in plans.items():
        plan = SyntheticPlan(train, test, 0, num_cameras=2, images_per_camera=images, size=(64, 32), seed=seed)
        generate(tmp_path / name / "DukeMTMC-reID", plan)
    first = [*tiny, *SOURCE, "DATASETS.ROOT_DIR", str(tmp_path / "source" / "DukeMTMC-reID"), *at(tmp_path / "first")]
    run([*first, "SOLVER.BASE_LR", "0.002"])
    start = ["MODEL.PRETRAIN_CHOICE", "self", "MODEL.PRETRAIN_PATH", str(tmp_path / "first" / "best.safetensors")]
    target = [*tiny, *SOURCE, *start, *WORDS, *ONLY, "DATASETS.ROOT_DIR", str(tmp_path / "target" / "DukeMTMC-reID")]
    before = run([*target, "SOLVER.BASE_LR", "0", "SOLVER.MAX_EPOCHS", "1", *at(tmp_path / "zero")]).mAP
    joint = ["UNSUPERVISED.SOURCE", "dukemtmc", "UNSUPERVISED.SOURCE_DIR", str(tmp_path / "source")]
    more = ["UNSUPERVISED.K1", "8", "UNSUPERVISED.ITERATIONS", "12", "SOLVER.BASE_LR", "0.001"]
    after = run([*target, *joint, *more]).mAP
    assert after > 1.5 * before, (before, after)
