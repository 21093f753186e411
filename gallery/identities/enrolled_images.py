"""People enrolled from images: rows of a gallery, the images in its folder, and a decision, which an undo takes back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.pictures import encode, fit
from ..keeping.decision_file import ENROL, Decision, DecisionFile
from ..keeping.row_keys import are_in, as_keys, digest_of, keys_of
from ..storage.file_names import ENROLLED
from ..storage.gallery import Gallery
from .decisions.decided_links import in_force
from .decisions.decided_people import read_decided
from .person_columns import CONFIRMED, PERSON, People, read_people, write_people

SIDE = 640  # pixels; larger images are scaled down before they are embedded and kept
MOST_FILES = 5000  # of a gallery
SUFFIX = ".png"  # without loss: the file has the embedding of its row


class EnrolmentConflictError(UserError):
    """The name or an image is there already, or an image was removed and stays out."""


class PersonImage(NamedTuple):
    """An image of a person.

    Args:
        pixels: (H, W, 3) uint8 RGB, as `kept_pixels` returned it.
        vector: (D,) its embedding.
    """

    pixels: np.ndarray
    vector: np.ndarray


class NewPerson(NamedTuple):
    """Whom the images show.

    Args:
        name: of the person, who is new.
        who: name of the visitor who says so.
        camera: that took the images, None = unknown.
        id: of the decision; the same person sent again with the same id is enrolled once.
    """

    name: str
    who: str
    camera: str | None
    id: str


def kept_pixels(pixels: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) as it is kept, at most SIDE pixels high and wide."""
    return fit(pixels, (SIDE, SIDE), enlarge=False)


def enrol_person(
    gallery: Gallery, images: Sequence[PersonImage], person: NewPerson, model: str
) -> tuple[Decision, list[int]]:
    """Add a person: image files, rows and the decision, all of them or none; return the decision and the ids of the rows.

    After a crash in between, the same images sent again complete it. The files are named by their pixels.

    Args:
        model: fingerprint of the model that made the embeddings.
    Raises:
        EnrolmentConflictError: there is another person of this name, an image is there, or was removed and stays out.
        UserError: another model, an embedding that no search can use, or the folder of the images is full or no folder.
        BlockingIOError: another program is writing the gallery.
        OSError: the disk is full; the gallery is as before.
    """
    file = DecisionFile(gallery.path)
    file.append([])  # makes the file, which needs the lock that is taken next
    by_name = {f"{ENROLLED}/{_digest(image.pixels)}{SUFFIX}": image for image in images}  # each image once
    with gallery.writing():
        gallery.info.check_model(gallery.path, model, "those of the images")
        keys = keys_of(pa.table({"path": list(by_name)}), gallery.home)
        decision = Decision(
            ENROL, person.who, tuple(key.hex() for key in keys.to_pylist()), name=person.name, id=person.id
        )
        earlier = file.read()
        if done := next((one for one in earlier if one.id == person.id), None):
            if (done.kind, done.name, done.rows) != (ENROL, person.name, decision.rows):
                raise EnrolmentConflictError(f"id: there is another decision {person.id}; send a new id")
            return done, _ids_of(gallery, keys)
        rows = np.stack([image.vector for image in by_name.values()])
        gallery.encoded(rows)  # refused before a file is written
        if not _is_half_done(gallery, keys, decision, earlier):
            _check_new(gallery, keys, person.name)
            _add(gallery, by_name, rows, person, model)
        try:
            file.append([decision])
        except BaseException:
            _remove(gallery, keys)
            raise
        return decision, _ids_of(gallery, keys)


def remove_person(gallery: Gallery, decision: Decision) -> int:
    """Remove the rows of a person who was enrolled, and the images; return how many rows. They may be enrolled again.

    The embeddings are on the disk until `compact`.
    """
    with gallery.writing():
        count = _remove(gallery, as_keys(bytes.fromhex("".join(decision.rows))))
        if count:
            people = read_people(gallery)
            write_people(gallery, people, people)  # identities.parquet lets go of the name
        return count


def _digest(pixels: np.ndarray) -> str:
    return digest_of(f"{pixels.shape}".encode() + np.ascontiguousarray(pixels).tobytes()).hex()


