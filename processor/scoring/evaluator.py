"""Query and gallery images -> embeddings with their labels -> CMC, mAP, mINP."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ...common.errors import UserError
from ...datasets import Preprocess, Record, ReidData, build_eval_loader, build_frame_counts, build_preprocess
from ...datasets.same_files import number_contents
from ...evaluation import RetrievalResult
from ...labels.camera_names import UnknownNames
from ...labels.protocol import CAMERA, FILE, find_protocol
from ..distributed.process_group import ALONE, Ranks
from ..embedding.embedding_model import EmbeddingModel
from ..embedding.extract import EmbedSettings, build_embed_settings, extract, join_shares
from .feature_file import FeatureSet
from .reranking import Rerank, build_rerank, rank


class Evaluator:
    """Evaluates a model on one test set, any number of times.

    Args:
        query, gallery: loaders in the order of the records of `data`, `gallery` unused if both are the same; of several ranks, each loads the records rank,
            rank + size, rank + 2 * size, ...
        data: the records, with their protocol and camera names.
        rerank: the ranking; None = by distance alone.
        about: metadata for the features, in JSON types.
        ranks: the processes that share the images.
        counts: images that each loader has of each record that it loads, where records are tracklets; empty = one.
    """

    def __init__(
        self,
        query: Iterable[Any],
        gallery: Iterable[Any],
        data: ReidData,
        *,
        settings: EmbedSettings,
        device: torch.device,
        precision: torch.dtype,
        rerank: Rerank | None = None,
        about: dict[str, Any] | None = None,
        ranks: Ranks = ALONE,
        counts: tuple[Sequence[int], Sequence[int]] = ((), ()),
    ) -> None:
        self.query, self.gallery = query, gallery
        self.data = data
        self.settings = settings
        self.device, self.precision = device, precision
        self.rerank = rerank or Rerank()
        self.about = {**(about or {}), "embed": settings.to_dict()}
        self.ranks = ranks
        self.counts = counts

    def __call__(self, model: nn.Module) -> RetrievalResult:
        """Return the retrieval result of `model` on every rank; the model keeps its training mode."""
        return self.rank(self.extract(model))

    def extract(self, model: nn.Module) -> FeatureSet | None:
        """Return the embeddings of `model` with their labels on rank 0, None on the others."""
        data = self.data
        query = self._rows(model, self.query, len(data.query), "query", self.counts[0])
        is_one = data.query == data.gallery  # as in VehicleID
        gallery = query if is_one else self._rows(model, self.gallery, len(data.gallery), "gallery", self.counts[1])
        if query is None or gallery is None:
            return None
        q_files, g_files = self._contents
        return FeatureSet(
            dataset=data.evaluated,
            protocol=data.protocol,
            query=query,
            gallery=gallery,
            q_pids=_numbers(data.query, "pid"),
            g_pids=_numbers(data.gallery, "pid"),
            q_camids=_numbers(data.query, "camid"),
            g_camids=_numbers(data.gallery, "camid"),
            q_names=[record.path for record in data.query],
            g_names=[record.path for record in data.gallery],
            camera_names=data.camera_names,
            about=self.about,
            person_names=_names_of_tested(data),
            q_files=q_files,
            g_files=g_files,
            settings=data.settings,
            extra=extra_labels(data),
        )

    @cached_property
    def _contents(self) -> tuple[np.ndarray, np.ndarray]:
        """`file_contents` of the data, read once for all evaluations of a training."""
        return file_contents(self.data)

    def _rows(
        self, model: nn.Module, loader: Iterable[Any], count: int, title: str, counts: Sequence[int]
    ) -> Tensor | None:
        settings, shows = self.settings, self.ranks.is_first
        share = extract(model, loader, settings, self.device, self.precision, title, shows, counts)
        return join_shares(share, count, self.ranks)

    def rank(self, features: FeatureSet | None) -> RetrievalResult:
        """Return the retrieval result of what `extract` returned; rank 0 computes it and broadcasts it."""
        return self.ranks.from_first(lambda: rank(features, self.rerank))  # type: ignore[arg-type]  # no None on rank 0


def file_contents(data: ReidData) -> tuple[np.ndarray, np.ndarray]:
    """Return the contents of query (Q,) and gallery (G,) files as numbers, equal for exact copies of one person's image.

    Only files of queried people with equal sizes are read; all gallery images of other people have the number -1.
    """
    asked = {record.pid for record in data.query}
    places = [place for place, record in enumerate(data.gallery) if record.pid in asked]
    records = [*data.query, *(data.gallery[place] for place in places)]
    numbers = number_contents([record.path for record in records], [record.pid for record in records])
    gallery = np.full(len(data.gallery), -1, np.int64)
    gallery[places] = numbers[len(data.query) :]
    return np.array(numbers[: len(data.query)], np.int64), gallery


def extra_labels(data: ReidData) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the labels of query (Q,) and gallery (G,), besides camera and file, that the protocols compare, by name."""
    compared = {name for setting in data.settings for name in setting.rule.labels} - {CAMERA, FILE}
    sides = data.query, data.gallery
    return {
        name: tuple(np.array([data.label(record, name) for record in side], np.int64) for side in sides)  # type: ignore[misc]
        for name in sorted(compared)
    }


