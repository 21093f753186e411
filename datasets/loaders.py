"""Records to batches on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .augment import Augment
from .batch import Batch, Preprocess
from .records import Record, label_map
from .samplers import Sampler
from .store import Images, open_images


class _Ids:
    """The numbers of every record, as the model counts them.

    Args:
        labels: training class of each pid; None = unknown.
        camera_rows, view_rows: the model's row of each camid and viewid (`name_rows`); None = unknown.
    """

    def __init__(
        self,
        records: Sequence[Record],
        labels: dict[int, int] | None,
        camera_rows: Tensor | None,
        view_rows: Tensor | None,
    ) -> None:
        self.labels = torch.tensor([labels[record.pid] if labels else -1 for record in records])
        self.camids = _translate([record.camid for record in records], camera_rows)
        self.viewids = _translate([record.viewid for record in records], view_rows)

    def batch(self, images: Tensor, index: np.ndarray, device: torch.device | str) -> Batch:
        """Return the batch of the given images and their numbers, on the device."""
        where = torch.from_numpy(np.asarray(index, np.int64))
        return Batch(images, self.labels[where], self.camids[where], self.viewids[where], where).to(device)


def _translate(ids: list[int], rows: Tensor | None) -> Tensor:
    ids_ = torch.tensor(ids, dtype=torch.int64)
    return torch.full_like(ids_, -1) if rows is None else rows[ids_]


class TrainLoader:
    """Augmented training batches; the same ones for the same (seed, epoch), whatever came before.

    Args:
        sampler: the order of the images.
        camera_rows, view_rows: the model's row of each camid and viewid (`name_rows`); None = unknown.
        seed: of the augmentation.
    """

    def __init__(
        self,
        records: Sequence[Record],
        images: Images,
        sampler: Sampler,
        augment: Augment,
        *,
        camera_rows: Tensor | None = None,
        view_rows: Tensor | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.records, self.sampler, self.augment = list(records), sampler, augment
        self._images, self._seed, self._device, self._epoch = images, seed, device, 0
        self._ids = _Ids(records, label_map(records), camera_rows, view_rows)

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        plan = self.sampler.batches(self._epoch)
        epoch = self._epoch
        for number, (index, pixels) in enumerate(zip(plan, self._images.batches(plan), strict=True)):
            batch = self._ids.batch(pixels, index, self._device)
            batch.images = self.augment(batch.images, _generator(self._seed, epoch, number))
            yield batch


def _generator(*seeds: int) -> torch.Generator:
    state = int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state)


class EvalLoader:
    """All records once, in their order, without augmentation; the last batch may be short.

    Args:
        camera_rows, view_rows: the model's row of each camid and viewid (`name_rows`); None = unknown.
        cache: off = decode anew in every pass; on, auto: see `open_images`.
        num_workers: worker processes (or decoding threads with the cache).
    """

    def __init__(
        self,
        records: Sequence[Record],
        preprocess: Preprocess,
        *,
        batch_size: int = 256,
        camera_rows: Tensor | None = None,
        view_rows: Tensor | None = None,
        cache: str = "off",
        cache_share: float = 0.25,
        num_workers: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.records, self.preprocess = list(records), preprocess
        self._batch_size, self._device = batch_size, device
        self._ids = _Ids(records, None, camera_rows, view_rows)
        paths = [record.path for record in records]
        self._images = open_images(paths, preprocess, cache, cache_share, num_workers)

    def __len__(self) -> int:
        return -(-len(self.records) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        positions = np.arange(len(self.records))
        plan = [positions[start : start + self._batch_size] for start in range(0, len(positions), self._batch_size)]
        for index, pixels in zip(plan, self._images.batches(plan), strict=True):
            batch = self._ids.batch(pixels, index, self._device)
            batch.images = self.preprocess.normalise(batch.images)
            yield batch
