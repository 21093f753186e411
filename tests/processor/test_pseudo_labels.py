"""Training without labels: rounds, their figures, what is written, resume, and that labels are not used."""

import csv
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from helpers import at, rows, run, run_tool
from torch.nn.functional import normalize
from tqdm import tqdm
from unlabelled_runs import ONLY, SOURCE, WORDS, assert_same_run, losses, rounds, weights, write_manifest

from vitreid.configs import OPTIONS, load_config
from vitreid.datasets import Record, build_data
from vitreid.datasets.records import TIME, Moment
from vitreid.datasets.synthetic.dataset import SyntheticPlan, generate
from vitreid.evaluation.clustering.average_linkage import Constraints
from vitreid.evaluation.clustering.cluster_figures import compare_with_labels
from vitreid.evaluation.clustering.jaccard_graph import SimilarPairs
from vitreid.evaluation.clustering.person_pairs import LEAST
from vitreid.evaluation.clustering.transit_times import MOST_WEIGHT, TIME_WEIGHT
from vitreid.evaluation.postprocess.whitening import whiten
from vitreid.evaluation.reranking import neighbour_lists
from vitreid.model import load_deploy
from vitreid.processor import Stopped
from vitreid.processor.pseudo_labels.clusterings import (
    CLUSTERINGS,
    EPS,
    Clusters,
    PriorKnowledge,
    build_knowledge,
    camera_norm_for,
    cluster_by_density,
    cluster_by_linkage,
    cluster_images,
)
from vitreid.processor.pseudo_labels.pseudo_labels import class_means
from vitreid.processor.pseudo_labels.round_figures import best_round, measure_round, singled
from vitreid.processor.pseudo_labels.tracklet_links import sightings_of, tracklet_links
from vitreid.processor.runs.checkpoint import load_last
from vitreid.processor.training.epoch_loop import Run
from vitreid.processor.training.run import build_session
from vitreid.tools import report as report_tool


@pytest.fixture
def words(tiny):
    return [*tiny, *WORDS]


def test_a_round_before_each_epoch_and_one_at_the_end(words, tmp_path, caplog):
    run(words)
    folder = tmp_path / "run"
    table = rounds(folder)
    assert [row["epoch"] for row in table] == ["0", "1", "2"]
    assert table[0]["change"] == "" and 0 <= float(table[1]["change"]) <= 1
    assert all(0 <= float(row["f1"]) <= 1 and 0 <= float(row["nmi"]) <= 1 for row in table)
    assert {"cluster", "id", "triplet", "accuracy", "mAP"} <= set(rows(folder)[0])
    assert len(re.findall(r"round \d after epoch \d: ", caplog.text)) == 3
    assert "chosen without labels: round" in caplog.text and "48 training images without labels" in caplog.text


def test_the_best_file_is_that_of_the_best_score(words, tmp_path):
    run([*words, "SOLVER.MAX_EPOCHS", "4"])
    table = rounds(tmp_path / "run")
    scores = [float(row["score"]) for row in table[1:]]
    metrics = load_deploy(tmp_path / "run" / "best.safetensors")[1]["metrics"]
    assert metrics["epoch"] == 1 + scores.index(max(scores))
    assert metrics["score"] == pytest.approx(max(scores), rel=1e-4)


def test_the_last_clusters_are_a_manifest_for_training_with_labels(words, tmp_path):
    run(words)
    table = rounds(tmp_path / "run")[-1]
    data = build_data(
        load_config(None, ["DATASETS.NAMES", "manifest", "DATASETS.MANIFEST", str(tmp_path / "run" / "clusters.csv")])
    )
    assert len({record.pid for record in data.train}) == int(table["clusters"])
    assert len(data.train) == 48 - int(table["outliers"])
    assert data.camera_names == ("market1501/c1", "market1501/c2", "market1501/c3")


