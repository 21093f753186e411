"""Saved features of several models, of the same images -> the figures of all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...common.errors import UserError
from ...evaluation import evaluate_fused
from ...labels.setting import ALL
from .feature_file import FeatureSet
from .figures import ScoreReport
from .postprocessing import Postprocess
from .thresholds import stored_calibration


def score_fused(sets: Sequence[FeatureSet], files: Sequence[Path], how: str, postprocess: Postprocess) -> ScoreReport:
    """Return the figures of the models' joint evidence, see `evaluate_fused`.

    Raises:
        UserError: a model has no probabilities, or the images differ; names the file.
    """
    first, processed = sets[0], [postprocess(features) for features in sets]
    probabilities = []
    for features, file in zip(processed, files, strict=True):
        calibration = stored_calibration(features.about)
        if calibration is None or calibration.probability is None:
            raise UserError(
                f"--fuse: the model of {file} has no probabilities: calibrate its weights on other data (vitreid test --calibrate), "
                "then save the features again"
            )
        if not features.same_images(processed[0]):
            raise UserError(f"--fuse: {file} and {files[0]} are of other images; save the features of one test set")
        probabilities.append(calibration.probability)
    setting = first.evaluations[0]
    if setting.draw != ALL:
        raise UserError(
            f"--fuse: not for {first.dataset}, whose evaluation draws galleries; evaluate each file on its own"
        )
    return ScoreReport(
        dataset=first.dataset,
        protocol=first.protocol,
        embed={},
        num_gallery=len(first.gallery),
        retrieval=evaluate_fused([features.under(setting).data for features in processed], probabilities, how=how),
        camera_names=first.camera_names,
        postprocess=postprocess.name,
        setting=setting,
    )
