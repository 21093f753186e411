"""Sightings: when and where the people of some records were seen, as a time line per camera."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ...common.errors import UserError

FIRST_DATE = 1e8  # seconds since 1970 (March 1973); smaller times count from the start of a recording
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)")


@dataclass(frozen=True)
class Sighting:
    """One row of a gallery that has a time.

    Args:
        id: of the row.
        camera: its name, None = unknown.
        start, end: seconds since 1970, or in a recording without a known start; equal for a single image.
        record: all of the row.
    """

    id: int
    camera: str | None
    start: float
    end: float
    record: Mapping[str, Any]

    def __str__(self) -> str:
        """Return camera and time in one line."""
        return f"{self.camera or 'unknown camera'}, {time_text(self.record)}"


class TimeLine:
    """Sightings in the order of time.

    Args:
        records: rows of a gallery, such as `SearchResult.rows` or `gallery.rows_of(ids)`; those without a time are left out.
    """

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        found = [sighting for record in records if (sighting := _sighting(record))]
        self.sightings = sorted(found, key=lambda sighting: (sighting.start, sighting.end, sighting.id))
        self._places = {sighting.id: place for place, sighting in enumerate(self.sightings)}

    def __len__(self) -> int:
        """Return the number of sightings."""
        return len(self.sightings)

    @property
    def cameras(self) -> dict[str | None, list[Sighting]]:
        """The sightings of each camera, in the order of time; the cameras in the order of their names, unknown last."""
        names = sorted({sighting.camera for sighting in self.sightings}, key=lambda name: (name is None, name))
        return {name: [one for one in self.sightings if one.camera == name] for name in names}

    def previous(self, id: int, same_camera: bool = False) -> Sighting | None:
        """Return the sighting before that of row `id`, None if it is the first.

        Args:
            same_camera: of the same camera.
        Raises:
            UserError: the row is not in the time line.
        """
        return next(self._others(self._place(id), -1, same_camera), None)

    def next(self, id: int, same_camera: bool = False) -> Sighting | None:
        """Return the sighting after that of row `id`, None if it is the last; as `previous`."""
        return next(self._others(self._place(id), 1, same_camera), None)

    def _place(self, id: int) -> int:
        if id not in self._places:
            raise UserError(f"time line: row {id} is not in it, or has no time")
        return self._places[id]

    def _others(self, place: int, step: int, same_camera: bool) -> Iterator[Sighting]:
        """Yield the sightings before or after a place, the closest first."""
        stop = len(self.sightings) if step > 0 else -1
        for other in range(place + step, stop, step):
            if not same_camera or self.sightings[other].camera == self.sightings[place].camera:
                yield self.sightings[other]


def _sighting(record: Mapping[str, Any]) -> Sighting | None:
    start = record.get("time")
    if start is None:
        return None
    end = record.get("end_time")
    return Sighting(record["id"], record.get("camera"), start, start if end is None else end, record)


def span(record: Mapping[str, Any]) -> tuple[datetime, datetime] | None:
    """Return first and last time of a record in the time zone of its camera (UTC if unknown); None without a date."""
    start, end = record.get("time"), record.get("end_time")
    if start is None or abs(start) < FIRST_DATE:
        return None
    try:
        zone = timezone(timedelta(seconds=offset_seconds(record.get("time_zone")) or 0))
        return datetime.fromtimestamp(start, zone), datetime.fromtimestamp(start if end is None else end, zone)
    except (ValueError, OverflowError, OSError):
        return None


def time_text(record: Mapping[str, Any]) -> str:
    """Return a record's time: a date, or from and to with the time zone; seconds in a recording without a start.

    >>> time_text({"time": 1769842800.0, "end_time": 1769842807.5, "time_zone": "+01:00"})
    '2026-01-31T08:00:00+01:00 to 08:00:07'
    >>> time_text({"time": 12.0, "end_time": 15.25}), time_text({"time": 12.0}), time_text({"time": None})
    ('12.0 to 15.2', '12.0', '-')
    """
    start, end = record.get("time"), record.get("end_time")
    if start is None:
        return "-"
    if (found := span(record)) is None:
        return str(start) if end is None else f"{start:.1f} to {end:.1f}"
    first, last = found
    text = first.isoformat(timespec="seconds").replace("+00:00", "Z")
    if end is None:
        return text
    day = "" if last.date() == first.date() else f"{last.date()}T"
    return f"{text} to {day}{last:%H:%M:%S}"


def offset_seconds(text: str | None) -> float | None:
    """Return an offset from UTC such as +01:00 in seconds; None if it is none.

    >>> offset_seconds("+01:00"), offset_seconds("-00:30"), offset_seconds(None)
    (3600.0, -1800.0, None)
    """
    match = _OFFSET.fullmatch(text or "")
    if match is None:
        return None
    return float(f"{match[1]}{int(match[2]) * 3600 + int(match[3]) * 60}")
