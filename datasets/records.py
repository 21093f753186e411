"""Records of a data set: train, query and gallery."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..common.errors import UserError
from ..labels.camera_names import find_rows
from ..labels.protocol import CAMERA, CLOTHES, FILE, PLACE, PROTOCOLS, TRACKLET, VIEW
from ..labels.setting import Setting

UNLABELLED = -1  # pid of a training image whose person is unknown
TIME = "time"  # the clock of moments in seconds; others are recordings, whose frames count


class Moment(NamedTuple):
    """When an image was taken, from `start` to `end`, on a clock: TIME of its camera, or a recording, in frames."""

    clock: str
    start: float
    end: float


@dataclass(frozen=True)
class Record:
    """One image, or one tracklet, of one person.

    Args:
        path: the image file; of a tracklet the file of its first frame.
        pid: the data set's own identity, 0 or more; the same number is the same person in train, query and gallery. -1 = unknown,
            only in train.
        camid: row in the data set's `camera_names`.
        viewid: row in its `view_names`; -1 = unknown.
        tracklet: number of the tracklet the image was taken from; -1 = none.
        clothes: number of the clothes that the person wears, the same for the same clothes of one person; -1 = unknown.
        frames: the image files of a tracklet, in order, where a whole tracklet is one item; empty = an image.
        moment: when the image was taken; None = unknown, or not needed.
    """

    path: str
    pid: int
    camid: int
    viewid: int = -1
    tracklet: int = -1
    clothes: int = -1
    frames: tuple[str, ...] = ()
    moment: Moment | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The image files: the frames of a tracklet, or the image alone."""
        return self.frames or (self.path,)


@dataclass(frozen=True)
class ReidData:
    """A data set: its records, and the names of its cameras, views and people.

    Args:
        camera_names: name of each camid, prefixed by the data set ("market1501/c1") unless the user chose the names.
        view_names: name of each viewid; empty = the data set has no viewpoints.
        person_names: the user's names of the pids, if any.
        protocol: name of the rule for junk, in `PROTOCOLS`: "same-camera"; "own-file" where cameras are unknown, or there is
            only one; "none"; with `settings` that of the first.
        test_name: name of the data set of query and gallery, if not `name`.
        first_pids: first pid of each joined data set, ascending.
        left_out: pictures in its folders that are no records.
        settings: the evaluations that are reported for it; the first gives the figures that training selects by. Empty = one, of
            all queries and the whole gallery.
        places: name of a camera -> where it stands, if other cameras stand there too.
        num_source: the last training images, which are of a labelled source next to images without labels.
    Raises:
        ValueError: a record's camid or viewid has no name, a name is used twice, the protocol is unknown, or a test image lacks a
            label that a setting compares.
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
    settings: tuple[Setting, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    num_source: int = 0

    def __post_init__(self) -> None:
        if self.settings:
            object.__setattr__(self, "protocol", self.settings[0].protocol)  # the class is frozen
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
        for label in {label for one in self.settings for label in one.rule.labels} & LABELS.keys():
            self._check_known(label)

    def _check_known(self, label: str) -> None:
        """Raise UserError if a test image lacks a label that a protocol compares."""
        for record in (*self.query, *self.gallery):
            if self.label(record, label) < 0:
                raise UserError(
                    f"{self.name}: {record.path} has no {label}, which the protocols "
                    f"{', '.join(sorted({one.protocol for one in self.settings if label in one.rule.labels}))} compare; give it one"
                )

    def label(self, record: Record, name: str) -> int:
        """Return a record's label, a key of LABELS, as a number; equal numbers are equal labels, -1 = unknown."""
        return LABELS[name](self, record)

    @property
    def evaluations(self) -> tuple[Setting, ...]:
        """The settings; one of the data set's protocol if it has none."""
        return self.settings or (Setting(protocol=self.protocol),)

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
    def items(self) -> str:
        """What its records are: "images", or "tracklets" if there is one among them."""
        every = itertools.chain(self.query, self.gallery, self.train)
        return "tracklets" if any(record.frames for record in every) else "images"

    @property
    def target(self) -> list[Record]:
        """The training images without those of a labelled source."""
        return self.train[: len(self.train) - self.num_source]

    @property
    def source(self) -> list[Record]:
        """The training images of a labelled source."""
        return self.train[len(self.train) - self.num_source :]

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
        """Return the queries that no gallery image matches in any setting; the evaluation leaves them out.

        Args:
            contents: path -> content of the file, equal for copies; None, or a missing path: each path is another file.
        """
        alone = list(range(len(self.query)))
        for setting in self.evaluations:
            alone = self._unmatched(setting, alone, contents or {})
        return [self.query[place] for place in alone]

    def _unmatched(self, setting: Setting, places: Iterable[int], contents: Mapping[str, Hashable]) -> list[int]:
        """Return those of the places of queries that have no match in the setting."""
        rule = setting.rule

        def labels(record: Record) -> tuple[Hashable, ...]:
            own = {CAMERA: record.camid, FILE: contents.get(record.path) or record.path or object()}
            return tuple(own[name] if name in own else self.label(record, name) for name in rule.labels)

        of_person = defaultdict(set)  # pid -> labels of its gallery images, each once
        for record in (*self.gallery, *(self.query if setting.with_queries else ())):
            if self._is_from(record, setting.gallery_cameras):
                of_person[record.pid].add(labels(record))

        def has_match(query: Record) -> bool:
            own = labels(query)
            return self._is_from(query, setting.query_cameras) and any(
                all((a == b) == (name in rule.other) for name, a, b in zip(rule.labels, own, item))
                for item in of_person[query.pid]
            )

        return [place for place in places if not has_match(self.query[place])]

    def _is_from(self, record: Record, cameras: tuple[str, ...]) -> bool:
        return not cameras or self.camera_names[record.camid] in cameras


def _place(data: ReidData, record: Record) -> int:
    """Return the row of the first camera at the place of a record's camera."""
    name = data.camera_names[record.camid]
    place = data.places.get(name)
    if place is None:
        return record.camid
    return next(row for row, other in enumerate(data.camera_names) if data.places.get(other) == place)


LABELS: dict[str, Callable[[ReidData, Record], int]] = {  # a label of `protocol.py`, besides camera and file
    CLOTHES: lambda data, record: record.clothes,
    VIEW: lambda data, record: record.viewid,
    TRACKLET: lambda data, record: record.tracklet,
    PLACE: _place,
}


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
