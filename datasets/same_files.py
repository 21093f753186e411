"""Files with the same content, found without reading the others."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Hashable, Sequence

from ..common.files import digest
from ..common.inputs.regular_files import read_chunks


def number_contents(paths: Sequence[str], groups: Sequence[Hashable]) -> list[int]:
    """Return a number per path; it is equal for the same file, and for files of one group with the same bytes.

    Only files of a group with equal sizes are read.

    Args:
        groups: a group per path.
    """
    reals = {path: os.path.realpath(path) for path in paths}
    sizes = {real: _size(real) for real in set(reals.values())}
    keys = [(group, reals[path], sizes[reals[path]]) for path, group in zip(paths, groups, strict=True)]
    of_size = defaultdict(set)
    for group, real, size in keys:
        of_size[group, size].add(real)
    numbers: dict[Hashable, int] = {}
    contents: dict[str, str] = {}
    found = []
    for group, real, size in keys:
        key: Hashable = real
        if size and len(of_size[group, size]) > 1:
            if real not in contents:
                contents[real] = _content(real)
            key = (group, contents[real])
        found.append(numbers.setdefault(key, len(numbers)))
    return found


def _size(path: str) -> int:
    """Return the size in bytes; 0 for a file that is not there."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # ValueError: not a possible file name
        return 0


def _content(path: str) -> str:
    """Return the fingerprint of the file's bytes; the path if it cannot be read."""
    try:
        return digest(read_chunks(path))
    except (OSError, ValueError):  # ValueError: no regular file
        return path
