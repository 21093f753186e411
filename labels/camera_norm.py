"""Camera normalisation: the modes, and how many images of a camera its statistics need; one rule for every room.

Each camera has a bias of its embeddings (light, colours, angle) that all its images share. Subtracting the camera's mean
and dividing by its spread removes it, without labels and without training (ICLR 2025, arXiv:2502.10195).
"""

from __future__ import annotations

from collections.abc import Iterable

from ..common.errors import UserError

OFF, MEAN, FULL = "none", "mean", "full"
CAMERA_NORMS = {
    OFF: "embeddings as they are",
    MEAN: "subtract the mean of the camera",
    FULL: "subtract the mean of the camera and divide by its spread, per feature",
}
LEAST_IMAGES = 100  # of a camera: with 50 a real model got no better, with 25 worse; docs/evaluate.md has the figures


def postprocess_name(camera_norm: str, nfc: int = 0) -> str:
    """Return the key under which a threshold for processed embeddings is stored; "" = embeddings as they are.

    >>> postprocess_name("full", 2), postprocess_name("none")
    ('camera_norm full, nfc 2', '')
    """
    steps = {"camera_norm": "" if camera_norm == OFF else camera_norm, "nfc": nfc}
    return ", ".join(f"{step} {value}" for step, value in steps.items() if value)


def check_counts(counts: Iterable[tuple[str, int]], option: str) -> None:
    """Raise UserError, naming the cameras, if one has too few images for its statistics.

    Args:
        counts: name and number of gallery images of each camera that is asked for.
        option: what asks for the normalisation, for the message.
    """
    if few := [f"{name or 'an unknown camera'} ({count})" for name, count in counts if count < LEAST_IMAGES]:
        raise UserError(
            f"{option}: the mean and spread of a camera need {LEAST_IMAGES} images of it in the gallery; too few are from "
            f"{', '.join(few[:5])}; add images, or set it to {OFF}"
        )
