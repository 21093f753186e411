"""A batch of images with labels, cameras and views."""

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
        """Return the batch on `device`; copies to a GPU are asynchronous, in the order of its current stream."""
        to_gpu = torch.device(device).type == "cuda"  # elsewhere the copy could read memory that is already freed
        moved = (getattr(self, item.name).to(device, non_blocking=to_gpu) for item in fields(self))
        return Batch(*moved)

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Mark the tensors as in use by `stream`, so that the allocator does not reuse their memory before its queued work is done."""
        for item in fields(self):
            getattr(self, item.name).record_stream(stream)
