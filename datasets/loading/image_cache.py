"""Decoded images for the loaders: cached in memory, or decoded anew at each read."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...common.memory_limits import available_memory
from .buffer_pool import BATCHES
from .decode import PlaneReader
from .preprocess import Preprocess
from .shared_memory import LocalRanks, share_array

log = logging.getLogger(__name__)

IMAGES_PER_TASK = 32  # decoded by a thread per progress report


class Images(Protocol):
    """A list of images, read by position, from several threads at once."""

    def read(self, positions: np.ndarray, pinned: bool = False) -> Tensor:
        """Return (B, 3, H, W) uint8 of B positions; `pinned` = in page-locked memory, for asynchronous copies to a GPU."""
        ...


def _room_for(shape: tuple[int, ...], pinned: bool) -> Tensor:
    """Return uninitialised uint8."""
    if pinned:
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
    return torch.from_numpy(BATCHES.empty(shape, np.uint8))


_kept: WeakSet[CachedImages] = WeakSet()


class CachedImages:
    """Images in memory; later changes of the files have no effect.

    Args:
        pixels: (N, 3, H, W) uint8.
        copies: number of processes on this machine with a private copy each.
    """

    def __init__(self, pixels: np.ndarray, copies: int = 1) -> None:
        self.pixels = pixels
        self.num_bytes = copies * pixels.nbytes
        _kept.add(self)

    def read(self, positions: np.ndarray, pinned: bool = False) -> Tensor:
        """Return (B, 3, H, W) uint8 of B positions; `pinned` = in page-locked memory, for asynchronous copies to a GPU."""
        images = _room_for((len(positions), *self.pixels.shape[1:]), pinned)
        np.take(self.pixels, positions, axis=0, out=images.numpy(), mode="clip")  # "raise" makes another copy
        return images


def decode_all(paths: Sequence[str], preprocess: Preprocess, num_threads: int = 2) -> np.ndarray:
    """Return the files decoded, as (N, 3, H, W) uint8."""
    pixels = np.empty((len(paths), 3, *preprocess.size), np.uint8)
    decode_into(pixels, range(len(paths)), paths, preprocess, num_threads)
    return pixels


def decode_into(
    pixels: np.ndarray, positions: Iterable[int], paths: Sequence[str], preprocess: Preprocess, num_threads: int
) -> None:
    """Decode the files at `positions` into those rows of (N, 3, H, W) uint8, with a progress bar.

    Args:
        num_threads: decoding threads; OpenCV releases Python's lock.
    Raises:
        CorruptImageError, FileNotFoundError: names the first unreadable file.
    """
    todo = list(positions)
    parts = [todo[first : first + IMAGES_PER_TASK] for first in range(0, len(todo), IMAGES_PER_TASK)]

    def decode(part: list[int]) -> int:
        reader = PlaneReader(preprocess)
        for position in part:
            reader.read(paths[position], pixels[position])
        return len(part)

    with (
        ThreadPoolExecutor(max(1, num_threads)) as pool,
        tqdm(None, "decode", len(todo), unit="image", disable=None, leave=False) as bar,
    ):
        for number in pool.map(decode, parts):  # the first corrupt file raises here
            bar.update(number)


class StreamedImages:
    """Images decoded at each read, for data sets larger than the memory."""

    def __init__(self, paths: Sequence[str], preprocess: Preprocess) -> None:
        self.paths, self.preprocess = list(paths), preprocess

    def read(self, positions: np.ndarray, pinned: bool = False) -> Tensor:
        """Return (B, 3, H, W) uint8 of B positions; `pinned` = in page-locked memory, for asynchronous copies to a GPU.

        Raises:
            CorruptImageError, FileNotFoundError: names a file that changed since the start of the run.
        """
        images = _room_for((len(positions), 3, *self.preprocess.size), pinned)
        reader = PlaneReader(self.preprocess)
        for planes, position in zip(images.numpy(), np.asarray(positions).tolist(), strict=True):
            path = self.paths[position]
            try:
                reader.read(path, planes)
            except FileNotFoundError:
                raise FileNotFoundError(
                    f"{path}: the image was there when the data set was listed and is gone now; put it back and continue "
                    "with --resume, or set DATALOADER.CACHE on, which reads every file once, at the start"
                ) from None
        return images


class ChosenImages:
    """Some of the images of another list, at these positions (N,)."""

    def __init__(self, images: Images, positions: np.ndarray) -> None:
        self.images, self.positions = images, positions

    def read(self, positions: np.ndarray, pinned: bool = False) -> Tensor:
        """Return (B, 3, H, W) uint8 of B positions among the chosen; `pinned` as there."""
        return self.images.read(self.positions[positions], pinned)


def open_images(
    paths: Sequence[str],
    preprocess: Preprocess,
    cache: str = "auto",
    cache_share: float = 0.25,
    num_workers: int = 2,
    local: LocalRanks | None = None,
) -> Images:
    """Return cached or streamed images, and log the choice.

    Args:
        cache: on, off, or auto = cache if the images fit the share.
        cache_share: share of the available memory for all images kept: those of this call, of other calls, and of other
            ranks of the machine (separate copies if `local` is None).
        num_workers: decoding threads.
        local: the ranks of this machine that read the same images; each decodes a part, and all share one copy. The call is
            then collective. None, or a single rank = a separate copy.
    Raises:
        CorruptImageError, FileNotFoundError: an image that is to be kept cannot be read; names it.
        OSError: with `on`, there is no room for a copy that processes share; says where.
    """
    shape = (len(paths), 3, *preprocess.size)
    needed = math.prod(shape)
    if cache == "off":
        log.info("%d images decoded as needed (DATALOADER.CACHE off)", len(paths))
        return StreamedImages(paths, preprocess)
    if local is None or local.size == 1 or os.name == "nt":  # Windows cannot remove the name of a mapped file
        # an upper bound of this job's processes on the machine; not every launcher reports the number
        copies = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or 1)
        if why := _why_not(needed * copies, cache, cache_share):
            return _stream(paths, preprocess, why)
        log.info("%d images decoded into memory (%.0f MB)", len(paths), needed / 1e6)
        return CachedImages(decode_all(paths, preprocess, num_workers), copies)
    shared = share_array(
        shape,
        local,
        fill=lambda pixels, rows: decode_into(pixels, rows, paths, preprocess, num_workers),
        refuse=lambda: _why_not(needed, cache, cache_share),
    )
    if isinstance(shared, str):
        if cache == "on":
            raise OSError(f"DATALOADER.CACHE on: {shared}; make room, or set DATALOADER.CACHE auto")
        return _stream(paths, preprocess, shared)
    log.info("%d images decoded into memory (%.0f MB) for %d processes", len(paths), needed / 1e6, local.size)
    return CachedImages(shared)


def _stream(paths: Sequence[str], preprocess: Preprocess, why: str) -> StreamedImages:
    log.info("%d images decoded as needed: %s", len(paths), why)
    return StreamedImages(paths, preprocess)


def _why_not(needed: int, cache: str, cache_share: float) -> str:
    """Return why images that take `needed` bytes of this machine are not kept in memory; empty = they are.

    All that are kept have one share, of what is available and what they have taken of it.
    """
    available, kept = available_memory(), sum(images.num_bytes for images in tuple(_kept))
    budget = cache_share * (available + kept) - kept
    if cache == "on" or needed <= budget:
        return ""
    if not available:
        return "how much memory is available is not known here; DATALOADER.CACHE on keeps them in memory all the same"
    left = f", and {kept / 1e6:.0f} MB of it are taken by others" if kept else ""
    return (
        f"{needed / 1e6:.0f} MB are more than DATALOADER.CACHE_SHARE {cache_share:g} of the available memory, "
        f"{cache_share * (available + kept) / 1e6:.0f} MB{left}"
    )
