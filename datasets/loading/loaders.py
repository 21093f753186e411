"""Records -> batches on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ...common.errors import UserError
from ...common.prefetch import prefetch
from ..augment.augment import Augment
from ..augment.crop import normalise
from ..records import Record, label_map
from .batch import Batch
from .clips import Clips
from .image_cache import Images, open_images
from .preprocess import Preprocess
from .samplers import Sampler


class _RecordIds:
    """Labels and table rows of every record.

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
        """Return the batch of the images at `index`, on the device."""
        where = torch.from_numpy(np.asarray(index, np.int64))
        return Batch(images, self.labels[where], self.camids[where], self.viewids[where], where).to(device)


def _translate(ids: list[int], rows: Tensor | None) -> Tensor:
    ids_ = torch.tensor(ids, dtype=torch.int64)
    return torch.full_like(ids_, -1) if rows is None else rows[ids_]


def _read_to(device: torch.device, images: Images, positions: np.ndarray) -> Tensor:
    pinned = (
        device.type == "cuda"
    )  # other memory returns to the pool once it is free: its copy must be complete by then
    return images.read(positions, pinned).to(device, non_blocking=pinned)


class TrainLoader:
    """Augmented training batches, determined by (seed, epoch).

    Args:
        sampler: the order of the images.
        camera_rows, view_rows: the model's row of each camid and viewid (`name_rows`); None = unknown.
        seed: of the augmentation.
        rank, num_ranks: this rank of the `num_ranks` that split each batch; it receives a contiguous slice of whole identities,
            pixel-identical to a single-process run.
        num_workers: threads that prepare the next batches; 0 = each batch on demand.
        clips: a batch has the frames of a clip of each record, one after the other; `images` are then those at its positions. None =
            an image of each record.
    Raises:
        ValueError: the sampler's batches do not divide into `num_ranks` equal parts.
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
        rank: int = 0,
        num_ranks: int = 1,
        num_workers: int = 0,
        clips: Clips | None = None,
    ) -> None:
        self.records, self.sampler, self.augment = list(records), sampler, augment
        self.images, self._seed, self._num_workers, self._clips = images, seed, num_workers, clips
        self._epoch, self._first_batch = 0, 0
        self._part = _part(sampler, rank, num_ranks)
        self._ids = _RecordIds(records, label_map(records), camera_rows, view_rows)
        self._device = torch.device(device)

    def __len__(self) -> int:
        return len(self.sampler)

    def relabel(self, labels: np.ndarray, num_classes: int) -> None:
        """Give the images other training classes (N,), for a sampler whose classes may change; see its `relabel`."""
        self._ids.labels = torch.from_numpy(np.asarray(labels, np.int64))
        self.sampler.relabel(labels, num_classes)  # type: ignore[attr-defined]

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch of the next iteration, and the number of its first batch (for a resumed run)."""
        self._epoch, self._first_batch = epoch, first_batch

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self._epoch, self._first_batch
        plan = self.sampler.batches(epoch)

        def make(number: int) -> Batch:
            seeds = np.random.SeedSequence((self._seed, epoch, number))
            generator = torch.Generator().manual_seed(int(seeds.generate_state(1, np.uint64)[0]))
            index, frames, part = plan[number], plan[number], self._part
            if self._clips is not None:
                length, (of_frames,) = self._clips.number, seeds.spawn(1)
                frames = self._clips.draw(index, np.random.default_rng(of_frames)).ravel()
                index, part = np.repeat(index, length), slice(part.start * length, part.stop * length)
            return self._make(index, frames, part, generator)

        return _batches_on(self._device, make, range(first, len(plan)), self._num_workers)

    def _make(self, index: np.ndarray, frames: np.ndarray, part: slice, generator: torch.Generator) -> Batch:
        """Return this rank's part of the batch of the records at `index` (B,), as the images at the positions `frames` (B,)."""
        draws = {name: drawn[part] for name, drawn in self.augment.draw(len(index), generator).items()}
        images = _read_to(self._device, self.images, frames[part])
        return self._ids.batch(self.augment.apply(images, draws), index[part], self._device)


def _part(sampler: Sampler, rank: int, num_ranks: int) -> slice:
    size = sampler.group_size
    groups, rest = divmod(sampler.batch_size, size)
    if rest or groups % num_ranks:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH: {sampler.batch_size} images ({groups} groups of {size} that stay together) do not "
            f"divide among {num_ranks} processes; take a multiple of {num_ranks * size}, or start another number of processes"
        )
    share = sampler.batch_size // num_ranks
    return slice(rank * share, (rank + 1) * share)


class EvalLoader:
    """All records once, in their order, without augmentation; the last batch may be short.

    Args:
        camera_rows, view_rows: the model's row of each camid and viewid (`name_rows`); None = unknown.
        cache: off = decode anew in every pass; on, auto: see `open_images`.
        num_workers: threads that decode and prepare the next batches.
        images: the images of the records, if another loader has decoded them.
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
        images: Images | None = None,
    ) -> None:
        self.records, self.preprocess = list(records), preprocess
        self._batch_size, self._num_workers = batch_size, num_workers
        self._device = torch.device(device)
        self._ids = _RecordIds(records, None, camera_rows, view_rows)
        paths = [record.path for record in records]
        self._images = images or open_images(paths, preprocess, cache, cache_share, num_workers)

    def __len__(self) -> int:
        return -(-len(self.records) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return _batches_on(self._device, self._make, range(len(self)), self._num_workers)

    def _make(self, number: int) -> Batch:
        first = number * self._batch_size
        index = np.arange(first, min(first + self._batch_size, len(self.records)))
        images = _read_to(self._device, self._images, index)
        return self._ids.batch(normalise(images, self.preprocess), index, self._device)


def _batches_on(
    device: torch.device, make: Callable[[int], Batch], numbers: Iterable[int], num_threads: int
) -> Iterator[Batch]:
    """Yield `make(number)` for every number; on a GPU, copies and augmentation use a second stream, parallel to training."""
    if device.type != "cuda" or not num_threads:
        yield from prefetch(make, numbers, num_threads)
        return
    side_stream = _side_stream(torch.cuda.current_device() if device.index is None else device.index)

    def make_on_side_stream(number: int) -> tuple[Batch, torch.cuda.Event]:
        with torch.cuda.device(device), torch.cuda.stream(side_stream):
            batch = make(number)
            return batch, side_stream.record_event()

    for batch, done in prefetch(make_on_side_stream, numbers, num_threads):
        training = torch.cuda.current_stream(device)
        training.wait_event(done)
        batch.record_stream(training)
        yield batch


@cache
def _side_stream(gpu: int) -> torch.cuda.Stream:
    """Return the one extra stream of this GPU: torch caches memory per stream and never moves it to another."""
    return torch.cuda.Stream(gpu)
