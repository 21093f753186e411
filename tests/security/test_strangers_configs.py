"""A config out of a stranger's file chooses nothing on this machine: what is read, drawn, written or deleted."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from vitreid.common import signature
from vitreid.configs import OPTIONS, get_defaults, marked_config, parse_stored_config
from vitreid.datasets.synthetic.dataset import SyntheticPlan, generate
from vitreid.model.weights.deployed import load_deploy, save_deploy
from vitreid.processor import FeatureSet, save_features
from vitreid.processor.runs.checkpoint import load_last
from vitreid.tools import report as report_tool
from vitreid.tools import test as test_tool
from vitreid.tools import train as train_tool


@pytest.fixture
def victim(tmp_path):
    """A folder with a file of the user, where a stranger's config wants synthetic people."""
    folder = tmp_path / "victim"
    (folder / "synthetic").mkdir(parents=True)
    (folder / "synthetic" / "thesis.txt").write_text("the only copy")
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A user without marks, in a folder where no demo has drawn any people."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def asks_for(weights, folder):
    """Change a weight file so that its config names synthetic people in a folder, as a stranger would."""
    model, about = load_deploy(weights)
    text = re.sub(r"(?m)^#.*\n?", "", about["config"])
    text = re.sub(r"NAMES:\n  - \w+", "NAMES:\n  - synthetic", text)
    text = re.sub(r"ROOT_DIR: .*", f"ROOT_DIR: {folder}", text)
    save_deploy(weights, model, {**about, "config": text})
    return weights


def features_of(names, about):
    rows, pids = torch.eye(4), np.array([0, 1, 0, 1])
    return FeatureSet(
        "synthetic", "same-camera", rows, rows, pids, pids, pids * 0, pids * 0 + 1, names, names, ("c1", "c2"), about
    )


def run_folder(tmp_path, weights, names=("a.jpg", "b.jpg", "c.jpg", "d.jpg")):
    """A run as a stranger would pack it: weights, features, and a config without this user's mark."""
    run = tmp_path / "run"
    run.mkdir()
    about = load_deploy(weights)[1]
    (run / "best.safetensors").write_bytes(Path(weights).read_bytes())
    (run / "config.yml").write_text(about["config"])
    (run / "metrics.jsonl").write_text('{"epoch": 1, "loss": 1.0}\n')
    save_features(run / "synthetic.safetensors", features_of(list(names), {"config": about["config"]}))
    return run


def test_an_evaluation_deletes_and_draws_nothing(checkpoint, victim, tmp_path, capsys):
    before = listing(victim)
    words = ["--weights", str(asks_for(checkpoint, victim)), "--output", str(tmp_path / "m.json")]
    assert test_tool.main(words) == 2
    assert "ROOT_DIR" in capsys.readouterr().err and listing(victim) == before


def test_saved_features_delete_and_draw_nothing(checkpoint, victim, tmp_path):
    before = listing(victim)
    run = run_folder(tmp_path, asks_for(checkpoint, victim))
    test_tool.main(["--features", str(run / "synthetic.safetensors"), "--output", str(tmp_path / "m.json")])
    assert listing(victim) == before


@pytest.mark.parametrize("flags", [["--no-model"], []])
def test_a_report_deletes_draws_and_lists_nothing(flags, checkpoint, victim, tmp_path):
    before = listing(victim)
    run = run_folder(tmp_path, asks_for(checkpoint, victim), [str(victim / "synthetic" / "thesis.txt")] * 4)
    report_tool.main([str(run), *flags])
    assert listing(victim) == before
    page = (run / "report.html").read_text()
    assert "thesis" not in page and str(tmp_path) not in page, "neither folder listings nor paths of this machine"


def test_the_user_can_allow_it(checkpoint, tmp_path, caplog):
    """The warning says how: the words of the command line are the user's own."""
    folder = tmp_path / "new"
    generate(folder / "synthetic", SyntheticPlan())
    weights = asks_for(checkpoint, folder)
    assert test_tool.main(["--weights", str(weights), "--output", str(tmp_path / "m.json")]) == 2
    assert f"DATASETS.ROOT_DIR {folder}" in caplog.text
    words = ["--weights", str(weights), "--output", str(tmp_path / "m.json"), "DATASETS.ROOT_DIR", str(folder)]
    assert test_tool.main(words) == 0


@pytest.mark.parametrize("key", [key for key, option in OPTIONS.items() if option.is_path])
def test_no_path_of_a_stranger_is_taken(key):
    text = (
        f"{key.partition('.')[0]}:\n  {key.partition('.')[2]}: /home/user\n" if "." in key else f"{key}: /home/user\n"
    )
    section, _, name = key.partition(".")
    cfg = parse_stored_config(text)
    value = cfg[section][name] if name else cfg[section]
    assert value == OPTIONS[key].default


