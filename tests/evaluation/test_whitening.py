"""Whitening against scikit-learn's PCA, and what it leaves alone."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from vitreid.common.errors import UserError
from vitreid.evaluation.postprocess import whitening
from vitreid.evaluation.postprocess.whitening import whiten


@pytest.fixture
def features() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.standard_normal((200, 6)) * [5, 3, 2, 1, 0.5, 0.2] @ np.linalg.qr(rng.standard_normal((6, 6)))[0]


def cosines(rows: np.ndarray) -> np.ndarray:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.mark.parametrize("power", [0.0, 0.3, 0.5, 1.0])
def test_cosines_are_those_of_scikit_learns_principal_axes(features, power):
    pca = PCA().fit(features)
    expected = pca.transform(features) / pca.explained_variance_ ** (power / 2)
    found = whiten(features, power).numpy()
    np.testing.assert_allclose(found @ found.T, cosines(expected), atol=1e-4)


def test_blocks_change_nothing(features, monkeypatch):
    whole = whiten(features)
    monkeypatch.setattr(whitening, "BLOCK", 7)
    found = whiten(features)
    torch.testing.assert_close(found @ found.T, whole @ whole.T)  # the sign of an axis is free


@pytest.mark.parametrize("rows", [1, 3, 6])
def test_few_or_equal_rows_stay_finite(features, rows):
    assert torch.isfinite(whiten(features[:rows])).all()
    assert not whiten(np.full((rows, 4), 0.1)).any()


def test_a_wrong_power_and_nan_are_refused(features):
    with pytest.raises(UserError, match="power.*1.5"):
        whiten(features, 1.5)
    features[3, 2] = np.nan
    with pytest.raises(UserError, match="features: row 3"):
        whiten(features)
