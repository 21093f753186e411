"""LOSS.DISTILL: the teacher's embeddings of the training images, computed once and kept with the run."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm
from yacs.config import CfgNode

from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.inputs.safetensors_file import open_safetensors, read_fact
from ...datasets import Record, ReidData
from ..distributed.image_digest import image_digest
from ..distributed.process_group import ALONE, Ranks
from ..embedding.embedder import Embedder
from ..runs.run_folder import TEACHER

logger = logging.getLogger(__name__)
FORMAT = "vitreid.teacher"  # key of our entry in the file's metadata


def build_teacher(cfg: CfgNode, data: ReidData, ranks: Ranks = ALONE) -> Tensor | None:
    """Return the teacher's embeddings of the training images, on all ranks; None without LOSS.DISTILL."""
    if not cfg.LOSS.DISTILL:
        return None
    kept = Path(cfg.OUTPUT_DIR) / TEACHER
    return ranks.from_first(lambda: teacher_embeddings(Path(cfg.LOSS.DISTILL), kept, data, cfg.MODEL.DEVICE))


def teacher_embeddings(path: Path, kept: Path, data: ReidData, device: str = "auto") -> Tensor:
    """Return the embeddings (N, T) of the N training images by the teacher at `path`; write them to `kept`.

    If `kept` has been written by the same teacher for the same images, nothing is computed.

    Raises:
        UserError: no such file, no model, or embeddings of other images.
    """
    images = image_digest(data.train)
    facts = _read_facts(path)
    if facts is not None:
        if facts.get("images") != images:
            raise UserError(
                f"LOSS.DISTILL: {path} holds the teacher's embeddings of other training images ({facts.get('images')}, here "
                f"{images}); give the teacher's model file instead"
            )
        return _read_embeddings(path, len(data.train))
    try:
        with torch.random.fork_rng(devices=[]):  # the run draws the same numbers whether the file is there or not
            teacher = Embedder(path, device)
    except (ValueError, OSError) as error:
        raise UserError(f"LOSS.DISTILL: {error}") from error
    facts = {"images": images, "teacher": teacher.fingerprint, "name": teacher.name}
    if _read_facts(kept) == facts:
        logger.info("LOSS.DISTILL: the embeddings of %s are in %s", path, kept)
        return _read_embeddings(kept, len(data.train))
    embeddings = _embed(teacher, data.train, data.camera_names)
    kept.parent.mkdir(parents=True, exist_ok=True)
    metadata = {FORMAT: json.dumps(facts)}
    write_atomically(kept, lambda temporary: save_file({"embeddings": embeddings}, temporary, metadata=metadata))
    logger.info("LOSS.DISTILL: %d images embedded by %s, kept in %s", len(embeddings), teacher.name, kept)
    return embeddings


def _embed(teacher: Embedder, records: Sequence[Record], camera_names: Sequence[str]) -> Tensor:
    """Return the embeddings (N, T) of the whole images, not augmented."""
    blocks = []
    for start in tqdm(range(0, len(records), teacher.batch_size), "teacher", unit="batch", disable=None, leave=False):
        part = records[start : start + teacher.batch_size]
        blocks.append(teacher([record.path for record in part], [camera_names[record.camid] for record in part]))
    return torch.cat([torch.from_numpy(block) for block in blocks])


def _read_facts(path: Path) -> dict[str, Any] | None:
    """Return what a file of embeddings is of; None if it is another kind of file, or does not exist."""
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    with open_safetensors(path, remedy="remove it") as file:
        return read_fact(file, FORMAT, path)


def _read_embeddings(path: Path, count: int) -> Tensor:
    """Return the embeddings in a file.

    Raises:
        UserError: they are not (`count`, T), or not finite.
    """
    with open_safetensors(path, remedy="remove it") as file:
        embeddings = file.get_tensor("embeddings")
    if embeddings.ndim != 2 or len(embeddings) != count or not embeddings.isfinite().all():
        raise UserError(
            f"LOSS.DISTILL: {path} holds {tuple(embeddings.shape)} values, some of them perhaps not finite; {count} rows of "
            "finite numbers are expected; remove it"
        )
    return embeddings
