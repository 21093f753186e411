"""Seeded splits by identity: validation identities, query and gallery."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...common.errors import UserError
from ...labels.protocol import find_protocol
from ..records import Record, ReidData

FEWEST = 2  # identities that a model can be trained to distinguish
DRAWABLE = (
    "same-camera",
    "own-file",
    "none",
)  # protocols under which a query of training images has a match by its camera


def hold_out(data: ReidData, num_ids: int, seed: int) -> ReidData:
    """Hold `num_ids` training identities out as query and gallery, in the place of the test set.

    Raises:
        ValueError: no identity would remain for training, or the held-out ones give no query.
    """
    train, held = split_identities(data.train, num_ids, seed, "DATASETS.VAL_IDS")
    protocol = data.protocol if data.protocol in DRAWABLE else "same-camera"
    query, gallery = split_query_gallery(held, seed, protocol)
    if not query:
        raise UserError(
            f"DATASETS.VAL_IDS: none of the {num_ids} identities held out of {data.name} gives a query: each needs "
            f"{'images from two cameras' if find_protocol(protocol).ignores_own_camera else 'two images'}; hold out more"
        )
    left, count = len({record.pid for record in train}), len({record.pid for record in data.train})
    if left < FEWEST:
        most = f"take {count - FEWEST} or fewer" if count > FEWEST else "add people"
        raise UserError(
            f"DATASETS.VAL_IDS: cannot hold out {num_ids} identities: there are {count} in all, and {FEWEST} must stay for "
            f"training; {most}"
        )
    name = f"{data.name} validation ({num_ids} people)"
    return replace(data, train=train, query=query, gallery=gallery, test_name=name, protocol=protocol, settings=())


def split_identities(records: Sequence[Record], num_ids: int, seed: int, key: str) -> tuple[list[Record], list[Record]]:
    """Draw `num_ids` identities; return the records of the others, and of the drawn ones.

    Raises:
        ValueError: there are too few identities; names the config `key`.
    """
    pids = sorted({record.pid for record in records})
    if num_ids >= len(pids):
        raise UserError(f"{key}: cannot hold out {num_ids} identities, the training set has {len(pids)}; take fewer")
    drawn = {pids[place] for place in np.random.default_rng(seed).permutation(len(pids))[:num_ids]}
    return [r for r in records if r.pid not in drawn], [r for r in records if r.pid in drawn]


def split_query_gallery(records: Sequence[Record], seed: int, protocol: str) -> tuple[list[Record], list[Record]]:
    """Choose one query per identity and camera; all other images are the gallery, with a match for every query.

    A camera's only image of an identity stays in the gallery, unless no camera has two images of it: then one of its images is the
    query. Under a protocol that does not compare cameras there is one query per identity with two images.

    Returns:
        Query and gallery records, each in the order of `records`.
    """
    rng, chosen = np.random.default_rng(seed), set()
    by_camera = find_protocol(protocol).ignores_own_camera
    for cells in _cells(records, by_camera):
        if len(cells) < 2 and by_camera:
            continue  # seen by one camera: a distractor
        full = [cell for cell in cells if len(cell) >= 2]
        for cell in full or (cells[:1] if len(cells) >= 2 else []):
            chosen.add(cell[rng.integers(len(cell))])
    query = [record for place, record in enumerate(records) if place in chosen]
    return query, [record for place, record in enumerate(records) if place not in chosen]


def _cells(records: Sequence[Record], by_camera: bool) -> list[list[list[int]]]:
    """Return, for every identity, the positions of its images by camera, or as one camera."""
    places: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, record in enumerate(records):
        places[record.pid][record.camid if by_camera else -1].append(place)
    return [[cells[camera] for camera in sorted(cells)] for _, cells in sorted(places.items())]
