"""Writes of a gallery that a test kills: the folder holds the galleries G, S and T of tests/gallery/test_keeping.py."""

from pathlib import Path

import numpy as np

from vitreid.gallery import Gallery, compact, merge
from vitreid.gallery.keeping.suppress_changes import allow

MODEL = "sha256:a"


def add(folder):
    """Add two images, unless an earlier attempt has, and one that was removed."""
    gallery = Gallery.open(Path(folder) / "G")
    names = ["n0", "a0", "n1"]
    if not any(path.endswith("n0.jpg") for path in gallery.records["path"].to_pylist()):
        rows = np.eye(8, dtype=np.float32)[:3]
        gallery.add(rows, [{"path": f"/pictures/{name}.jpg"} for name in names], MODEL)


def remove(folder):
    """Remove b0."""
    gallery = Gallery.open(Path(folder) / "G")
    gallery.remove([id for id in (2,) if gallery.is_live[id]])


ACTS = {
    "add": add,
    "remove": remove,
    "merge": lambda folder: merge(Gallery.open(Path(folder) / "G"), [Path(folder) / "S", Path(folder) / "T"]),
    "compact": lambda folder: compact(Gallery.open(Path(folder) / "G")),
    "allow": lambda folder: allow(Gallery.open(Path(folder) / "G")),
}
