"""Batches the images of concurrent requests for the model."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

import numpy as np

from ...common.errors import UserError
from .request_error import RequestError

MAX_WAITING, MAX_WAITING_BYTES = 512, 500_000_000


class Embed(Protocol):
    """A model: (H, W, 3) uint8 RGB images and camera names -> (N, D) embeddings."""

    fingerprint: str

    def __call__(self, images: list[np.ndarray], cameras: Sequence[str | None]) -> np.ndarray:
        """Return one row per image."""


class _Job(NamedTuple):
    image: np.ndarray
    camera: str | None
    row: Future[np.ndarray]


class Batcher:
    """A thread that runs the model; the images submitted during one batch form the next batch.

    Args:
        embed: the model.
        batch_size: images per call, 1 or more.
    """

    def __init__(self, embed: Embed, batch_size: int = 32) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size: 1 or more images, got {batch_size}")
        self._embed, self._batch_size = embed, batch_size
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._num_waiting = self._bytes_waiting = 0
        self._thread: threading.Thread | None = None

    def submit(self, image: np.ndarray, camera: str | None = None) -> Future[np.ndarray]:
        """Return a future of the (D,) embedding of a (H, W, 3) image.

        Raises:
            RequestError: 503, the queue is full.
        """
        job = _Job(image, camera, Future())
        with self._lock:
            if self._num_waiting >= MAX_WAITING or self._bytes_waiting + image.nbytes > MAX_WAITING_BYTES:
                raise RequestError(503, "the server is busy; try again in a moment", {"Retry-After": "1"})
            self._num_waiting += 1
            self._bytes_waiting += image.nbytes
            if self._thread is None:  # first image, or first one after `close`
                self._jobs = queue.SimpleQueue()
                self._thread = threading.Thread(
                    target=self._work, args=(self._jobs,), name="vitreid-embed", daemon=True
                )
                self._thread.start()
            self._jobs.put(job)
        return job.row

    def close(self) -> None:
        """Embed the submitted images, then end the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._jobs.put(None)
        if thread is not None:
            thread.join()

    def _work(self, jobs: queue.SimpleQueue[_Job | None]) -> None:
        while (job := jobs.get()) is not None:
            batch, is_open = self._fill([job], jobs)
            self._answer([item for item in batch if item.row.set_running_or_notify_cancel()])
            with self._lock:
                self._num_waiting -= len(batch)
                self._bytes_waiting -= sum(item.image.nbytes for item in batch)
            del batch, job  # frees the images before the next wait
            if not is_open:
                return

    def _fill(self, batch: list[_Job], jobs: queue.SimpleQueue[_Job | None]) -> tuple[list[_Job], bool]:
        """Return the batch with waiting jobs added, and False if the batcher was closed."""
        while len(batch) < self._batch_size:
            try:
                job = jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return batch, False
            batch.append(job)
        return batch, True

    def _answer(self, batch: list[_Job]) -> None:
        if not batch:  # every client has gone
            return
        try:
            rows = self._embed([job.image for job in batch], [job.camera for job in batch])
            if len(rows) != len(batch):
                raise UserError(f"the embedder returned {len(rows)} rows for {len(batch)} images")
        except Exception as error:  # reported to the requests; the thread continues
            if len(batch) == 1:
                batch[0].row.set_exception(error)
                return
            for job in batch:  # embed one by one: an image that fails must not fail the others
                self._answer([job])
            return
        for job, row in zip(batch, rows, strict=True):
            job.row.set_result(row)
