"""Clips: which frames of a tracklet they have, one camera each, the same for the same seed."""

from collections import Counter

import numpy as np
import pytest
import torch
from conftest import TINY
from published_trees import draw_tree

from vitreid.configs import load_config
from vitreid.datasets import build_data, build_train_loader, label_map
from vitreid.datasets.loading.clips import SAMPLINGS, Clips, chosen_frames, evenly, frame_records
from vitreid.datasets.loading.decode import read_image
from vitreid.datasets.records import Record

LENGTHS = (1, 3, 8, 100)


def tracklets(lengths=LENGTHS):
    names = [[f"{number}/{frame}.jpg" for frame in range(length)] for number, length in enumerate(lengths)]
    return [Record(own[0], pid, pid, tracklet=pid, frames=tuple(own)) for pid, own in enumerate(names)]


def drawn(sampling, number, seed=0, lengths=LENGTHS):
    """Return the frame numbers (records, number) of a clip of each tracklet."""
    clips = Clips(tracklets(lengths), number, sampling)
    places = clips.draw(np.arange(len(lengths)), np.random.default_rng(seed))
    paths = [[clips.paths[place] for place in row] for row in places]
    assert all(path.split("/")[0] == str(record) for record, row in enumerate(paths) for path in row)
    return [[int(path.split("/")[1][:-4]) for path in row] for row in paths]


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("number", [1, 4, 7])
def test_a_clip_has_frames_of_one_tracklet_in_order(sampling, number):
    for frames, length in zip(drawn(sampling, number), LENGTHS, strict=True):
        assert len(frames) == number and frames == sorted(frames) and 0 <= min(frames) <= max(frames) < length
        counts = Counter(frames).values()
        if sampling != "segments":  # whose parts may share a frame
            assert max(counts) - min(counts) <= 1 and len(counts) == min(length, number)


def test_even_frames_are_the_middles_of_equal_parts():
    assert evenly(100, 4).tolist() == [12, 37, 62, 87]
    assert evenly(3, 3).tolist() == [0, 1, 2] and evenly(5, 1).tolist() == [2]
    assert drawn("evenly", 4, seed=0) == drawn("evenly", 4, seed=1)
    assert len(Clips(tracklets(), 4, "evenly").paths) == 1 + 3 + 4 + 4  # the others are never read


@pytest.mark.parametrize("sampling", ["random", "segments"])
def test_every_frame_is_drawn_about_equally_often(sampling):
    counts = np.zeros(8)
    for seed in range(1500):
        counts[drawn(sampling, 3, seed, lengths=(8,))[0]] += 1
    expected = np.full(8, 1500 * 3 / 8)
    assert abs(counts - expected).max() < 90


