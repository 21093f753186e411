"""What an exported model costs in accuracy: mAP of labelled crops with the original model and with the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..common.errors import UserError
from ..datasets import DATASETS, ReadOptions, Record, ReidData, read_dataset
from ..datasets.readers.image_files import walk_images
from ..datasets.readers.splits import split_query_gallery
from ..evaluation import RetrievalResult
from ..labels.name_options import NameOptions
from ..processor.scoring.evaluator import check_answerable, extra_labels, file_contents
from ..processor.scoring.feature_file import FeatureSet
from ..processor.scoring.reranking import Rerank, rank

BATCH = 32
OPTION = "--labelled"
Embed = Callable[[np.ndarray, list[str | None]], np.ndarray]  # uint8 planes (B, 3, H, W), camera names -> (B, D)


class RetrievalCost(NamedTuple):
    """Accuracy of the original model and of the file on the same crops, fractions 0-1.

    Args:
        before, after: mAP of the original model, and of the file.
        mixed: mAP where the file embeds the queries and the original model the gallery.
        rank1_before, rank1_after: Rank-1 likewise.
        num_people, num_query, num_gallery: what was evaluated.
    """

    before: float
    after: float
    mixed: float
    rank1_before: float
    rank1_after: float
    num_people: int
    num_query: int
    num_gallery: int

    @property
    def points(self) -> float:
        """The points of mAP lost: the larger loss of `after` and `mixed`; below 0 if both are better."""
        return 100 * (self.before - min(self.after, self.mixed))

    def problem(self, most: float) -> str:
        """Return a sentence if more than `most` points are lost, else an empty one."""
        if self.points <= most:
            return ""
        return f"it costs {self.points:.2f} points of mAP ({self.about}), --max-loss allows {most:g}"

    @property
    def about(self) -> str:
        """The figures in percent, and of what."""
        return (
            f"mAP {100 * self.before:.2f} -> {100 * self.after:.2f}, {100 * self.mixed:.2f} against a gallery of the original "
            f"model; Rank-1 {100 * self.rank1_before:.2f} -> {100 * self.rank1_after:.2f}; {self.num_people} people, "
            f"{self.num_query} queries, {self.num_gallery} gallery images"
        )


class LabelledCrops:
    """Query and gallery crops, and the original model's embeddings of them, computed once.

    Args:
        data: as from `read_labelled`.
        planes: image file -> (3, H, W) uint8 RGB at the model's size.
        original: the original model.
    Raises:
        UserError: query or gallery is empty, or no query has a match.
    """

    def __init__(self, data: ReidData, planes: Callable[[str], np.ndarray], original: Embed) -> None:
        check_answerable(data, Rerank())
        self.data, self.planes, self.original = data, planes, original
        self._before: list[np.ndarray] = []

    def cost(self, embed: Embed) -> RetrievalCost:
        """Return the accuracy of the file that `embed` runs, next to the original's."""
        is_new, found = not self._before, []
        for planes, cameras in self._batches():
            if is_new:
                self._before.append(self.original(planes, cameras))
            found.append(embed(planes, cameras))
        before, after = np.concatenate(self._before), np.concatenate(found)
        old, new, mixed = (self._ranked(*sides) for sides in ((before, before), (after, after), (after, before)))
        query, gallery = self.data.query, self.data.gallery
        people = len({record.pid for record in query})
        rank1 = float(old.rank(1)), float(new.rank(1))
        return RetrievalCost(old.mAP, new.mAP, mixed.mAP, *rank1, people, len(query), len(gallery))

    def _batches(self) -> Iterator[tuple[np.ndarray, list[str | None]]]:
        records = [*self.data.query, *self.data.gallery]
        for start in range(0, len(records), BATCH):
            part = records[start : start + BATCH]
            yield (
                np.stack([self.planes(record.path) for record in part]),
                [self.data.camera_names[record.camid] for record in part],
            )

    @cached_property
    def _labels(self) -> FeatureSet:
        """The labels, with empty embeddings."""
        sides = self.data.query, self.data.gallery
        q_pids, g_pids = (np.array([record.pid for record in side]) for side in sides)
        q_camids, g_camids = (np.array([record.camid for record in side]) for side in sides)
        q_names, g_names = ([record.path for record in side] for side in sides)
        q_files, g_files = file_contents(self.data)
        return FeatureSet(
            dataset=self.data.evaluated,
            protocol=self.data.protocol,
            query=torch.empty(0),
            gallery=torch.empty(0),
            q_pids=q_pids,
            g_pids=g_pids,
            q_camids=q_camids,
            g_camids=g_camids,
            q_names=q_names,
            g_names=g_names,
            camera_names=self.data.camera_names,
            q_files=q_files,
            g_files=g_files,
            settings=self.data.settings,
            extra=extra_labels(self.data),
        )

    def _ranked(self, query: np.ndarray, gallery: np.ndarray) -> RetrievalResult:
        count = len(self.data.query)
        sides = torch.from_numpy(query[:count]), torch.from_numpy(gallery[count:])
        return rank(replace(self._labels, query=sides[0], gallery=sides[1]), Rerank())