def test_every_option_that_names_a_file_or_folder_says_so():
    named = {key for key in OPTIONS if key.endswith(("_DIR", "_PATH", "MANIFEST", "DISTRACTORS"))} - {"MODEL.DROP_PATH"}
    assert named <= {key for key, option in OPTIONS.items() if option.is_path}


def test_an_own_config_keeps_its_paths_and_a_changed_one_does_not():
    cfg = get_defaults()
    cfg.DATASETS.ROOT_DIR = "/data/people"
    text = marked_config(cfg)
    assert parse_stored_config(text).DATASETS.ROOT_DIR == "/data/people"
    changed = text.replace("/data/people", "/home/user")
    assert OPTIONS["DATASETS.ROOT_DIR"].default == parse_stored_config(changed).DATASETS.ROOT_DIR


def test_without_a_place_for_a_key_a_config_is_nobodys(monkeypatch):
    monkeypatch.setattr(signature, "_file", lambda: Path("/proc/none/key"))
    assert signature.sign("text") == "" and not signature.is_own("text", "")


# ---- synthetic people


def test_drawing_deletes_only_what_was_drawn(tmp_path):
    """The marker lists the files with their digests; a changed or foreign one stays, and nothing is drawn there."""
    plan = SyntheticPlan(
        num_train_ids=2, num_test_ids=2, num_distractors=1, num_cameras=2, images_per_camera=2, size=(32, 16)
    )
    other = SyntheticPlan(
        num_train_ids=3, num_test_ids=2, num_distractors=1, num_cameras=2, images_per_camera=2, size=(32, 16)
    )
    folder = tmp_path / "synthetic"
    generate(folder, plan)
    (folder / "query" / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"mine\.jpg"):
        generate(folder, other)
    assert (folder / "query" / "mine.jpg").read_bytes() == b"mine"


def test_a_marker_of_a_stranger_names_no_file_elsewhere(tmp_path):
    (tmp_path / "thesis.txt").write_text("the only copy")
    folder = tmp_path / "synthetic"
    folder.mkdir()
    names = ["../thesis.txt", "query/../../thesis.txt", str(tmp_path / "thesis.txt")]
    digest = "sha256:77d6a1ee9e4f5f86fb8c9dd4ebbb4f2a76ddf5cf1a2eb0a6eb1c7f1bde0a9ce4"
    (folder / "synthetic.json").write_text(json.dumps({"files": dict.fromkeys(names, digest)}))
    generate(folder, SyntheticPlan(num_train_ids=2, num_test_ids=2, num_cameras=2, images_per_camera=2, size=(32, 16)))
    assert (tmp_path / "thesis.txt").read_text() == "the only copy"


# ---- weights


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("name", ["last.pth", "weights.pth"])
def test_no_pickle_runs_anything(name, zipped, tmp_path, capsys):
    """Also `--resume`, which once had another reader."""
    touched, path = tmp_path / "touched", tmp_path / name
    torch.save({"format": 1, "model": Harmful(touched)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=re.escape(name)):
        load_last(path)
    assert test_tool.main(["--weights", str(path)]) == 2
    words = ["--resume", str(path), "OUTPUT_DIR", str(tmp_path / "run"), "MODEL.PRETRAIN_CHOICE", "none"]
    assert train_tool.main(words) == 2
    assert not touched.exists() and "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("version", ["2.5.1", "2.9.0+cpu"])
def test_a_torch_with_holes_reads_no_pickle(version, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", version)
    path = tmp_path / "last.pth"
    torch.save({"format": 1}, path)
    with pytest.raises(ValueError, match=rf"{re.escape(version)}.*CVE-2025-32434.*2\.10.*safetensors"):
        load_last(path)


@pytest.mark.clone
def test_the_lower_bounds_have_no_known_hole():
    """PyArrow below 14.0.1 runs code out of a Parquet file (CVE-2023-47248), torch below 2.10 out of a pickle."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    bounds = dict(re.findall(r'"([\w.-]+)>=([\d.]+)', text))
    assert tuple(map(int, bounds["torch"].split("."))) >= (2, 10)
    assert tuple(map(int, bounds["pyarrow"].split("."))) >= (14, 0, 1)
    workflow = (Path(__file__).parents[2] / ".github" / "workflows" / "audit.yml").read_text()
    assert "cron:" in workflow and "pip_audit" in workflow and "bandit" in workflow
