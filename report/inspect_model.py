"""Pictures of the model itself: attention on a few crops, position embeddings, side information."""

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
from ..processor.scoring.feature_file import FeatureSet
from .run_contents import CropAttention, EvaluatedSet, ModelPictures, SieEffect

NUM_CROPS = 5  # crops with attention
MOST_SIDE = 256  # crops embedded twice: with the row of an unknown camera, and with their own camera's
MAPS = {"rollout": attention_rollout, "last block": last_block_attention, "like the middle": patch_similarity}


def make_model_pictures(embedder: Embedder, test: EvaluatedSet | None, missing: dict[str, str]) -> ModelPictures:
    """Return the pictures of the model. Those that are impossible for this model or data are named in `missing`.

    Args:
        test: source of the crops; None = only pictures of the weights.
    """
    return ModelPictures(
        crops=_crops_with_attention(embedder, test, missing),
        positions=_positions(embedder.model, missing),
        side=_side(embedder, test, missing),
    )


def _crops_with_attention(
    embedder: Embedder, test: EvaluatedSet | None, missing: dict[str, str]
) -> list[CropAttention]:
    model = embedder.model
    if not has_attention(model):
        missing["Attention"] = f"{model.spec.name} has no attention over patches; vit_* and deit_* models do."
        return []
    if not has_parts(model):
        missing["Parts of the jigsaw"] = "the model was trained without it (MODEL.JPM False)."
    crops = _draw_queries(test) if test is not None else []
    if test is None or not crops:
        missing["Attention"] = "it needs images of the test set, and none can be shown."
        return []
    return _with_maps(embedder, test, crops)


def _draw_queries(test: EvaluatedSet) -> list[int]:
    """Return rows of queries of different people, drawn with a fixed seed; only readable images."""
    features = test.features
    order = np.random.default_rng(0).permutation(len(features.q_pids))
    first = np.sort(np.unique(features.q_pids[order], return_index=True)[1])
    return [
        query
        for query in order[first][:NUM_CROPS].tolist()
        if test.read is not None and test.read(features.q_names[query]) is not None
    ]


def _with_maps(embedder: Embedder, test: EvaluatedSet, crops: list[int]) -> list[CropAttention]:
    model, features = embedder.model, test.features
    cameras = [features.camera_names[camid] for camid in features.q_camids[crops]]
    planes = np.stack([embedder.planes(features.q_names[crop]) for crop in crops])
    images = embedder.preprocess.normalise(torch.from_numpy(planes).to(embedder.device))
    camids = name_rows(cameras, model.spec.cameras)[:-1].to(embedder.device)
    maps = {name: _array(find(model, images, camids)) for name, find in MAPS.items()}
    parts = _array(part_attention(model, images, camids)) if has_parts(model) else None
    return [
        CropAttention(
            image=planes[i].transpose(1, 2, 0),
            title=f"{features.person(features.q_pids[crop])}, {cameras[i].rsplit('/', 1)[-1]}",
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


def _side(embedder: Embedder, test: EvaluatedSet | None, missing: dict[str, str]) -> SieEffect | None:
    spec = embedder.model.spec
    rows = camera_similarity(embedder.model)
    if rows is None:
        missing["Side information"] = (
            "the model was trained without side information of cameras (MODEL.SIE_CAMERA False)."
            if not spec.sie_camera
            else "its table has only one camera, so there is nothing to compare."
        )
        return None
    side = SieEffect(spec.cameras, _array(rows))
    crops = _side_crops(test.features, spec.cameras) if test is not None else []
    if test is None or len(crops) < 2:
        missing["Effect of the side information"] = "it needs readable images of cameras that the model was trained on."
        return side
    return _effect(embedder, test.features, crops, side)


def _side_crops(features: FeatureSet, cameras: tuple[str, ...]) -> list[int]:
    """Return rows of gallery images of queried people in cameras that the model was trained on, drawn with a fixed seed."""
    rows = name_rows(features.camera_names, cameras).numpy()
    fit = np.flatnonzero(np.isin(features.g_pids, features.q_pids) & (rows[features.g_camids] >= 0))
    drawn = np.sort(np.random.default_rng(0).permutation(fit)[:MOST_SIDE])
    return [item for item in drawn.tolist() if Path(features.g_names[item]).is_file()]


def _effect(embedder: Embedder, features: FeatureSet, crops: list[int], side: SieEffect) -> SieEffect:
    """Return `side` with the similarities of the crops, embedded with the row of an unknown camera and with their own camera's."""
    names, pids = [features.g_names[crop] for crop in crops], features.g_pids[crops]
    cameras = [features.camera_names[camid] for camid in features.g_camids[crops]]
    rows = name_rows(cameras, side.cameras)[:-1].numpy()
    old, new = (cosines(embedder(names, known)) for known in (None, cameras))
    before, after = (between_cameras(values, pids, rows, len(side.cameras)) for values in (old, new))
    pairs = kinds_of_pairs(pids, rows).items()
    summary = {kind: (float(old[chosen].mean()), float(new[chosen].mean())) for kind, chosen in pairs}
    return SieEffect(side.cameras, side.rows, before, after, summary, len(crops))


def cosines(embeddings: np.ndarray) -> np.ndarray:
    """Return the cosine (N, N) between embeddings (N, D), their mean subtracted: it is common to all crops and separates nothing."""
    unit = normalize(torch.from_numpy(embeddings - embeddings.mean(0)))
    return (unit @ unit.T).numpy()


def kinds_of_pairs(pids: np.ndarray, cameras: np.ndarray) -> dict[str, np.ndarray]:
    """Return a mask (N, N) of the pairs of each kind, by its name; kinds without a pair are left out."""
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
    sums = member.T @ np.where(different, similarity, 0) @ member
    pairs = member.T @ different.astype(float) @ member
    return np.divide(sums, pairs, out=np.full_like(sums, np.nan), where=pairs > 0)
