"""Paths of the people of a built-in film, found in a gallery of its tracks and judged by its ground truth.

Nobody is twice in one picture: of the rows that a search returns, one that overlaps in time with a nearer one of its camera is
left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from vitreid.common.errors import UserError
from vitreid.datasets.synthetic.film_truth import FILM_START, FilmBox, Visit, read_paths, read_truth
from vitreid.gallery import Gallery
from vitreid.tracking.association.overlap import box_iou

COLUMNS = ("id", "camera", "time", "end_time", "frame", "x", "y", "width", "height")
LEAST_IOU = 0.3  # of a track's crop with the person that it shows
LEAST_SHARE = 0.5  # of a visit's time that must be found


@dataclass(frozen=True)
class FoundPath:
    """What a search for one person returned.

    Args:
        person: from 1; query: id of the gallery's row that was searched for: the person's first track.
        sightings: rows found that show the person, by time: within the threshold, in a camera one at a time.
        visits: where the person was; missed: those of which less than half was found.
        others: people whom rows found show instead.
    """

    person: int
    query: int | None
    sightings: list[dict[str, Any]]
    visits: list[Visit]
    missed: list[Visit]
    others: list[int]

    @property
    def is_complete(self) -> bool:
        """Whether every visit was found, and nobody else."""
        return not self.missed and not self.others


def find_paths(gallery: Gallery, film: Path) -> list[FoundPath]:
    """Search for each person of a film by the first track that shows them.

    Args:
        gallery: of the film's tracks, made with its cameras.csv.
    Raises:
        UserError: the gallery has no threshold, or no rows of tracks.
    """
    if gallery.info.threshold is None:
        raise UserError(
            "--gallery: it has no threshold; run `vitreid test --calibrate 0.001` on the weights before the export"
        )
    missing = [name for name in COLUMNS if name not in gallery.columns]
    if missing:
        raise UserError(
            f"--gallery: no rows of tracks (no column {missing[0]}); export the film with --boxes FILM/boxes.csv"
        )
    rows = gallery.select(COLUMNS).to_pylist()
    people = [person_of(row, truth) for truth in [_Truth(film)] for row in rows]
    return [_find_path(gallery, rows, people, visits) for visits in _by_person(read_paths(film))]


def _by_person(visits: Sequence[Visit]) -> Iterator[list[Visit]]:
    for person in sorted({visit.person for visit in visits}):
        yield [visit for visit in visits if visit.person == person]


class _Truth:
    """The true boxes of a film, by camera and frame; each camera is read once."""

    def __init__(self, film: Path) -> None:
        self._film = film
        self._frames: dict[str, dict[int, list[FilmBox]]] = {}

    def at(self, camera: str, frame: int) -> list[FilmBox]:
        """Return the boxes of a frame.

        Raises:
            UserError: the film has no such camera.
        """
        if camera not in self._frames:
            if not (self._film / camera / "gt" / "gt.txt").is_file():
                raise UserError(
                    f"--gallery: camera {camera!r} is not in {self._film}; export with --recordings FILM/cameras.csv"
                )
            frames: dict[int, list[FilmBox]] = {}
            for one in read_truth(self._film, camera):
                frames.setdefault(one.frame, []).append(one)
            self._frames[camera] = frames
        return self._frames[camera].get(frame, [])


def person_of(row: Mapping[str, Any], truth: _Truth) -> int:
    """Return the person whom a row's crop shows, 0 = nobody."""
    there = truth.at(row["camera"], row["frame"])
    box = np.array([[row["x"], row["y"], row["x"] + row["width"], row["y"] + row["height"]]])
    overlap = box_iou(box, np.array([one.box for one in there]).reshape(-1, 4))[0]
    return there[int(overlap.argmax())].person if overlap.max(initial=0) >= LEAST_IOU else 0


def _find_path(
    gallery: Gallery, rows: Sequence[dict[str, Any]], people: Sequence[int], visits: list[Visit]
) -> FoundPath:
    """Search for the person of the visits."""
    person = visits[0].person
    own = sorted((row["time"], place) for place, row in enumerate(rows) if people[place] == person)
    if not own:
        return FoundPath(person, None, [], visits, visits, [])
    query = own[0][1]
    vector = gallery.info.decode(gallery.embeddings[query : query + 1])
    result = gallery.search(vector, len(rows))[0]
    places = {row["id"]: place for place, row in enumerate(rows)}
    assert result.is_match is not None  # the gallery has a threshold
    matches = [places[number] for number, is_match in zip(result.ids.tolist(), result.is_match) if is_match]
    found = one_at_a_time(rows, [query, *(place for place in matches if place != query)])
    sightings = sorted((rows[place] for place in found if people[place] == person), key=lambda row: row["time"])
    missed = [visit for visit in visits if _share_found(visit, sightings) < LEAST_SHARE]
    others = sorted({people[place] for place in found} - {person, 0})
    return FoundPath(person, rows[query]["id"], sightings, visits, missed, others)


def one_at_a_time(rows: Sequence[Mapping[str, Any]], places: Sequence[int]) -> list[int]:
    """Return those of the places of rows, nearest first, whose rows overlap in time with no nearer one of their camera.

    >>> rows = [{"camera": "a", "time": start, "end_time": start + 5} for start in (0, 4, 6)]
    >>> one_at_a_time(rows, [0, 1, 2]), one_at_a_time(rows, [1, 0, 2])
    ([0, 2], [1])
    """
    kept: list[int] = []
    for place in places:
        row, others = rows[place], [rows[one] for one in kept if rows[one]["camera"] == rows[place]["camera"]]
        if all(row["time"] >= other["end_time"] or row["end_time"] <= other["time"] for other in others):
            kept.append(place)
    return kept


def _share_found(visit: Visit, sightings: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of a visit's time in which it was found."""
    begin, length = FILM_START.timestamp(), max(visit.end - visit.start, 1e-9)
    shared = (
        min(visit.end, row["end_time"] - begin) - max(visit.start, row["time"] - begin)
        for row in sightings
        if row["camera"] == visit.camera
    )
    return sum(max(0.0, seconds) for seconds in shared) / length


def path_text(path: FoundPath) -> str:
    """Return a path in one line: "camera a 08:00:03-08:00:12 -> camera b 08:00:16-08:00:20"."""
    steps = [f"camera {row['camera']} {_clock(row['time'])}-{_clock(row['end_time'])}" for row in path.sightings]
    text = f"person {path.person}: " + (" -> ".join(steps) or "no track shows this person")
    if path.missed:
        text += "; missed: " + ", ".join(
            f"camera {one.camera} {_of_film(one.start)}-{_of_film(one.end)}" for one in path.missed
        )
    return text + (f"; also found: person {', '.join(map(str, path.others))}" if path.others else "")


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(round(moment), FILM_START.tzinfo).strftime("%H:%M:%S")


def _of_film(seconds: float) -> str:
    return (FILM_START + timedelta(seconds=round(seconds))).strftime("%H:%M:%S")
