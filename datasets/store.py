"""Where the loaders get pixels from: decoded once and kept in memory, or decoded again each time."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from .batch import Preprocess
from .decode import CorruptImageError, load_planes

log = logging.getLogger(__name__)


class Images(Protocol):
    """A list of images, read in batches."""

    def batches(self, plan: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """Yield (B, 3, H, W) uint8 for each array of B positions in `plan`."""
        ...


class CachedImages:
    """Images decoded once, into one (N, 3, H, W) uint8 tensor.

    Args:
        num_threads: decoding threads; OpenCV decodes outside Python's lock.
    """

    def __init__(self, paths: Sequence[str], preprocess: Preprocess, num_threads: int = 2) -> None:
        self.pixels = torch.empty((len(paths), 3, *preprocess.size), dtype=torch.uint8)
        pixels = self.pixels.numpy()

        def decode(position: int) -> None:
            pixels[position] = load_planes(paths[position], preprocess)

        with ThreadPoolExecutor(max(1, num_threads)) as pool:
            done = pool.map(decode, range(len(paths)))  # the first corrupt file raises here
            for _ in tqdm(done, "decode", len(paths), unit="image", disable=None, leave=False):
                pass

    def batches(self, plan: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """Yield (B, 3, H, W) uint8 for each array of B positions in `plan`."""
        for index in plan:
            yield self.pixels.index_select(0, torch.from_numpy(np.asarray(index)))


class StreamedImages:
    """Images decoded by worker processes each time they are asked for, for sets larger than the memory.

    Args:
        num_workers: worker processes; 0 decodes in this one.
    """

    def __init__(self, paths: Sequence[str], preprocess: Preprocess, num_workers: int = 2) -> None:
        self._plan = _Plan()
        self._loader = DataLoader(
            _Files(paths, preprocess),
            batch_sampler=self._plan,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            worker_init_fn=_one_thread if num_workers else None,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(0),  # its own, or every start would draw from the training's
        )

    def batches(self, plan: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """Yield (B, 3, H, W) uint8 for each array of B positions in `plan`."""
        self._plan.batches = plan
        try:
            yield from self._loader
        except CorruptImageError as error:  # a worker's traceback stands before its message
            raise CorruptImageError(str(error).strip().splitlines()[-1].split("CorruptImageError: ")[-1]) from None


class _Plan:
    """The batches of the coming epoch; replaced between epochs, so that the workers can stay alive."""

    def __init__(self) -> None:
        self.batches: Sequence[np.ndarray] = ()

    def __iter__(self) -> Iterator[list[int]]:
        return (np.asarray(batch).tolist() for batch in self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Files(Dataset):
    def __init__(self, paths: Sequence[str], preprocess: Preprocess) -> None:
        self.paths, self.preprocess = list(paths), preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> Tensor:
        return torch.from_numpy(load_planes(self.paths[position], self.preprocess))


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)


def open_images(
    paths: Sequence[str],
    preprocess: Preprocess,
    cache: str = "auto",
    cache_share: float = 0.25,
    num_workers: int = 2,
) -> Images:
    """Choose between the two, and log which.

    Args:
        cache: on, off, or auto = keep the images in memory if they fit the share.
        cache_share: share of the available memory that the images may take.
    """
    needed, budget = len(paths) * 3 * preprocess.size[0] * preprocess.size[1], cache_share * available_memory()
    if cache == "on" or (cache == "auto" and needed <= budget):
        log.info("%d images decoded into memory (%.0f MB)", len(paths), needed / 1e6)
        return CachedImages(paths, preprocess, num_workers)
    log.info("%d images decoded as needed (%.0f MB; budget %.0f MB)", len(paths), needed / 1e6, budget / 1e6)
    return StreamedImages(paths, preprocess, num_workers)


def available_memory() -> int:
    """Return the bytes that can still be used: the machine's, or the container's if that is less (0 = unknown)."""
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        available = int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _total_memory() // 2
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or no limit ("max")
        return available
    return max(0, min(available, limit))


def _total_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