@pytest.mark.parametrize("outliers", ["drop", "instances"])
def test_labels_change_nothing_but_the_figures_about_them(words, tmp_path, outliers):
    """The same images with and without pids: the same clusters, losses and weights."""
    for name, with_pids in (("known", True), ("hidden", False)):
        manifest = write_manifest(words, tmp_path / f"{name}.csv", with_pids)
        run([*words, *manifest, *at(tmp_path / name), "UNSUPERVISED.OUTLIERS", outliers])
    known, hidden = (tmp_path / name for name in ("known", "hidden"))
    judged = {"precision", "recall", "f1", "nmi"}
    assert all(row[name] == "" for row in rounds(hidden) for name in judged)
    assert all(row[name] != "" for row in rounds(known) for name in judged)
    sides = [
        [{k: v for k, v in row.items() if k not in judged} for row in rounds(folder)] for folder in (known, hidden)
    ]
    assert sides[0] == sides[1] and losses(known) == losses(hidden)
    assert all(torch.equal(value, weights(hidden)[name]) for name, value in weights(known).items())


def test_a_folder_of_crops_needs_no_test_set(words, people, tmp_path):
    crops = people / "synthetic" / "bounding_box_train"
    run([*words, "DATASETS.NAMES", "crops", "DATASETS.ROOT_DIR", str(crops)])
    folder = tmp_path / "run"
    assert {"config.yml", "last.pth", "best.safetensors", "rounds.csv", "clusters.csv"} <= {
        path.name for path in folder.iterdir()
    }
    assert "mAP" not in rows(folder)[-1] and rounds(folder)[0]["f1"] == ""


@pytest.mark.parametrize(
    "more",
    [
        ["SOLVER.EMA", "0.9"],
        ["UNSUPERVISED.PERIOD", "2", "UNSUPERVISED.OUTLIERS", "instances"],
        ["UNSUPERVISED.PERIOD", "2", "UNSUPERVISED.PROXIES", "camera"],
    ],
)
def test_a_resumed_run_has_the_same_clusters_and_losses(words, tmp_path, more, monkeypatch):
    """Stopped inside an epoch, between rounds: last.pth holds clusters and centroids."""
    words = [*words, *more, "SOLVER.MAX_EPOCHS", "4", "UNSUPERVISED.ITERATIONS", "4", "MODEL.DROP_OUT", "0.1"]
    run([*words, *at(tmp_path / "whole")])
    stopped = [*words, *at(tmp_path / "stopped")]
    for epoch, batches in ((2, 3), (3, 1)):
        with monkeypatch.context() as patch:

            def asked(self, epoch=epoch, batches=batches):
                return (self.trainer.progress.epoch, self.trainer.progress.batches) == (epoch, batches)

            patch.setattr(
                Run, "should_stop", lambda self: asked(self) and not self.signals._handle(signal.SIGTERM, None)
            )
            with pytest.raises(Stopped):
                run(stopped, "auto")
    run(stopped, "auto")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_a_signal_in_a_round_leaves_the_clusters_before_it(words, tmp_path, monkeypatch):
    words = [*words, "SOLVER.MAX_EPOCHS", "3", "SOLVER.CHECKPOINT_PERIOD", "3"]
    run([*words, *at(tmp_path / "whole")])
    stopped = [*words, *at(tmp_path / "stopped")]
    with monkeypatch.context() as patch:

        def killed(clusters, before, *args, epoch, **options):
            if epoch == 2:
                signal.raise_signal(signal.SIGTERM)
            return measure_round(clusters, before, *args, epoch=epoch, **options)

        patch.setattr("vitreid.processor.pseudo_labels.pseudo_labels.measure_round", killed)
        with pytest.raises(Stopped):
            run(stopped)
    state = load_last(tmp_path / "stopped" / "last.pth")
    assert state["epoch"] == 2 and [one["epoch"] for one in state["pseudo_labels"]["rounds"]] == [0, 1]
    run(stopped, "auto")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize("proxies", ["none", "camera"])
