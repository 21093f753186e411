"""`vitreid gallery list | remove | update | allow | stats`: the rows of a gallery and what was removed from it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from vitreid.common.errors import UserError
from vitreid.common.text import plain_values, table, to_seconds
from vitreid.gallery import Gallery, compact
from vitreid.gallery.keeping.retention import age_of, expired_ids
from vitreid.gallery.keeping.statistics import statistics
from vitreid.gallery.keeping.suppress_changes import allow
from vitreid.gallery.keeping.suppress_list import EXPIRED, REMOVED
from vitreid.gallery.milvus.milvus_gallery import MilvusGallery
from vitreid.gallery.search.filter_hints import warn_of_absent
from vitreid.gallery.search.filters import Where
from vitreid.gallery.search.sightings import time_text
from vitreid.tools.cli.gallery_arguments import gallery_folder
from vitreid.tools.cli.subcommands import Subcommand

SHOWN = ("pid", "person", "camera", "time", "frame", "tracklet", "path")  # columns of `list`, where a row has them
NAMED = 3  # images named before they are removed


def list_rows(args: argparse.Namespace) -> str:
    """Return the rows that fulfil the conditions, as a table or JSON."""
    with opened(args.gallery) as gallery:
        ids = chosen_ids(gallery, args.where)
        names = ["id", *(args.columns.split(",") if args.columns else gallery.columns)]
        columns = list(dict.fromkeys(name.strip() for name in names if name.strip()))
        found = gallery.select(columns).take(pa.array(gallery.positions(ids[: args.limit])))
        rows, number = found.to_pylist(), len(gallery)
    if args.json:
        return json.dumps(plain_values(rows), indent=1)
    shown = columns if args.columns else ["id", *(name for name in SHOWN if name in columns and _has(rows, name))]
    lines = [shown, *([_text(name, row) for name in shown] for row in rows)]
    more = f"; the first {len(rows)}, --limit N shows more" if len(ids) > len(rows) else ""
    return f"{args.gallery}: {len(ids)} of {number} rows{more}" + ("\n" + table(lines, left=None) if rows else "")


def remove_rows(args: argparse.Namespace) -> str:
    """Remove the rows that fulfil the conditions or are too old; they stay out of later exports and merges."""
    if bool(args.where) == bool(args.expire_after):
        raise UserError("--where, --expire-after: say which rows, with one of the two")
    with (
        opened(args.gallery) as gallery,
        gallery.writing(),
    ):  # so that the rows that are counted are those that are removed
        is_folder = isinstance(gallery, Gallery)
        if args.compact and not is_folder:
            raise UserError("--compact: Milvus frees the space of removed rows itself; leave it out")
        if args.expire_after:
            ids, reason = expired_ids(gallery, age_of(args.expire_after)), EXPIRED
        else:
            ids, reason = chosen_ids(gallery, args.where), REMOVED
        what = f"{len(ids)} of {len(gallery)} rows"
        if not confirmed(args, f"{what} would be removed{_examples(gallery, ids)}"):
            return f"{args.gallery}: {what} would be removed{_examples(gallery, ids)} (--dry-run: nothing is changed)"
        before = len(gallery.suppressed)
        if len(ids):
            gallery.remove(ids, reason)
        if args.compact and isinstance(gallery, Gallery) and gallery.state.removed:
            compact(gallery)
        listed = len(gallery.suppressed) - before
    kept = "; their embeddings are on the disk until compact" * (is_folder and not args.compact and len(ids) > 0)
    return f"{args.gallery}: {what} removed, {listed} keys listed so that they stay out{kept}; their pictures are untouched"


def update_rows(args: argparse.Namespace) -> str:
    """Set columns of the rows that fulfil the conditions."""
    values = assignments(args.set)
    if not args.where:
        raise UserError("--where: say which rows, e.g. --where pid=visitor-002")
    with opened(args.gallery) as gallery, gallery.writing():
        ids = chosen_ids(gallery, args.where)
        what = f"{len(ids)} of {len(gallery)} rows"
        if not confirmed(args, f"{what} would change"):
            return f"{args.gallery}: {what} would change (--dry-run: nothing is changed)"
        if len(ids):
            gallery.update(ids, values)
    return f"{args.gallery}: {what} changed"


def allow_rows(args: argparse.Namespace) -> str:
    """Take keys off the list of removed rows, so that the next export or merge brings their rows back."""
    since = to_seconds(args.since)
    with opened(args.gallery) as gallery:
        listed = gallery.suppressed
        chosen = np.ones(len(listed), bool) if since is None else listed["time"].to_numpy() >= since
        if args.reason:
            chosen &= np.array([reason == args.reason for reason in listed["reason"].to_pylist()], bool)
        what = f"{int(chosen.sum())} of {len(listed)} keys of removed rows"
        if not confirmed(args, f"{what} would leave the list, and exports and merges could bring their rows back"):
            return f"{args.gallery}: {what} would leave the list (--dry-run: nothing is changed)"
        count, left = allow(gallery, since, args.reason), len(gallery.suppressed)
    return f"{args.gallery}: {count} keys left the list, {left} stay; export or merge again to bring rows back"


def show_statistics(args: argparse.Namespace) -> str:
    """Return the figures of a gallery, as a table or JSON."""
    with opened(args.gallery) as gallery:
        found = statistics(gallery)
    if args.json:
        return json.dumps(found, indent=1)
    found["suppressed"] = f"{sum(found['suppressed'].values())} keys of removed rows stay out" + _counted(
        found["suppressed"]
    )
    found["cameras"] = f"{len(found['cameras'])}" + _counted(found["cameras"])
    found["times"] = "no row has a time" if found["times"] is None else " to ".join(found["times"])
    size = found.pop("bytes")
    found["size"] = "as Milvus says" if size is None else f"{size / 1e6:.1f} MB"
    return table([(name.replace("_", " "), str(value)) for name, value in found.items()], left=None)


@contextmanager
def opened(path: str) -> Iterator[Gallery | MilvusGallery]:
    """Yield the gallery of the argument GALLERY, a folder or one in Milvus, which is closed afterwards."""
    gallery = Gallery.open(path)
    try:
        yield gallery
    finally:
        if isinstance(gallery, MilvusGallery):
            gallery.close()


def open_folder(path: str) -> Gallery:
    """Open the gallery of the argument GALLERY."""
    return Gallery.open(gallery_folder(path))


def chosen_ids(gallery: Gallery | MilvusGallery, conditions: Sequence[str]) -> np.ndarray:
    """Return the ids (n,) of the live rows that fulfil all conditions; log values that no row has."""
    where = Where.parse(conditions).typed(gallery.schema)
    live = gallery.is_live
    if isinstance(gallery, Gallery):
        warn_of_absent(gallery, where, live, set())
    names = list(dict.fromkeys(["id", *where.columns]))
    return gallery.ids[where.typed_mask(gallery.select(names)) & live]


def assignments(texts: Sequence[str]) -> dict[str, str | None]:
    """Return the columns of --set COLUMN=VALUE; an empty value means unknown.

    >>> assignments(["pid=visitor-002", "view="])
    {'pid': 'visitor-002', 'view': None}
    """
    pairs = [text.partition("=") for text in texts]
    if not pairs or not all(mark and name.strip() for name, mark, _ in pairs):
        raise UserError(f"--set: COLUMN=VALUE, e.g. --set camera=door-2026, got {' '.join(texts) or 'nothing'}")
    return {name.strip(): value.strip() or None for name, _, value in pairs}


def confirmed(args: argparse.Namespace, what: str) -> bool:
    """Return whether to write: True with --yes, False with --dry-run.

    Raises:
        UserError: neither was given; says what would be done.
    """
    if args.yes and args.dry_run:
        raise UserError("--yes, --dry-run: give one of them")
    if not args.yes and not args.dry_run:
        raise UserError(f"{args.gallery}: {what}; do it with --yes, or look only with --dry-run")
    return bool(args.yes)


def _examples(gallery: Gallery | MilvusGallery, ids: np.ndarray) -> str:
    names = [row["path"] for row in gallery.rows_of(ids[:NAMED])]
    return f": {', '.join(names)}{', …' if len(ids) > NAMED else ''}" if names else ""


def _counted(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{name} {count}' for name, count in counts.items())})" if counts else ""


def _has(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(row.get(name) not in (None, "") for row in rows)


def _text(name: str, row: Mapping[str, Any]) -> str:
    if name == "time" and row.get(name) is not None:
        return time_text(row)
    return "-" if row.get(name) is None else str(row[name])


ARGUMENTS: dict[str, dict[str, Any]] = {
    "--where": {
        "metavar": "CONDITION",
        "action": "append",
        "default": [],
        "help": "rows with pid=visitor-002, camera!=c1, 'time<2026-01-31T08:00', any column; repeatable, all must hold",
    },
    "--columns": {"metavar": "NAMES", "help": "columns to show, separated by commas"},
    "--limit": {"metavar": "N", "type": int, "default": 50, "help": "rows shown; default: 50"},
    "--expire-after": {"metavar": "AGE", "help": "rows whose time is longer ago than 30d (d days, h hours, w weeks)"},
    "--compact": {"action": "store_true", "help": "free the space of the removed rows at once"},
    "--set": {
        "metavar": "COLUMN=VALUE",
        "action": "append",
        "default": [],
        "help": "value of a column; nothing behind the = means unknown; repeatable",
    },
    "--since": {"metavar": "TIME", "help": "only rows removed since, e.g. 2026-01-31T08:00 (UTC)"},
    "--reason": {"choices": (REMOVED, EXPIRED), "help": "only rows removed by name, or by age"},
    "--yes": {"action": "store_true", "help": "do it; without it the command only says what it would do, and fails"},
    "--dry-run": {"action": "store_true", "help": "say what would be done, and change nothing"},
}
COMMANDS = {
    "list": Subcommand(
        list_rows,
        "show rows",
        "galleries/crops --where pid=visitor-002",
        ("gallery", "--where", "--columns", "--limit", "--json"),
    ),
    "remove": Subcommand(
        remove_rows,
        "remove rows; later exports and merges leave them out",
        "galleries/crops --where pid=visitor-002 --compact --yes",
        ("gallery", "--where", "--expire-after", "--compact", "--dry-run", "--yes"),
    ),
    "update": Subcommand(
        update_rows,
        "set columns of rows",
        "galleries/crops --where camera=door --set camera=door-2026 --yes",
        ("gallery", "--where", "--set", "--dry-run", "--yes"),
    ),
    "allow": Subcommand(
        allow_rows,
        "let removed rows come back with the next export or merge",
        "galleries/crops --since 2026-01-31T08:00 --yes",
        ("gallery", "--since", "--reason", "--dry-run", "--yes"),
    ),
    "stats": Subcommand(
        show_statistics,
        "show rows, people, cameras, times, what was removed, and size",
        "galleries/crops",
        ("gallery", "--json"),
    ),
}
