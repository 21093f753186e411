"""Small problems that the evaluation's tests share."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def problem():
    """Function: seed -> query, gallery, q_pids, g_pids, q_camids, g_camids."""
    return make_problem


def make_problem(seed, num_queries=5, num_gallery=9):
    """Small integers as features make exact distances and ties; few pids and cameras make junk and missing matches."""
    rng = np.random.default_rng(seed)
    query, gallery = rng.integers(-2, 3, (num_queries, 2)), rng.integers(-2, 3, (num_gallery, 2))
    labels = (
        rng.integers(0, 4, num_queries),
        rng.integers(-1, 4, num_gallery),
        rng.integers(0, 3, num_queries),
        rng.integers(0, 3, num_gallery),
    )
    return query.astype(np.float32), gallery.astype(np.float32), *labels
