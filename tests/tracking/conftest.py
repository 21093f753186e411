"""A small video for the tests of tracking."""

import pytest
from films import noise_frames, write_video


@pytest.fixture(scope="session")
def small_video(tmp_path_factory):
    """Six frames of noise at 25 frames/s."""
    return write_video(tmp_path_factory.mktemp("video") / "hall.avi", noise_frames())
