"""Which images of a large set to pre-train on: those that a model still sees the same way after training on the target set.

The catastrophic forgetting score of TransReID-SSL (Luo et al., arXiv:2111.12084): exp(-d²), where d is the distance between the features
of the image by a model pre-trained on the large set, and by the same model after further pre-training on the target set.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm
from yacs.config import CfgNode

from ...common.csv_file import path_for_csv, write_csv
from ...common.errors import UserError
from ...common.files import check_output_file
from ...datasets import Record, build_data
from ...datasets.loading.clips import frame_records
from ..embedding.embedder import Embedder

logger = logging.getLogger(__name__)
BLOCK = 256  # images embedded at once
COLUMNS = ("path", "camid", "split", "score")
Embed = Callable[[Sequence[Record]], np.ndarray]  # B records -> (B, D) features


def forgetting_scores(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the scores (N,) of images, 0 to 1, from their features (N, D) by the two models; compared at unit length.

    >>> forgetting_scores(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])).round(3).tolist()
    [1.0, 0.135]
    """
    unit = [features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12) for features in (before, after)]
    return np.exp(-np.square(unit[0] - unit[1]).sum(1))


def highest(scores: np.ndarray, share: float) -> np.ndarray:
    """Return the positions of the `share` of the scores (N,) that is highest, at least one, in their order; of equal ones the first."""
    count = max(1, math.floor(share * len(scores)))
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def score_records(records: Sequence[Record], before: Embed, after: Embed) -> np.ndarray:
    """Return the scores (N,) of the images of N records, block by block: only the scores are kept."""
    blocks = []
    for start in tqdm(range(0, len(records), BLOCK), "score", unit="block", disable=None, leave=False):
        part = records[start : start + BLOCK]
        blocks.append(forgetting_scores(before(part), after(part)))
    return np.concatenate(blocks)


def build_chosen_images(
    cfg: CfgNode, before: str, after: str, share: float, output: Path, overwrite: bool = False
) -> int:
    """Write the `share` of the training images of the config's data sets with the highest scores as a manifest; return their number.

    Args:
        before, after: weight files of the two models, of equal width.
        output: the CSV file, for DATASETS.MANIFEST.
    Raises:
        UserError: a share outside 0 to 1, or models of different widths.
        OSError: as `check_output_file`, before the work.
    """
    if not 0 < share <= 1:
        raise UserError(f"--keep: a share above 0 and up to 1, got {share:g}")
    output = check_output_file("--choose", output, overwrite)
    models = [Embedder(path, cfg.MODEL.DEVICE) for path in (before, after)]
    data = build_data(cfg, unlabelled=True)
    records, names = frame_records(data.train), data.camera_names

    def embed_by(model: Embedder) -> Embed:
        return lambda part: model([one.path for one in part], [names[one.camid] for one in part])

    widths = [embed_by(model)(records[:1]).shape[1] for model in models]
    if widths[0] != widths[1]:
        raise UserError(
            f"--after: its features have {widths[1]} numbers, those of --before {widths[0]}; give two states of one model"
        )
    scores = score_records(records, *(embed_by(model) for model in models))
    kept = highest(scores, share)
    rows = [
        {
            "path": path_for_csv(Path(records[place].path), output.parent),
            "camid": names[records[place].camid],
            "split": "train",
            "score": f"{scores[place]:.6f}",
        }
        for place in kept
    ]
    write_csv(output, COLUMNS, rows)
    logger.info(
        "%d of %d images kept in %s, with scores from %s up",
        *(len(kept), len(scores), output, f"{scores[kept].min():.4f}"),
    )
    return len(kept)
