"""The benchmarks of decoding, detectors and memory on a few frames."""

import json

from films import noise_frames, write_video

from vitreid.benchmarks.video import detection, memory
from vitreid.benchmarks.video.frame_rates import measure_rates
from vitreid.benchmarks.video.memory import LoopedFrames
from vitreid.tracking.frames import open_frames


def test_parts_are_measured_printed_and_written(tmp_path, capsys):
    path, file = write_video(tmp_path / "hall.avi", noise_frames(10)), tmp_path / "figures.json"
    words = ["--video", str(path), "--threads", "1", "--quick", "--json", str(file)]
    assert detection.main(words) == 0
    shown, cases = capsys.readouterr().out, json.loads(file.read_text())["frames/s"]
    assert list(cases) == [
        *("decode every frame", "decode every 5th frame"),
        *("motion, threads: 1, one by one", "motion, threads: 1, streamed"),
    ]
    assert all(name in shown and case["median"] > 0 for name, case in cases.items())


def test_the_first_round_does_not_count_and_jobs_take_turns():
    calls = []
    jobs = {name: lambda name=name: calls.append(name) or 7 for name in ("a", "b")}
    rates = measure_rates(jobs, 2)
    assert calls == ["a", "b"] * 3
    assert [len(values) for values in rates.values()] == [2, 2]


def test_a_recording_is_looped_as_one_film(tmp_path):
    frames = noise_frames(6)
    source = open_frames(write_video(tmp_path / "hall.avi", frames, fps=10))
    looped = list(LoopedFrames(source, 15).frames(every=2, start=4))
    assert [frame.number for frame in looped] == [4, 6, 8, 10, 12, 14]
    assert [frame.seconds for frame in looped] == [0.4, 0.6, 0.8, 1.0, 1.2, 1.4]
    again = {frame.number: frame.pixels for frame in source.frames()}
    assert all((frame.pixels == again[frame.number % 6]).all() for frame in looped)


def test_memory_is_shown_along_the_film(tmp_path, capsys):
    path, file = write_video(tmp_path / "hall.avi", noise_frames(10), fps=2), tmp_path / "figures.json"
    assert memory.main(["--video", str(path), "--quick", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert len(found["MB"]) == 10 and all(found["MB"]) and "bar: " in capsys.readouterr().out