def _is_half_done(gallery: Gallery, keys: pa.Array, decision: Decision, earlier: Sequence[Decision]) -> bool:
    """Return whether the rows are there with the person's name but without a decision, as a crash leaves them."""
    known = {key for one in in_force(earlier) if one.kind == ENROL for key in one.rows}
    if not known.isdisjoint(decision.rows):
        return False
    names = _names_of(gallery, keys)
    return len(names) == len(keys) and set(names.values()) == {decision.name}


def _check_new(gallery: Gallery, keys: pa.Array, name: str) -> None:
    """Raise EnrolmentConflictError if an image or the name is there, or an image was removed."""
    if there := _names_of(gallery, keys):
        id, known = next(iter(there.items()))
        raise EnrolmentConflictError(
            f"image: it is in the gallery already, as row {id}{f' of {known!r}' if known else ''}"
        )
    if gallery.is_suppressed(keys).any():
        raise EnrolmentConflictError(
            "image: it was removed from this gallery and stays out; to let removed images in again: vitreid gallery allow"
        )
    people = read_people(gallery)
    if name in set(people.names.tolist()) | _given_names(gallery, people):
        raise EnrolmentConflictError(
            f"name: there is another {name!r}; choose another name, and merge the two if they are one person"
        )


def _given_names(gallery: Gallery, people: People) -> set[str]:
    """Return the names that decisions give to live rows; the records may not have them yet."""
    decided = read_decided(gallery, people)
    if decided is None:
        return set()
    live = set(decided.keys)
    return {name for key, name in decided.links.names.items() if key in live}


def _add(gallery: Gallery, by_name: dict[str, PersonImage], rows: np.ndarray, person: NewPerson, model: str) -> None:
    """Write the files, then the rows; without the rows the files are removed again."""
    folder, count = _folder(gallery, len(by_name)), len(rows)
    paths = [folder / Path(name).name for name in by_name]
    new = [path for path in paths if not path.exists()]
    columns = {
        "path": pa.array(list(by_name), pa.string()),
        "camera": pa.array([person.camera] * count, pa.string()),
        PERSON: pa.array([person.name] * count, pa.string()),
        CONFIRMED: pa.array([False] * count),
    }
    try:
        for path, image in zip(paths, by_name.values(), strict=True):
            write_atomically(path, partial(_write, encode(image.pixels, SUFFIX)))
        gallery.add(rows, pa.table(columns), model)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _folder(gallery: Gallery, num_new: int) -> Path:
    """Return the folder of the images, in that of the gallery; make it if it does not exist.

    Raises:
        UserError: it is a link, or holds too many files.
    """
    folder = gallery.path / ENROLLED
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(
            f"{ENROLLED} in the gallery's folder is no folder of its own, so no image is kept there; move it away"
        )
    folder.mkdir(exist_ok=True)
    if (count := len(os.listdir(folder))) + num_new > MOST_FILES:
        raise UserError(
            f"this gallery keeps {count:,} images of enrolled people, {MOST_FILES:,} at most; remove some first"
        )
    return folder


def _places_of(gallery: Gallery, keys: pa.Array) -> np.ndarray:
    """Return the places (n,) of the live rows with some keys."""
    return np.flatnonzero(are_in(gallery.keys(), keys) & gallery.is_live)


def _ids_of(gallery: Gallery, keys: pa.Array) -> list[int]:
    return gallery.ids[_places_of(gallery, keys)].tolist()


def _names_of(gallery: Gallery, keys: pa.Array) -> dict[int, str | None]:
    """Return id -> person of the live rows with some keys."""
    ids = _ids_of(gallery, keys)
    return {id: row.get(PERSON) for id, row in zip(ids, gallery.rows_of(ids), strict=True)} if ids else {}


def _remove(gallery: Gallery, keys: pa.Array) -> int:
    """Remove rows by their keys, then those of their files that lie in the folder of the images."""
    places = _places_of(gallery, keys)
    if not len(places):
        return 0
    paths = [Path(gallery.image_path(row["path"])) for row in gallery.rows_at(places)]
    count = gallery.remove(gallery.ids[places], reason=None)
    folder = gallery.path / ENROLLED
    for path in paths:
        if path.parent == folder and not folder.is_symlink():
            path.unlink(missing_ok=True)
    return count
