"""A query's own file in the gallery, or a copy of it, is no match: not in an evaluation, nor in saved features or a report."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from vitreid.datasets import Record, ReidData
from vitreid.processor.scoring.evaluator import file_contents
from vitreid.processor.scoring.feature_file import load_features, save_features
from vitreid.tools import test as tool


@pytest.fixture
def evaluate(people, checkpoint, tmp_path, caplog):
    """Evaluate an untrained model on queries that are in the gallery too, under another name if `copy`; return the figures."""

    def run(cameras, copy=False):
        folder = people / "synthetic" / "query"
        lines = ["path,pid,camid,split"]
        for number, image in enumerate(sorted(folder.glob("*.jpg"))):
            inside = shutil.copy(image, tmp_path / f"copy{number}.jpg") if copy else image
            lines += [f"{image},{image.name[:4]},{cameras[0]},query", f"{inside},{image.name[:4]},{cameras[1]},gallery"]
        (tmp_path / "people.csv").write_text("\n".join(lines))
        numbers, features = tmp_path / "numbers.json", tmp_path / "features.safetensors"
        words = ["DATASETS.NAMES", "manifest", "DATASETS.MANIFEST", str(tmp_path / "people.csv")]
        files = ["--output", str(numbers), "--save-features", str(features)]
        assert tool.main(["--weights", str(checkpoint), *files, *words]) == 0
        return json.loads(numbers.read_text()), load_features(features), caplog.text

    return run


@pytest.mark.parametrize("copy", [False, True], ids=["own file", "copy"])
@pytest.mark.parametrize("cameras", [("door", "door"), ("in", "out")], ids=["one camera", "invented cameras"])
def test_an_untrained_model_does_not_find_the_query_itself(evaluate, cameras, copy):
    numbers, features, log = evaluate(cameras, copy)
    assert numbers["Rank-1"] < 0.9  # 1.0 if the query counts
    assert all(len(features.data.matches.of(query)[1]) for query in range(len(features.query)))
    is_known = cameras[0] != cameras[1]
    assert numbers["protocol"] == ("same-camera" if is_known else "own-file")
    assert ("images from a query's own camera count as matches" in log) != is_known


def test_saved_features_know_copies_without_the_files(evaluate, tmp_path):
    numbers, _features, _ = evaluate(("door", "door"), copy=True)
    for copy in tmp_path.glob("copy*.jpg"):
        copy.unlink()
    words = ["--features", str(tmp_path / "features.safetensors"), "--output", str(tmp_path / "again.json")]
    assert tool.main(words) == 0
    assert json.loads((tmp_path / "again.json").read_text())["mAP"] == numbers["mAP"]


def test_features_of_earlier_versions_compare_the_names_of_files(evaluate, tmp_path):
    _, features, _ = evaluate(("door", "door"))
    save_features(tmp_path / "old.safetensors", replace(features, q_files=None, g_files=None))
    old = load_features(tmp_path / "old.safetensors")
    assert old.q_files is None
    assert [old.data.matches.of(0)[i].tolist() for i in (0, 1)] == [
        features.data.matches.of(0)[i].tolist() for i in (0, 1)
    ]


def test_only_files_of_queried_people_are_compared(tmp_path):
    for name in "abc":
        (tmp_path / name).write_bytes(b"same")
    records = [Record(str(tmp_path / name), pid, 0) for name, pid in zip("abc", (1, 1, 2))]
    query, gallery = file_contents(ReidData("mine", [], records[:1], records[1:], ("c1",)))
    assert query.tolist() == [0] and gallery.tolist() == [0, -1] and gallery.dtype == np.int64
