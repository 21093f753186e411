"""Records to batches, from the config's words to tensors on the device."""

import os
import shutil
import threading

import numpy as np
import pytest
import torch

from vitreid.configs import load_config
from vitreid.datasets import (
    DATASETS,
    CorruptImageError,
    EvalLoader,
    Preprocess,
    build_data,
    build_eval_loader,
    build_test_sets,
    build_train_loader,
    name_rows,
    read_image,
)
from vitreid.datasets.loading.decode import resize
from vitreid.datasets.published.catalog import PUBLISHED


@pytest.fixture
def config(people):
    """Build a config on the synthetic people: KEY VALUE words."""

    def config(*words):
        common = [
            "DATASETS.ROOT_DIR",
            str(people / "synthetic"),
            "INPUT.SIZE_TRAIN",
            "(64, 32)",
            "INPUT.SIZE_TEST",
            "(64, 32)",
        ]
        return load_config(None, [*common, "SOLVER.IMS_PER_BATCH", "16", "DATALOADER.NUM_WORKERS", "0", *words])

    return config


def epoch(loader, number=0):
    loader.set_epoch(number)
    return list(loader)


def test_a_batch_is_what_the_model_needs(config):
    cfg = config()
    data = build_data(cfg)
    loader = build_train_loader(cfg, data, data.train_cameras)
    batches = epoch(loader)
    assert len(batches) == len(loader)
    for batch in batches:
        assert (batch.images.shape, batch.images.dtype) == ((16, 3, 64, 32), torch.float32)
        records = [data.train[position] for position in batch.index]
        assert batch.labels.tolist() == [record.pid - 1 for record in records]  # pids 1..8, labels 0..7
        assert batch.camids.tolist() == [record.camid for record in records]
        assert batch.viewids.tolist() == [-1] * 16
        assert len(batch) == 16


def test_cameras_become_rows_of_the_models_table(config):
    cfg = config()
    data = build_data(cfg)
    batch = epoch(build_train_loader(cfg, data, ("elsewhere/c1", "market1501/c3")))[0]
    truth = [data.train[position].camid for position in batch.index]
    assert batch.camids.tolist() == [1 if camid == 2 else -1 for camid in truth]


def test_without_camera_names_every_camera_is_unknown(config):
    cfg = config()
    assert set(epoch(build_train_loader(cfg, build_data(cfg)))[0].camids.tolist()) == {-1}


def test_an_epoch_does_not_depend_on_what_came_before(config):
    cfg = config("INPUT.COLOR_JITTER", "0.2")
    data = build_data(cfg)
    straight, resumed = build_train_loader(cfg, data), build_train_loader(cfg, data)
    epoch(straight, 0), epoch(straight, 1)
    for one, other in zip(epoch(straight, 2), epoch(resumed, 2), strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.images, other.images)


def test_streamed_and_cached_training_are_the_same(config):
    cached, streamed = (config("DATALOADER.CACHE", value) for value in ("on", "off"))
    data = build_data(cached)
    for one, other in zip(
        epoch(build_train_loader(cached, data)), epoch(build_train_loader(streamed, data)), strict=True
    ):
        assert torch.equal(one.images, other.images)


@pytest.mark.parametrize("cache", ["on", "off"])
@pytest.mark.parametrize("workers", ["0", "3"])
def test_ranks_share_every_batch_and_get_the_very_pixels_of_a_single_process(config, cache, workers):
    cfg = config("INPUT.COLOR_JITTER", "0.2", "DATALOADER.CACHE", cache, "DATALOADER.NUM_WORKERS", workers)
    data = build_data(cfg)
    alone = epoch(build_train_loader(cfg, data, data.train_cameras), 1)
    parts = [build_train_loader(cfg, data, data.train_cameras, rank=rank, num_ranks=2) for rank in range(2)]
    assert [len(part) for part in parts] == [len(alone)] * 2
    for whole, *halves in zip(alone, *(epoch(part, 1) for part in parts), strict=True):
        for name in ("images", "labels", "camids", "viewids", "index"):
            assert torch.equal(torch.cat([getattr(half, name) for half in halves]), getattr(whole, name)), name
        for half in halves:
            assert len(half) == 8 and len(half.labels.unique()) == 2  # whole identities


