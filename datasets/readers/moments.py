"""When the image of a manifest's line was taken: from its columns time and end_time, or from its frame in a recording."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ...common.errors import UserError
from ...common.text import to_seconds
from ...labels.column_names import find_columns
from ..box_columns import plain_name, to_number
from ..records import TIME, Moment
from .box_crops import BoxPlace


class MomentColumns:
    """The columns of a table that say when its images were taken.

    Args:
        columns: of the table.
        where: file and line, for errors.
    """

    def __init__(self, columns: Sequence[str], where: str) -> None:
        named = {plain_name(column): column for column in reversed(columns)}
        found = {field: column for column, field in find_columns(columns, ("time", "tracklet"), where).items()}
        self._time, self._tracklet = found.get("time", ""), found.get("tracklet", "")
        self._end, self._frame, self._video = (named.get(name, "") for name in ("endtime", "frame", "video"))

    def read(self, values: Mapping[str, str | None], place: BoxPlace | None, where: str) -> Moment | None:
        """Return when the image of a line was taken, None if it does not say.

        The time counts before the frame. A frame counts in the file that a box is cut from, else in the column video, else in the
        recording that the tracklet's name starts with, as in `lobby/12`; without any of these it is not used. Boxes of
        one picture are of one moment.

        Args:
            place: of the box that is cut out, if there is one.
            where: file and line, for errors.
        Raises:
            UserError: a time or a frame is none; names the line.
        """
        columns = self._time, self._end, self._frame, self._video, self._tracklet
        time, end, frame, video, tracklet = ((values.get(name) or "").strip() for name in columns)
        start, stop = (_seconds(text, where) for text in (time, end))
        if start is not None:
            if stop is not None and stop < start:
                raise UserError(f"{where}: end_time {end} is before the time {time}")
            return Moment(TIME, start, start if stop is None else stop)
        if place is not None:
            return Moment(place.path, float(place.frame or 0), float(place.frame or 0))
        recording = video or tracklet.rpartition("/")[0]
        if not frame or not recording:
            return None
        number = to_number(frame, f"{where}: frame")
        return Moment(recording, number, number)


def _seconds(text: str, where: str) -> float | None:
    try:
        seconds = to_seconds(text)
    except UserError as error:
        raise UserError(f"{where}: {error}; if the column is something else, give it another name") from error
    if seconds is not None and math.isinf(seconds):
        raise UserError(f"{where}: the time {text} is infinite; give seconds or ISO 8601, or leave it empty")
    return seconds
