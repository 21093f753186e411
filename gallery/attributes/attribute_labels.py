"""The attributes of labelled people: a CSV file, or the `.mat` file of Market-1501 or DukeMTMC-reID [Lin et al., PR 2019]."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import UserError
from ...common.inputs.mat_file import read_mat
from ...common.inputs.regular_files import read_text
from ..keeping import row_keys
from ..storage.records_file import CORE

PID = "pid"
CSV_BYTES, MAT_BYTES = (
    2**26,
    2**18,
)  # largest files; the published ones have 10 KB, and a .mat file unpacks to much more
MOST_ATTRIBUTES = 1000
PROBABILITY = "_probability"  # suffix of the column with the probability of a predicted value
RESERVED = {  # columns of records with a meaning
    *CORE.names,
    *row_keys.COLUMNS,
    *("person", "person_fit", "person_confirmed", "time_of_day", "end_time", "duration"),
}
_YES = ("no", "yes")
_VALUES = {  # attribute of the .mat files -> its name, and its values from 1
    "gender": ("gender", ("male", "female")),
    "age": ("age", ("young", "teenager", "adult", "old")),
    "hair": ("hair", ("short", "long")),
    "up": ("sleeves", ("long", "short")),
    "top": ("upper_length", ("short", "long")),
    "down": ("lower_length", ("long", "short")),
    "clothes": ("lower_kind", ("dress", "trousers")),
    "shoes": ("shoes", ("dark", "light")),
    **{name: (name, _YES) for name in ("hat", "boots", "backpack", "bag", "handbag")},
}
_COLOURS = {"up": "upper_colour", "down": "lower_colour"}  # upred, downblue …: at most one of a person is yes


@dataclass(frozen=True)
class AttributeLabels:
    """What is known of people.

    Args:
        people: person -> attribute -> value; an attribute that is not known of a person is missing.
        source: file, for messages.
    """

    people: Mapping[str, Mapping[str, str]]
    source: str

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The attributes, in the order in which they appear."""
        return tuple(dict.fromkeys(name for values in self.people.values() for name in values))

    @cached_property
    def _without_zeros(self) -> dict[str, str]:
        """Number without leading zeros -> person, where there is only one."""
        counts = Counter(map(_bare, self.people))
        return {_bare(person): person for person in self.people if counts[_bare(person)] == 1}

    def of(self, pids: Sequence[str | None], name: str) -> np.ndarray:
        """Return (n,) values of an attribute for rows of some people, None = not known; person 2 is also 0002."""
        found = (self.person(pid) for pid in pids)
        values = [None if person is None else self.people[person].get(name) for person in found]
        return np.array(values + [None], object)[:-1]  # one more: else no array of objects if all are None

    def person(self, pid: str | None) -> str | None:
        """Return the labelled person that a row's pid is, under the name of the labels; None = none of them."""
        if pid is None or pid in self.people:
            return pid
        return self._without_zeros.get(_bare(pid))


def _bare(pid: str) -> str:
    return (pid.lstrip("0") or "0") if pid.isdecimal() else pid


def read_labels(path: str | Path) -> AttributeLabels:
    """Read the attributes of people: a CSV file with the column pid and one column per attribute, or a published `.mat` file.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is damaged, a person has two values of an attribute, or there is no attribute; names the line.
    """
    path = Path(path)
    rows = _rows_of_mat(path) if path.suffix.lower() == ".mat" else _rows_of_csv(path)
    people: dict[str, dict[str, str]] = {}
    for place, person, values in rows:
        known = people.setdefault(person, {})
        for name, value in values.items():
            if known.setdefault(name, value) != value:
                raise UserError(
                    f"{place}: {name} of person {person} is {value!r}, and {known[name]!r} before; give one value for each person"
                )
    labels = AttributeLabels(people, str(path))
    for name in labels.names:
        check_name(name, str(path))
    if not labels.names:
        raise UserError(f"{path} holds no attribute of a person; give a column pid and one column for each attribute")
    return labels


def check_name(name: str, source: str) -> None:
    """Raise UserError for a name that cannot be a column of predictions."""
    if name in RESERVED or name.endswith(PROBABILITY):
        raise UserError(f"{source}: the attribute {name!r} has the name of a column with another meaning; rename it")
    if not name.strip() or set(name) & set("=!<>,"):
        raise UserError(
            f"{source}: the attribute {name!r} cannot be asked for in --where; give it a name without = ! < > and commas"
        )


def _rows_of_csv(path: Path) -> Iterator[tuple[str, str, dict[str, str]]]:
    try:
        rows = csv.DictReader(io.StringIO(read_text(path, CSV_BYTES).removeprefix("\ufeff"), newline=""), strict=True)
        names = [name.strip() for name in rows.fieldnames or ()]
        if PID not in names or len(set(names)) < len(names):
            raise UserError(f"{path}: the columns are {', '.join(names[:20])}; expected {PID} and each attribute once")
        if len(names) > MOST_ATTRIBUTES:
            raise UserError(f"{path}: {len(names)} columns; up to {MOST_ATTRIBUTES} are read")
        rows.fieldnames = names
        for row in rows:
            place = f"{path}, line {rows.line_num}"
            if None in row or None in row.values():
                raise UserError(f"{place}: another number of values than columns ({len(names)})")
            values = {name: value.strip() for name, value in row.items() if value.strip()}
            person = values.pop(PID, "")
            if not person:
                raise UserError(f"{place}: no pid; give the name or number of the person")
            yield place, person, values
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no CSV file in UTF-8 ({error}); save it as one") from error


def _rows_of_mat(path: Path) -> Iterator[tuple[str, str, dict[str, str]]]:
    held = read_mat(path, MAT_BYTES)
    try:
        whole = next(value for name, value in held.items() if name.endswith("_attribute"))
        rows = [row for name in ("train", "test") for row in _people_of(whole[name])]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, StopIteration, OverflowError) as error:
        raise UserError(
            f"{path}: expected market_attribute or duke_attribute with train and test, each with image_index and attributes "
            f"({error!r:.100}); download it again, or give a CSV file"
        ) from error
    yield from ((str(path), person, values) for person, values in rows)


def _people_of(columns: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    people = [str(person) for person in columns["image_index"]]
    for place, person in enumerate(people):
        values: dict[str, str] = {}
        colours: dict[str, list[str]] = {name: [] for name in _COLOURS.values()}
        for field, numbers in columns.items():
            if field in _VALUES:
                name, texts = _VALUES[field]
                number = int(numbers[place])
                if 1 <= number <= len(texts):
                    values[name] = texts[number - 1]
            elif (part := _part_of(field)) and int(numbers[place]) == 2:
                colours[_COLOURS[part]].append(field.removeprefix(part))
        yield person, values | {name: found[0] for name, found in colours.items() if len(found) == 1}


def _part_of(field: str) -> str | None:
    """Return up or down for the field of a colour."""
    return next((part for part in _COLOURS if field.startswith(part)), None)