def test_micro_batches_have_the_losses_of_whole_batches(words, tmp_path, proxies):
    words = [*words, *ONLY, "MODEL.DROP_PATH", "0.0", "UNSUPERVISED.PROXIES", proxies]
    run([*words, *at(tmp_path / "whole")])
    run([*words, *at(tmp_path / "pieces"), "SOLVER.MICRO_BATCH", "5"])
    whole, pieces = (rows(tmp_path / name) for name in ("whole", "pieces"))
    assert [row["cluster"] for row in pieces] == pytest.approx([row["cluster"] for row in whole], rel=1e-4)


@pytest.mark.parametrize("outliers", ["drop", "instances"])
def test_proxies_are_the_means_of_a_cluster_in_a_camera(words, outliers):
    words = [*words, *ONLY, "UNSUPERVISED.PROXIES", "camera", "UNSUPERVISED.OUTLIERS", outliers]
    session = build_session(load_config(None, words))
    labels, memory = session.pseudo_labels, session.module.loss.clusters
    features = labels.embed(session.module.model)
    found = labels.find(session.module.model, 0)
    labels.adopt(found, session.trainer.optimizers)
    cameras = np.array([record.camid for record in labels.records])
    known = found.labels >= 0
    assert known.all() == (outliers == "instances") and ((memory.of_image.numpy() >= 0) == known).all()
    for image in np.flatnonzero(known):
        same = (found.labels == found.labels[image]) & (cameras == cameras[image])
        mean = torch.nn.functional.normalize(features[torch.from_numpy(same)].mean(0), dim=0)
        torch.testing.assert_close(memory.centroids[memory.of_image[image]], mean)
    session.trainer.train_epoch(1, tqdm(disable=True))
    assert not torch.equal(memory.centroids, torch.from_numpy(found.split.means))


def test_training_stops_when_rounds_bring_no_better_score(words, tmp_path, caplog):
    words = [*words, "SOLVER.MAX_EPOCHS", "6", "SOLVER.BASE_LR", "0.0", "UNSUPERVISED.PATIENCE", "2"]
    run([*words, "MODEL.NECK", "no"])  # nothing changes
    assert "stopped early: 2 rounds brought no better score than round 2 (UNSUPERVISED.PATIENCE 2)" in caplog.text
    assert [row["epoch"] for row in rounds(tmp_path / "run")] == ["0", "1", "2", "3"]
    assert len(rows(tmp_path / "run")) == 3


def test_clusters_of_other_images_are_refused(words, tmp_path):
    manifest = tmp_path / "people.csv"
    words = [*words, *write_manifest(words, manifest, with_pids=True)]
    run([*words, "SOLVER.MAX_EPOCHS", "1"])
    write_manifest(words, manifest, with_pids=False)
    run(words, "auto")  # the same images
    manifest.write_text("\n".join(line for line in manifest.read_text().splitlines() if "0001_c1" not in line))
    with pytest.raises(ValueError, match=r"--resume: .*other training images"):
        run([*words, "SOLVER.MAX_EPOCHS", "3"], "auto")


@pytest.mark.parametrize("first", [True, False])
def test_a_run_with_labels_and_one_without_do_not_continue_each_other(tiny, words, first):
    run([*(words if first else tiny), "SOLVER.MAX_EPOCHS", "1"])
    with pytest.raises(ValueError, match=r"--resume: .*UNSUPERVISED\.CLUSTERING"):
        run(tiny if first else words, "auto")


def test_too_few_clusters_are_an_error_with_a_remedy(words):
    with pytest.raises(
        ValueError, match=r"UNSUPERVISED\.EPS: after 0 epochs the 48 .* make 0 clusters, 48 .*PRETRAIN_PATH"
    ):
        run([*words, "UNSUPERVISED.EPS", "0.01"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DATASETS.VAL_IDS", "2"),
        ("DATALOADER.SAMPLER", "shuffle"),
        ("DATASETS.BALANCE", "equal"),
        ("LOSS.CENTER_WEIGHT", "0.0005"),
        ("LOSS.MEMORY", "64"),
    ],
)
def test_what_needs_people_is_refused(words, key, value):
    with pytest.raises(ValueError, match=rf"{key}: {value} .*UNSUPERVISED\.CLUSTERING dbscan set it to"):
        load_config(None, [*words, key, value])


