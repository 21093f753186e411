"""Readers of data sets with occluded queries: Occluded-REID, Partial-REID and P-DukeMTMC-reID."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...records import ReidData
from ..image_names import build_records, read_images
from ..published_dataset import PublishedDataset, find_folder, find_part

OCCLUDED_REID = PublishedDataset(  # Zhuo et al., ICME 2018
    "occluded-reid",
    ("Occluded_REID", "OccludedREID"),
    "the folders occluded_body_images and whole_body_images with images such as 001/001_01.tif, or without folders per person",
    "https://github.com/tinajia2012/ICME2018_Occluded-Person-Reidentification_datasets",
    (0, 1000, 1000),
    (0, 200),
    2,
    ("", "occluded_body_images", "whole_body_images"),
    pattern=r"(?:\d+/)?(?P<pid>\d+)_",
    is_nested=True,
)
PARTIAL_REID = replace(  # Zheng et al., ICCV 2015
    OCCLUDED_REID,
    name="partial-reid",
    folders=("Partial_REID", "PartialREID", "Partial-REID_Dataset"),
    expected="the folders partial_body_images and whole_body_images with images such as 001_001.jpg: person, number",
    source="Partial Person Re-identification, Zheng et al., ICCV 2015: ask its authors",
    counts=None,
    people=(0, 60),
    subsets=("", "partial_body_images", "whole_body_images"),
)
P_DUKEMTMC = PublishedDataset(  # Zhuo et al., ICME 2018
    "p-dukemtmc",
    ("P-DukeMTMC-reid", "P-DukeMTMC-reID"),
    "the folders train, test/occluded_body_images and test/whole_body_images with images such as 0001_c2_f0046182.jpg, in folders "
    "per person or not; 24,143 images of 1,299 people in all",
    OCCLUDED_REID.source,
    subsets=("train", "test/occluded_body_images", "test/whole_body_images"),
    pattern=r"(?:.*/)?(?P<pid>\d+)_c(?P<camera>\d+)",
    is_nested=True,
)


def load_occluded(root: str | Path, published: PublishedDataset) -> ReidData:
    """Read Occluded-REID or Partial-REID, which are for the test only: occluded queries, whole people as the gallery.

    Raises:
        FileNotFoundError: the folder is missing, or one of its parts holds no image.
    """
    folder = find_folder(root, published, published.subsets[1:])
    (query, some), (gallery, others) = (
        read_images(find_part(folder, subset) or folder, published, camera=camera)
        for subset, camera in zip(published.subsets[1:], ("occluded", "whole"), strict=True)
    )
    return build_records(published, [], query, gallery, (*some, *others))
