"""Merges data sets: pids and tracklets are shifted to stay distinct, cameras and views are matched by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..records import UNLABELLED, Record, ReidData


def join(parts: Mapping[str, ReidData], train: Sequence[str], test: str) -> ReidData:
    """Join the training records of the parts named in `train`; query, gallery and protocol are those of `test`."""
    cameras = tuple(dict.fromkeys(name for part in parts.values() for name in part.camera_names))
    views = tuple(dict.fromkeys(name for part in parts.values() for name in part.view_names))
    offset, tracklets, moved, first_pids = 0, 0, {}, []
    for name, part in parts.items():
        moved[name] = _move(part, offset, tracklets, cameras, views)
        first_pids.append(offset)
        records = (*moved[name].train, *moved[name].query, *moved[name].gallery)
        offset = max((record.pid + 1 for record in records if record.pid != UNLABELLED), default=offset)
        tracklets = max((record.tracklet + 1 for record in records if record.tracklet >= 0), default=tracklets)
    return ReidData(
        name="+".join(train),
        train=[record for name in dict.fromkeys(train) for record in moved[name].train],
        query=moved[test].query,
        gallery=moved[test].gallery,
        camera_names=cameras,
        view_names=views,
        person_names={pid: person for part in moved.values() for pid, person in part.person_names.items()},
        protocol=moved[test].protocol,
        test_name=moved[test].name,
        settings=moved[test].settings,
        places={camera: place for part in parts.values() for camera, place in part.places.items()},
        first_pids=tuple(first_pids),
    )


def with_test_people(data: ReidData) -> ReidData:
    """Return `data` with its query images, and those of the same people in its gallery, among its training images.

    Gallery images of people who are not queried are left out: some data sets give all their distractors one pid.
    """
    queried = {record.pid for record in data.query}
    added = [*data.query, *(record for record in data.gallery if record.pid in queried)]
    known = {record.path for record in data.train}
    return replace(data, train=[*data.train, *(one for one in dict.fromkeys(added) if one.path not in known)])


def _move(part: ReidData, offset: int, tracklets: int, cameras: tuple[str, ...], views: tuple[str, ...]) -> ReidData:
    """Return `part` with its pids raised by `offset`, its tracklets by `tracklets`, and camids and viewids as indices of the given names."""
    camids = [cameras.index(name) for name in part.camera_names]
    viewids = [*(views.index(name) for name in part.view_names), -1]  # the last entry maps viewid -1 to itself

    def moved(pid: int) -> int:
        return pid if pid == UNLABELLED else pid + offset

    def move(records: list[Record]) -> list[Record]:
        return [
            replace(
                record,
                pid=moved(record.pid),
                camid=camids[record.camid],
                viewid=viewids[record.viewid],
                tracklet=record.tracklet + tracklets if record.tracklet >= 0 else -1,
            )
            for record in records
        ]

    return replace(
        part,
        train=move(part.train),
        query=move(part.query),
        gallery=move(part.gallery),
        camera_names=cameras,
        view_names=views,
        person_names={pid + offset: person for pid, person in part.person_names.items()},
    )
