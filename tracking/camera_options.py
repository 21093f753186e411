"""Camera and start of recordings: for one, by a table, or by their names."""

from __future__ import annotations

import csv
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..common.errors import UserError
from ..common.inputs.regular_files import read_lines
from ..common.text import parse_moment
from .recordings import Recording, list_recordings

logger = logging.getLogger(__name__)
TABLE_COLUMNS = ("video", "camera", "start")
NAMED = 10  # recordings whose camera and start are logged
_CODES = {  # of strptime, as in a file name
    "Y": r"\d{4}",
    "m": r"\d\d",
    "d": r"\d\d",
    "H": r"\d\d",
    "M": r"\d\d",
    "S": r"\d\d",
    "y": r"\d\d",
    "f": r"\d{1,6}",
    "j": r"\d{3}",
    "z": r"[+-]\d\d:?\d\d",
    "s": r"\d{9,11}",
}
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)")


@dataclass(frozen=True)
class CameraOptions:
    """Camera and start of the recordings of an input.

    Args:
        camera: of all of them; None = as `table` or `name_pattern` says, else the recording's name.
        start: time of the first frame of a single recording, ISO 8601.
        time_zone: of starts without an offset; see `parse_zone`. None = UTC, and for a live source this machine's.
        table: CSV file with video, camera, start; see `with_table`.
        name_pattern: how names state camera and start; see `with_names`.
    """

    camera: str | None = None
    start: str | None = None
    time_zone: str | None = None
    table: str | None = None
    name_pattern: str | None = None

    @property
    def zone(self) -> tzinfo | None:
        """The time zone, None = not given."""
        return None if self.time_zone is None else parse_zone(self.time_zone)

    def recordings(self, source: str) -> list[Recording]:
        """Return the recordings that an input names, with camera and start, and log where these come from.

        Raises:
            UserError: `start` for several recordings, or as `list_recordings`, `with_table` and `with_names`.
        """
        zone, found = self.zone or timezone.utc, list_recordings(source)
        if self.name_pattern:
            found = with_names(found, self.name_pattern, zone)
        if self.table:
            found = with_table(found, self.table, zone)
        if self.start and len(found) > 1:
            raise UserError(
                f"--start: {source} holds {len(found)} recordings; give the start of each: --recordings TABLE.csv with the "
                "columns video, camera, start, or --name-pattern"
            )
        if self.start:
            found = [replace(found[0], start=parse_start(self.start, zone))]
        found = [replace(item, camera=self.camera or item.camera or item.name) for item in found]
        self._log(found)
        return found

    def _log(self, found: Sequence[Recording]) -> None:
        """Log camera and start of the first recordings."""
        for item in found[:NAMED]:
            start = "an unknown time" if item.start is None else item.start.isoformat(timespec="seconds")
            logger.info(
                "%s: camera %s, from %s", item.name, item.camera, "now" if item.live and not item.start else start
            )
        if len(found) > NAMED:
            logger.info("and %d more recordings", len(found) - NAMED)


def parse_zone(text: str) -> tzinfo:
    """Return a time zone: UTC, an offset such as +01:00, or a name such as Europe/Berlin.

    Raises:
        UserError: it is none of these.
    """
    if text.upper() in ("UTC", "Z"):
        return timezone.utc
    if offset := _OFFSET.fullmatch(text):
        sign = -1 if offset[1] == "-" else 1
        return timezone(sign * timedelta(hours=int(offset[2]), minutes=int(offset[3])))
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UserError(
            f"--time-zone: unknown zone {text!r}; give UTC, an offset such as +01:00, or a name such as Europe/Berlin"
        ) from error


