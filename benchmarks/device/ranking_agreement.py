"""Does the GPU rank as the CPU does: evaluation, re-ranking, and a search by embeddings of the GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitreid.benchmarks.device.agreement import CPU, QUICK_SPECS, SPECS, embed
from vitreid.benchmarks.device.findings import AGREEMENT, DeviceFinding, DeviceJob, agreement
from vitreid.benchmarks.device.small_training import exact_float32, make_batches
from vitreid.evaluation import RetrievalResult, evaluate_reranked, evaluate_retrieval
from vitreid.gallery.search.exact_index import ExactIndex
from vitreid.model import ReidModel
from vitreid.processor.device import place

SAME = 1e-4  # of mAP, mINP and Rank-k: rounding can swap neighbours at almost the same distance
TOP = 10


class RankedPeople(NamedTuple):
    """Embeddings (Q, D) and (G, D) with their pids and cameras, in the order that the evaluation takes them."""

    query: Tensor
    gallery: Tensor
    q_pids: np.ndarray
    g_pids: np.ndarray
    q_camids: np.ndarray
    g_camids: np.ndarray

    def to(self, device: str) -> RankedPeople:
        """Return the embeddings on a device."""
        return self._replace(query=self.query.to(device), gallery=self.gallery.to(device))


def make_people(seed: int, num_queries: int, num_gallery: int, width: int, copies: int = 0) -> RankedPeople:
    """Return embeddings of unit length around the mean of their person, with 20 gallery images each.

    Args:
        copies: rows of the gallery that are equal to others of another camera, whose distances are ties.
    """
    random, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    middles = torch.randn(max(num_gallery // 20, 2), width, generator=random)
    g_pids = np.arange(num_gallery) % len(middles)
    q_pids = np.arange(num_queries) % len(middles)

    def draw(pids: np.ndarray) -> Tensor:
        noise = torch.randn(len(pids), width, generator=random)
        return torch.nn.functional.normalize(middles[torch.from_numpy(pids)] + 1.8 * noise)

    query, gallery = draw(q_pids), draw(g_pids)
    gallery[len(middles) : len(middles) + copies] = gallery[:copies]
    return RankedPeople(
        query, gallery, q_pids, g_pids, rng.integers(0, 6, num_queries), rng.integers(0, 6, num_gallery)
    )


def evaluation(job: DeviceJob) -> Iterator[DeviceFinding]:
    """CMC, mAP and mINP by both metrics, with ties."""
    exact_float32()
    people = make_people(job.seed, *((40, 600, 16, 20) if job.quick else (1000, 20_000, 256, 500)))
    for metric in ("euclidean", "cosine"):
        yield from compared(f"evaluation, {metric}", evaluate_retrieval, people, job, metric=metric)


def reranking(job: DeviceJob) -> Iterator[DeviceFinding]:
    """CMC, mAP and mINP after k-reciprocal re-ranking."""
    exact_float32()
    people = make_people(job.seed, *((40, 600, 16) if job.quick else (500, 5000, 256)))
    yield from compared("re-ranking", evaluate_reranked, people, job, most=1e-3)


def compared(
    what: str,
    evaluate: Callable[..., RetrievalResult],
    people: RankedPeople,
    job: DeviceJob,
    most: float = SAME,
    **options: Any,
) -> Iterator[DeviceFinding]:
    """Yield the largest difference of a figure between the device and the CPU."""
    found, expected = (evaluate(*people.to(device), **options) for device in (job.device, "cpu"))
    apart = max(
        abs(found.mAP - expected.mAP), abs(found.mINP - expected.mINP), float(np.abs(found.cmc - expected.cmc).max())
    )
    yield agreement(f"{what}: difference of mAP, mINP and CMC", apart, most)
    yield DeviceFinding(f"{what}: mAP of the CPU", 100 * expected.mAP, "%")


def search(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Search a gallery embedded by the CPU with embeddings of the device: the same rows, in the same order."""
    exact_float32()
    spec = next(iter((QUICK_SPECS if job.quick else SPECS).values()))
    torch.manual_seed(job.seed)
    model = place(ReidModel(spec), CPU, torch.float32).eval()
    batches = make_batches(job, 2 if job.quick else 8, 32, spec.img_size)
    gallery = torch.cat([embed(model, batch.images, batch.camids)[:, 0] for batch in batches])
    queries = torch.cat([embed(model.to(job.device), batch.images, batch.camids)[:, 0].cpu() for batch in batches[:2]])
    index = ExactIndex(gallery.numpy())
    found, expected = (index.search(rows.numpy(), TOP) for rows in (queries, gallery[: len(queries)]))
    same = np.mean([np.mean(a.positions == b.positions) for a, b in zip(found, expected, strict=True)])
    itself = np.mean([hit.positions[0] == number for number, hit in enumerate(found)])
    what = f"share of the {TOP} neighbours at the rank that the CPU finds"
    yield DeviceFinding(what, float(same), kind=AGREEMENT, least=0.98)
    yield agreement("queries that do not find themselves first, share", 1 - float(itself), 0)
