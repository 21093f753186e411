"""Features saved in a run folder: found, and used only if they are the model's own for the images asked for."""

from __future__ import annotations

import logging
from pathlib import Path

from ..datasets import ReidData
from ..processor.embedding.embedder import Embedder, fingerprint_of
from ..processor.embedding.extract import EmbedSettings
from ..processor.scoring.feature_file import FeatureSet, load_features, read_facts

logger = logging.getLogger(__name__)


def find_features(
    folder: Path, settings: EmbedSettings, embedder: Embedder | None, data: ReidData | None
) -> FeatureSet | None:
    """Return the first saved features that are the embeddings of `data` by this model; None if there are none.

    Args:
        settings: the test embedding.
        embedder, data: None if unknown; then saved features are not compared with them.
    """
    for path in saved_features(folder):
        features = load_features(path)
        if reason := difference_of(features, settings, embedder, data):
            logger.warning("report: %s is not used: %s", path, reason)
        else:
            logger.info("report: the embeddings come from %s", path)
            return features
    return None


def saved_features(folder: Path) -> list[Path]:
    """Return the feature files in the run folder that were made with its own weights."""
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            source = read_facts(path)["about"].get("weights", "")
        except ValueError:  # a model
            continue
        if Path(source).parent.resolve() == folder.resolve():
            found.append(path)
    return found


def difference_of(
    features: FeatureSet, settings: EmbedSettings, embedder: Embedder | None, data: ReidData | None
) -> str:
    """Return why the features differ from what the model would compute, "" if nothing is known to differ."""
    if data is not None and features.dataset != data.evaluated:
        return f"it is about {features.dataset}, asked for is {data.evaluated}"
    for side, names in (("query", features.q_names), ("gallery", features.g_names)):
        if data is not None and names != [record.path for record in getattr(data, side)]:
            return f"its {side} images are not those of {data.evaluated} as it is now"
    if embedder is None:
        return ""
    asked = fingerprint_of(embedder.model, embedder.preprocess, settings)
    return "" if features.about.get("fingerprint") == asked else "its embeddings are of another model or other settings"