def test_segments_are_drawn_one_from_each_part():
    for seed in range(50):
        frames = drawn("segments", 4, seed, lengths=(100,))[0]
        assert [frame // 25 for frame in frames] == [0, 1, 2, 3]


def test_clips_without_tracklets_are_refused():
    with pytest.raises(
        ValueError, match=r"DATALOADER\.CLIP_FRAMES: 4 frames .* no training item is a tracklet; set it to 1"
    ):
        Clips([Record("a.jpg", 0, 0)], 4, "random")


def test_an_image_among_tracklets_fills_its_clip():
    clips = Clips([*tracklets((5,)), Record("a.jpg", 1, 0)], 3, "random")
    assert [clips.paths[place] for place in clips.draw(np.array([1]), np.random.default_rng(0))[0]] == ["a.jpg"] * 3


def test_frames_for_the_test_are_spread_evenly():
    whole, some = (frame_records(tracklets((1, 3, 100)), most) for most in (0, 4))
    assert len(whole) == 104 and not any(record.frames for record in whole)
    assert [record.path for record in some] == [
        "0/0.jpg",
        "1/0.jpg",
        "1/1.jpg",
        "1/2.jpg",
        *(f"2/{n}.jpg" for n in (12, 37, 62, 87)),
    ]
    assert chosen_frames(Record("a.jpg", 0, 0), 4) == ("a.jpg",)


def loader_of(tmp_path, *words, name="mars", **options):
    draw_tree(tmp_path, name) if not any(tmp_path.iterdir()) else None
    options_of_test = ("INPUT.PROB", "0", "INPUT.PADDING", "0", "INPUT.RE_PROB", "0", "DATALOADER.CLIP_FRAMES", "2")
    cfg = load_config(
        None, [*TINY, *options_of_test, "DATASETS.NAMES", name, "DATASETS.ROOT_DIR", str(tmp_path), *words]
    )
    data = build_data(cfg)
    return data, build_train_loader(cfg, data, data.train_cameras, **options)


def batches(loader, epoch=1, first=0):
    loader.set_epoch(epoch, first)
    return list(loader)


def test_a_batch_has_p_x_k_clips_of_one_person_and_camera_each(tmp_path):
    """The pixels are those of frames of the record at the batch's index."""
    data, loader = loader_of(tmp_path)
    labels, seen = label_map(data.train), set()
    for batch in batches(loader):
        assert batch.images.shape == (32, 3, 64, 32) and len(batch) == 16 * 2
        assert sorted(Counter(batch.labels.tolist()).values()) == [8] * 4  # P = 4, K = 4 clips of two frames
        for clip in range(16):
            (place,) = set(batch.index[2 * clip : 2 * clip + 2].tolist())
            record = data.train[place]
            assert set(batch.labels[2 * clip : 2 * clip + 2].tolist()) == {labels[record.pid]}
            assert set(batch.camids[2 * clip : 2 * clip + 2].tolist()) == {record.camid}
            pictures = [torch.from_numpy(read_image(path)).permute(2, 0, 1) / 127.5 - 1 for path in record.frames]
            for image in batch.images[2 * clip : 2 * clip + 2]:
                found = [number for number, picture in enumerate(pictures) if torch.allclose(picture, image, atol=1e-5)]
                assert len(found) == 1
                seen.add((place, *found))
    assert len(seen) > len(data.train)


def test_the_same_seed_gives_the_same_clips_also_from_the_middle(tmp_path):
    _, loader = loader_of(tmp_path)
    whole = batches(loader)
    _, again = loader_of(tmp_path, "DATALOADER.NUM_WORKERS", "3", "DATALOADER.CACHE", "off")
    for one, other in zip(whole, batches(again), strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.index, other.index)
    assert torch.equal(batches(again, first=1)[0].images, whole[1].images)
    assert not torch.equal(batches(again, epoch=2)[0].images, whole[0].images)
    _, other = loader_of(tmp_path, "SOLVER.SEED", "5")
    assert not torch.equal(batches(other)[0].images, whole[0].images)


def test_ranks_share_a_batch_of_clips(tmp_path):
    _, loader = loader_of(tmp_path, "INPUT.RE_PROB", "0.5", "INPUT.PROB", "0.5")
    words = ("INPUT.RE_PROB", "0.5", "INPUT.PROB", "0.5")
    shares = [batches(loader_of(tmp_path, *words, rank=rank, num_ranks=2)[1]) for rank in (0, 1)]
    for whole, *parts in zip(batches(loader), *shares, strict=True):
        assert torch.equal(whole.images, torch.cat([part.images for part in parts]))
        assert torch.equal(whole.labels, torch.cat([part.labels for part in parts]))


def test_a_tracklet_without_clips_gives_one_of_its_frames(tmp_path):
    _, loader = loader_of(tmp_path, "DATALOADER.CLIP_FRAMES", "1")
    first = batches(loader)[0]
    assert first.images.shape[0] == 16 and first.index.shape == (16,)


@pytest.mark.parametrize("words", [("UNSUPERVISED.CLUSTERING", "dbscan"), ("LOSS.DISTILL", "teacher.safetensors")])
def test_what_embeds_every_training_image_refuses_tracklets(tmp_path, words):
    with pytest.raises(
        ValueError,
        match=rf"{words[0].replace('.', '[.]')}: {words[1]} embeds every training image, and mars has tracklets",
    ):
        loader_of(tmp_path, *words)
