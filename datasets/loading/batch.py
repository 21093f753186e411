"""What the loaders yield, and the preprocessing that a checkpoint must remember."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class Batch:
    """A batch on its device.

    Args:
        images: (B, 3, H, W) float32, normalised; augmented in training.
        labels: (B,) int64 training classes; -1 = unknown.
        camids: (B,) int64 rows of the model's camera table; -1 = unknown.
        viewids: (B,) int64 rows of the model's view table; -1 = unknown.
        index: (B,) int64 positions in the loader's list of records.
    """

    images: Tensor
    labels: Tensor
    camids: Tensor
    viewids: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on `device`; on a GPU the copies may still go on, in the order of its stream."""
        to_gpu = torch.device(device).type == "cuda"  # others may read memory that is given back by then
        moved = (getattr(self, item.name).to(device, non_blocking=to_gpu) for item in fields(self))
        return Batch(*moved)

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory until `stream` has done what it was given so far, should the batch be dropped before."""
        for item in fields(self):
            getattr(self, item.name).record_stream(stream)
