"""Records of a data set: train, query and gallery."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..common.errors import UserError
from ..labels.camera_names import find_rows
from ..labels.protocol import CAMERA, FILE, PROTOCOLS, find_protocol

UNLABELLED = -1  # pid of a training image whose person is unknown


@dataclass(frozen=True)
class Record:
    """One image of one person.

    Args:
        path: the image file.
        pid: the data set's own identity, 0 or more; the same number is the same person in train, query and gallery. -1 = unknown,
            only in train.
        camid: row in the data set's `camera_names`.
        viewid: row in its `view_names`; -1 = unknown.
        tracklet: number of the tracklet the image was taken from; -1 = none.
    """

    path: str
    pid: int
    camid: int
    viewid: int = -1
    tracklet: int = -1


@dataclass(frozen=True)
class ReidData:
    """A data set: its records, and the names of its cameras, views and people.

    Args:
        camera_names: name of each camid, prefixed by the data set ("market1501/c1") unless the user chose the names.
        view_names: name of each viewid; empty = the data set has no viewpoints.
        person_names: the user's names of the pids, if any.
        protocol: name of the rule for junk, in `PROTOCOLS`: "same-camera"; "own-file" where cameras are unknown, or there is
            only one; "none".
        test_name: name of the data set of query and gallery, if not `name`.
        first_pids: first pid of each joined data set, ascending.
        left_out: pictures in its folders that are no records.
        gallery_draws: galleries that an evaluation draws, one image of each person or vehicle, and averages over; 0 = the gallery
            as it is. See `evaluate_drawn_galleries`.
    Raises:
        ValueError: a record's camid or viewid has no name, a name is used twice, or the protocol is unknown.
    """

    name: str
    train: list[Record]
    query: list[Record]
    gallery: list[Record]
    camera_names: tuple[str, ...]
    view_names: tuple[str, ...] = ()
    person_names: dict[int, str] = field(default_factory=dict)
    protocol: str = "same-camera"
    test_name: str = ""
    first_pids: tuple[int, ...] = (0,)
    left_out: tuple[str, ...] = ()
    gallery_draws: int = 0

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise UserError(
                f"{self.name}: unknown protocol {self.protocol!r}; choose from {', '.join(sorted(PROTOCOLS))}"
            )
        for what, names in (("camera", self.camera_names), ("view", self.view_names)):
            if len(set(names)) != len(names):
                raise UserError(f"{self.name}: a {what} name stands twice in {names}; names must differ")
        for record in self.train:
            self._check(record, least_pid=UNLABELLED)
        for record in (*self.query, *self.gallery):
            self._check(record)

    def _check(self, record: Record, least_pid: int = 0) -> None:
        if record.pid < least_pid:
            raise UserError(f"{self.name}: {record.path} has pid {record.pid}; pids are 0 or more, leave junk out")
        if not 0 <= record.camid < len(self.camera_names):
            raise UserError(
                f"{self.name}: {record.path} has camid {record.camid}, but there are {len(self.camera_names)} cameras"
            )
        if not -1 <= record.viewid < len(self.view_names):
            raise UserError(
                f"{self.name}: {record.path} has viewid {record.viewid}, but there are {len(self.view_names)} views; "
                "-1 is unknown"
            )

    @property
    def evaluated(self) -> str:
        """Name of query and gallery for tables: the data set, or its validation people."""
        return self.test_name or self.name

    @property
    def train_cameras(self) -> tuple[str, ...]:
        """Names of the cameras seen in training, in camid order: the rows of a model's camera table."""
        return _names_used((record.camid for record in self.train), self.camera_names)

    @property
    def train_views(self) -> tuple[str, ...]:
        """Names of the views seen in training, in viewid order."""
        return _names_used((record.viewid for record in self.train), self.view_names)

    def unmatched_queries(self, contents: Mapping[str, Hashable] | None = None) -> list[Record]:
        """Return the queries that no gallery image matches under the protocol; the evaluation leaves them out.

        Args:
            contents: path -> content of the file, equal for copies; None, or a missing path: each path is another file.
        """
        rule, found = find_protocol(self.protocol), contents or {}

        def labels(record: Record) -> dict[str, Hashable]:
            return {CAMERA: record.camid, FILE: found.get(record.path) or record.path or object()}

        of_person = defaultdict(set)  # pid -> labels of its gallery images, each once
        for record in self.gallery:
            of_person[record.pid].add(tuple(labels(record)[name] for name in rule.same))

        def has_match(query: Record) -> bool:
            own = [labels(query)[name] for name in rule.same]
            return any(all(a != b for a, b in zip(own, item)) for item in of_person[query.pid])

        return [record for record in self.query if not has_match(record)]


def _names_used(ids: Iterable[int], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(names[index] for index in sorted(set(ids)) if index >= 0)


def label_map(records: Sequence[Record]) -> dict[int, int]:
    """Return the training class of every pid: 0, 1, 2, … in the order of the pids."""
    return {pid: label for label, pid in enumerate(sorted({record.pid for record in records}))}


def name_rows(names_of_data: Sequence[str], names_of_model: Sequence[str]) -> Tensor:
    """Translate a data set's camids (or viewids) to the rows of a model's table, by name (see `find_rows`).

    Returns:
        (len(names_of_data) + 1,) int64: the model's row, -1 where the model does not know the name. The last entry
        is -1, so that an unknown id (-1) maps to -1.
    """
    return torch.tensor([*find_rows(names_of_data, names_of_model), -1])
