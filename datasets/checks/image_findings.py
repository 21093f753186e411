"""Findings about images: unreadable, tiny or wide ones, and copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from ...labels.protocol import FILE, find_protocol
from .duplicates import DuplicateGroup, saved_again
from .entries import Listing
from .finding import Finding, first_few
from .read_files import FileScan

SMALLEST = (32, 16)  # (height, width) in pixels; smaller crops show hardly anything of a person


def check_images(
    listing: Listing, scan: FileScan, exact: Sequence[DuplicateGroup], near: Sequence[DuplicateGroup]
) -> list[Finding]:
    """Return the findings about the images of a data set."""
    return [*_unreadable(scan), *_tiny(scan), *_wide(scan), *_exact(listing, scan, exact), *_near(listing, near)]


def _unreadable(scan: FileScan) -> Iterable[Finding]:
    if scan.problems:
        yield Finding(
            "problem",
            "unreadable",
            len(scan.problems),
            f"{len(scan.problems)} of {len(scan.paths)} image files cannot be read: training would stop there",
            "copy them again, or leave them out: DATASETS.CORRUPT skip, or --fix cleaned.csv",
            first_few([f"{path}: {problem}" for path, problem in scan.problems.items()]),
        )


def _sized(scan: FileScan, is_odd: Callable[[int, int], bool]) -> list[str]:
    """Return path and size of the readable files with such a height and width."""
    sized = zip(scan.paths, scan.sizes.tolist())
    return [f"{path}: {width} x {height}" for path, (height, width) in sized if height and is_odd(height, width)]


def _tiny(scan: FileScan) -> Iterable[Finding]:
    if tiny := _sized(scan, lambda height, width: height < SMALLEST[0] or width < SMALLEST[1]):
        yield Finding(
            "warning",
            "tiny",
            len(tiny),
            f"{len(tiny)} images are smaller than {SMALLEST[1]} x {SMALLEST[0]} pixels (width x height)",
            "leave them out, or crop again from larger pictures",
            first_few(tiny),
        )


def _wide(scan: FileScan) -> Iterable[Finding]:
    """Images wider than high, which rarely show one standing or walking person."""
    if wide := _sized(scan, lambda height, width: width > height):
        yield Finding(
            "warning" if 20 * len(wide) > len(scan.paths) else "note",
            "wide",
            len(wide),
            f"{len(wide)} images are wider than high; resizing to the model's input would squeeze the people",
            "see whether they are crops of one person each, not rotated and not whole scenes",
            first_few(wide),
        )


def _exact(listing: Listing, scan: FileScan, copies: Sequence[DuplicateGroup]) -> Iterable[Finding]:
    groups = [
        ("problem", "copies-people", "under different people: at least one label is wrong", "has_two_people"),
        ("problem", "copies-sides", "in training and in the test set: the test is not fair", "has_two_sides"),
        ("problem", "copies-cameras", "under different cameras: at least one label is wrong", "has_two_cameras"),
    ]
    for level, name, words, which in groups:
        chosen = [group for group in copies if getattr(group, which)]
        if chosen:
            yield _finding(
                level, name, chosen, f"exact copies {words}", "look, and correct the labels by hand", listing
            )
    yield from _queries_in_gallery(listing, scan, copies)
    repeated = [group for group in copies if group.repeated()]
    if repeated:
        extra = sum(len(group.repeated()) for group in repeated)
        again = len(saved_again(repeated, scan))
        what = f"exact copies of the same person and camera in the same split, {extra} images too many"
        what += f" ({again} groups saved again with other bytes)" * bool(again)
        yield _finding("warning", "copies", repeated, what, "--fix cleaned.csv keeps the first of each", listing)


def _queries_in_gallery(listing: Listing, scan: FileScan, copies: Sequence[DuplicateGroup]) -> Iterable[Finding]:
    """Queries whose own picture is in the gallery. The same bytes are junk for them; pixels saved again are not noticed."""
    protocol = find_protocol(listing.data.protocol)
    free = [group for group in copies if group.found_for_free(protocol)]
    again = saved_again(free, scan)
    own = [group for group in free if group not in again]
    if own:
        ignored = FILE in protocol.same
        what = "queries whose own file, or an exact copy of it, is in the gallery: "
        what += "ignored there as junk" if ignored else f"found again for free under the protocol {protocol.name}"
        advice = (
            "the figures are right; leave the copies out if that was not meant" if ignored else "leave the copies out"
        )
        yield _finding("warning" if ignored else "problem", "own-file", own, what, advice, listing)
    if again:
        what = "queries whose own picture is in the gallery, saved again with other bytes: found again for free"
        yield _finding("problem", "own-picture", again, what, "leave these pictures out of the gallery", listing)


def _near(listing: Listing, copies: Sequence[DuplicateGroup]) -> Iterable[Finding]:
    groups = [
        ("near-people", "of different people: probably wrong labels", "has_two_people"),
        ("near-sides", "in training and in the test set", "has_two_sides"),
        ("near-cameras", "under different cameras: probably wrong camera labels", "has_two_cameras"),
    ]
    for name, words, which in groups:
        chosen = [pair for pair in copies if getattr(pair, which)]
        if chosen:
            what = f"pairs of nearly the same picture {words}"
            yield _finding("warning", name, chosen, what, "look at them, the closest stand first", listing)
    if harmless := [pair for pair in copies if not pair.is_conflict]:
        where = Counter(" and ".join(sorted({entry.split for entry in pair.entries})) for pair in harmless)
        yield Finding(
            "note",
            "near",
            len(harmless),
            f"{len(harmless)} pairs of nearly the same picture, of the same person in the same camera "
            f"({', '.join(f'{splits}: {number}' for splits, number in sorted(where.items()))}): neighbouring frames; no harm, "
            "though little is learnt from the second",
        )


def _finding(
    level: str, name: str, copies: Sequence[DuplicateGroup], what: str, advice: str, listing: Listing
) -> Finding:
    examples = [" = ".join(listing.describe(entry) for entry in group.entries[:3]) for group in copies]
    return Finding(level, name, len(copies), f"{len(copies)} {what}", advice, first_few(examples))
