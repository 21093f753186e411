"""Student, averaged teacher, and the losses between them: DINO (Caron et al., ICCV 2021) and iBOT (Zhou et al., ICLR 2022)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...common.errors import MissingPackageError, UserError
from ...model import ReidModel
from ...model.backbones.vit import ViTBackbone
from ...model.backbones.vit_tokens import TokenFeatures, token_features, token_grid
from .projection_head import ProjectionHead

Losses = dict[str, Tensor]
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Views(NamedTuple):
    """The views of a batch of B images.

    Args:
        large: (2 * B, 3, H, W), crop by crop.
        small: (n * B, 3, h, w), crop by crop; n may be 0.
        mask: (2 * B, down, across) bool, the tokens of the large crops that the student does not see; None = it sees all.
    """

    large: Tensor
    small: Tensor
    mask: Tensor | None = None


class Branch(nn.Module):
    """A model with a head: the student, or the teacher.

    Args:
        model: its backbone is a ViT.
    """

    def __init__(self, model: ReidModel, head: ProjectionHead) -> None:
        super().__init__()
        self.model, self.head = model, head
        width: int = self.backbone.net.embed_dim
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    @property
    def backbone(self) -> ViTBackbone:
        """The ViT.

        Raises:
            UserError: the backbone is none.
        """
        backbone = self.model.backbone
        if not isinstance(backbone, ViTBackbone):
            raise UserError(
                f"MODEL.NAME: {self.model.spec.name} is no vision transformer; pre-training needs one, e.g. vit_small_patch16_224"
            )
        return backbone

    def forward(self, images: Tensor, mask: Tensor | None = None) -> TokenFeatures:
        """Return the features of images (B, 3, H, W); masked tokens are hidden."""
        return token_features(self.backbone, images, mask, self.mask_token)


class SelfDistillation(nn.Module):
    """Student and teacher. The student's outputs for each crop follow the teacher's for the large crops of the same image.

    The losses are those of the library `lightly`; they hold the centres of the teacher's outputs.

    Args:
        student: is trained; the teacher starts as a copy, and is its moving average.
        method: dino, or ibot: masked tokens of the student follow the teacher's tokens too, through the same head.
        student_temp, center_momentum: of the losses.
        patch_weight: of the loss of masked tokens.
    Raises:
        MissingPackageError: lightly is not installed.
    """

    def __init__(
        self,
        student: Branch,
        method: str = "ibot",
        student_temp: float = 0.1,
        center_momentum: float = 0.9,
        patch_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.patch_weight = patch_weight
        losses, outputs = _lightly_losses(), len(student.head.prototypes)
        options = {"student_temp": student_temp, "center_momentum": center_momentum}
        self.crop_loss: Any = losses.DINOLoss(outputs, warmup_teacher_temp_epochs=0, **options)
        self.patch_loss: Any = losses.IBOTPatchLoss(outputs, **options) if method == "ibot" else None

    @property
    def is_masking(self) -> bool:
        """Whether the student needs masks."""
        return self.patch_loss is not None

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the tokens (down, across) of images of `size` pixels; errors as `token_grid`."""
        return token_grid(self.student.backbone, size)

    def train(self, mode: bool = True) -> SelfDistillation:
        """Switch the student to training mode; of the teacher only the batch norms, whose statistics are then those of large crops."""
        super().train(mode)
        self.teacher.eval()
        for module in self.teacher.model.backbone.modules():
            if isinstance(module, BATCH_NORMS):
                module.train(mode)
        return self

    def forward(self, views: Views, teacher_temp: float) -> tuple[Losses, Losses]:
        """Return the loss terms and the figures of a batch, scalars by name; the centres move.

        The figures: `teacher_entropy` in nats of the teacher's output for a crop, on average; `batch_entropy` of its mean output
        over the batch (0 = all images have one output); `feature_std`, the standard deviation of the teacher's unit-length features
        over the large crops, times the root of their width: 1 = spread over all directions, 0 = collapsed.
        """
        with torch.no_grad():
            target = self.teacher(views.large)
            targets = self.teacher.head(target.pooled)  # (2 * B, K)
        seen = self.student(views.large, views.mask)
        pooled = [seen.pooled] + ([self.student(views.small).pooled] if len(views.small) else [])
        outputs = self.student.head(torch.cat(pooled))  # ((2 + n) * B, K)
        hidden = self._masked_outputs(target.patches, seen.patches, views.mask)
        size = len(views.large) // 2
        with torch.autocast(views.large.device.type, enabled=False):  # sums over thousands of prototypes need 32 bits
            figures = self._figures(target.pooled, targets, teacher_temp)  # before the centre moves
            terms = {"crops": self.crop_loss(list(targets.split(size)), list(outputs.split(size)), teacher_temp)}
            if hidden is not None:
                terms["patches"] = self.patch_weight * self.patch_loss(*hidden, views.mask, teacher_temp)
        return terms, figures

    def _masked_outputs(self, target: Tensor, seen: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """Return the outputs (masked tokens, K) of teacher and student; None without a mask. `target` and `seen` are (2 * B, N, D)."""
        if mask is None or not self.is_masking:
            return None
        hidden = mask.flatten(1)
        with torch.no_grad():
            targets = self.teacher.head(target[hidden])
        return targets, self.student.head(seen[hidden])

    @torch.no_grad()
    def _figures(self, pooled: Tensor, targets: Tensor, teacher_temp: float) -> Losses:
        shares = ((targets - self.crop_loss.center[0]) / teacher_temp).softmax(1)  # (2 * B, K)
        spread = F.normalize(pooled.float(), dim=1).var(0, unbiased=False).sum().sqrt()
        return {
            "teacher_entropy": entropy(shares).mean(),
            "batch_entropy": entropy(shares.mean(0, keepdim=True)).mean(),
            "feature_std": spread,
        }

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher's weights towards the student's: teacher = momentum * teacher + (1 - momentum) * student."""
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1 - momentum)

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield name and value of each parameter that is trained: the student's, without the neck, which no loss reads."""
        for name, parameter in self.student.named_parameters():
            if parameter.requires_grad and not name.startswith("model.neck."):
                yield name, parameter


def entropy(shares: Tensor) -> Tensor:
    """Return the entropy (N,) in nats of distributions (N, K)."""
    return -torch.xlogy(shares, shares).sum(1)


def _lightly_losses() -> Any:
    if find_spec("lightly") is None:
        raise MissingPackageError('vitreid pretrain: needs the extra: pip install "vitreid[ssl]"')
    return import_module("lightly.loss")
