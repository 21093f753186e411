"""A small video for the tests of tracking."""

import pytest
from films import noise_frames, write_video
from helpers import ROOT


@pytest.fixture(scope="session")
def small_video(tmp_path_factory):
    """Six frames of noise at 25 frames/s."""
    return write_video(tmp_path_factory.mktemp("video") / "hall.avi", noise_frames())


@pytest.fixture(scope="session")
def assets():
    """Folder with a real video and a real detector; its tests are skipped where it is absent."""
    folder = ROOT.parent / "shared" / "assets"
    if not folder.is_dir():
        pytest.skip(f"the real video and detector lie in {folder}, which is absent")
    return folder
