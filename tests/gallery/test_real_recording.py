"""A real recording with a real detector and a real embedder, from one command to a gallery; skipped where they are absent."""

import numpy as np
import pytest
from helpers import ROOT

from vitreid.gallery import Gallery, verify
from vitreid.gallery.storage.record_images import load_image, read_pixels
from vitreid.processor.embedding.embedder import Embedder
from vitreid.tools import export as export_tool

pytestmark = pytest.mark.slow
ASSETS = ROOT.parent / "shared" / "assets"
PEOPLE = (
    (22, 76),
    (184, 242),
    (185, 250),
    (346, 397),
    (349, 411),
    (354, 398),
    (525, 555),
)  # first and last frame, by eye


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    if not ASSETS.is_dir():
        pytest.skip(f"the real video and models lie in {ASSETS}, which is absent")
    pytest.importorskip("openvino", reason='needs the extra: pip install "vitreid[video]"')
    output = tmp_path_factory.mktemp("real") / "G"
    words = [
        *(
            "--weights",
            str(ASSETS / "models" / "person-reidentification-retail-0287.xml"),
            "--embedder-input",
            "bgr255",
        ),
        *("--input", str(ASSETS / "video" / "people-detection.264"), "--fps", "25"),
        *("--detector", str(ASSETS / "models" / "pedestrian-detection-adas-0002.xml")),
        *("--camera", "lobby", "--start", "2026-01-31T08:00+01:00", "--device", "cpu", "--output", str(output)),
    ]
    assert export_tool.main(words) == 0
    return Gallery.open(output)


def test_each_of_the_seven_people_has_one_track(gallery):
    """Seven rows of more than a second, at most one more for a split; each covers most of one person's frames, by eye."""
    rows = gallery.rows_at(range(len(gallery)))
    spans = [(row["first_frame"], row["last_frame"]) for row in rows if row["duration"] > 1]
    assert 7 <= len(spans) <= 8, spans
    for first, last in PEOPLE:
        shared = [(min(last, end) - max(first, start)) / (last - first) for start, end in spans]
        assert max(shared) > 0.6, (first, last, spans)
    assert max(end - start for start, end in spans) < 1.5 * max(last - first for first, last in PEOPLE)


def test_rows_say_when_and_where(gallery):
    assert verify(gallery.path) == []
    for row in gallery.rows_at(range(len(gallery))):
        assert (
            row["camera"] == "lobby"
            and row["time_zone"] == "+01:00"
            and row["tracklet"].startswith("people-detection/")
        )
        assert row["end_time"] - row["time"] == pytest.approx((row["last_frame"] - row["first_frame"]) / 25)
        assert 0 <= row["quality"] <= 1 and row["num_images"] >= 3
        height, width = read_pixels(load_image(gallery.image_path(row["path"]), row)).shape[:2]
        assert abs(height - row["height"]) <= 1 and abs(width - row["width"]) <= 1


def test_a_crop_of_a_person_finds_the_persons_track(gallery):
    """Each crop that was kept is searched by image; three of four find the row of that track first."""
    weights = ASSETS / "models" / "person-reidentification-retail-0287.xml"
    embed = Embedder(weights, "cpu", options={"input": "bgr255"})
    files = sorted((gallery.path / "track_crops").iterdir())
    own = [f"people-detection/{file.stem.split('-')[-2]}" for file in files]
    found = [result.rows[0]["tracklet"] for result in gallery.search(embed(files), 1)]
    assert np.mean([one == other for one, other in zip(own, found, strict=True)]) > 0.75
