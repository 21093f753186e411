"""Batches under stress: threads prepare them ahead and copy them from page-locked memory on a second stream, while their memory is reused.

The training stream is kept behind, and each batch is dropped as soon as its comparison is queued. Memory that is given
back too early is then overwritten before the comparison reads it, and the pixels are wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitreid.benchmarks.device.findings import DeviceFinding, DeviceJob, agreement
from vitreid.datasets import Batch, EvalLoader, Preprocess, Record, TrainLoader, label_map
from vitreid.datasets.augment.augment import Augment
from vitreid.datasets.loading.image_cache import CachedImages
from vitreid.datasets.loading.samplers import ShuffleSampler

SIZE, BATCH, NUM_IMAGES = (64, 32), 16, 512
LAG = 4_000_000  # clock cycles that the training stream waits before each comparison, about 2 ms
STEP = 1e-3  # far below one of 256 levels of a normalised pixel, 0.008


class Stress:
    """Images with known pixels, and their loaders.

    Args:
        epochs: times that all images are loaded.
    """

    def __init__(self, job: DeviceJob, epochs: int) -> None:
        self.job, self.epochs = job, epochs
        self.pixels = np.random.default_rng(job.seed).integers(0, 256, (NUM_IMAGES, 3, *SIZE), np.uint8)
        self.records = [Record(f"{number}.jpg", number // 4, number % 6) for number in range(NUM_IMAGES)]
        self.labels = torch.tensor([label_map(self.records)[record.pid] for record in self.records], device=job.device)
        self.everything = torch.from_numpy(self.pixels).to(job.device)
        self.preprocess = Preprocess(SIZE)
        self.expected = self.preprocess.normalise(self.everything)
        self.augment = Augment(self.preprocess, flip=0.0, padding=0, erase=0.0)

    def training_batches(self, num_workers: int) -> Iterator[Batch]:
        """Yield the batches of all epochs, which no random number changes."""
        loader = TrainLoader(
            self.records,
            CachedImages(self.pixels),
            ShuffleSampler(NUM_IMAGES, BATCH, self.job.seed),
            self.augment,
            device=self.job.device,
            num_workers=num_workers,
        )
        for epoch in range(self.epochs):
            loader.set_epoch(epoch)
            yield from loader

    def test_batches(self, num_workers: int) -> Iterator[Batch]:
        """Yield all images of all epochs, through the loader of evaluations."""
        images = CachedImages(self.pixels)
        for _ in range(self.epochs):
            yield from EvalLoader(
                self.records,
                self.preprocess,
                batch_size=BATCH,
                num_workers=num_workers,
                device=self.job.device,
                images=images,
            )

    def wrong_images(self, batches: Iterator[Batch]) -> tuple[int, int]:
        """Return the number of images that are not those of their index, or have another label, and of all images.

        Nothing in the loop waits for the GPU, so that the training stream stays behind.
        """
        wrong, count = torch.zeros((), dtype=torch.int64, device=self.job.device), 0
        for batch in batches:
            if self.job.is_gpu:
                torch.cuda._sleep(LAG)
            differs = self._differs(batch.images, batch.index)
            differs |= (batch.labels >= 0) & (batch.labels != self.labels[batch.index])  # -1 in evaluation
            wrong += differs.sum()
            count += len(batch)
            del batch, differs
        return int(wrong), count

    def _differs(self, images: Tensor, index: Tensor) -> Tensor:
        """Return (B,) whether an image has a pixel that is not that of its index."""
        return ~((images - self.expected[index]).abs() < STEP).flatten(1).all(1)  # a NaN is not below


def augmentation(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Compare batches changed by every operation with those of the CPU, for the same draws."""
    stress = Stress(job, 1)
    options: dict[str, Any] = {"jitter": 0.3, "hue": 0.1, "gray": 0.3, "local_gray": 0.5, "auto": 0.5}
    for name, augment in {
        "flip, crop, erasing": Augment(stress.preprocess, padding=4),
        "all operations": Augment(stress.preprocess, padding=4, **options),
    }.items():
        draws = augment.draw(NUM_IMAGES, torch.Generator().manual_seed(job.seed))
        found = augment.apply(stress.everything, draws).cpu()
        expected = augment.apply(torch.from_numpy(stress.pixels), draws)
        levels = 255 / 2 * (found - expected).abs()
        yield agreement(
            f"{name}: share of pixels apart by half a level or more", float((levels >= 0.5).float().mean()), 1e-3
        )
        yield DeviceFinding(f"{name}: largest difference", float(levels.max()), "of 255 levels")


def prefetch(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Compare every pixel and label of small batches, prepared by 0 to 8 threads."""
    stress = Stress(job, 2 if job.quick else 12)
    for workers in (0, 1, 4, 8):
        wrong, count = stress.wrong_images(stress.training_batches(workers))
        yield agreement(f"{workers} threads: wrong images of {count} for training", wrong, 0)
    wrong, count = stress.wrong_images(stress.test_batches(4))
    yield agreement(f"4 threads: wrong images of {count} for evaluation", wrong, 0)


def streams(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Page-locked copies, two loaders that share the second stream, and what the stress shows without `record_stream`."""
    stress = Stress(job, 2 if job.quick else 12)
    images = CachedImages(stress.pixels).read(np.arange(BATCH), pinned=True)
    yield agreement(
        "batches in ordinary memory instead of page-locked memory (1 = yes)", float(not images.is_pinned()), 0
    )
    pairs = zip(stress.training_batches(4), stress.test_batches(4), strict=True)
    wrong, count = stress.wrong_images(batch for pair in pairs for batch in pair)
    yield agreement(f"two loaders at once: wrong images of {count}", wrong, 0)
    with without_record_stream():
        wrong, count = stress.wrong_images(stress.training_batches(4))
    yield DeviceFinding(
        f"without record_stream, wrong images of {count} (0 = this stress does not reach what it is for)", wrong
    )


@contextmanager
def without_record_stream() -> Iterator[None]:
    """Leave out the mark that a batch is in use by the training stream."""
    before = Batch.record_stream
    Batch.record_stream = lambda self, stream: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Batch.record_stream = before  # type: ignore[method-assign]