def test_a_classifier_from_centroids_needs_one_branch(words):
    with pytest.raises(ValueError, match=r"LOSS\.ID: softmax .*MODEL\.JPM"):
        load_config(None, [*words, "MODEL.JPM", "True"])
    load_config(None, [*words, "MODEL.JPM", "True", "LOSS.ID", "none"])


def test_a_loss_is_needed(words):
    with pytest.raises(ValueError, match=r"LOSS\.ID and LOSS\.METRIC are both none"):
        load_config(None, [*words, *ONLY, "UNSUPERVISED.WEIGHT", "0"])


def test_a_camera_norm_that_was_asked_for_needs_images(words):
    with pytest.raises(ValueError, match=r"UNSUPERVISED\.CAMERA_NORM: .*100 images.*market1501/c1 \(16\)"):
        build_session(load_config(None, [*words, "UNSUPERVISED.CAMERA_NORM", "full"]))


def test_the_camera_norm_is_on_where_all_of_several_cameras_have_enough_images():
    many = np.repeat(["a", "b"], [100, 120])
    assert camera_norm_for(many, "auto") == "full" and camera_norm_for(many, "mean") == "mean"
    assert camera_norm_for(many[1:], "auto") == "none" == camera_norm_for(np.repeat("a", 500), "auto")


@pytest.mark.parametrize("name", CLUSTERINGS)
def test_each_clustering_finds_people_that_are_apart(words, name):
    labels = np.repeat(np.arange(10), 6)
    generator = np.random.default_rng(0)
    features = np.eye(16)[labels] + 0.05 * generator.normal(size=(60, 16))
    cluster = CLUSTERINGS[name](load_config(None, [*words, "UNSUPERVISED.CLUSTERING", name]))
    features = torch.from_numpy(features).float()
    np.testing.assert_array_equal(cluster(features, PriorKnowledge.nothing(60)).groups, labels)
    links = replace(Constraints.none(60), together=np.array([[0, 6], [0, 0]]))
    joined = cluster(features, PriorKnowledge(links, np.ones(60, bool))).groups
    assert joined[0] == joined[6] and (joined >= 0).all()


def test_tracklets_come_from_the_manifest_and_stay_together(words, tmp_path):
    manifest = tmp_path / "people.csv"
    words = [*words, *write_manifest(words, manifest, with_pids=False)]
    head, *lines = manifest.read_text().splitlines()
    tracks = [f"{line},{line.split('_c')[0][-4:]}" if ",train" in line else f"{line}," for line in lines]
    manifest.write_text("\n".join([f"{head},tracklet", *tracks]))
    more = ["SOLVER.MAX_EPOCHS", "1", "UNSUPERVISED.EPS", "0.4"]  # random weights
    for name, value in (("together", "True"), ("apart", "False")):
        run([*words, *more, *at(tmp_path / name), "UNSUPERVISED.TRACKLETS", value])
    data = build_data(load_config(None, words))
    with (tmp_path / "together" / "clusters.csv").open() as file:
        pids = [row["pid"] for row in csv.DictReader(file)]
    of_track = {}
    for record, pid in zip(data.train, pids, strict=True):
        of_track.setdefault(record.tracklet, set()).add(pid)
    assert len(of_track) == 24 and all(len(found) == 1 for found in of_track.values())
    assert rounds(tmp_path / "together") != rounds(tmp_path / "apart")


