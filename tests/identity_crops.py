"""Crops of people as embeddings, in a gallery: for the tests of who is who."""

import numpy as np

from vitreid.gallery import Gallery, GalleryInfo

MODEL = "sha256:a"


def crops(num_people=8, images=8, dim=16, spread=0.3, seed=0, first=0):
    """Unit-length rows of some people and their records; the person's number is the pid."""
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(50, dim))[first : first + num_people]
    people = np.repeat(np.arange(num_people), images)
    rows = centres[people] + spread * np.random.default_rng(seed).normal(size=(len(people), dim))
    records = [
        {"path": f"{seed}/{first + person}-{i}.jpg", "pid": str(first + person), "camera": f"c{i % 3}"}
        for i, person in enumerate(people)
    ]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), records


def make(path, **options):
    rows, records = crops(**options)
    gallery = Gallery.create(path, GalleryInfo(MODEL, rows.shape[1], metric="cosine"))
    gallery.add(rows, records, MODEL)
    return gallery