def read_labelled(source: str, root: str = "", names: str = "", people: int = 0, seed: int = 0) -> ReidData:
    """Return query and gallery of labelled crops.

    Args:
        source: a manifest (CSV), the name of a data set below `root`, or a folder: one sub-folder per person, or with `names`
            files that are named after people and cameras.
        names: a scheme of `NameOptions`, for a folder; "" = one folder per person.
        people: queried people kept, drawn with the seed, and their gallery images; 0 = all, with all distractors.
    Raises:
        FileNotFoundError, UserError: there is nothing of that kind, or it has no labels.
    """
    path = Path(source).expanduser()
    if names and not path.is_dir():
        raise UserError(f"--names: for a folder of labelled crops; {source} is none, leave --names out")
    if source in DATASETS:
        data = read_dataset(source, root or ".")
    elif path.is_file():
        data = read_dataset("manifest", "", ReadOptions(manifest=str(path)))
    elif path.is_dir():
        data = _named(path, names, seed) if names else read_dataset("folder", path, ReadOptions(test_share=1.0))
    else:
        raise FileNotFoundError(
            f"{OPTION}: {source} is no manifest (CSV), no folder and no data set; choose from {', '.join(sorted(DATASETS))}"
        )
    if data.items == "tracklets":
        raise UserError(
            f"{OPTION}: {source} has tracklets, and single crops are ranked here; name a data set of images"
        )
    return _fewer(data, people, seed) if people else data


def _named(folder: Path, scheme: str, seed: int) -> ReidData:
    """Return the crops of a folder whose names say person and camera, one query per person and camera."""
    options = NameOptions(scheme)
    found = [(path, options.by_scheme(path)) for path in walk_images(folder)]
    known = [(path, str(said["pid"]), str(said["camera"])) for path, said in found if said.get("pid") is not None]
    if not known:
        raise UserError(f"--names: none of the {len(found)} files in {folder} is named PID_cCAMERA… as in {scheme}")
    cameras = tuple(sorted({camera for _, _, camera in known}))
    people = sorted({pid for _, pid, _ in known})
    records = [Record(path, people.index(pid), cameras.index(camera)) for path, pid, camera in known]
    query, gallery = split_query_gallery(records, seed, "same-camera")
    return ReidData("crops", [], query, gallery, cameras)


def _fewer(data: ReidData, people: int, seed: int) -> ReidData:
    """Return the queries of `people` people, drawn with the seed, and the gallery images of these."""
    queried: Sequence[int] = sorted({record.pid for record in data.query})
    chosen = set(np.random.default_rng(seed).permutation(queried)[:people].tolist())
    parts = ([record for record in records if record.pid in chosen] for records in (data.query, data.gallery))
    return replace(data, query=next(parts), gallery=next(parts))