@pytest.mark.parametrize("cache", ["on", "off"])
def test_an_epoch_goes_on_where_it_was_left(config, cache):
    cfg = config("DATALOADER.CACHE", cache, "DATALOADER.NUM_WORKERS", "2")
    data = build_data(cfg)
    straight, resumed = epoch(build_train_loader(cfg, data), 3), build_train_loader(cfg, data)
    resumed.set_epoch(3, first_batch=2)
    assert len(resumed) == len(straight) == 4
    for one, other in zip(resumed, straight[2:], strict=True):
        assert torch.equal(one.index, other.index) and torch.equal(one.images, other.images)
    resumed.set_epoch(3, first_batch=4)
    assert list(resumed) == []
    assert len(epoch(resumed, 3)) == 4  # from the beginning again


def test_the_number_of_threads_changes_nothing(config):
    data = build_data(config())
    loaders = [build_train_loader(config("DATALOADER.NUM_WORKERS", n), data) for n in ("0", "1", "3")]
    for batches in zip(*(epoch(loader) for loader in loaders), strict=True):
        assert all(torch.equal(batch.images, batches[0].images) for batch in batches)


@pytest.mark.parametrize(("batch", "ranks"), [("24", 4), ("16", 3), ("16", 8)])
def test_a_batch_that_does_not_divide_among_the_processes_is_an_error(config, batch, ranks):
    cfg = config("SOLVER.IMS_PER_BATCH", batch)
    with pytest.raises(ValueError, match=rf"SOLVER\.IMS_PER_BATCH.*\b{batch} .*\b{ranks} processes"):
        build_train_loader(cfg, build_data(cfg), rank=1, num_ranks=ranks)


def test_a_bad_file_stops_the_batch_it_is_in_and_threads_end(config, people, tmp_path):
    shutil.copytree(people / "synthetic", tmp_path / "synthetic")
    cfg = config(
        "DATASETS.ROOT_DIR", str(tmp_path / "synthetic"), "DATALOADER.CACHE", "off", "DATALOADER.NUM_WORKERS", "2"
    )
    data = build_data(cfg)
    loader = build_train_loader(cfg, data)
    victim = data.train[int(epoch(loader)[1].index[0])].path
    open(victim, "wb").close()
    batches, before = iter(loader), threading.active_count()
    next(batches)
    with pytest.raises(CorruptImageError, match=f"{os.path.basename(victim)}.*empty"):
        list(batches)
    assert threading.active_count() == before


def test_leaving_an_epoch_early_ends_its_threads(config):
    cfg = config("DATALOADER.NUM_WORKERS", "2")
    batches, before = iter(build_train_loader(cfg, build_data(cfg))), threading.active_count()
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_epochs_differ_in_order_and_augmentation(config):
    cfg = config()
    loader = build_train_loader(cfg, build_data(cfg))
    assert not torch.equal(epoch(loader, 0)[0].index, epoch(loader, 1)[0].index)


def test_shuffle_sampler_is_an_option(config):
    cfg = config("DATALOADER.SAMPLER", "shuffle")
    index = torch.cat([batch.index for batch in epoch(build_train_loader(cfg, build_data(cfg)))])
    assert len(index.unique()) == len(index) == 48


def test_evaluation_keeps_the_order_and_every_image(config):
    cfg = config("TEST.IMS_PER_BATCH", "5")
    data = build_data(cfg)
    loader = build_eval_loader(cfg, data, data.gallery, data.train_cameras)
    batches = list(loader)
    assert len(loader) == len(batches) == -(-len(data.gallery) // 5)
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(len(data.gallery)))
    assert torch.cat([batch.camids for batch in batches]).tolist() == [record.camid for record in data.gallery]
    assert set(torch.cat([batch.labels for batch in batches]).tolist()) == {-1}


