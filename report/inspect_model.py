"""What a report shows of the model itself: attention on a few crops, position embeddings, side information."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..datasets import name_rows
from ..model import ReidModel, attention_rollout, has_attention
from ..model.attention.maps import (
    camera_similarity,
    has_parts,
    last_block_attention,
    part_attention,
    patch_similarity,
    position_similarity,
)
from ..processor.embedding.embedder import Embedder
from . import Looks, Person, SideEffect, TestSet

NUM_PEOPLE = 5  # crops with attention
MOST_SIDE = 256  # crops embedded twice: as of an unknown camera, and with their own
MAPS = {"rollout": attention_rollout, "last block": last_block_attention, "like the middle": patch_similarity}


def look_into(embedder: Embedder, test: TestSet | None, missing: dict[str, str]) -> Looks:
    """Return the pictures of the model; those that it, or the data, does not allow are named in `missing` with the reason.

    Args:
        test: where the crops come from; None = no crops, only what the weights alone show.
    """
    model = embedder.model
    return Looks(
        people=_people(embedder, test, missing),
        positions=_positions(model, missing),
        side=_side(embedder, test, missing),
    )


def _people(embedder: Embedder, test: TestSet | None, missing: dict[str, str]) -> list[Person]:
    model = embedder.model
    if not has_attention(model):
        missing["Attention"] = f"{model.spec.name} has no attention over patches; vit_* and deit_* models do."
        return []
    if not has_parts(model):
        missing["Parts of the jigsaw"] = "the model was trained without it (MODEL.JPM False)."
    crops = _crops(test) if test is not None else []
    if test is None or not crops:
        missing["Attention"] = "it needs images of the test set, and there are none to show."
        return []
    return _with_maps(embedder, test, crops)


def _crops(test: TestSet) -> list[int]:
    """Return queries of different people, drawn with a fixed seed, whose images can be shown."""
    order = np.random.default_rng(0).permutation(len(test.q_pids))
    first = np.sort(np.unique(test.q_pids[order], return_index=True)[1])
    return [
        query
        for query in order[first][:NUM_PEOPLE].tolist()
        if test.read is not None and test.read(test.q_names[query]) is not None
    ]


def _with_maps(embedder: Embedder, test: TestSet, crops: list[int]) -> list[Person]:
    model, cameras = embedder.model, [test.camera_names[camid] for camid in test.q_camids[crops]]
    planes = np.stack([embedder.planes(test.q_names[crop]) for crop in crops])
    images = embedder.preprocess.normalise(torch.from_numpy(planes).to(embedder.device))
    camids = name_rows(cameras, model.spec.cameras)[:-1].to(embedder.device)
    maps = {name: _array(find(model, images, camids)) for name, find in MAPS.items()}
    parts = _array(part_attention(model, images, camids)) if has_parts(model) else None
    return [
        Person(
            image=planes[i].transpose(1, 2, 0),
            title=f"pid {test.q_pids[crop]}, {cameras[i].rsplit('/', 1)[-1]}",
            maps={name: values[i] for name, values in maps.items()},
            parts=list(parts[i]) if parts is not None else (),
        )
        for i, crop in enumerate(crops)
    ]


def _array(values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy()


def _positions(model: ReidModel, missing: dict[str, str]) -> np.ndarray | None:
    found = position_similarity(model)
    if found is None:
        missing["Position embeddings"] = f"{model.spec.name} has no learned position embedding."
    return None if found is None else _array(found)


def _side(embedder: Embedder, test: TestSet | None, missing: dict[str, str]) -> SideEffect | None:
    spec = embedder.model.spec
    rows = camera_similarity(embedder.model)
    if rows is None:
        missing["Side information"] = (
            "the model was trained without that of cameras (MODEL.SIE_CAMERA False)."
            if not spec.sie_camera
            else "its table has but one camera, so there is nothing to compare."
        )
        return None
    side = SideEffect(spec.cameras, _array(rows))
    crops = _side_crops(test, spec.cameras) if test is not None else []
    if test is None or len(crops) < 2:
        missing["Effect of the side information"] = "it needs readable images of cameras that the model knows."
        return side
    return _effect(embedder, test, crops, side)


def _side_crops(test: TestSet, cameras: tuple[str, ...]) -> list[int]:
    """Return gallery images of queried people in cameras that the model knows, drawn with a fixed seed."""
    rows = name_rows(test.camera_names, cameras).numpy()
    fit = np.flatnonzero(np.isin(test.g_pids, test.q_pids) & (rows[test.g_camids] >= 0))
    drawn = np.sort(np.random.default_rng(0).permutation(fit)[:MOST_SIDE])
    return [item for item in drawn.tolist() if Path(test.g_names[item]).is_file()]


def _effect(embedder: Embedder, test: TestSet, crops: list[int], side: SideEffect) -> SideEffect:
    """Return `side` with the similarities of the crops' embeddings, as of an unknown camera and with their own cameras."""
    names, pids = [test.g_names[crop] for crop in crops], test.g_pids[crops]
    cameras = [test.camera_names[camid] for camid in test.g_camids[crops]]
    rows = name_rows(cameras, side.cameras)[:-1].numpy()
    old, new = (cosines(embedder(names, known)) for known in (None, cameras))
    return SideEffect(
        side.cameras,
        side.rows,
        between_cameras(old, pids, rows, len(side.cameras)),
        between_cameras(new, pids, rows, len(side.cameras)),
        {
            kind: (float(old[chosen].mean()), float(new[chosen].mean()))
            for kind, chosen in kinds_of_pairs(pids, rows).items()
        },
        len(crops),
    )


def cosines(embeddings: np.ndarray) -> np.ndarray:
    """Return the cosine (N, N) between embeddings (N, D), their mean taken out: what all crops share tells nothing."""
    unit = normalize(torch.from_numpy(embeddings - embeddings.mean(0)))
    return (unit @ unit.T).numpy()


def kinds_of_pairs(pids: np.ndarray, cameras: np.ndarray) -> dict[str, np.ndarray]:
    """Return which pairs (N, N) of images are of which kind, by its name; kinds without a pair are left out."""
    same_person, same_camera = pids[:, None] == pids, cameras[:, None] == cameras
    kinds = {
        "same person, other camera": same_person & ~same_camera,
        "different people, same camera": ~same_person & same_camera,
        "different people, other camera": ~same_person & ~same_camera,
    }
    return {kind: chosen for kind, chosen in kinds.items() if chosen.any()}


def between_cameras(similarity: np.ndarray, pids: np.ndarray, cameras: np.ndarray, count: int) -> np.ndarray:
    """Return the mean similarity (count, count) of different people from camera to camera; NaN where there is no pair."""
    different = pids[:, None] != pids
    member = np.eye(count)[cameras]  # (N, count)
    sums, pairs = (
        member.T @ values @ member for values in (np.where(different, similarity, 0), different.astype(float))
    )
    return np.divide(sums, pairs, out=np.full_like(sums, np.nan), where=pairs > 0)
