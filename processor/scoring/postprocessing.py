"""Features of a test set -> features without the cameras' biases, centred on their neighbours: before any ranking."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from yacs.config import CfgNode

from ...common.errors import UserError, choose
from ...datasets import ReidData
from ...evaluation import centralise, centralise_queries, normalise_cameras
from ...labels.camera_norm import CAMERA_NORMS, OFF, check_counts, postprocess_name
from .feature_file import FeatureSet


@dataclass(frozen=True)
class Postprocess:
    """What is done to the embeddings before they are compared.

    Args:
        camera_norm: a key of CAMERA_NORMS.
        nfc: mutual neighbours considered, 0 = none.
    """

    camera_norm: str = OFF
    nfc: int = 0

    def __post_init__(self) -> None:
        """Raise UserError if the camera normalisation is unknown."""
        choose("TEST.CAMERA_NORM", self.camera_norm, CAMERA_NORMS)

    @property
    def name(self) -> str:
        """The key under which a threshold for such embeddings is stored; "" = embeddings as they are."""
        return postprocess_name(self.camera_norm, self.nfc)

    def check(self, data: ReidData) -> None:
        """Raise UserError, before the images are embedded, if the gallery has too few images."""
        if self.nfc >= len(data.gallery):
            raise UserError(
                f"TEST.NFC: {self.nfc} neighbours are asked for, the gallery has {len(data.gallery)}; take fewer"
            )
        if self.camera_norm != OFF:
            counts = Counter(record.camid for record in data.gallery)
            cameras = sorted({record.camid for record in (*data.query, *data.gallery)})
            names = [(data.camera_names[camera] if camera >= 0 else "", counts[camera]) for camera in cameras]
            check_counts(names, "TEST.CAMERA_NORM")

    def __call__(self, features: FeatureSet) -> FeatureSet:
        """Return the features with other embeddings, and the name of what was done in `about`; themselves if it is done."""
        if features.about.get("postprocess", "") == self.name:
            return features
        query, gallery = normalise_cameras(*features.arrays[:2], *features.arrays[4:], mode=self.camera_norm)
        if self.nfc:
            query, gallery = centralise_queries(query, gallery, self.nfc), centralise(gallery, self.nfc)
        return replace(features, query=query, gallery=gallery, about={**features.about, "postprocess": self.name})


def build_postprocess(cfg: CfgNode) -> Postprocess:
    """Return what the config asks for."""
    return Postprocess(cfg.TEST.CAMERA_NORM, cfg.TEST.NFC)
