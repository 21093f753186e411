"""The benchmark of decoding and detectors on a few frames."""

import json

from films import noise_frames, write_video

from vitreid.benchmarks.video import detection
from vitreid.benchmarks.video.frame_rates import measure_rates


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
