"""What writes people into galleries: decisions, groups, and images of a person who is enrolled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitreid.benchmarks.attacks.gallery_writers import (
    FIRST,
    MODEL,
    Broken,
    G,
    Writer,
    add_as_second,
    check_keys,
    check_sound,
    keys_in,
    make,
    rows_of,
)
from vitreid.gallery import Gallery
from vitreid.gallery.identities.enrolled_images import NewPerson, PersonImage, enrol_person
from vitreid.gallery.identities.group_people import GroupingOptions, group_people
from vitreid.gallery.identities.person_columns import PERSON, read_people, write_people
from vitreid.gallery.keeping.decision_file import Decision, DecisionFile

EVE = NewPerson("Eve", "Ann", None, "e" * 32)
IMAGES = 3


def _decide(folder: Path, attempt: int) -> None:
    keys = [key.hex() for key in Gallery.open(folder / G).keys().to_pylist()[2 * attempt :][:2]]
    DecisionFile(folder / G).append([Decision("same", "Ann", tuple(keys))])


def _check_decisions(folder: Path, added: set[int]) -> None:
    check_keys(folder, added, [])
    _look_decisions(folder)


def _look_decisions(folder: Path) -> None:
    ids = [one.id for one in DecisionFile(folder / G).read()]
    if len(set(ids)) != len(ids):
        raise Broken("a decision is there twice")


def _group(folder: Path, attempt: int) -> None:
    gallery = Gallery.open(folder / G)
    found = group_people(gallery, GroupingOptions(threshold=("0.5", "0.9")[attempt % 2], regroup=True))
    write_people(gallery, found.before, found.after)


def _check_groups(folder: Path, added: set[int]) -> None:
    check_keys(folder, added, [])
    read_people(Gallery.open(folder / G))


def _enrol(folder: Path, attempt: int) -> None:
    draw = np.random.default_rng(0)
    pixels = [draw.integers(0, 256, (40, 20, 3), np.uint8) for _ in range(IMAGES)]
    vectors = rows_of(np.arange(IMAGES))
    images = [PersonImage(one, vector) for one, vector in zip(pixels, vectors, strict=True)]
    enrol_person(Gallery.open(folder / G), images, EVE, MODEL)


def _look_enrolled(folder: Path) -> None:
    """Raise Broken unless Eve has all of her rows or none, each with its image, and a decision only with the rows."""
    gallery = Gallery.open(folder / G)
    decided = any(one.id == EVE.id for one in DecisionFile(folder / G).read())
    rows = gallery.rows_of(gallery.ids[gallery.is_live])
    hers = [row for row in rows if row.get(PERSON) == EVE.name]
    if len(rows) - len(hers) != FIRST or len(hers) not in (0, IMAGES):
        raise Broken(f"{len(hers)} of {IMAGES} rows of the person, {len(rows)} in all")
    if missing := [row["path"] for row in hers if not gallery.image_path(row["path"]).is_file()]:
        raise Broken(f"{missing[0]} is missing")
    if decided and not hers and Gallery.open(folder / G).state == gallery.state:
        raise Broken("a decision without its rows")


def _check_enrolled(folder: Path, added: set[int]) -> None:
    check_sound(folder / G)
    _look_enrolled(folder)


def _prepare(folder: Path) -> None:
    make(folder / G)


PEOPLE_WRITERS: dict[str, Writer] = {
    "people decide": Writer(_prepare, _decide, _check_decisions, _look_decisions, add_as_second, frozenset({G})),
    "people group": Writer(
        _prepare, _group, _check_groups, lambda folder: keys_in(folder / G), add_as_second, frozenset({G})
    ),
    "people enrol": Writer(_prepare, _enrol, _check_enrolled, _look_enrolled, None, frozenset({G})),
}