def _numbers(records: Sequence[Record], what: str) -> np.ndarray:
    return np.array([getattr(record, what) for record in records], np.int64)


def _names_of_tested(data: ReidData) -> dict[int, str]:
    """Return the names of the people in query and gallery, as far as they have any."""
    tested = {record.pid for record in (*data.query, *data.gallery)}
    return {pid: name for pid, name in data.person_names.items() if pid in tested}


def build_evaluator(
    cfg: CfgNode,
    data: ReidData,
    model: EmbeddingModel,
    device: torch.device,
    precision: torch.dtype,
    preprocess: Preprocess | None = None,
    ranks: Ranks = ALONE,
) -> Evaluator:
    """Return the evaluator of the data's query and gallery images.

    Args:
        preprocess: overrides the config's.
    """
    check_answerable(data, build_rerank(cfg))
    preprocess = preprocess or build_preprocess(cfg)
    cameras, views = model.cameras, model.views
    if ranks.is_first:
        UnknownNames("camera", cameras).warn(data.camera_names[record.camid] for record in (*data.query, *data.gallery))
    other_images = [] if data.query == data.gallery else data.gallery
    shares = [records[ranks.rank :: ranks.size] for records in (data.query, other_images)]
    query, gallery = (
        build_eval_loader(cfg, data, share, cameras, views, device, preprocess) if share else () for share in shares
    )
    return Evaluator(
        query,
        gallery,
        data,
        settings=model.settle(build_embed_settings(cfg)),
        device=device,
        precision=precision,
        rerank=build_rerank(cfg),
        about={"preprocess": preprocess.to_dict()},
        ranks=ranks,
        counts=(build_frame_counts(cfg, shares[0]), build_frame_counts(cfg, shares[1])),
    )


def check_answerable(data: ReidData, rerank: Rerank) -> None:
    """Raise ValueError, before the images are embedded, if query and gallery cannot be evaluated."""
    remedy = "add some, or hold people out of training with DATASETS.VAL_IDS"
    if not data.query or not data.gallery:
        raise UserError(f"{data.evaluated}: {len(data.query)} query and {len(data.gallery)} gallery images; {remedy}")
    if len(data.unmatched_queries()) == len(data.query):
        wanted = find_protocol(data.protocol).wanted
        where = f", {wanted}" * bool(wanted)
        raise UserError(f"{data.evaluated}: no query has another image of its person in the gallery{where}; {remedy}")
    rerank.check(len(data.query), len(data.gallery))
    rerank.check_settings(data.evaluations, data.evaluated)
    rerank.postprocess.check(data)
