"""Names of classes: when two mean one class, and those of COCO."""

from __future__ import annotations

from collections.abc import Sequence

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from ..common.errors import choose

PERSON = ("person", "people", "pedestrian", "human")  # names of the one class that this project is about
Names = Sequence[str | None]  # by class number; None = not a class


def same_class(wanted: str, name: str) -> bool:
    """Return whether a class's name is the wanted one; case does not matter.

    >>> same_class("person", "Pedestrian"), same_class("car", "Car"), same_class("car", "cart")
    (True, True, False)
    """
    wanted, name = wanted.strip().lower(), name.strip().lower()
    return wanted == name or (wanted in PERSON and name in PERSON)


def class_list(names: Names | str | None) -> Names | None:
    """Return the names; those of COCO for "coco80" or "coco91".

    Raises:
        UserError: another single text.
    """
    if names is None or not isinstance(names, str):
        return names
    return choose("class names", names, {"coco80": coco_names(80), "coco91": coco_names(91)})


def coco_names(num_classes: int | None) -> Names | None:
    """Return COCO's names for 80 classes without gaps, or for 90 or 91 by COCO's own numbers; None for other counts."""
    if num_classes not in (80, 90, 91):
        return None
    categories = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    named = [None if name in ("__background__", "N/A") else name for name in categories]
    return [name for name in named if name] if num_classes == 80 else named