@pytest.mark.parametrize("name", CLUSTERINGS)
def test_no_clustering_joins_images_that_were_seen_at_once(words, name):
    labels = np.repeat(np.arange(10), 6)
    features = np.eye(16)[labels] + 0.05 * np.random.default_rng(0).normal(size=(60, 16))
    cluster = CLUSTERINGS[name](load_config(None, [*words, "UNSUPERVISED.CLUSTERING", name]))
    apart = replace(Constraints.none(60), together=np.array([[0, 1]]), apart=np.array([[0, 5], [6, 18]]))
    groups = cluster(torch.from_numpy(features).float(), PriorKnowledge(apart, np.zeros(60, bool))).groups
    assert groups[0] == groups[1] != groups[5]
    np.testing.assert_array_equal(groups[6:] - groups[6], labels[6:] - 1)


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_tracklets_that_a_camera_saw_at_once_are_two_people(words, tmp_path, clustering, caplog):
    """Each image, a tracklet, is taken at another time but two of a camera; with one clustering of all images in few clusters."""
    manifest = tmp_path / "people.csv"
    words = [*words, *write_manifest(words, manifest, with_pids=False), "SOLVER.MAX_EPOCHS", "1"]
    head, *lines = manifest.read_text().splitlines()
    times = [f"{line},{3600 * (number // 2)},{number}" for number, line in enumerate(sorted(lines))]
    manifest.write_text("\n".join([f"{head},time,tracklet", *times]))
    words = [*words, "UNSUPERVISED.CLUSTERING", clustering, "UNSUPERVISED.EPS", "0.9"]
    for name, value in (("held", "True"), ("not", "False")):
        run([*words, *at(tmp_path / name), "UNSUPERVISED.CANNOT_LINKS", value])
    moments = [(record.camid, record.moment) for record in build_data(load_config(None, words)).train]
    pairs = [(a, b) for b in range(48) for a in range(b) if moments[a] == moments[b]]
    assert len(pairs) > 10 and f"{len(pairs)} pairs of tracklets or images were seen at once" in caplog.text
    joined = {}
    for name in ("held", "not"):
        with (tmp_path / name / "clusters.csv").open() as file:
            pids = [row["pid"] for row in csv.DictReader(file)]
        joined[name] = sum(pids[a] == pids[b] != "-1" for a, b in pairs)
    assert joined["held"] == 0 < joined["not"]