def parse_start(text: str, zone: tzinfo, where: str = "--start") -> datetime:
    """Return a start: ISO 8601, in `zone` unless it has an offset.

    Raises:
        UserError: not ISO 8601; names `where`.
    """
    try:
        moment = parse_moment(text)
    except ValueError as error:
        raise UserError(f"{where}: expected a date and time such as 2026-01-31T08:00+01:00, got {text!r}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def with_table(recordings: Sequence[Recording], file: str | Path, zone: tzinfo) -> list[Recording]:
    """Return the recordings with camera and start of a CSV file with the columns video, camera, start.

    A video is named by its path from the folder of the CSV file, by its file name, or by that name without its suffix.

    Raises:
        FileNotFoundError: no such file.
        UserError: a column is missing, a start cannot be read, or a line names no recording, or two; names the line.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"--recordings: no file {str(file)!r}; expected a CSV with {', '.join(TABLE_COLUMNS)}")
    found = list(recordings)
    reader = csv.DictReader(read_lines(path))
    try:
        if missing := [name for name in TABLE_COLUMNS[:1] if name not in (reader.fieldnames or ())]:
            raise UserError(
                f"{path}:1: missing column {missing[0]}; found {', '.join(reader.fieldnames or ()) or 'nothing'}, expected "
                f"{', '.join(TABLE_COLUMNS)}"
            )
        for values in reader:
            where = f"{path}:{reader.line_num}"
            place = _find(found, (values.get("video") or "").strip(), path.parent, where)
            found[place] = _with_values(found[place], values, zone, where)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}:{reader.line_num + 1}: not a CSV file in UTF-8 ({error}); save it as such") from error
    return found


def _find(recordings: Sequence[Recording], video: str, folder: Path, where: str) -> int:
    wanted = os.path.abspath(folder / video)
    names = [(item.source, os.path.basename(item.source), item.name, Path(item.name).name) for item in recordings]
    exact = [place for place, known in enumerate(names) if wanted == known[0]]
    places = exact or [place for place, known in enumerate(names) if video in known[1:]]
    if len(places) == 1:
        return places[0]
    if not places:
        listed = ", ".join(item.name for item in recordings[:5]) + (", …" if len(recordings) > 5 else "")
        raise UserError(f"{where}: no recording {video!r} among {listed}; paths start at the CSV file's folder")
    raise UserError(f"{where}: {video!r} names {len(places)} recordings; give its path from the CSV file's folder")


def _with_values(recording: Recording, values: Mapping[str, str | None], zone: tzinfo, where: str) -> Recording:
    camera, start = ((values.get(name) or "").strip() for name in TABLE_COLUMNS[1:])
    return replace(
        recording,
        camera=camera or recording.camera,
        start=parse_start(start, zone, f"{where}: start") if start else recording.start,
    )


def with_names(recordings: Sequence[Recording], pattern: str, zone: tzinfo) -> list[Recording]:
    """Return the recordings with camera and start read from their names.

    Args:
        pattern: of the name without suffix: `{camera}`, the codes of strptime (%Y %m %d %H %M %S …), `*` for anything else; with
            a / in it, of the path from the input's folder.
    Raises:
        UserError: the pattern has neither camera nor date, or a name does not fit.
    """
    expression = _expression(pattern)
    return [_named(recording, pattern, expression, zone) for recording in recordings]


def _expression(pattern: str) -> re.Pattern[str]:
    """Return the pattern as a regular expression; the date's codes become groups in their order."""
    parts, codes = [], 0
    for token in re.findall(r"\{camera\}|%[A-Za-z%]|\*|.", pattern):
        if token == "{camera}":
            parts.append("(?P<camera>.+?)")
        elif token == "*":
            parts.append(".*?")
        elif token[0] == "%" and token[1:] in _CODES:
            parts.append(f"(?P<{token[1:]}{codes}>{_CODES[token[1:]]})")
            codes += 1
        elif token[0] == "%" and token != "%%":
            raise UserError(
                f"--name-pattern: unknown code {token}; choose from {', '.join(f'%{code}' for code in _CODES)}"
            )
        else:
            parts.append(re.escape(token[-1]))
    if not codes and "{camera}" not in pattern:
        raise UserError(
            f"--name-pattern: {pattern!r} has neither {{camera}} nor a date; write e.g. '{{camera}}_%Y-%m-%d_%H-%M-%S'"
        )
    try:
        return re.compile("".join(parts))
    except re.error as error:  # {camera} twice
        raise UserError(f"--name-pattern: cannot use {pattern!r} ({error}); name the camera once") from error


def _named(recording: Recording, pattern: str, expression: re.Pattern[str], zone: tzinfo) -> Recording:
    name = recording.name if "/" in pattern else Path(recording.name).name
    match = expression.fullmatch(name)
    if match is None:
        raise UserError(
            f"--name-pattern: {name!r} ({recording.source}) does not fit {pattern!r}; correct the pattern, or rename it"
        )
    groups = match.groupdict()
    camera = groups.pop("camera", None) or recording.camera
    return replace(recording, camera=camera, start=_start_of(groups, recording, zone) if groups else recording.start)


def _start_of(groups: Mapping[str, str], recording: Recording, zone: tzinfo) -> datetime:
    """Return the date in the groups of a name: their names start with a code of strptime."""
    if epoch := next((text for code, text in groups.items() if code[0] == "s"), None):
        return datetime.fromtimestamp(int(epoch), zone)
    try:
        moment = datetime.strptime(" ".join(groups.values()), " ".join(f"%{code[0]}" for code in groups))
    except ValueError as error:
        raise UserError(f"--name-pattern: no date in the name {recording.name!r} ({error})") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
