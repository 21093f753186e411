"""What file names say of person, camera and time."""

import pytest

from vitreid.labels.name_options import NameOptions


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("0002_c1s1_000451_03.jpg", {"pid": "2", "camera": "dukemtmc/c1"}),
        ("0017_C1_F0001_X00001.jpg", {"pid": "17", "camera": "dukemtmc/c1"}),  # DukeMTMC-VideoReID
        ("-1_c3s1_1.jpg", {"pid": None, "camera": "dukemtmc/c3"}),  # junk
        ("holiday.jpg", {}),
    ],
)
def test_a_scheme_reads_person_and_camera(name, labels):
    assert NameOptions("dukemtmc").by_scheme(f"folder/{name}") == labels
    assert NameOptions().by_scheme(name) == {}


def test_patterns_read_camera_and_time():
    names = NameOptions(camera_pattern=r"^(\w+)/", time_pattern=r"_(\d{8}_\d{6})")
    assert names.by_pattern("gate/ann_20260131_083000.jpg") == {"camera": "gate", "time": 1769848200}


def test_a_name_without_the_pattern_is_an_error():
    with pytest.raises(ValueError, match=r"--time-pattern: .*, the first: ann\.jpg"):
        NameOptions(time_pattern="_([0-9]+)").by_pattern("ann.jpg")


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="--names: unknown value 'mars'; choose from market1501"):
        NameOptions("mars")
    with pytest.raises(ValueError, match="--camera-pattern: .*no regular expression"):
        NameOptions(camera_pattern="[")