def test_links_of_tracklets_can_be_seen_by_eye():
    moments = [Moment("lobby", frame, frame) for frame in (0, 40, 20, 60, 40)]
    records = [Record(str(row), -1, 0, tracklet=row // 2, moment=moment) for row, moment in enumerate(moments)]
    records.append(Record("5", -1, 0, moment=Moment("yard", 20, 20)))
    found = tracklet_links(records)
    assert found.together.tolist() == [[0, 1], [2, 3]]
    assert found.apart.tolist() == [[0, 2], [2, 4]]  # 0-40 and 20-60 overlap, 40 is in 20-60 only
    alone = tracklet_links(records, together=False)
    assert alone.together.tolist() == [] and alone.apart.tolist() == [[1, 4]]
    assert tracklet_links(records, apart=False).apart.tolist() == []


def test_images_of_one_moment_that_look_alike_may_be_one_person():
    """Of two images without a tracklet; of tracklets they may not."""
    features = normalize(torch.randn(12, 8, generator=torch.Generator().manual_seed(0))).repeat_interleave(4, 0)
    apart = np.array([[0, 1], [0, 4]])
    constraints = replace(Constraints.none(48), apart=apart)
    for cluster in (
        partial(cluster_by_linkage, k1=5, k2=2, eps=0.0),
        partial(cluster_by_density, k1=5, k2=2, eps=0.0, min_samples=2),
    ):
        single, tracklets = (
            cluster(features, PriorKnowledge(constraints, np.full(48, alone))).groups for alone in (True, False)
        )
        assert single[0] == single[1] != single[4] and tracklets[0] != tracklets[1]


def test_the_times_between_cameras_count(caplog):
    rng, person = np.random.default_rng(0), np.repeat(np.arange(40), 9)
    rows = torch.from_numpy(rng.standard_normal((40, 8))[person] + 0.9 * rng.standard_normal((360, 8))).float()
    camera, start = np.arange(360) % 9 // 3, rng.uniform(0, 7200, 40)[person]
    moments = (Moment(TIME, when, when) for when in (start + 60 * camera + np.arange(360) % 3).tolist())
    records = [Record(str(i), -1, int(camera[i]), moment=moment) for i, moment in enumerate(moments)]
    figures = {}
    for weight in ("0", "0.1"):
        with caplog.at_level("INFO"):
            known = build_knowledge(load_config(None, ["UNSUPERVISED.TIME_WEIGHT", weight]), records)
        for name, cluster in (("linkage", cluster_by_linkage), ("dbscan", partial(cluster_by_density, min_samples=2))):
            groups = cluster(normalize(rows), known, k1=10, k2=3, eps=0.0).groups
            figures[name, weight] = compare_with_labels(person, singled(groups)).f1
    assert "times of 360 images count" in caplog.text
    assert figures["linkage", "0.1"] > figures["linkage", "0"] + 0.1
    assert figures["dbscan", "0.1"] > figures["dbscan", "0"] + 0.1


def test_very_many_images_are_compared_by_lists(monkeypatch):
    rows, known, asked = torch.randn(50, 8), PriorKnowledge.nothing(50), []
    exact = known.near(rows).find(5)
    monkeypatch.setattr(neighbour_lists, "EXACT_CROPS", 49)
    monkeypatch.setattr(neighbour_lists, "neighbours_by_lists", lambda *given: asked.append(given) or exact)
    assert known.near(rows).find(5) is exact and asked == [(rows, 5)]


def test_the_options_say_the_values_that_the_code_takes():
    assert f"0 = {EPS:g} [Cluster Contrast] or {1 - LEAST:g}" in OPTIONS["UNSUPERVISED.EPS"].help
    weight = OPTIONS["UNSUPERVISED.TIME_WEIGHT"]
    assert (weight.default, weight.at_most) == (TIME_WEIGHT, MOST_WEIGHT)


def test_frames_of_recordings_are_no_time():
    records = [Record("0", -1, 0, moment=Moment("lobby", 5, 5)), Record("1", -1, 0)]
    assert sightings_of(records) is None
    records.append(Record("2", -1, 3, moment=Moment(TIME, 5, 9)))
    found = sightings_of(records)
    assert found.cameras.tolist() == [0, 0, 3] and found.num_known == 1 and found.times[2] == 7


def test_times_are_compared_within_a_camera():
    records = [Record(str(row), -1, camera, moment=Moment(TIME, 5, 9)) for row, camera in enumerate((0, 1, 0))]
    assert tracklet_links(records).apart.tolist() == [[0, 2]]


@pytest.mark.parametrize(("rows", "power", "is_whitened"), [(40, 0.5, True), (39, 0.5, False), (40, 0.0, False)])
def test_embeddings_are_whitened_where_there_are_ten_images_per_feature(rows, power, is_whitened):
    features, given = torch.randn(rows, 4, generator=torch.Generator().manual_seed(0)), []

    def cluster(embeddings):
        given.append(embeddings)
        return Clusters(np.zeros(len(embeddings), np.int64), SimilarPairs(*(np.zeros(0) for _ in range(3))))

    cluster_images(features, cluster, np.zeros(rows), "none", power, 2, torch.device("cpu"))
    assert torch.equal(given[0], whiten(features, power) if is_whitened else features)


def test_figures_of_a_round_can_be_counted_by_eye():
    groups = np.array([0, 0, 1, 1, 1, -1])
    pairs = SimilarPairs(np.array([0, 2, 2, 3]), np.array([1, 3, 4, 4]), np.ones(4, np.float32))
    before = np.array([0, 0, 1, 1, -1, -1])
    cameras, pids = np.array([0, 0, 0, 1, 1, 1]), np.array([5, 5, 6, 6, 7, -1])
    found = measure_round(Clusters(groups, pairs), before, cameras, pids, number=2, epoch=1, seconds=0.5)
    assert (found.clusters, found.outliers, found.one_camera, found.mean_size) == (2, 1, 1, 2.5)
    assert found.change == pytest.approx(1 - 2 * (2 / 2) * (2 / 4) / (2 / 2 + 2 / 4))  # 2 of 2, and of 4 pairs
    assert found.score == pytest.approx(5 / 6)  # all in clusters fit perfectly
    assert (found.precision, found.recall) == (2 / 4, 1)
    assert "pairwise F 66.7%" in found.line and best_round([found]) is found


def test_class_means_leave_outliers_out():
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0], [9.0, 9.0]])
    assert class_means(features, np.array([1, 1, 0, -1])).tolist() == [[0, 5], [2, 0]]