def test_evaluation_images_are_only_resized_and_normalised(config):
    data = build_data(config())
    preprocess = Preprocess((32, 16), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    batch = next(iter(EvalLoader(data.query, preprocess, batch_size=2)))
    pixels = np.stack([resize(read_image(record.path), (32, 16)).transpose(2, 0, 1) for record in data.query[:2]])
    assert torch.equal(batch.images, preprocess.normalise(torch.from_numpy(pixels)))


def test_evaluation_needs_no_config(config):
    data = build_data(config())
    rows = name_rows(data.camera_names, data.camera_names[::-1])
    loader = EvalLoader(data.query, Preprocess((64, 32)), batch_size=100, camera_rows=rows, cache="on")
    (batch,) = loader
    assert batch.camids.tolist() == [2 - record.camid for record in data.query]
    assert torch.equal(batch.images, next(iter(loader)).images)  # a second pass


def test_validation_identities_replace_the_test_set(config):
    cfg = config("DATASETS.VAL_IDS", "3")
    full, data = build_data(config()), build_data(cfg)
    assert len({record.pid for record in data.train}) == 5
    assert {record.pid for record in data.query} < {record.pid for record in full.train}
    assert len(data.train) + len(data.query) + len(data.gallery) == len(full.train)


def test_joined_training_sets_have_one_label_range(config, people, tmp_path):
    (tmp_path / "market1501").symlink_to(people / "synthetic")
    (tmp_path / "DukeMTMC-reID").symlink_to(people / "synthetic")
    cfg = config(
        "DATASETS.ROOT_DIR",
        str(tmp_path),
        "DATASETS.NAMES",
        "('market1501', 'DukeMTMCreID')",
        "SOLVER.IMS_PER_BATCH",
        "64",
    )
    data = build_data(cfg)
    labels = torch.cat([batch.labels for batch in epoch(build_train_loader(cfg, data, data.train_cameras))])
    assert set(labels.tolist()) == set(range(16))
    assert len(data.train_cameras) == 6


@pytest.mark.parametrize(
    ("balance", "expected"), [("equal", 1 / 2), ("sqrt", 8**0.5 / (8**0.5 + 3**0.5)), ("none", 8 / 11)]
)
def test_joined_training_sets_are_balanced(config, people, tmp_path, balance, expected):
    (tmp_path / "market1501").symlink_to(people / "synthetic")
    small = tmp_path / "DukeMTMC-reID"
    shutil.copytree(people / "synthetic", small)
    for path in (small / "bounding_box_train").iterdir():
        if int(path.name[:4]) > 3:  # 3 people of 8 are left
            path.unlink()
    names = ["DATASETS.ROOT_DIR", str(tmp_path), "DATASETS.NAMES", "('market1501', 'dukemtmc')"]
    cfg = config(*names, "DATASETS.BALANCE", balance, "DATALOADER.NUM_INSTANCE", "2", "SOLVER.IMS_PER_BATCH", "8")
    loader = build_train_loader(cfg, build_data(cfg))
    seen = torch.cat([batch.labels for number in range(4) for batch in epoch(loader, number)])
    assert (seen < 8).float().mean().item() == pytest.approx(expected, abs=0.03)


def test_balance_needs_identities_in_groups(config):
    with pytest.raises(ValueError, match=r"DATASETS\.BALANCE.*equal.*DATALOADER\.SAMPLER pk.*shuffle"):
        config("DATASETS.BALANCE", "equal", "DATALOADER.SAMPLER", "shuffle")


def test_testing_reads_the_test_set_alone(config, people, tmp_path):
    (tmp_path / "market1501").symlink_to(people / "synthetic")
    cfg = config("DATASETS.ROOT_DIR", str(tmp_path), "DATASETS.NAMES", "msmt17", "DATASETS.TEST", "market1501")
    assert build_test_sets(cfg)[0].name == "market1501"


def test_no_training_images_is_an_error(config, tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "people.csv").write_text("path,pid,camid,split\na.jpg,1,1,query\na.jpg,1,2,gallery\n")
    cfg = config("DATASETS.NAMES", "manifest", "DATASETS.MANIFEST", str(tmp_path / "people.csv"))
    with pytest.raises(FileNotFoundError, match=r"DATASETS\.NAMES.*manifest.*training"):
        build_data(cfg)


def test_unknown_data_set_names_the_choices(config):
    with pytest.raises(ValueError, match=r"DATASETS\.NAMES.*'markt'.*dukemtmc, dukemtmc-video, folder"):
        build_data(config("DATASETS.NAMES", "markt"))
    with pytest.raises(ValueError, match=r"DATASETS\.TEST.*'markt'"):
        build_data(config("DATASETS.TEST", "markt"))


def test_all_data_sets_are_registered():
    assert set(DATASETS) == {*PUBLISHED, "crops", "folder", "manifest", "synthetic"}
