"""vitreid adapt: a trained model, and a folder of crops without names."""

import pytest

from vitreid.configs import parse_config
from vitreid.datasets.synthetic.dataset import SyntheticPlan, generate
from vitreid.model import load_deploy
from vitreid.tools.cli.main import main
from vitreid.tools.people import adapt

SHORT = ["SOLVER.MAX_EPOCHS", "2", "UNSUPERVISED.K1", "6", "UNSUPERVISED.ITERATIONS", "2"]


@pytest.fixture
def words(checkpoint, people, tmp_path):
    crops = people / "synthetic" / "bounding_box_train"
    return ["--weights", str(checkpoint), "--input", str(crops), "--output", str(tmp_path / "adapted"), *SHORT]


def test_a_model_is_adapted_with_its_settings(words, checkpoint, tmp_path):
    assert main(["adapt", *words]) == 0
    folder = tmp_path / "adapted"
    model, about = load_deploy(folder / "best.safetensors")
    source, before = load_deploy(checkpoint)
    assert model.spec.identity() | {"cameras": ()} == source.spec.identity() | {"cameras": ()}
    assert about["preprocess"] == before["preprocess"] and about["metrics"]["score"] > -1
    cfg, first = parse_config((folder / "config.yml").read_text()), parse_config(before["config"])
    assert pytest.approx(0.1 * first.SOLVER.BASE_LR) == cfg.SOLVER.BASE_LR
    assert cfg.DATASETS.NAMES == ("crops",) and cfg.UNSUPERVISED.CLUSTERING == "linkage"
    assert (folder / "rounds.csv").exists() and (folder / "clusters.csv").exists()
    assert main(["adapt", *words, "--resume"]) == 0


def test_options_behind_the_arguments_win(words, tmp_path):
    assert main(["adapt", *words, "LOSS.METRIC", "triplet", "SOLVER.MAX_EPOCHS", "1"]) == 0
    cfg = parse_config((tmp_path / "adapted" / "config.yml").read_text())
    assert (cfg.LOSS.METRIC, cfg.SOLVER.MAX_EPOCHS) == ("triplet", 1)


def test_a_second_folder_of_crops_is_refused(words, tmp_path, capsys):
    assert main(["adapt", *words, "DATASETS.ROOT_DIR", "elsewhere"]) == 2
    assert "DATASETS.ROOT_DIR: the crops are those in --input" in capsys.readouterr().err
    assert not (tmp_path / "adapted").exists()


def test_weights_without_their_settings_are_refused(words, checkpoint, monkeypatch, capsys):
    monkeypatch.setattr(adapt.Embedder, "about", {}, raising=False)
    monkeypatch.setattr(adapt.Embedder, "__init__", lambda self, *args, **options: None)
    assert main(["adapt", *words]) == 2
    assert "--weights:" in capsys.readouterr().err


@pytest.fixture
def source(tmp_path):
    """Labelled people of another data set."""
    plan = SyntheticPlan(10, 2, 0, num_cameras=2, images_per_camera=2, size=(64, 32), seed=5)
    generate(tmp_path / "labelled" / "DukeMTMC-reID", plan)
    return ["--source", "dukemtmc", "--source-root", str(tmp_path / "labelled")]


def test_a_labelled_source_is_trained_on_in_the_same_run(words, source, tmp_path, caplog):
    assert main(["adapt", *words, *source, "SOLVER.MAX_EPOCHS", "1", "--traceback"]) == 0
    cfg = parse_config((tmp_path / "adapted" / "config.yml").read_text())
    assert cfg.UNSUPERVISED.SOURCE == ("dukemtmc",) and source[-1] == cfg.UNSUPERVISED.SOURCE_DIR
    assert "88 training images without labels or of 10 known people (40 images)" in caplog.text


def test_errors_about_the_source_name_its_argument(words, tmp_path, capsys):
    assert main(["adapt", *words, "--source", "msmt17", "--source-root", str(tmp_path)]) == 2
    assert "--source-root: msmt17 not found" in capsys.readouterr().err
    assert main(["adapt", *words, "--source-root", str(tmp_path)]) == 2
    assert "--source-root: " in capsys.readouterr().err