KILLED = """
import os, signal, sys
from vitreid.configs import load_config
from vitreid.processor.pseudo_labels import pseudo_labels
from vitreid.processor.training import epoch_loop, run, trainer

place, name, deadly, *words = sys.argv[1:]
holder = {"pseudo_labels": pseudo_labels, "epoch_loop": epoch_loop, "trainer": trainer.Trainer}[place]
call, calls = getattr(holder, name), 0

def counted(*args, **options):
    global calls
    calls += 1
    if calls == int(deadly):
        os.kill(os.getpid(), signal.SIGKILL)
    return call(*args, **options)

setattr(holder, name, counted)
run.train(load_config(None, words))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "name", "call"),
    [
        ("pseudo_labels", "measure_round", 2),  # while the images are clustered
        ("epoch_loop", "save_deploy", 1),  # before best.safetensors of the round is written
        ("pseudo_labels", "write_rounds", 2),  # after that, before its figures are
        ("pseudo_labels", "write_csv", 3),  # in the round after the last epoch, before its clusters are
        ("trainer", "step", 5),  # inside an epoch
    ],
)
def test_a_killed_run_resumes_to_the_same_clusters_and_losses(words, tmp_path, place, name, call):
    words = [*words, "SOLVER.BASE_LR", "0.002", "SOLVER.CHECKPOINT_STEPS", "1"]
    run([*words, *at(tmp_path / "whole")])
    killed = [*words, *at(tmp_path / "killed")]
    command = [sys.executable, "-c", KILLED, place, name, str(call), *killed]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    run(killed, "auto")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_people_that_nobody_named_are_learnt(tiny, tmp_path):
    """From a model of other people: far better on new people than it was, without their names."""
    plans = {"source": (60, 4, 3, 11), "target": (30, 20, 4, 12)}
    for name, (train, test, images, seed) in plans.items():
        plan = SyntheticPlan(train, test, 0, num_cameras=2, images_per_camera=images, size=(64, 32), seed=seed)
        generate(tmp_path / name / "synthetic", plan)
    source = [*tiny, *SOURCE, "DATASETS.ROOT_DIR", str(tmp_path / "source" / "synthetic"), *at(tmp_path / "first")]
    run([*source, "SOLVER.BASE_LR", "0.002"])
    start = ["MODEL.PRETRAIN_CHOICE", "self", "MODEL.PRETRAIN_PATH", str(tmp_path / "first" / "best.safetensors")]
    target = [*tiny, *SOURCE, *start, "DATASETS.ROOT_DIR", str(tmp_path / "target" / "synthetic")]
    before = run([*target, *WORDS, *ONLY, "SOLVER.BASE_LR", "0", "SOLVER.MAX_EPOCHS", "1", *at(tmp_path / "zero")]).mAP
    hidden = write_manifest(target, tmp_path / "hidden.csv", with_pids=False)
    more = ["UNSUPERVISED.K1", "8", "UNSUPERVISED.ITERATIONS", "12", "SOLVER.BASE_LR", "0.001"]
    after = run([*target, *hidden, *WORDS, *ONLY, *more]).mAP
    assert after > 2 * before, (before, after)


def test_a_run_without_a_test_set_has_a_report(words, people, tmp_path, caplog):
    crops = people / "synthetic" / "bounding_box_train"
    run_tool([*words, "DATASETS.NAMES", "crops", "DATASETS.ROOT_DIR", str(crops), "SOLVER.MAX_EPOCHS", "1"])
    assert report_tool.main([str(tmp_path / "run"), "--no-model"]) == 0
    assert "there is no test set" in (tmp_path / "run" / "report.html").read_text()
